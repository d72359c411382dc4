package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// top shows a run on two of the eight GPUs, as the driver tells it.
func (t *gpuDay) top(ctx context.Context) error {
	if err := t.fake.Set("", "gpu.5.temp", "71", "gpu.5.power", "412000"); err != nil {
		return err
	}
	run, err := t.probe(ctx, "local", 2, 80)
	if err != nil {
		return err
	}
	var seen []api.NodeGPUs
	if err := t.eventually(ctx, "top shows the run", func() (bool, error) {
		seen = nil
		if err := t.site.CtlJSON(ctx, &seen, "top", "--node", "host-1"); err != nil {
			return false, err
		}
		return len(seen) == 1 && len(held(seen[0], run)) == 2 && hot(seen[0]), nil
	}); err != nil {
		return err
	}
	if err := t.show(ctx, "top", "--once"); err != nil {
		return err
	}
	if err := t.claim(len(seen[0].GPUs) == 8, "forgectl top", "8 GPUs are shown, two of them with run %s, its pids, its memory and its utilisation", run); err != nil {
		return err
	}
	if err := t.claim(hot(seen[0]), "forgectl top", "what the driver says is what is shown: GPU 5 has 71 °C and takes 412 W"); err != nil {
		return err
	}
	return t.until(ctx, run, "its end", func(r api.RunDetail) bool { return r.State == forge.RunCompleted })
}

// held are the GPUs that a run has and works on.
func held(n api.NodeGPUs, run string) (out []api.GPUView) {
	for _, g := range n.GPUs {
		if g.Run != nil && fmt.Sprint(g.Run.Number) == run && g.Reading != nil && len(g.Reading.Processes) > 0 && g.Reading.UtilPercent != nil && *g.Reading.UtilPercent > 0 {
			out = append(out, g)
		}
	}
	return out
}

func hot(n api.NodeGPUs) bool {
	return slices.ContainsFunc(n.GPUs, func(g api.GPUView) bool {
		r := g.Reading
		return g.Slot != nil && *g.Slot == 5 && r != nil && r.TemperatureC != nil && *r.TemperatureC == 71 && r.PowerWatts != nil && *r.PowerWatts == 412
	})
}

// application has two runs side by side; one of them makes a mistake that the GPU tells of.
func (t *gpuDay) application(ctx context.Context) error {
	bad, err := t.probe(ctx, "local", 1, 2000, "--name", "reads-where-it-must-not")
	if err != nil {
		return err
	}
	good, err := t.probe(ctx, "local", 1, gpuSteps, "--name", "neighbour")
	if err != nil {
		return err
	}
	for _, run := range []string{bad, good} {
		if err := t.until(ctx, run, "step 5", func(r api.RunDetail) bool { return r.Step >= 5 }); err != nil {
			return err
		}
	}
	r, err := t.runOf(ctx, bad)
	if err != nil {
		return err
	}
	slot := slotsOf(r)[0]
	if err := t.xid("", slot, 31); err != nil {
		return err
	}
	if err := t.untilEnd(ctx, bad, forge.RunFailed); err != nil {
		return err
	}
	if r, err = t.runOf(ctx, bad); err != nil {
		return err
	}
	if err := t.show(ctx, "run", "show", bad); err != nil {
		return err
	}
	a := r.Attempts[0]
	if err := t.claim(len(r.Attempts) == 1 && a.Reason == forge.EndUserExit && strings.Contains(a.Detail, "XID 31"), "forgectl run show "+bad,
		"run %s failed by its own fault, XID 31 is named, and nothing is tried again elsewhere", bad); err != nil {
		return err
	}
	if err := t.untilEnd(ctx, good, forge.RunCompleted); err != nil {
		return err
	}
	if r, err = t.runOf(ctx, good); err != nil {
		return err
	}
	n, err := t.nodeOf(ctx, "host-1")
	if err != nil {
		return err
	}
	return t.claim(len(r.Attempts) == 1 && sickOf(n, slot) == "", "forgectl run show "+good, "run %s beside it was not touched, and GPU %d takes new work", good, slot)
}

func (t *gpuDay) xid(node string, gpu, number int) error {
	where := "host-1"
	if node != "" {
		where = node
	}
	fmt.Printf("\n  >>> XID %d on GPU %d of %s\n", number, gpu, where)
	return t.fake.XID(node, gpu, number)
}

func (t *gpuDay) untilEnd(ctx context.Context, run string, want forge.RunState) error {
	return t.eventually(ctx, "run "+run+" is "+string(want), func() (bool, error) {
		r, err := t.runOf(ctx, run)
		if err == nil && r.State.Terminal() && r.State != want {
			err = fmt.Errorf("run %s is %s, not %s: %+v", run, r.State, want, r.Attempts)
		}
		return r.State == want, err
	})
}

