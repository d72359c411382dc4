package slurm

import (
	"cmp"
	"fmt"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// slurmsWord is why the attempt ended, as far as Slurm says.
func (s sight) slurmsWord(o *forge.Observation) {
	if s.job == nil {
		if s.gone && o.Detail == "" {
			o.Detail = "Slurm does not know its job any more, and it left no record"
		}
		return
	}
	j := s.job
	if j.phase() != phaseOver && !s.preempted() {
		return // of a time before the end
	}
	say := func(cause forge.StopCause, format string, args ...any) {
		words := fmt.Sprintf(format, args...)
		if j.Reason != "" {
			words += " (" + j.Reason + ")"
		}
		o.Cause, o.Detail = cause, fmt.Sprintf("job %s: %s", j.ID, words)
	}
	if s.preempted() {
		say(forge.StopPreempted, "%s, preempted by Slurm", j.State)
		return
	}
	switch j.State {
	case "NODE_FAIL":
		say(forge.StopNodeLost, "NODE_FAIL%s", s.silentNodes(o))
	case "BOOT_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL":
		say(forge.StopNodeLost, "%s on %s", j.State, cmp.Or(j.Nodes, "its nodes"))
	case "PREEMPTED":
		say(forge.StopPreempted, "PREEMPTED by Slurm")
	case "TIMEOUT":
		say(forge.StopTimeLimit, "TIMEOUT, its time limit in Slurm came")
	case "DEADLINE":
		say(forge.StopTimeLimit, "DEADLINE, it could not end before its deadline")
	case "OUT_OF_MEMORY":
		say(forge.StopOOM, "OUT_OF_MEMORY")
	case "CANCELLED":
		s.cancelled(o, say)
	default:
		s.failed(o, say)
	}
}

// failed: the script ended by itself, which it does when srun does. A node on which no shim came to anything explains why the others
// were stopped.
func (s sight) failed(o *forge.Observation, say func(forge.StopCause, string, ...any)) {
	l := s.records.Launched
	switch {
	case s.complete() || l == nil:
		return
	case len(s.records.Live) < len(l.PerNode) && (o.Cause == "" || o.Cause == forge.StopSignal):
		say(forge.StopLaunch, "%s, exit %s%s", s.job.State, s.job.exitWords(), s.silentNodes(o))
	case o.Cause == "" || o.Cause == forge.StopSignal:
		say(o.Cause, "%s, exit %s%s", s.job.State, s.job.exitWords(), s.silentNodes(o))
	default: // "a rank exited" elsewhere is what the end of a node looks like from the others
		say(forge.StopNodeLost, "%s%s", s.job.State, s.silentNodes(o))
	}
	if s.records.Log != "" {
		o.Detail += ": " + s.records.Log
	}
}

// silentNodes names those whose shim left no last word: the end came from there, if it came from a node.
func (s sight) silentNodes(o *forge.Observation) string {
	if s.records.Launched == nil {
		return ""
	}
	var names []string
	placement := s.placement()
	for node := range s.records.Launched.PerNode {
		if _, ok := s.records.Exits[node]; ok {
			continue
		}
		if node < len(placement) {
			names = append(names, string(placement[node].Node))
			o.Suspects = append(o.Suspects, placement[node].Node)
		} else {
			names = append(names, fmt.Sprintf("node %d", node))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; no last word from " + strings.Join(names, ", ")
}

// cancelled: by us, by Slurm itself for want of a dependency, or by a person.
func (s sight) cancelled(o *forge.Observation, say func(forge.StopCause, string, ...any)) {
	switch {
	case s.asked():
		say(forge.StopIntent, "CANCELLED as forged asked")
	case len(s.missed()) > 0:
		say(forge.StopNodeLost, "cancelled by forged, since a node gave no sign of life%s", s.silentNodes(o))
	case strings.HasPrefix(s.job.Reason, "Dependency"):
		say(forge.StopRefused, "CANCELLED by Slurm")
	case s.job.Nodes != "" && s.job.ByUID <= 0 && !s.begun():
		// A controller that came back gives such a job its nodes a second time, a node that still has the first start of it refuses, and
		// Slurm cancels what nobody wanted cancelled. A person who meant it cancels the next one, which has begun.
		say(forge.StopWithdrawn, "CANCELLED by Slurm with its nodes given and before anything of it began")
	case s.job.ByUID >= 0:
		say(forge.StopCancelled, "CANCELLED by uid %d, not through forged", s.job.ByUID)
		o.ByUID = s.job.ByUID
	default:
		// Slurm's own daemons carried it out; on whose behalf only the accounting could say. Nobody's uid is made up for it.
		say(forge.StopCancelled, "CANCELLED in Slurm and not through forged; without accounting Slurm does not say by whom")
	}
}

// absent is for attempts whose claim is revoked: they never started and never will.
func (s sight) absent(o *forge.Observation) {
	o.State, o.Released, o.Cause, o.Exits = forge.ObservAbsent, true, "", nil
	o.Detail = "its claim is revoked: it never started"
	b := s.records.Batch
	switch {
	case b != nil && b.Refused != "":
		o.Cause, o.Detail = forge.StopRefused, b.Refused
	case b != nil && b.Withdrawn != "":
		o.Cause, o.Detail = forge.StopWithdrawn, b.Withdrawn
	case s.job.phase() == phaseOver:
		s.slurmsWord(o)
	}
}
