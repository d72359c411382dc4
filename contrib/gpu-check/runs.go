package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// holdMiB is what the program takes of a GPU, beside its context.
const holdMiB = 3000

func (c *check) start(ctx context.Context) error {
	extra := "gpus: {sample_every: 1s, app_patience: 5s"
	if c.library != "" {
		extra += fmt.Sprintf(", library_path: %q", c.library)
	}
	s, err := forgedtest.New(ctx, forgedtest.Options{Bin: c.bin, PollEvery: 200 * time.Millisecond, Extra: extra + "}\n"})
	if err != nil {
		return err
	}
	for name, mode := range map[string]string{"hold": "spin", "fault": "fault"} {
		recipe := fmt.Sprintf(`name: %s
doc: Holds memory of a GPU
launch: rank
entry:
  command: [%q, "%d", "300", %s]
datasets: []
needs_dataset: false
needs_base: false
output: false
gang: {nodes: 1, gpus_per_node: 1, cpus_per_gpu: 1, memory_mib_per_gpu: 64}
limits: {time_limit: 10m, start_timeout: 5m, stall_timeout: 5m, grace: 2s}
params: []
`, name, filepath.Join(c.bin, "hold"), holdMiB, mode)
		if err := os.WriteFile(filepath.Join(s.RecipesDir(), name+".yaml"), []byte(recipe), 0o644); err != nil {
			return err
		}
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	c.site = s
	return nil
}

func (c *check) until(ctx context.Context, what string, patience time.Duration, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		good, err := ok()
		if good && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not come in %s: %w", what, patience, err)
		case <-tick.C:
		}
	}
}

func (c *check) gpus(ctx context.Context) ([]api.GPUView, error) {
	var nodes []api.NodeGPUs
	if err := c.site.CtlJSON(ctx, &nodes, "top"); err != nil {
		return nil, err
	}
	if len(nodes) != 1 {
		return nil, fmt.Errorf("top shows %d nodes", len(nodes))
	}
	return nodes[0].GPUs, nil
}

func (c *check) submit(ctx context.Context, recipe string) (string, error) {
	var out api.Submitted
	err := c.site.CtlJSON(ctx, &out, "run", "submit", recipe)
	return fmt.Sprint(out.Run.Number), err
}

func (c *check) pinned(ctx context.Context) error {
	run, err := c.submit(ctx, "hold")
	if err != nil {
		return err
	}
	var has api.GPUView
	if err := c.until(ctx, "a GPU that works for the run", time.Minute, func() (bool, error) {
		list, err := c.gpus(ctx)
		i := slices.IndexFunc(list, func(g api.GPUView) bool { return g.Run != nil && fmt.Sprint(g.Run.Number) == run })
		if err != nil || i < 0 {
			return false, err
		}
		has = list[i]
		r := has.Reading
		return r != nil && r.MemoryUsedMiB != nil && *r.MemoryUsedMiB >= holdMiB && r.UtilPercent != nil && *r.UtilPercent > 50, nil
	}); err != nil {
		logs, _ := c.site.Ctl(ctx, "run", "logs", run, "--stderr")
		return fmt.Errorf("%w; the run said %s; the GPU is %+v", err, logs, has.Reading)
	}
	out, err := c.site.Ctl(ctx, "top", "--once")
	if err != nil {
		return err
	}
	fmt.Printf("  $ forgectl top\n%s", out)
	logs, err := c.site.Ctl(ctx, "run", "logs", run)
	if err != nil {
		return err
	}
	c.claim(strings.Contains(logs, "holding "+has.UUID), "the program found itself on %s, the GPU that it was given", has.UUID)
	c.claim(*has.Reading.MemoryUsedMiB >= holdMiB, "top shows %d MiB used and %d %% busy", *has.Reading.MemoryUsedMiB, *has.Reading.UtilPercent)
	apps, err := smi(ctx, "--query-compute-apps=pid,gpu_uuid,used_memory")
	if err != nil {
		return err
	}
	var theirs, ours []string
	for _, a := range apps {
		if a[1] == has.UUID {
			theirs = append(theirs, a[0])
		}
	}
	for _, p := range has.Reading.Processes {
		ours = append(ours, strconv.Itoa(p.PID))
	}
	slices.Sort(theirs)
	slices.Sort(ours)
	if len(theirs) == 0 {
		c.notSeen("processes of the GPU: nvidia-smi names none in this sandbox, forge %v (told: %v)", ours, has.Reading.Told)
	} else {
		c.claim(slices.Equal(theirs, ours), "pids %v; nvidia-smi has %v", ours, theirs)
	}
	if _, err := c.site.Ctl(ctx, "run", "cancel", run); err != nil {
		return err
	}
	began := time.Now()
	if err := c.until(ctx, "the GPU's release", time.Minute, func() (bool, error) {
		list, err := c.gpus(ctx)
		return err == nil && !slices.ContainsFunc(list, func(g api.GPUView) bool { return g.Run != nil }), err
	}); err != nil {
		why, _ := c.site.Ctl(ctx, "run", "why", run)
		return fmt.Errorf("%w: %s", err, why)
	}
	c.claim(true, "cancelled, its GPU was free %s later", time.Since(began).Round(100*time.Millisecond))
	return nil
}

