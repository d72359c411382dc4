package slurm

import (
	"fmt"
	"strconv"
	"strings"
)

// DefaultGRES is what sites call their GPUs.
const DefaultGRES = "gpu"

// maxGRES bounds the slots of one node and every number in these texts: a garbled count must not make forged allocate.
const maxGRES = 4096

// gresItem is one entry of a GRES list: "gpu:h100:4(S:0-1)", "gpu:2(IDX:0-1)", "gres/gpu:4".
type gresItem struct {
	Name  string
	Type  string // empty: the site gave it none
	Count int
	Index []int // from "(IDX:…)"; nil: not said
}

// parseGRES reads the lists that sinfo, squeue and scontrol print. They differ by version in their prefix ("gres:" in 22.05,
// "gres/" from 23.02) and by plugin in what stands in parentheses; absent is "(null)", "N/A" or nothing.
func parseGRES(s string) ([]gresItem, error) {
	switch s = strings.TrimSpace(s); s {
	case "", "(null)", "N/A", "none":
		return nil, nil
	}
	parts, err := outside(s)
	if err != nil {
		return nil, err
	}
	var items []gresItem
	for _, part := range parts {
		it, err := parseGRESItem(part)
		if err != nil {
			return nil, fmt.Errorf("GRES %.200q: %w", s, err)
		}
		items = append(items, it)
	}
	return items, nil
}

// outside splits at commas that stand in no parentheses: "gpu:a100:2(IDX:0,2),gpu:v100:1".
func outside(s string) (parts []string, err error) {
	depth, from := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '(', '[':
			depth++
		case ')', ']':
			depth--
		case ',':
			if depth == 0 {
				parts = append(parts, s[from:i])
				from = i + 1
			}
		}
		if depth < 0 {
			return nil, fmt.Errorf("%.200q closes what it did not open", s)
		}
	}
	if depth != 0 {
		return nil, fmt.Errorf("%.200q opens what it does not close", s)
	}
	return append(parts, s[from:]), nil
}

func parseGRESItem(s string) (it gresItem, err error) {
	for _, prefix := range []string{"gres:", "gres/"} {
		s = strings.TrimPrefix(s, prefix)
	}
	s = strings.ReplaceAll(s, "(null)", "") // "gpu:(null):2(IDX:0-1)": an untyped one, as some versions put it
	body, rest, has := strings.Cut(s, "(")
	if has {
		if note, ok := strings.CutPrefix(strings.TrimSuffix(rest, ")"), "IDX:"); ok && note != "N/A" && note != "" {
			if it.Index, err = numbers(note); err != nil {
				return it, err
			}
		}
	}
	fields := strings.Split(body, ":")
	it.Name = fields[0]
	if it.Name == "" {
		return it, fmt.Errorf("%.100q has no name", s)
	}
	if len(fields) == 1 { // a bare name is one of it
		it.Count = 1
		return it, nil
	}
	if it.Count, err = count(fields[len(fields)-1]); err != nil {
		if len(fields) > 3 || !has && fields[len(fields)-1] == "" {
			return it, err
		}
		it.Count, fields = 1, append(fields, "1") // "gpu:h100": one of that type
	}
	for _, f := range fields[1 : len(fields)-1] {
		if f != "" && f != "no_consume" {
			it.Type = f
		}
	}
	return it, nil
}

// count reads "4" and "2K": counts of mps and the like carry a suffix.
func count(s string) (int, error) {
	scale := 1
	if n := len(s); n > 0 {
		switch s[n-1] {
		case 'K', 'k':
			scale, s = 1<<10, s[:n-1]
		case 'M', 'm':
			scale, s = 1<<20, s[:n-1]
		case 'G', 'g':
			scale, s = 1<<30, s[:n-1]
		}
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%.50q is no count", s)
	}
	return int(n) * scale, nil
}

// numbers reads "0-1,3".
func numbers(s string) ([]int, error) {
	var out []int
	for _, part := range strings.Split(s, ",") {
		a, b, span := strings.Cut(part, "-")
		lo, err := strconv.ParseUint(a, 10, 16)
		hi := lo
		if err == nil && span {
			hi, err = strconv.ParseUint(b, 10, 16)
		}
		if err != nil || hi < lo || len(out)+int(hi-lo) >= maxGRES {
			return nil, fmt.Errorf("%.100q is no list of numbers below %d", s, maxGRES)
		}
		for n := lo; n <= hi; n++ {
			out = append(out, int(n))
		}
	}
	return out, nil
}

// ofName keeps the entries of one GRES, and how many they are together.
func ofName(items []gresItem, name string) (kept []gresItem, total int) {
	for _, it := range items {
		if it.Name == name {
			kept, total = append(kept, it), total+it.Count
		}
	}
	return kept, total
}
