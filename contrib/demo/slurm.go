package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// A real Slurm cluster under the same run: a gang of 2 nodes × 2 ranks loses a node, then Slurm loses its controller.
const (
	hpcName   = "hpc"
	hpcNodes  = 4
	hpcGPUs   = 4
	hpcSteps  = 80
	hpcSave   = 10
	losePower = 25 // one node of the gang dies once this step was reported
	killCtl   = 40 // the controller dies once this step was reported

	// The sum over four ranks is rounded in the order of torch's buckets, which are made anew when ranks begin anew.
	hpcTolerance = 1e-5
)

type hpc struct {
	*demo
	runRoot string
	dead    string // the node that died
}

func onSlurm(d *demo) []chapter {
	d.last = "\nNext, with the cluster to yourself: make slurm-up NODES=4 GPUS=4, and docs/slurm.md.\n"
	h := &hpc{demo: d}
	return []chapter{
		{"a Slurm cluster: real daemons, 4 nodes with 4 GPUs each", h.cluster},
		{"forged on it", h.forged},
		{"make a tiny base model offline, register it and a chat dataset", h.inputs},
		{"train on 2 nodes with 2 ranks each; one of the nodes dies", h.train},
		{"the controller is killed, and returns", h.outage},
		{"look at what came out", h.result},
		{"the same run undisturbed", h.again},
	}
}

func (h *hpc) cluster(ctx context.Context) error {
	if err := h.powerOn(ctx, hpcNodes, hpcGPUs); err != nil {
		return err
	}
	out, err := h.slurmSays("sinfo", "--Format=NodeList,StateLong,Gres,Features", "--Node", "--partition=main")
	if err != nil {
		return err
	}
	return h.claim(strings.Count(out, "idle") == hpcNodes && strings.Count(out, fmt.Sprintf("gpu:h100:%d", hpcGPUs)) == hpcNodes, "sinfo",
		"Slurm has %d idle nodes with %d GPUs each", hpcNodes, hpcGPUs)
}

// slurmSays runs a program of Slurm for the reader's eyes.
func (h *hpc) slurmSays(program string, args ...string) (string, error) {
	fmt.Printf("  $ %s %s\n", program, strings.Join(args, " "))
	out, err := h.slurm.Run(program, args...)
	for line := range strings.Lines(out) {
		fmt.Print("    ", line)
	}
	return out, err
}

func (h *hpc) forged(ctx context.Context) error {
	o := forgedtest.Options{Bin: h.bin, Python: h.python, KeepOnStop: h.keep}
	// Each rank appends a line before it does anything else: who began, and when. Nothing of forged is asked.
	begun := `'[ -n "$FORGE_LOAD_TEST" ] || echo "$(basename $FORGE_ATTEMPT_DIR) $RANK $(date +%s%N)" >>$FORGE_RUN_DIR/starts'`
	if err := o.OnSlurm(forgedtest.Slurm{Cluster: h.slurm, Name: hpcName, Poll: "1s", Settings: []string{"nodes_every: 5s"}, Lines: []string{
		h.onCPUs(begun),
	}}); err != nil {
		return err
	}
	h.runRoot = o.RunRoot
	fmt.Printf("  config.yaml:\n    clusters:\n")
	for line := range strings.Lines(o.Clusters) {
		fmt.Print("    ", line)
	}
	nodes, err := h.serve(ctx, o, hpcNodes)
	if err != nil {
		return err
	}
	if err := h.show(ctx, "node", "list"); err != nil {
		return err
	}
	gpus := 0
	for _, n := range nodes {
		gpus += len(n.GPUs)
	}
	return h.claim(gpus == hpcNodes*hpcGPUs, "forgectl node list", "forged sees them: %d nodes, %d GPUs", len(nodes), gpus)
}

func hpcSubmit(more ...string) []string {
	return append([]string{"run", "submit", "lora_sft", "--cluster", hpcName, "--dataset", "chat@1", "--base", "tiny", "--nodes", "2", "--gpus-per-node", "2", "--cpus-per-gpu", "1",
		"--mem-per-gpu", "2G", "--time", "30m", "--set", fmt.Sprint("train.max_steps=", hpcSteps), "--set", fmt.Sprint("checkpoint.every_steps=", hpcSave),
		"--set", "train.learning_rate=5e-3", "--set", "train.batch_size=4"}, more...)
}