// fault has a program write to an address that is not mapped, as programs with mistakes do.
func (c *check) fault(ctx context.Context) error {
	run, err := c.submit(ctx, "fault")
	if err != nil {
		return err
	}
	var r api.RunDetail
	if err := c.until(ctx, "the end of the run", time.Minute, func() (bool, error) {
		err := c.site.CtlJSON(ctx, &r, "run", "show", run)
		return r.State.Terminal(), err
	}); err != nil {
		return err
	}
	a := r.Attempts[0]
	c.claim(r.State == forge.RunFailed && a.Reason == forge.EndUserExit, "the run failed by itself: %s", a.Detail)
	if events, err := c.site.Ctl(ctx, "node", "events", string(a.Placement[0].Node)); err == nil {
		fmt.Printf("  $ forgectl node events\n%s", events)
	}
	if strings.Contains(a.Detail, "XID") {
		c.claim(strings.Contains(a.Detail, "XID 31"), "the driver told of XID 31, and the run's end names it")
	} else {
		c.notSeen("the driver told of no XID (sandboxes do not pass events on)")
	}
	list, err := c.gpus(ctx)
	if err != nil {
		return err
	}
	c.claim(!slices.ContainsFunc(list, func(g api.GPUView) bool { return g.Sick != "" }), "no GPU is held back for it")
	return nil
}

// stranger is somebody else's process on a GPU.
func (c *check) stranger(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "hold"), "700", "120", "idle")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var list []api.GPUView
	sick := func() (bool, error) {
		var err error
		list, err = c.gpus(ctx)
		return err == nil && slices.ContainsFunc(list, func(g api.GPUView) bool { return g.Sick != "" }), err
	}
	if err := c.until(ctx, "a GPU that is held back", 45*time.Second, sick); err != nil {
		events, _ := c.site.Ctl(ctx, "node", "events", "host-1")
		return fmt.Errorf("%w: %s", err, events)
	}
	for _, g := range list {
		if g.Sick != "" {
			c.claim(true, "nothing new goes to %s: %s", g.UUID, g.Sick)
		}
	}
	if out, err := c.site.Ctl(ctx, "top", "--once"); err == nil {
		fmt.Printf("  $ forgectl top\n%s", out)
	}
	return nil
}

// cost is what the child of this forged has used so far.
func (c *check) cost(ctx context.Context) error {
	children, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, path := range children {
		line, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(line), "nvml\x00watch") {
			continue
		}
		dir := filepath.Dir(path)
		before, err := spent(dir)
		if err != nil {
			continue
		}
		const during = 20 * time.Second
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(during):
		}
		after, err := spent(dir)
		if err != nil {
			return err
		}
		list, err := c.gpus(ctx)
		if err != nil {
			return err
		}
		share := (after - before).Seconds() / during.Seconds()
		perEight := share / 5 * 8 / float64(max(1, len(list))) // a look a second here, one in five seconds by default
		fmt.Printf("  a look a second at %d GPU(s) took %.2f %% of a core\n", len(list), share*100)
		c.claim(perEight < 0.005, "looks every 5 s at 8 GPUs would take %.3f %% of a core (limit 0.5)", perEight*100)
		return nil
	}
	return fmt.Errorf("no child of forged's is there")
}

// spent is the time that the threads of a process were on a CPU.
func spent(dir string) (sum time.Duration, err error) {
	threads, err := filepath.Glob(filepath.Join(dir, "task/*/schedstat"))
	if err != nil || len(threads) == 0 {
		return 0, fmt.Errorf("%s has no threads: %w", dir, err)
	}
	for _, path := range threads {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		ns, _, _ := strings.Cut(string(data), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		sum += time.Duration(n)
	}
	return sum, nil
}
