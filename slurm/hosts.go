package slurm

import (
	"fmt"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// maxHosts bounds one list: a garbled range must not fill the memory.
const maxHosts = 1 << 17

// expandHosts reads Slurm's short form of many names: "n[1-2,05],login,r[1-2]n[1-3]".
func expandHosts(list string) ([]string, error) {
	list = strings.TrimSpace(list)
	if list == "" || list == "(null)" || list == "None" || list == "N/A" {
		return nil, nil
	}
	parts, err := outside(list)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range parts {
		if out, err = expandHost(out, "", p); err != nil {
			return nil, fmt.Errorf("%.200q is no list of hosts: %w", list, err)
		}
	}
	return out, nil
}

func expandHost(out []string, head, rest string) ([]string, error) {
	before, after, ok := strings.Cut(rest, "[")
	if !ok {
		if !hostName(head + rest) {
			return nil, fmt.Errorf("%.100q is no name", head+rest)
		}
		if len(out) >= maxHosts {
			return nil, fmt.Errorf("more than %d names", maxHosts)
		}
		return append(out, head+rest), nil
	}
	spans, tail, ok := strings.Cut(after, "]")
	if !ok {
		return nil, fmt.Errorf("%.100q is not closed", rest)
	}
	for _, span := range strings.Split(spans, ",") {
		a, b, isRange := strings.Cut(span, "-")
		if !isRange {
			b = a
		}
		lo, err := strconv.ParseUint(a, 10, 32)
		hi, err2 := strconv.ParseUint(b, 10, 32)
		if err != nil || err2 != nil || hi < lo || hi-lo >= maxHosts || len(a) > 10 {
			return nil, fmt.Errorf("%.50q is no range", span)
		}
		for n := lo; n <= hi; n++ {
			if out, err = expandHost(out, head+before+fmt.Sprintf("%0*d", len(a), n), tail); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// Hosts reads Slurm's short form of many names, as people write it where they keep away from nodes: "n[1-2,05],login".
func Hosts(list string) ([]forge.NodeName, error) {
	names, err := expandHosts(list)
	out := make([]forge.NodeName, len(names))
	for i, n := range names {
		out[i] = forge.NodeName(n)
	}
	return out, err
}
