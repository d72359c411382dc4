package forge

import (
	"maps"
	"slices"
	"strings"
	"unicode"
)

// Node says whether a node will do, as far as its name and labels go. GPUs are asked one by one.
func (c *Constraints) Node(n *Node) bool {
	if c.Empty() {
		return true
	}
	for k, v := range c.Labels {
		if got, ok := n.Labels[k]; !ok || got != v {
			return false
		}
	}
	return !slices.Contains(c.Exclude, n.Name)
}

// GPU says whether a slot of a node that will do will do itself. One whose memory nobody knows is not known to have enough.
func (c *Constraints) GPU(g *GPU) bool {
	return c == nil || (len(c.GPUTypes) == 0 || slices.Contains(c.GPUTypes, g.Type)) && g.MemoryMiB >= c.GPUMemoryMiB
}

// NamesGPUType says whether a word that a person uses for a type of GPU means this one: the whole name, or words of it: h100 is
// "H100 80GB HBM3" and "a100-sxm4" is "A100-SXM4-80GB". An H100 is no H1000: words are compared whole.
func NamesGPUType(asked, typ string) bool {
	if strings.EqualFold(asked, typ) {
		return true
	}
	want, have := wordsOf(asked), wordsOf(typ)
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return len(want) > 0
}

func wordsOf(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '.' })
}

// Words says what is asked for, for people: "h100 or a100, 80G each, rack=r1, not on n2, within one rack".
func (c *Constraints) Words() string {
	if c.Empty() {
		return ""
	}
	var out []string
	if len(c.GPUTypes) > 0 {
		out = append(out, strings.Join(c.GPUTypes, " or "))
	}
	if c.GPUMemoryMiB > 0 {
		out = append(out, "at least "+FormatMiB(c.GPUMemoryMiB)+" each")
	}
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		out = append(out, k+"="+c.Labels[k])
	}
	if len(c.Exclude) > 0 {
		names := make([]string, len(c.Exclude))
		for i, n := range c.Exclude {
			names[i] = string(n)
		}
		out = append(out, "not on "+strings.Join(names, ", "))
	}
	if c.Within != "" {
		out = append(out, "within one "+c.Within)
	}
	return strings.Join(out, ", ")
}
