package invariant_test

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/invariant"
)

// sound is a site where all is well: run r1 runs on two slots after a resume and was asked to make room for r2, which waits, r3 has
// completed and registered.
func sound() invariant.Facts {
	return invariant.Facts{
		Acknowledged: []forge.RunID{"r1", "r2", "r3"},
		Runs: []invariant.Run{
			{ID: "r1", Tenant: "t", State: "running", Attempt: 2},
			{ID: "r2", Tenant: "t", State: "pending", GPUs: 2},
			{ID: "r3", Tenant: "u", State: "completed", Attempt: 1, Register: "bot", Model: "bot@1"},
			{ID: "r4", Tenant: "t", State: "pending", Attempt: 2, GPUs: 1},
		},
		Attempts: []invariant.Attempt{
			{Run: "r1", Number: 1, State: "ended", Reason: "killed_externally", Ranks: 2, Exits: 2},
			{Run: "r1", Number: 2, State: "running", Ranks: 2, ResumeFrom: "/r1/c-4", ResumeStep: 4, Intent: "checkpoint_preempt"},
			{Run: "r3", Number: 1, State: "ended", Reason: "completed", Ranks: 1, Exits: 1},
			{Run: "r4", Number: 1, State: "ended", Reason: "node_lost", Ranks: 1, Cluster: "hpc", HandedOver: true},
			{Run: "r4", Number: 2, State: "launching", Ranks: 1, Cluster: "hpc", HandedOver: true},
		},
		Allocations: []invariant.Allocation{
			{Cluster: "c", Node: "n", Slot: 0, Run: "r1", Attempt: 2}, {Cluster: "c", Node: "n", Slot: 1, Run: "r1", Attempt: 2},
		},
		Claims:   []invariant.Claim{{Cluster: "c", Node: "n", Slot: 0, For: "r2", From: "r1"}, {Cluster: "c", Node: "n", Slot: 7, For: "r2"}},
		Metrics:  []invariant.Metric{{Run: "r1", Step: 1, Attempt: 1}, {Run: "r1", Step: 2, Attempt: 1}, {Run: "r1", Step: 3, Attempt: 2}},
		Versions: []invariant.Version{{ID: "v1", Model: "m", Tenant: "u", Stage: "production", Run: "r3"}, {ID: "v2", Model: "m", Tenant: "u", Stage: "archived"}},
		Lines: chained(invariant.Line{Version: "v1", Action: "register", To: "staging"}, invariant.Line{Version: "v2", Action: "register", To: "staging"},
			invariant.Line{Version: "v2", Action: "archive", From: "staging", To: "archived"}, invariant.Line{Version: "v1", Action: "promote", From: "staging", To: "candidate", Report: "{}"},
			invariant.Line{Version: "v1", Action: "promote", From: "candidate", To: "production", Forced: true}),
		Events: []invariant.Event{{Seq: 1, Type: "run.placed", Run: "r3", Tenant: "u"}, {Seq: 2, Type: "run.ended", Run: "r3", Tenant: "u"}, {Seq: 3, Type: "run.placed", Run: "r1", Tenant: "t"}},
		Dirs: map[forge.RunID]invariant.Dir{
			"r1": {Fence: 2, Starts: []invariant.Start{{1, 0}, {1, 1}, {2, 0}, {2, 1}}, Verified: map[string]int64{"/r1/c-4": 4}},
			"r3": {Fence: 1, Starts: []invariant.Start{{1, 0}}},
		},
		Procs:   []invariant.Proc{{Pid: 9, Run: "r1", Attempt: 2}, {Pid: 10, Run: "r4", Attempt: 1}},
		Reasons: map[forge.RunID]string{"r2": "needs 2 GPUs: 0 free", "r4": "queued in Slurm as job 7"},
		Plans:   [2]string{"{}", "{}"},
	}
}

// chained are lines of model m, each behind the one before.
func chained(lines ...invariant.Line) []invariant.Line {
	before := ""
	for i := range lines {
		l := &lines[i]
		l.Model, l.Name, l.Seq, l.Before = "m", "bot@"+l.Version[1:], int64(i+1), before
		if l.Report != "" {
			l.ReportSHA256 = fmt.Sprintf("%x", sha256.Sum256([]byte(l.Report)))
		}
		l.SHA256 = l.Digest()
		before = l.SHA256
	}
	return lines
}

func TestASoundSiteHasNoViolation(t *testing.T) {
	if v := invariant.Judge(sound()); len(v) > 0 {
		t.Fatal(v)
	}
}

