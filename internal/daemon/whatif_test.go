package daemon

import (
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func TestMoreNodesLetTheLiveQueueStartSooner(t *testing.T) {
	r, _ := fullOf(t, 3) // run 1 runs
	s := rundata{r.Daemon}
	w, err := s.WhatIf(t.Context(), r.op, api.WhatIfQuery{AddNodes: []string{"2x1"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(w.Runs) != 3 || w.Runs[0].Run != 2 || w.Runs[0].Tenant == "" || !w.Runs[0].Then.Before(w.Runs[0].Now) || !w.Runs[1].Then.Before(w.Runs[1].Now) {
		t.Errorf("%+v", w.Runs)
	}
	if w.Then.GPUs != w.Now.GPUs+2 || w.Then.AvgWaitS >= w.Now.AvgWaitS || w.Now.Waiting != 3 || w.Now.Start != 3 || w.Others.Sooner != 3 || w.Others.Later != 0 {
		t.Errorf("now %+v, then %+v, %+v", w.Now, w.Then, w.Others)
	}
	if again, _ := s.WhatIf(t.Context(), r.op, api.WhatIfQuery{Policy: "fifo"}); again.Now.GPUs != w.Now.GPUs || again.Then.Policy != "fifo" {
		t.Errorf("what was only thought of has happened: %+v", again)
	}
}

func TestADrainedNodeStartsNothingInAWhatIf(t *testing.T) {
	r, _ := fullOf(t, 2)
	w, err := rundata{r.Daemon}.WhatIf(t.Context(), r.op, api.WhatIfQuery{Drain: []string{"n1"}})
	if err != nil || w.Then.Start != 0 || w.Then.GPUs != 0 || w.Now.Start != 2 || w.Others.Never != 2 {
		t.Errorf("%+v, %v", w, err)
	}
	for _, x := range w.Runs {
		if !x.Then.IsZero() || x.Now.IsZero() {
			t.Errorf("%+v", x)
		}
	}
}

func TestAWhatIfShowsAMemberNothingOfOtherTenantsButAmounts(t *testing.T) {
	r, _ := fullOf(t, 3)
	w, err := rundata{r.Daemon}.WhatIf(t.Context(), forge.Principal{Tenant: "another", Role: forge.RoleMember}, api.WhatIfQuery{AddNodes: []string{"1x1"}})
	if err != nil || len(w.Runs) != 0 || w.Now.Waiting != 3 || w.Others.Sooner == 0 {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestAWhatIfOfNonsenseSaysWhatIsWanted(t *testing.T) {
	r, _ := fullOf(t, 1)
	for q, want := range map[*api.WhatIfQuery]string{
		{AddNodes: []string{"4"}}:                           "4x8:h100",
		{AddNodes: []string{"0x8"}}:                         "4x8:h100",
		{AddNodes: []string{"99999x8"}}:                     "4x8:h100",
		{AddNodes: []string{"1x8:h999"}}:                    "no node has GPUs of that type",
		{Drain: []string{"ghost"}}:                          "no such node",
		{Policy: "luck"}:                                    "is not a policy",
		{Policy: "fifo", Drain: []string{"n1", "other/n1"}}: "no such node",
	} {
		if _, err := (rundata{r.Daemon}).WhatIf(t.Context(), r.op, *q); err == nil || forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

func TestADryRunSaysWhenItWouldStartAndWhomItDelays(t *testing.T) {
	r, waiting := fullOf(t, 3)
	spec := waiting[0].Spec
	spec.Priority = 70
	var out api.Submitted
	r.dryRun(t.Context(), r.op, spec, &out)
	if out.Start == nil || out.Start.At.IsZero() || out.Effect == nil || out.Effect.Later != 3 || out.Effect.Most <= 0 {
		t.Errorf("it overtakes three: %+v, %+v", out.Start, out.Effect)
	}
	spec.Priority = 10
	out = api.Submitted{}
	r.dryRun(t.Context(), r.op, spec, &out)
	if out.Effect == nil || out.Effect.Later != 0 {
		t.Errorf("it is last: %+v", out.Effect)
	}
	if n := len(r.world.snapshot(time.Now()).Pending); n != 3 {
		t.Errorf("%d wait after two dry runs", n)
	}
	spec.After = []forge.RunID{waiting[0].ID}
	out = api.Submitted{}
	r.dryRun(t.Context(), r.op, spec, &out)
	if out.Start == nil || !out.Start.At.IsZero() || out.Start.Note == "" {
		t.Errorf("what waits for another: %+v", out.Start)
	}
}