// gpu is a double bit error: not the program's fault, and not the node's.
func (t *gpuDay) gpu(ctx context.Context) error {
	run, err := t.probe(ctx, "local", 2, gpuSteps)
	if err != nil {
		return err
	}
	if err := t.until(ctx, run, fmt.Sprint("step ", faultAt), stepReached(faultAt)); err != nil {
		return err
	}
	r, err := t.runOf(ctx, run)
	if err != nil {
		return err
	}
	was := slotsOf(r)
	t.sick = was[0]
	at := time.Now()
	if err := t.xid("", t.sick, 48); err != nil {
		return err
	}
	if err := t.until(ctx, run, "a second attempt", func(now api.RunDetail) bool {
		r = now
		return now.Attempt == 2 && now.State == forge.RunRunning
	}); err != nil {
		return err
	}
	first, second := r.Attempts[0], r.Attempts[1]
	if len(first.Exits) == 0 {
		return fmt.Errorf("attempt 1 has no exits: %+v", first)
	}
	took := first.Exits[0].EndedAt.Sub(at)
	if err := t.claim(first.Reason == forge.EndGPUFault && took < time.Second, "forgectl run show "+run, "the gang was ended %d ms after the XID, reason gpu_fault: %s", took.Milliseconds(), first.Detail); err != nil {
		return err
	}
	if err := t.claim(!slices.Contains(second.Placement[0].Slots, t.sick) && second.ResumeStep >= gpuSave, "forgectl run show "+run,
		"it went on from its checkpoint of step %d on GPUs %v instead of %v", second.ResumeStep, second.Placement[0].Slots, was); err != nil {
		return err
	}
	n, err := t.nodeUntil(ctx, "host-1", "a GPU that is held back", func(n api.NodeDetail) bool { return sickOf(n, t.sick) != "" })
	if err != nil {
		return err
	}
	if err := t.show(ctx, "node", "show", "host-1"); err != nil {
		return err
	}
	if err := t.claim(n.State == forge.NodeReady, "forgectl node show host-1", "GPU %d is held back (%s), the other seven take work", t.sick, sickOf(n, t.sick)); err != nil {
		return err
	}
	if err := t.untilEnd(ctx, run, forge.RunCompleted); err != nil {
		return err
	}
	return t.sameLoss(ctx, run)
}

// sameLoss holds a run that was interrupted against what an undisturbed one gives.
func (t *gpuDay) sameLoss(ctx context.Context, run string) error {
	r, err := t.runOf(ctx, run)
	if err != nil {
		return err
	}
	if r.Loss == nil {
		return fmt.Errorf("run %s has no loss", run)
	}
	got, want := *r.Loss, forgedtest.ProbeLoss(gpuSteps)
	return t.claim(got == want, "forgectl run metrics "+run, "it ended with the number of an undisturbed run: %.6f", got)
}

// back is the reset that the rule asks for: counters begin anew, and the driver wants nothing more.
func (t *gpuDay) back(ctx context.Context) error {
	fmt.Printf("  >>> nvidia-smi --gpu-reset -i %d\n", t.sick)
	at := fmt.Sprintf("gpu.%d.", t.sick)
	if err := t.fake.Set("", at+"energy", "1000"); err != nil {
		return err
	}
	if _, err := t.nodeUntil(ctx, "host-1", "the GPU's return", func(n api.NodeDetail) bool { return sickOf(n, t.sick) == "" }); err != nil {
		return err
	}
	out, err := t.site.Ctl(ctx, "node", "events", "host-1")
	if err != nil {
		return err
	}
	if err := t.show(ctx, "node", "events", "host-1"); err != nil {
		return err
	}
	return t.claim(strings.Contains(out, "returned") && strings.Contains(out, "48"), "forgectl node events host-1", "GPU %d came back by itself after a check; its history says why it was away", t.sick)
}

// node loses a GPU of a Slurm node for good.
func (t *gpuDay) node(ctx context.Context) error {
	run, err := t.probe(ctx, hpcName, 2, 3*gpuSteps) // a shim of a job looks every ten seconds, and its first look may come before the ranks' work
	if err != nil {
		return err
	}
	var r api.RunDetail
	if err := t.until(ctx, run, fmt.Sprint("step ", faultAt), func(now api.RunDetail) bool {
		r = now
		return stepReached(faultAt)(now) && len(slotsOf(now)) == 2
	}); err != nil {
		return err
	}
	where, slot := string(r.Attempts[0].Placement[0].Node), slotsOf(r)[0]
	var seen []api.NodeGPUs
	if err := t.eventually(ctx, "top shows the GPUs of the Slurm node", func() (bool, error) {
		seen = nil
		err := t.site.CtlJSON(ctx, &seen, "top", "--node", where)
		return err == nil && len(seen) == 1 && len(held(seen[0], run)) == 2, err
	}); err != nil {
		return err
	}
	if err := t.show(ctx, "top", "--once", "--node", where); err != nil {
		return err
	}
	if err := t.claim(held(seen[0], run)[0].UUID == t.fake.UUID(where, slot), "forgectl top --node "+where, "on Slurm the shim looks beside the ranks: what it sees is the driver of %s, and not that of forged's host", where); err != nil {
		return err
	}
	if err := t.xid(where, slot, 79); err != nil {
		return err
	}
	if err := t.fake.Set(where, fmt.Sprintf("gpu.%d.lost", slot), "1"); err != nil {
		return err
	}
	if err := t.until(ctx, run, "a second attempt", func(now api.RunDetail) bool {
		r = now
		return now.Attempt == 2 && now.State == forge.RunRunning
	}); err != nil {
		return err
	}
	first, second := r.Attempts[0], r.Attempts[1]
	if err := t.claim(first.Reason == forge.EndGPUFault && strings.Contains(first.Detail, "XID 79"), "forgectl run show "+run, "ended: %s", first.Detail); err != nil {
		return err
	}
	if err := t.claim(string(second.Placement[0].Node) != where, "forgectl run show "+run, "it went on from step %d on %s", second.ResumeStep, second.Placement[0].Node); err != nil {
		return err
	}
	n, err := t.nodeUntil(ctx, where, "the cordon", func(n api.NodeDetail) bool { return n.State == forge.NodeDrained })
	if err != nil {
		return err
	}
	for _, args := range [][]string{{"node", "list"}, {"node", "events", where}} {
		if err := t.show(ctx, args...); err != nil {
			return err
		}
	}
	if err := t.claim(strings.Contains(n.Reason, "79"), "forgectl node show "+where, "%s takes nothing new: %s", where, n.Reason); err != nil {
		return err
	}
	return t.untilEnd(ctx, run, forge.RunCompleted)
}
