//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// Environment modules, as sites have them: Debian's, and a module that the test has made.
func TestARunStartsInTheModulesThatItNames(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "fmodules") // where the nodes see it
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Chmod(write(t, filepath.Join(dir, "sw", "bin", "of-the-module"), "#!/bin/sh\necho \"$OF_MODULE for rank $RANK\"\n"), 0o755))
	write(t, filepath.Join(dir, "modulefiles", "train", "1.0"), "#%Module1.0\nsetenv OF_MODULE {train 1.0}\nprepend-path PATH "+filepath.Join(dir, "sw", "bin")+"\n")
	h := openSlurm(t, calm(t), func(o *hpcOptions) {
		o.slurm.Settings = append(o.slurm.Settings, "user_runtime: true")
		o.slurm.Lines = append(o.slurm.Lines, "env: {MODULEPATH: "+filepath.Join(dir, "modulefiles")+"}")
	})
	write(t, filepath.Join(h.RecipesDir(), "tool.yaml"), `name: tool
doc: Runs a program that only a module puts into PATH
launch: rank
entry: {command: [of-the-module]}
needs_dataset: false
needs_base: false
output: false
limits: {time_limit: 10m, start_timeout: 1m, stall_timeout: 1m, grace: 2s}
`)
	must(t, h.Stop(h.ctx))
	must(t, h.Start(h.ctx))
	in := func(module string) string {
		var sub api.Submitted
		must(t, h.CtlJSON(h.ctx, &sub, "run", "submit", "-f", write(t, filepath.Join(dir, "run.yaml"), "recipe: tool\nnodes: 2\nruntime: {kind: module, modules: ["+module+"]}\n")))
		return fmt.Sprint(sub.Run.Number)
	}

	r := h.until(in("train/1.0"), "ended", ended)
	for rank := range 2 {
		said := read(t, filepath.Join(h.RunDir(string(r.ID)), "attempts", "0001", "ranks", fmt.Sprintf("%04d", rank), "stdout"))
		if want := fmt.Sprintf("train 1.0 for rank %d\n", rank); r.State != forge.RunCompleted || said != want {
			t.Errorf("%s (%s): rank %d said %q, want %q", r.State, r.Reason, rank, said, want)
		}
	}

	run := in("train/9.9")
	r = h.until(run, "failed once", func(r api.RunDetail) bool { return len(r.Attempts) > 0 && r.Attempts[0].Reason != "" })
	if a := r.Attempts[0]; a.Reason != forge.EndNodeEnv {
		t.Errorf("a module that is not there: %s, %s", a.Reason, a.Detail)
	}
	// Both ranks fail; whoever was first ended the gang.
	var logs string
	for rank := range 2 {
		said, err := h.Ctl(h.ctx, "run", "logs", run, "--attempt", "1", "--rank", fmt.Sprint(rank), "--stderr")
		must(t, err)
		logs += said
	}
	for _, want := range []string{"Unable to locate a modulefile for 'train/9.9'", "before the rank: module load"} {
		if !strings.Contains(logs, want) {
			t.Errorf("the logs do not say %q:\n%s", want, logs)
		}
	}
	_, _ = h.Ctl(h.ctx, "run", "cancel", run, "--now")
	h.until(run, "ended", ended)
}
