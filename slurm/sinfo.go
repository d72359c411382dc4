package slurm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// sinfoFormat has each field with a separator of its own, without which sinfo cuts a field at 20 characters and does not part it from
// the next. Fields of 22.05 that 24.11 still has; the one with free text is the last, since it may hold separators itself.
const sinfoFormat = "NodeList:|,StateLong:|,StateComplete:|,PartitionName:|,Gres:|,GresUsed:|,Features_act:|,CPUsState:|,Memory:|,Reason:"

const sinfoFields = 10

// nodeLine is one line of sinfo: one node in one partition.
type nodeLine struct {
	Name      string
	State     string   // Slurm's word without its marks: "mixed", "draining"
	Flags     []string // all that it says of the node: "idle", "drain", "not_responding"
	Partition string
	GRES      []gresItem
	Used      []gresItem
	Features  []string
	CPUs      int
	MemoryMiB int64
	Reason    string
}

func parseSinfo(out string) ([]nodeLine, error) {
	var lines []nodeLine
	for line := range strings.Lines(out) {
		if line = strings.TrimRight(line, "\r\n"); strings.TrimSpace(line) == "" {
			continue
		}
		n, err := parseNodeLine(line)
		if err != nil {
			return nil, fmt.Errorf("sinfo said %.300q: %w", line, err)
		}
		lines = append(lines, n)
	}
	return lines, nil
}

func parseNodeLine(line string) (n nodeLine, err error) {
	f := strings.SplitN(line, "|", sinfoFields)
	if len(f) != sinfoFields {
		return n, fmt.Errorf("%d fields; want %d", len(f), sinfoFields)
	}
	n.Name, n.Partition, n.Reason = f[0], strings.TrimSuffix(f[3], "*"), strings.TrimSpace(f[9])
	if !hostName(n.Name) {
		return n, fmt.Errorf("%.100q is no node name", n.Name)
	}
	var long []string
	n.State, long = stateWords(f[1])
	_, n.Flags = stateWords(f[2])
	n.Flags = append(n.Flags, long...)
	if n.GRES, err = parseGRES(f[4]); err != nil {
		return n, err
	}
	if n.Used, err = parseGRES(f[5]); err != nil {
		return n, err
	}
	n.Features = featureList(f[6])
	cpus := strings.Split(f[7], "/") // allocated/idle/other/total
	if n.CPUs, err = strconv.Atoi(cpus[len(cpus)-1]); err != nil || len(cpus) != 4 || n.CPUs < 0 {
		return n, fmt.Errorf("%.50q is no count of CPUs by state", f[7])
	}
	if n.MemoryMiB, err = strconv.ParseInt(strings.TrimSpace(f[8]), 10, 64); err != nil || n.MemoryMiB < 0 {
		return n, fmt.Errorf("%.50q is no memory in MiB", f[8])
	}
	switch n.Reason {
	case "none", "(null)", "Not specified":
		n.Reason = ""
	}
	return n, nil
}

// hostName keeps out what could be an option, a path or another list.
func hostName(s string) bool {
	if s == "" || len(s) > 253 || s[0] == '-' || s[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
}

// featureList splits a list of features; absent is "(null)".
func featureList(s string) []string {
	s = strings.TrimSpace(s)
	if s == "" || s == "(null)" || s == "N/A" {
		return nil
	}
	var out []string
	for _, w := range strings.Split(s, ",") {
		if w = strings.TrimSpace(w); w != "" && !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	return out
}

// marks are the signs that Slurm hangs at a state, and what they say.
var marks = map[byte]string{
	'*': "not_responding", '~': "powered_down", '#': "powering_up", '%': "powering_down", '!': "power_down",
	'$': "maint", '@': "reboot_requested", '^': "reboot_issued", '-': "planned", '+': "completing",
}

// stateWords reads "mixed", "down*", "idle+drain", "IDLE+DRAIN+NOT_RESPONDING": the word without marks, and all that it says.
func stateWords(s string) (word string, flags []string) {
	s = strings.ToLower(strings.TrimSpace(s))
	for len(s) > 0 {
		mark, ok := marks[s[len(s)-1]]
		if !ok {
			break
		}
		flags = append(flags, mark)
		s = s[:len(s)-1]
	}
	for i, w := range strings.Split(s, "+") {
		if i == 0 {
			word = w
		}
		if w != "" {
			flags = append(flags, w)
		}
	}
	return word, flags
}

// The words by which Slurm says that a node takes no new work. What powers down by itself is powered up for a job, so that it is ready.
var (
	silentWords  = []string{"not_responding", "no_respond", "unknown", "reboot_issued", "unk"}
	drainedWords = []string{"drain", "draining", "drained", "drng", "fail", "failing", "maint", "down", "error", "inval", "invalid_reg", "blocked"}
	readyWords   = []string{"idle", "mixed", "allocated", "completing", "alloc", "mix", "comp", "planned", "reserved", "resv", "perfctrs", "npc"}
)

// nodeState translates. A word that is not known here is no reason to send anybody there.
func (n nodeLine) nodeState() (forge.NodeState, string) {
	has := func(of []string) string {
		for _, w := range n.Flags {
			if slices.Contains(of, w) {
				return w
			}
		}
		return ""
	}
	why := func(word string) string {
		said := n.State
		if word != "" && word != said && !strings.HasPrefix(said, word) {
			said += " (" + strings.ReplaceAll(word, "_", " ") + ")"
		}
		if n.Reason != "" {
			said += ": " + n.Reason
		}
		return said
	}
	if w := has(silentWords); w != "" {
		return forge.NodeUnknown, why(w)
	}
	if w := has(drainedWords); w != "" {
		return forge.NodeDrained, why(w)
	}
	if has(readyWords) == "" {
		return forge.NodeUnknown, why("")
	}
	return forge.NodeReady, ""
}

// absent says that there is no such machine yet: nodes that may be added one day.
func (n nodeLine) absent() bool { return slices.Contains(n.Flags, "future") }