func (h *hpc) train(ctx context.Context) error {
	if err := h.show(ctx, hpcSubmit("--register", "chat-bot")...); err != nil {
		return err
	}
	watch := h.follow(ctx, "1")
	defer watch()
	var r api.RunDetail
	if err := h.until(ctx, "1", fmt.Sprintf("step %d", losePower), func(now api.RunDetail) bool {
		r = now
		return r.Step >= losePower && r.SavedStep > 0 && len(r.Attempts[0].Placement) == 2
	}); err != nil {
		return err
	}
	h.dead = string(r.Attempts[0].Placement[1].Node)
	if err := h.slurm.LosePower(h.dead); err != nil {
		return err
	}
	at := time.Now()
	fmt.Printf("\n  >>> contrib/slurm-cluster/down %s %s   # its slurmd, its steps and their tasks, at once\n", h.slurm.Dir, h.dead)
	if err := h.until(ctx, "1", "a second attempt", func(now api.RunDetail) bool {
		r = now
		return r.Attempt == 2 && r.State == forge.RunRunning
	}); err != nil {
		return err
	}
	watch()
	job := r.Attempts[0].Batch
	if job == nil {
		return errors.New("attempt 1 has no Slurm job")
	}
	if _, err := h.slurmSays("squeue", "--states=all", "--job="+job.ID, "--format=%i %T %r"); err != nil {
		return err
	}
	var back api.RunDetail
	if err := h.site.CtlJSON(ctx, &back, "run", "show", "--slurm-job", job.ID); err != nil {
		return err
	}
	if err := h.claim(back.ID == r.ID, "forgectl run show --slurm-job "+job.ID, "Slurm's job %s is found back: run %d", job.ID, back.Number); err != nil {
		return err
	}
	a1, a2 := r.Attempts[0], r.Attempts[1]
	if err := h.claim(a1.Reason == forge.EndNodeLost, "forgectl run show 1", "%.0f s later attempt 1 had ended: %s (%s), and attempt 2 ran", time.Since(at).Seconds(), a1.Reason, a1.Detail); err != nil {
		return err
	}
	elsewhere := len(a2.Placement) == 2 && !slices.ContainsFunc(a2.Placement, func(s forge.Share) bool { return string(s.Node) == h.dead })
	if err := h.claim(elsewhere, "forgectl run show 1", "it runs on %s, without %s", placedOn(a2), h.dead); err != nil {
		return err
	}
	return h.claim(a2.ResumeStep >= hpcSave && strings.Contains(a2.ResumeFrom, fmt.Sprintf("checkpoint-%d", a2.ResumeStep)), "forgectl run show 1",
		"it went on from the verified checkpoint %s", short(a2.ResumeFrom))
}

func placedOn(a forge.Attempt) string {
	var nodes []string
	for _, s := range a.Placement {
		nodes = append(nodes, string(s.Node))
	}
	return strings.Join(nodes, " and ")
}

// outage lets the controller be away while the gang goes on.
func (h *hpc) outage(ctx context.Context) error {
	var before api.RunDetail
	if err := h.until(ctx, "1", fmt.Sprintf("step %d", killCtl), func(now api.RunDetail) bool {
		before = now
		return now.Step >= killCtl && now.Step > now.Attempts[0].LastStep
	}); err != nil {
		return err
	}
	if err := h.slurm.KillController(); err != nil {
		return err
	}
	fmt.Printf("  >>> kill -9 $(cat %s/run/slurmctld.pid)\n", h.slurm.Dir)
	var meanwhile api.RunDetail
	if err := h.until(ctx, "1", "more steps", func(now api.RunDetail) bool { meanwhile = now; return now.Step >= before.Step+hpcSave/2 }); err != nil {
		return err
	}
	if err := h.claim(meanwhile.Attempt == 2 && meanwhile.State == forge.RunRunning, "forgectl run show 1", "without a controller the run is %s, from step %d to %d", meanwhile.State, before.Step, meanwhile.Step); err != nil {
		return err
	}
	if err := h.slurm.StartController(); err != nil {
		return err
	}
	fmt.Printf("  >>> %s/start/slurmctld\n", h.slurm.Dir)
	if err := h.until(ctx, "1", "the end", func(now api.RunDetail) bool { return now.State.Terminal() }); err != nil {
		return err
	}
	var r api.RunDetail
	if err := h.site.CtlJSON(ctx, &r, "run", "show", "1"); err != nil {
		return err
	}
	return h.claim(r.State == forge.RunCompleted && r.Attempt == 2 && r.Step == hpcSteps, "forgectl run show 1", "run 1 is %s at step %d of %d, in attempt %d", r.State, r.Step, r.TotalSteps, r.Attempt)
}

