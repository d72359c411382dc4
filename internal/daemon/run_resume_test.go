package daemon

import (
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func TestOnlyARunOfTheSameRecipeOnTheSameBaseCanBeBegunFrom(t *testing.T) {
	base := func(name, sha string) *forge.InputRef { return &forge.InputRef{Name: name, SHA256: sha} }
	spec := forge.RunSpec{Recipe: "dpo", RecipeSHA256: "aaa", RecipeWork: "w1", Base: base("tiny@1", "b1"), Launch: forge.LaunchRank}
	for why, change := range map[string]func(s *forge.RunSpec){
		"":                             func(*forge.RunSpec) {},
		"is of recipe reward, not dpo": func(s *forge.RunSpec) { s.Recipe = "reward" },
		"it is another version now":    func(s *forge.RunSpec) { s.RecipeSHA256, s.RecipeWork = "bbb", "w2" },
		"with another program":         func(s *forge.RunSpec) { s.RecipeSHA256, s.RecipeWork = "bbb", "" }, // of before it was noted
		"trains base model big@2, this one tiny@1": func(s *forge.RunSpec) { s.Base = base("big@2", "b2") },
		"trains base model none, this one tiny@1":  func(s *forge.RunSpec) { s.Base = nil },
		"is launched per node":                     func(s *forge.RunSpec) { s.Launch = forge.LaunchNode },
	} {
		theirs := spec
		theirs.RecipeSHA256 = "of other words"
		change(&theirs)
		err := branchable(forge.Run{Number: 7, Spec: theirs}, spec)
		if (err == nil) != (why == "") || err != nil && (!strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "run 7")) {
			t.Errorf("%q: %v", why, err)
		}
	}
}

func TestAnotherNumberOfRanksIsTakenOnlyWhereTheFormatAllowsIt(t *testing.T) {
	spec := forge.RunSpec{Launch: forge.LaunchRank, Gang: forge.Gang{Nodes: 2, GPUsPerNode: 2}}
	r := forge.Run{Number: 7}
	for _, c := range []struct {
		world int
		any   bool
		ok    bool
	}{{4, false, true}, {2, false, false}, {2, true, true}} {
		save := forge.Checkpoint{Step: 10, World: c.world, AnyWorld: c.any, Verdict: forge.VerdictWritten}
		err := fits(r, save, spec)
		if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "saved by 2 ranks and this run has 4") {
			t.Errorf("%+v: %v", c, err)
		}
		if notes := differences(r, save, spec); (len(notes) > 0) != (c.world != 4) {
			t.Errorf("%+v: %q", c, notes)
		}
	}
	spec.Launch = forge.LaunchNode // only the launcher knows how many they are
	if err := fits(r, forge.Checkpoint{World: 7, Verdict: forge.VerdictVerified}, spec); err != nil {
		t.Error(err)
	}
}

func TestTheCheckpointOfAStepIsTheNewestGoodOne(t *testing.T) {
	now := time.Now()
	r := forge.Run{Number: 7}
	saves := []forge.Checkpoint{ // as the store lists them
		{Step: 40, Attempt: 2, Verdict: forge.VerdictWritten},
		{Step: 30, Attempt: 3, Verdict: forge.VerdictTorn},
		{Step: 30, Attempt: 2, Verdict: forge.VerdictVerified},
		{Step: 20, Attempt: 1, Verdict: forge.VerdictVerified, Removed: now},
	}
	for step, want := range map[string][]forge.Checkpoint{"40": saves[:1], "30": saves[2:3], "latest": saves[:3]} {
		if got, err := ofStep(r, saves, step); err != nil || len(got) != len(want) || got[0] != want[0] {
			t.Errorf("%s: %+v, %v", step, got, err)
		}
	}
	for step, why := range map[string]string{"20": "has removed its checkpoint of step 20; it has 40, 30", "25": "no checkpoint of step 25; it has 40, 30", "-1": "no step", "best": "latest"} {
		if _, err := ofStep(r, saves, step); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", step, err, why)
		}
	}
}

func TestABranchPointOfAnotherTenantIsNoRunAtAll(t *testing.T) {
	r := start(t, 1)
	run := r.submit(t, script(1))
	stranger := r.op
	stranger.Tenant = "01OTHER000000000000000000"
	spec := run.Spec
	_, err := r.resolveBranch(t.Context(), stranger, api.SubmitRunRequest{ResumeFrom: string(run.ID) + "@latest"}, &spec)
	if forge.KindOf(err) != forge.KindInvalid || strings.Contains(err.Error(), "checkpoint") || spec.ResumeFrom != nil {
		t.Errorf("%v, %+v", err, spec.ResumeFrom)
	}
	if _, err = r.resolveBranch(t.Context(), r.op, api.SubmitRunRequest{ResumeFrom: string(run.ID) + "@latest"}, &spec); err == nil || !strings.Contains(err.Error(), "has no checkpoint") {
		t.Errorf("its own: %v", err)
	}
}

func TestTheNextSaveBeginsAsLongBeforeTheLimitAsTheLastOnesTook(t *testing.T) {
	r := start(t, 1)
	run := r.submit(t, script(1))
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	r.fake.Save(forge.Checkpoint{Run: run.ID, Attempt: 1, Step: 5, Took: forge.Duration(2 * time.Second)})
	r.fake.Save(forge.Checkpoint{Run: run.ID, Attempt: 1, Step: 9, Took: forge.Duration(3 * time.Second), Signal: forge.Duration(5 * time.Second)})
	r.await(t, run.ID, "saved", func(x forge.Run) bool { return x.SavedStep == 9 })
	r.fake.Lose(key)
	r.launched(t, run.ID, 2)
	l := r.fake.Launches()
	if l[0].SaveLead != 0 || l[1].SaveLead.D() != 10*time.Second {
		t.Errorf("%s before the first limit, %s before the second; want 0s, 10s", l[0].SaveLead, l[1].SaveLead)
	}
}

func TestWhatAStopCostIsSaid(t *testing.T) {
	a := forge.Attempt{LastStep: 47}
	at := func(step int64, v forge.Verdict) []forge.Checkpoint {
		return []forge.Checkpoint{{Step: step, Verdict: v}}
	}
	for _, c := range []struct {
		reason forge.EndReason
		saves  []forge.Checkpoint
		want   string
	}{
		{forge.EndTimeLimit, at(40, forge.VerdictVerified), "; the 7 steps since step 40 are done again"},
		{forge.EndCheckpointedPreempt, at(40, forge.VerdictTorn), "; its 47 steps are done again: nothing was saved"},
		{forge.EndCheckpointedLimit, at(47, forge.VerdictVerified), ""},
		{forge.EndCheckpointedDrain, at(48, forge.VerdictVerified), ""},
		{forge.EndNodeLost, nil, ""}, // nobody asked it to save
	} {
		if got := lostSteps(c.reason, a, c.saves); got != c.want {
			t.Errorf("%s: %q, want %q", c.reason, got, c.want)
		}
	}
	a.ResumeStep = 45
	if got := lostSteps(forge.EndTimeLimit, a, nil); got != "; the 2 steps since step 45 are done again" {
		t.Errorf("%q", got)
	}
}
