package scheduler

import (
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Explain says why one run waits, as the plan of this snapshot has it; Runs holds that run alone.
// A Held without a code is a run that does not wait: it starts in this plan, or is not pending.
func Explain(s forge.Snapshot, p Policy, run forge.RunID) forge.Held {
	return ExplainIn(s, Plan(s, p), run)
}

// ExplainIn is Explain for a plan that was made of the snapshot already.
func ExplainIn(s forge.Snapshot, plan forge.Plan, run forge.RunID) forge.Held {
	for _, h := range plan.Hold {
		if slices.Contains(h.Runs, run) {
			return forge.Held{Code: h.Code, Text: h.Text, Runs: []forge.RunID{run}}
		}
	}
	for _, pl := range plan.Place {
		if pl.Run != run {
			continue
		}
		if pl.HandOver {
			return forge.Held{Text: fmt.Sprintf("is handed over to cluster %s, whose own queue decides when and where it starts", pl.Cluster), Runs: []forge.RunID{run}}
		}
		var on []string
		for _, sh := range pl.Shares {
			on = append(on, string(sh.Node))
		}
		return forge.Held{Text: fmt.Sprintf("starts now on %s of cluster %s%s", some(on), pl.Cluster, despite(s, pl)), Runs: []forge.RunID{run}}
	}
	return forge.Held{Text: "does not wait"}
}

// Queued says why an attempt waits that was handed over to a cluster's own queue, and that this queue decides. system is what
// people call the batch system; trouble is why it could not be handed over so far, where that is known.
func Queued(a forge.Attempt, system, trouble string) string {
	if a.Intent != forge.IntentNone {
		return fmt.Sprintf("is taken back from the queue of cluster %s", a.Cluster)
	}
	if a.Batch == nil && trouble != "" {
		return fmt.Sprintf("could not be handed over to cluster %s so far, which is tried again: %s", a.Cluster, trouble)
	}
	if a.Batch == nil {
		return fmt.Sprintf("is being handed over to cluster %s, where %s decides the order", a.Cluster, system)
	}
	var t strings.Builder
	fmt.Fprintf(&t, "queued in %s as job %s", system, a.Batch.ID)
	if a.Batch.Partition != "" {
		t.WriteString(" on partition " + a.Batch.Partition)
	}
	if a.Batch.Reason != "" && a.Batch.Reason != "None" {
		t.WriteString(": " + a.Batch.Reason)
	}
	fmt.Fprintf(&t, "; %s decides the order here", system)
	if !a.Batch.EstimatedStart.IsZero() {
		t.WriteString(" and expects a start about " + clock(a.Batch.EstimatedStart))
	}
	return t.String()
}

// despite says when a run goes to a node that it should avoid: no others could hold it.
func despite(s forge.Snapshot, pl forge.Place) string {
	i := slices.IndexFunc(s.Pending, func(r forge.PendingRun) bool { return r.ID == pl.Run })
	var again, suspect []string
	for _, sh := range pl.Shares {
		if i >= 0 && slices.Contains(s.Pending[i].Avoid, sh.Node) {
			again = append(again, string(sh.Node))
		} else if slices.ContainsFunc(s.Nodes, func(n forge.Node) bool { return n.Cluster == pl.Cluster && n.Name == sh.Node && n.Suspect != "" }) {
			suspect = append(suspect, string(sh.Node))
		}
	}
	var t strings.Builder
	if len(again) > 0 {
		t.WriteString("; it failed on " + strings.Join(again, ", ") + " before")
	}
	if len(suspect) > 0 {
		t.WriteString("; runs failed on " + strings.Join(suspect, ", ") + " lately")
	}
	if t.Len() > 0 {
		t.WriteString(", and no other nodes could hold it")
	}
	return t.String()
}
