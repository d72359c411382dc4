package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// A host with eight GPUs and a Slurm cluster of two nodes with four each. None of the GPUs is real: the driver is contrib/fake-nvml, and all else is
// what runs on a GPU node: go-nvml, the child that asks it, the shim that ends a gang, forged that holds hardware back.
const (
	gpuSteps = 90
	gpuSave  = 10
	faultAt  = 25 // an XID comes once this step was reported
)

type gpuDay struct {
	*demo
	fake *forgedtest.FakeGPUs
	sick int // the GPU that had the double bit error
}

func gpuHealth(d *demo) []chapter {
	d.last = "\nNext: docs/gpus.md, docs/gpu-health.md; with a real GPU at hand, make test-gpu.\n"
	t := &gpuDay{demo: d}
	return []chapter{
		{"a Slurm cluster, and a host with eight GPUs; the driver answers from a file", t.start},
		{"what the driver says, live", t.top},
		{"an XID of the program's own fails its run, and nobody else's", t.application},
		{"an XID of the GPU: the run is ended and goes on elsewhere, the GPU is held back", t.gpu},
		{"it is reset, checked, and comes back by itself", t.back},
		{"on Slurm a GPU falls off the bus: the shim ends the gang, the node is cordoned", t.node},
	}
}

func (t *gpuDay) start(ctx context.Context) error {
	if err := t.powerOn(ctx, 2, 4); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "forge")
	if err != nil {
		return err
	}
	if t.fake, err = forgedtest.NewFakeGPUs(ctx, ".", filepath.Join(dir, "driver"), 8); err != nil {
		return err
	}
	for _, node := range []string{"n1", "n2"} {
		if err := t.fake.Node(node, 4); err != nil {
			return err
		}
	}
	// What a site may change of the rules, it does here: a GPU is let back seconds after it is well, since nobody watches a demo for a quarter of an hour.
	rules := filepath.Join(dir, "gpu-health.yaml")
	if err := os.WriteFile(rules, []byte("rules:\n  - {name: xid_48, clear_for: 3s}\nreturn_after: 3s\n"), 0o644); err != nil {
		return err
	}
	go t.fake.Follow(ctx)
	o := forgedtest.Options{Bin: t.bin, Python: t.python, KeepOnStop: t.keep, Dir: dir, WithProbe: true, PollEvery: 200 * time.Millisecond,
		Extra: fmt.Sprintf("gpus: {library_path: %q, sample_every: 500ms, app_patience: 2s, rules_file: %q}\n", t.fake.Dir, rules)}
	if err := o.OnSlurm(forgedtest.Slurm{Cluster: t.slurm, Name: hpcName, Poll: "1s", Settings: []string{"nodes_every: 5s"}}); err != nil {
		return err
	}
	o.Clusters += fmt.Sprintf("  - name: local\n    kind: direct\n    node: host-1\n    cpus: 8\n    memory: 64G\n    network: host\n    poll_every: 200ms\n    python: %q\n    user_programs: true\n", t.python)
	fmt.Printf("  config.yaml:\n    %s", o.Extra)
	s, err := forgedtest.New(ctx, o)
	if err != nil {
		return err
	}
	t.site = s
	if err := s.Start(ctx); err != nil {
		return err
	}
	if err := t.show(ctx, "node", "list"); err != nil {
		return err
	}
	n, err := t.nodeOf(ctx, "host-1")
	if err != nil {
		return err
	}
	return t.claim(len(n.GPUs) == 8 && n.GPUs[7].UUID == t.fake.UUID("", 7), "forgectl node list", "host-1 has 8 GPUs, each known by its UUID")
}

func (t *gpuDay) nodeOf(ctx context.Context, name string) (api.NodeDetail, error) {
	var n api.NodeDetail
	return n, t.site.CtlJSON(ctx, &n, "node", "show", name)
}

// nodeUntil asks for a node until something is so of it.
func (t *gpuDay) nodeUntil(ctx context.Context, name, what string, ok func(api.NodeDetail) bool) (api.NodeDetail, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := t.nodeOf(ctx, name)
		if err == nil && ok(n) {
			return n, nil
		}
		select {
		case <-ctx.Done():
			return n, fmt.Errorf("waiting for %s of %s: it is %s (%s), %+v: %w", what, name, n.State, n.Reason, n.GPUs, err)
		case <-tick.C:
		}
	}
}

// probe submits a run on GPUs and gives its number.
func (t *gpuDay) probe(ctx context.Context, cluster string, gpus, stepCount int, more ...string) (string, error) {
	args := append([]string{"run", "submit", "probe", "--cluster", cluster, "--gpus-per-node", fmt.Sprint(gpus), "--cpus-per-gpu", "1", "--mem-per-gpu", "1G",
		"--set", fmt.Sprint("steps=", stepCount), "--set", "step_ms=100", "--set", fmt.Sprint("save_every=", gpuSave)}, more...)
	fmt.Printf("  $ forgectl %s\n", strings.Join(args, " "))
	var out api.Submitted
	if err := t.site.CtlJSON(ctx, &out, args...); err != nil {
		return "", err
	}
	return fmt.Sprint(out.Run.Number), nil
}

func (t *gpuDay) runOf(ctx context.Context, run string) (api.RunDetail, error) {
	var r api.RunDetail
	return r, t.site.CtlJSON(ctx, &r, "run", "show", run)
}

// slotsOf are the GPUs of the newest attempt's first node.
func slotsOf(r api.RunDetail) []int {
	if len(r.Attempts) == 0 || len(r.Attempts[len(r.Attempts)-1].Placement) == 0 {
		return nil
	}
	return r.Attempts[len(r.Attempts)-1].Placement[0].Slots
}

func stepReached(n int64) func(api.RunDetail) bool {
	return func(r api.RunDetail) bool { return r.Step >= n && r.SavedStep > 0 }
}

func sickOf(n api.NodeDetail, slot int) string {
	i := slices.IndexFunc(n.GPUs, func(g forge.GPU) bool { return g.Slot == slot })
	if i < 0 {
		return "not there"
	}
	return n.GPUs[i].Sick
}
