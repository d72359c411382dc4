package slurm

import "strings"

// quote makes one word of a shell of any text without NUL. Every value in a script that is not a line of setup goes through it.
func quote(s string) string {
	plain := s != ""
	for i := range len(s) {
		c := s[i]
		if c < 'a' || c > 'z' {
			if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("_-./=:,@%+", c) < 0 {
				plain = false
				break
			}
		}
	}
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// quoteAll is a command line of the words.
func quoteAll(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = quote(w)
	}
	return strings.Join(out, " ")
}
