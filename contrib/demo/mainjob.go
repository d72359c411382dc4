package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// The main job. The run must be long enough to be killed half-way, twice, and short enough for a
// person who watches.
const (
	steps     = 120
	saveEvery = 20
	killRank  = 50 // kill one rank once this step was reported
	killForge = 90 // kill forged once this step was reported
	tolerance = 1e-6
)

func mainJob(d *demo) []chapter {
	d.last = nextOnYourOwn
	return []chapter{
		{"start forged on a state directory of its own", d.start},
		{"make a tiny base model offline, register it and a chat dataset", d.inputs},
		{"train on 2 ranks; kill a rank, then forged itself", d.train},
		{"look at what came out", d.result},
		{"the same run undisturbed", d.undisturbed},
	}
}

func (d *demo) start(ctx context.Context) error {
	s, err := forgedtest.New(ctx, forgedtest.Options{Bin: d.bin, Python: d.python, CPUSlots: 2, Network: "none", KeepOnStop: d.keep, PollEvery: 500 * time.Millisecond})
	if err != nil {
		return err
	}
	d.site = s
	if err := s.Start(ctx); err != nil {
		return err
	}
	d.net = watchNet(s.Dir)
	var nodes []api.NodeView
	if err := s.CtlJSON(ctx, &nodes, "node", "list"); err != nil {
		return err
	}
	if len(nodes) != 1 || len(nodes[0].GPUs) < 2 {
		return fmt.Errorf("node list shows %+v", nodes)
	}
	if err := d.show(ctx, "node", "list"); err != nil {
		return err
	}
	return d.claim(nodes[0].GPUs[0].Kind == forge.GPUCPUSlot, "forgectl node list", "no GPU is needed: 2 CPU slots stand in for GPUs, and say so")
}

func (d *demo) inputs(ctx context.Context) error {
	tiny, err := d.tinyModel(ctx)
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"model", "import", "tiny", tiny, "--license", "Apache-2.0"},
		{"dataset", "add", "chat", d.data, "--license", "Apache-2.0"},
	} {
		if err := d.show(ctx, args...); err != nil {
			return err
		}
	}
	var ds forge.Dataset
	if err := d.site.CtlJSON(ctx, &ds, "dataset", "show", "chat"); err != nil {
		return err
	}
	return d.claim(len(ds.Versions) == 1 && len(ds.Versions[0].SHA256) == 64 && ds.Versions[0].Rows > 0, "forgectl dataset show chat",
		"dataset chat@1 has %d rows, sha256 %.12s…", ds.Versions[0].Rows, ds.Versions[0].SHA256)
}

func submitArgs(register bool) []string {
	a := []string{"run", "submit", "lora_sft", "--dataset", "chat@1", "--base", "tiny", "--nodes", "1", "--gpus-per-node", "2", "--cpus-per-gpu", "1", "--mem-per-gpu", "2G",
		"--time", "30m", "--priority", "60", "--set", "train.max_steps=" + strconv.Itoa(steps), "--set", "checkpoint.every_steps=" + strconv.Itoa(saveEvery),
		"--set", "train.learning_rate=5e-3", "--set", "train.batch_size=4"}
	if register {
		a = append(a, "--register", "chat-bot")
	}
	return a
}

func (d *demo) train(ctx context.Context) error {
	if err := d.show(ctx, submitArgs(true)...); err != nil {
		return err
	}
	var r api.RunDetail
	if err := d.site.CtlJSON(ctx, &r, "run", "show", "1"); err != nil {
		return err
	}
	watch := d.follow(ctx, "1")
	defer watch()

	if err := d.until(ctx, "1", fmt.Sprintf("step %d", killRank), func(r api.RunDetail) bool { return r.Step >= killRank && r.SavedStep > 0 }); err != nil {
		return err
	}
	pid, err := rankPid(d.site.RunDir(string(r.ID)), 1, 1)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill -9 rank 1 (pid %d): %w", pid, err)
	}
	fmt.Printf("\n  >>> kill -9 %d   # rank 1 of 2\n", pid)
	if err := d.until(ctx, "1", "a second attempt", func(r api.RunDetail) bool { return r.Attempt == 2 && r.State == forge.RunRunning }); err != nil {
		return err
	}
	if err := d.until(ctx, "1", fmt.Sprintf("step %d", killForge), func(r api.RunDetail) bool { return r.Step >= killForge }); err != nil {
		return err
	}
	old := d.site.Pid()
	d.site.Kill()
	fmt.Printf("\n  >>> kill -9 %d   # forged itself; the ranks go on\n", old)
	if err := d.site.Start(ctx); err != nil {
		return err
	}
	fmt.Printf("  >>> forged serve   # started again, pid %d\n", d.site.Pid())
	if err := d.until(ctx, "1", "the end", func(r api.RunDetail) bool { return r.State.Terminal() }); err != nil {
		return err
	}
	watch()
	return d.story(ctx)
}