func (h *hpc) result(ctx context.Context) error {
	for _, args := range [][]string{{"run", "show", "1"}, {"model", "show", "chat-bot"}, {"node", "list"}} {
		if err := h.show(ctx, args...); err != nil {
			return err
		}
	}
	var r api.RunDetail
	if err := h.site.CtlJSON(ctx, &r, "run", "show", "1"); err != nil {
		return err
	}
	if err := h.claim(r.Model == "chat-bot@1", "forgectl model show chat-bot", "the model is registered as %s", r.Model); err != nil {
		return err
	}
	begun, err := h.site.Starts(string(r.ID))
	if err != nil {
		return err
	}
	count := map[string]int{}
	for _, b := range begun {
		count[fmt.Sprintf("attempt %d rank %d", b.Attempt, b.Rank)]++
	}
	twice := 0
	for _, n := range count {
		twice += n - 1
	}
	return h.claim(len(count) == 8 && twice == 0, "cat "+filepath.Join(h.runRoot, string(r.ID), "starts"), "the ranks' own file has %d starts: 4 ranks in each of 2 attempts, none of them twice", len(begun))
}

func (h *hpc) again(ctx context.Context) error {
	if err := h.show(ctx, hpcSubmit()...); err != nil {
		return err
	}
	if err := h.until(ctx, "2", "the end", func(r api.RunDetail) bool { return r.State.Terminal() }); err != nil {
		return err
	}
	return h.sameLoss(ctx, hpcSteps, hpcTolerance)
}

// eventually waits for something that forged has no command to wait for.
func (d *demo) eventually(ctx context.Context, what string, so func() (bool, error)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := so(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

// powerOn starts a cluster for the story.
func (d *demo) powerOn(ctx context.Context, nodes, gpus int) (err error) {
	if d.slurm, err = slurmtest.Start(ctx, slurmtest.Options{Nodes: nodes, GPUs: gpus}); err != nil {
		return err
	}
	fmt.Printf("  $ NODES=%d GPUS=%d contrib/slurm-cluster/up %s\n", nodes, gpus, d.slurm.Dir)
	return nil
}

// onCPUs is the runtime of a cluster whose GPUs are Slurm's word only: ranks train on CPUs. before are lines of setup, in YAML.
func (d *demo) onCPUs(before ...string) string {
	lines := append(before, "'export CUDA_VISIBLE_DEVICES='")
	return fmt.Sprintf("runtime:\n      kind: venv\n      path: %q\n      setup:\n        - %s # the GPUs are Slurm's word only: train on CPUs",
		filepath.Dir(filepath.Dir(d.python)), strings.Join(lines, "\n        - "))
}

// serve starts forged, and waits until it knows the nodes.
func (d *demo) serve(ctx context.Context, o forgedtest.Options, nodes int) (list []api.NodeView, err error) {
	if d.site, err = forgedtest.New(ctx, o); err != nil {
		return nil, err
	}
	if err := d.site.Start(ctx); err != nil {
		return nil, err
	}
	err = d.eventually(ctx, "forged knows the nodes", func() (bool, error) {
		err := d.site.CtlJSON(ctx, &list, "node", "list")
		return len(list) == nodes, err
	})
	return list, err
}

// powerOff ends the cluster and looks for anything that it left.
func (d *demo) powerOff() error {
	if err := d.slurm.Down(); err != nil {
		return err
	}
	_, err := os.Stat(d.slurm.Dir)
	return d.claim(os.IsNotExist(err), "contrib/slurm-cluster/down "+d.slurm.Dir, "the cluster is gone, with every process of it")
}