func TestEachPlantedViolationIsFound(t *testing.T) {
	dir := func(f *invariant.Facts, change func(*invariant.Dir)) {
		f.Dirs = maps.Clone(f.Dirs)
		d := f.Dirs["r1"]
		change(&d)
		f.Dirs["r1"] = d
	}
	for _, tc := range []struct {
		name      string
		invariant int
		plant     func(*invariant.Facts)
	}{
		{"an acknowledged run is gone", 1, func(f *invariant.Facts) { f.Acknowledged = append(f.Acknowledged, "r9") }},
		{"two open attempts", 2, func(f *invariant.Facts) { f.Attempts[0].State = "stopping" }},
		{"an attempt that the run does not count", 2, func(f *invariant.Facts) { f.Attempts[1].Number = 3 }},
		{"a rank that started twice", 2, func(f *invariant.Facts) {
			dir(f, func(d *invariant.Dir) { d.Starts = append(d.Starts, invariant.Start{Attempt: 2, Rank: 1}) })
		}},
		{"a start ahead of the fence", 2, func(f *invariant.Facts) { dir(f, func(d *invariant.Dir) { d.Fence = 1 }) }},
		{"a fence ahead of the tables", 2, func(f *invariant.Facts) { dir(f, func(d *invariant.Dir) { d.Fence = 7 }) }},
		{"a slot held twice", 3, func(f *invariant.Facts) { f.Allocations[1].Slot = 0 }},
		{"a slot held by an ended attempt", 3, func(f *invariant.Facts) {
			f.Allocations = append(f.Allocations, invariant.Allocation{Cluster: "c", Node: "n", Slot: 5, Run: "r3", Attempt: 1})
		}},
		{"an open attempt that holds nothing", 3, func(f *invariant.Facts) { f.Allocations = nil }},
		{"a process of an attempt whose GPUs were released", 3, func(f *invariant.Facts) { f.Procs[0].Attempt = 1 }},
		{"slots of an attempt that was handed over", 3, func(f *invariant.Facts) {
			f.Allocations = append(f.Allocations, invariant.Allocation{Cluster: "hpc", Node: "h1", Slot: 0, Run: "r4", Attempt: 2})
		}},
		{"a process that was handed over and lives on although its nodes are well", 3, func(f *invariant.Facts) { f.Attempts[3].Reason = "executor_lost" }},
		{"half a gang placed", 4, func(f *invariant.Facts) { f.Allocations = f.Allocations[:1] }},
		{"a completed gang without all exits", 4, func(f *invariant.Facts) { f.Attempts[2].Exits = 0 }},
		{"resumed from what does not verify", 5, func(f *invariant.Facts) { dir(f, func(d *invariant.Dir) { d.Verified = nil }) }},
		{"resumed at another step", 5, func(f *invariant.Facts) { f.Attempts[1].ResumeStep = 3 }},
		{"a step stored twice", 5, func(f *invariant.Facts) { f.Metrics[2].Step = 2 }},
		{"a step that is missing", 5, func(f *invariant.Facts) { f.Metrics[2].Step = 4 }},
		{"a claim for a run that does not wait", 6, func(f *invariant.Facts) { f.Claims[0].For = "r3" }},
		{"a claimed slot of whoever was not asked to leave", 6, func(f *invariant.Facts) { f.Attempts[1].Intent = "" }},
		{"a claimed slot that somebody else has", 6, func(f *invariant.Facts) { f.Claims[0].From = "r3" }},
		{"a claim on a part of the gang", 6, func(f *invariant.Facts) { f.Claims = f.Claims[:1] }},
		{"claims in two clusters", 6, func(f *invariant.Facts) { f.Claims[1].Cluster = "d" }},
		{"a preemption in vain", 6, func(f *invariant.Facts) { f.PlanFault = "preempt_in_vain: r1" }},
		{"a run placed after its end", 7, func(f *invariant.Facts) { f.Events[2].Run, f.Events[2].Tenant = "r3", "u" }},
		{"two versions in production", 7, func(f *invariant.Facts) { f.Versions[1].Stage = "production" }},
		{"a stage that its history does not say", 7, func(f *invariant.Facts) { f.Versions[1].Stage = "staging" }},
		{"a version without a history", 7, func(f *invariant.Facts) { f.Lines = chained(f.Lines[0], f.Lines[3], f.Lines[4]) }},
		{"a line that is gone", 7, func(f *invariant.Facts) { f.Lines = slices.Delete(f.Lines, 3, 4) }},
		{"a line that does not follow the one before", 7, func(f *invariant.Facts) {
			f.Lines[3].Before = f.Lines[1].SHA256
			f.Lines[3].SHA256 = f.Lines[3].Digest()
			f.Lines[4].Before = f.Lines[3].SHA256
			f.Lines[4].SHA256 = f.Lines[4].Digest()
		}},
		{"a line that was altered", 7, func(f *invariant.Facts) { f.Lines[4].Actor = "nobody" }},
		{"a report that was altered", 7, func(f *invariant.Facts) { f.Lines[3].Report = "{ }" }},
		{"a move from where it was not", 7, func(f *invariant.Facts) { f.Lines[4].From = "staging"; f.Lines[4].SHA256 = f.Lines[4].Digest() }},
		{"a promotion without a verdict", 7, func(f *invariant.Facts) { f.Lines[4].Forced = false; f.Lines[4].SHA256 = f.Lines[4].Digest() }},
		{"a completed run that registered nothing", 7, func(f *invariant.Facts) { f.Versions[0].Run = "" }},
		{"a completed run that registered twice", 7, func(f *invariant.Facts) { f.Versions[1].Run = "r3" }},
		{"a run that ended without saying so", 7, func(f *invariant.Facts) { f.Runs[1].State = "failed" }},
		{"an event in another tenant", 8, func(f *invariant.Facts) { f.Events[2].Tenant = "u" }},
		{"a version in another tenant", 8, func(f *invariant.Facts) { f.Versions[0].Tenant = "t" }},
		{"a run that waits for no reason", 9, func(f *invariant.Facts) { f.Reasons = map[forge.RunID]string{"r2": ""} }},
		{"a plan that differs", 10, func(f *invariant.Facts) { f.Plans[1] = "{ }" }},
		{"a plan that breaks something", 10, func(f *invariant.Facts) { f.PlanFault = "slot_twice" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := sound()
			tc.plant(&f)
			v := invariant.Judge(f)
			if !slices.ContainsFunc(v, func(v invariant.Violation) bool { return v.Invariant == tc.invariant }) {
				t.Errorf("Judge = %v, want invariant %d", v, tc.invariant)
			}
		})
	}
}
