package slurm

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// drainPrefix marks the drains that forge asked Slurm for. Only those are undone by it.
const drainPrefix = "forge: "

// maxReason keeps the argument short; Slurm itself takes more.
const maxReason = 200

// drainNode tells Slurm to give a node no new jobs. One that somebody has drained before keeps their reason, so that nobody takes their
// drain for ours: kept says what it is then.
func drainNode(ctx context.Context, t Tools, node forge.NodeName, reason string) (kept string, err error) {
	now, err := drainOf(ctx, t, node)
	if err != nil {
		return "", err
	}
	if now.drained && !strings.HasPrefix(now.reason, drainPrefix) {
		return now.words(), nil
	}
	_, err = t.Run(ctx, "", "scontrol", "update", "nodename="+string(node), "state=drain", "reason="+drainPrefix+oneLine(reason))
	return "", err
}

// undrainNode takes our drain back, after a look at whose it is now. Nothing else of the node's state is touched: one that is down stays so.
func undrainNode(ctx context.Context, t Tools, node forge.NodeName) (kept string, err error) {
	now, err := drainOf(ctx, t, node)
	switch {
	case err != nil:
		return "", err
	case !now.drained:
		return "", nil
	case !strings.HasPrefix(now.reason, drainPrefix):
		return now.words(), nil
	}
	_, err = t.Run(ctx, "", "scontrol", "update", "nodename="+string(node), "state=undrain")
	return "", err
}

// slurmDrain is what Slurm says of a node's drain.
type slurmDrain struct {
	drained bool
	reason  string
	by      string // "root@2026-11-25T23:15:47"
}

func (d slurmDrain) words() string {
	s := d.reason
	if s == "" {
		s = "no reason given"
	}
	if who, at, ok := strings.Cut(d.by, "@"); ok {
		if seconds, err := strconv.ParseInt(at, 10, 64); err == nil { // as SLURM_TIME_FORMAT makes it
			at = time.Unix(seconds, 0).UTC().Format(time.RFC3339)
		}
		s += " [" + who + ", " + at + "]"
	}
	return s
}

func drainOf(ctx context.Context, t Tools, node forge.NodeName) (d slurmDrain, err error) {
	if !hostName(string(node)) {
		return d, forge.Invalidf("node", "%.100q is no node of Slurm's", node)
	}
	out, err := t.Run(ctx, "", "scontrol", "-o", "show", "node", string(node))
	if err != nil {
		return d, err
	}
	return parseDrain(out)
}

// drainReason stands at the end of the line, or before what newer versions put behind it; it may hold anything.
var drainReason = regexp.MustCompile(` Reason=(.*?)(?: \[([^\[\]]*@[^\[\]]*)\])?\s*(?: (?:Comment|Extra|InstanceId|InstanceType)=.*)?$`)

func parseDrain(out string) (d slurmDrain, err error) {
	line := strings.TrimRight(out, "\r\n ")
	state := pairs(line).get("State")
	if state == "" || strings.Contains(line, "\n") {
		return d, forge.Errorf(forge.KindUnavailable, "slurm.node", "scontrol show node said %.200q", line)
	}
	_, flags := stateWords(state)
	d.drained = slices.Contains(flags, "drain")
	if m := drainReason.FindStringSubmatch(line); m != nil {
		d.reason, d.by = m[1], m[2]
	}
	return d, nil
}

func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	if r := []rune(s); len(r) > maxReason {
		s = string(r[:maxReason])
	}
	return s
}