// story checks what happened against the audit trail.
func (d *demo) story(ctx context.Context) error {
	var evs []forge.Event
	if err := d.site.CtlJSON(ctx, &evs, "run", "events", "1"); err != nil {
		return err
	}
	find := func(t forge.EventType) *forge.Event {
		for i := range evs {
			if evs[i].Type == t {
				return &evs[i]
			}
		}
		return nil
	}
	var r api.RunDetail
	if err := d.site.CtlJSON(ctx, &r, "run", "show", "1"); err != nil {
		return err
	}
	if len(r.Attempts) != 2 {
		return fmt.Errorf("run 1 has %d attempts, want 2: %+v", len(r.Attempts), r.Attempts)
	}
	a1, a2 := r.Attempts[0], r.Attempts[1]
	if err := d.claim(a1.Reason == forge.EndKilledExternally, "forgectl run show 1", "attempt 1 ended: %s (%s)", a1.Reason, a1.Detail); err != nil {
		return err
	}
	if err := d.claim(find(forge.EventRunResumed) != nil && a2.ResumeStep > 0 && strings.Contains(a2.ResumeFrom, fmt.Sprintf("checkpoint-%d", a2.ResumeStep)),
		"forgectl run events 1", "attempt 2 resumed from the verified checkpoint %s", short(a2.ResumeFrom)); err != nil {
		return err
	}
	if err := d.claim(find(forge.EventRunAdopted) != nil && a2.Reason == forge.EndCompleted, "forgectl run events 1",
		"the restarted forged adopted attempt 2 and saw it through"); err != nil {
		return err
	}
	return d.claim(r.State == forge.RunCompleted && r.Step == steps, "forgectl run show 1", "run 1 is %s at step %d of %d", r.State, r.Step, r.TotalSteps)
}

// short leaves out the state directory of a path.
func short(p string) string {
	if i := strings.Index(p, "attempts/"); i >= 0 {
		return p[i:]
	}
	return p
}

func (d *demo) result(ctx context.Context) error {
	if err := d.show(ctx, "run", "show", "1"); err != nil {
		return err
	}
	if err := d.show(ctx, "run", "metrics", "1", "--plot"); err != nil {
		return err
	}
	if err := d.show(ctx, "model", "show", "chat-bot"); err != nil {
		return err
	}
	var m forge.Model
	if err := d.site.CtlJSON(ctx, &m, "model", "show", "chat-bot"); err != nil {
		return err
	}
	if len(m.Versions) != 1 || m.Versions[0].Lineage == nil {
		return fmt.Errorf("chat-bot has %d versions, want one with its lineage", len(m.Versions))
	}
	v, l := m.Versions[0], m.Versions[0].Lineage
	digests := true
	for _, x := range []string{v.SHA256, l.DatasetSHA256, l.BaseSHA256, l.RecipeSHA256, l.CodeSHA256, l.ParamsSHA256} {
		digests = digests && len(x) == 64
	}
	if err := d.claim(v.Stage == forge.StageStaging, "forgectl model show chat-bot", "chat-bot@1 is registered in %s, sha256 %.12s…", v.Stage, v.SHA256); err != nil {
		return err
	}
	return d.claim(digests && l.Dataset == "chat@1" && l.Base == "tiny@1" && l.Recipe == "lora_sft", "forgectl model show chat-bot",
		"its lineage names dataset %s %.8s…, base %s %.8s…, recipe %s %.8s…, code %.8s…", l.Dataset, l.DatasetSHA256, l.Base, l.BaseSHA256, l.Recipe, l.RecipeSHA256, l.CodeSHA256)
}

func (d *demo) undisturbed(ctx context.Context) error {
	if err := d.show(ctx, submitArgs(false)...); err != nil {
		return err
	}
	if err := d.until(ctx, "2", "the end", func(r api.RunDetail) bool { return r.State.Terminal() }); err != nil {
		return err
	}
	return d.sameLoss(ctx, steps, tolerance)
}

// sameLoss compares the end of run 1, which was disturbed, with that of run 2, which was not.
func (d *demo) sameLoss(ctx context.Context, steps int64, tolerance float64) error {
	var loss [2]float64
	for i, run := range []string{"1", "2"} {
		var r api.RunDetail
		if err := d.site.CtlJSON(ctx, &r, "run", "show", run); err != nil {
			return err
		}
		var m api.Metrics
		if err := d.site.CtlJSON(ctx, &m, "run", "metrics", run, "--key", "loss"); err != nil {
			return err
		}
		curve := m.Curves["loss"]
		if r.State != forge.RunCompleted || len(curve) == 0 || curve[len(curve)-1].Step+curve[len(curve)-1].Span-1 < steps {
			return fmt.Errorf("run %s is %s with %d points of loss, want all %d steps", run, r.State, len(curve), steps)
		}
		loss[i] = curve[len(curve)-1].Last
	}
	diff := math.Abs(loss[0] - loss[1])
	return d.claim(diff <= tolerance, "forgectl run metrics 1 --key loss; forgectl run metrics 2 --key loss",
		"last loss: %.9f disturbed, %.9f undisturbed, difference %.1e ≤ %.0e", loss[0], loss[1], diff, tolerance)
}
