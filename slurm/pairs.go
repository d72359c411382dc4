package slurm

import "strings"

// pair is one KEY=VALUE of what scontrol prints with -o.
type pair struct{ key, value string }

type pairList []pair

// pairs reads a line of scontrol. Values may hold spaces ("Reason=xid 79 [root@…]", "Comment=a b"): a word without "=" belongs to
// the value before it. So does one whose key is no word of letters, as in "--gres=…" of a command line.
func pairs(line string) pairList {
	var out pairList
	for word := range strings.SplitSeq(strings.TrimSpace(line), " ") {
		key, value, ok := strings.Cut(word, "=")
		if ok && keyWord(key) {
			out = append(out, pair{key, value})
		} else if len(out) > 0 {
			out[len(out)-1].value += " " + word
		}
	}
	for i := range out {
		out[i].value = strings.TrimRight(out[i].value, " ")
	}
	return out
}

func keyWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '_' && r != ':' && r != '/' && (r < '0' || r > '9')
	})
}

// get is the first value of that key: a comment that looks like more pairs stands behind the real ones.
func (l pairList) get(key string) string {
	for _, p := range l {
		if p.key == key {
			return p.value
		}
	}
	return ""
}
