package slurm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

const (
	runA = "01RUNRUNRUNRUNRUNRUNRUNRNA"
	runB = "01RUNRUNRUNRUNRUNRUNRUNRNB"
)

// squeueLine is a job as squeue prints it.
func squeueLine(id int, user, name string) string {
	return fmt.Sprintf("%d|RUNNING|0|0|1795648538|1795648538|N/A|N/A|main|%s|n1|None|%s", id, user, name)
}

// saying is an executor over a squeue that answers one text after the other, the last one for good, and a controller.
func saying(t *testing.T, o Options, ping string, answers ...string) *Executor {
	t.Helper()
	dir := t.TempDir()
	for i, a := range answers {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("answer", i)), []byte(a), 0o600))
	}
	tools := program(t, "squeue", fmt.Sprintf("cd %s; n=$(cat n 2>/dev/null || echo 0); echo $((n+1)) >n; [ -e answer$n ] || n=%d; cat answer$n", dir, len(answers)-1))
	must(t, os.WriteFile(filepath.Join(tools.Bin, "scontrol"), []byte("#!/bin/sh\n"+ping+"\n"), 0o755))
	o.Cluster, o.Tools, o.Shim, o.Log = "hpc", tools, "/shim", zerolog.Nop()
	e, err := New(o)
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	return e
}

func TestWhatRemainsIsNotTakenFromOneAnswer(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: seconds between one answer and the next")
	}
	const up, down = "echo 'Slurmctld(primary) at ctl is UP'", "echo 'Slurmctld(primary) at ctl is DOWN'"
	ours, theirs := squeueLine(7, "root", "forge-hpc-"+runA+".1")+"\n", squeueLine(8, "bob", "train")+"\n"
	for name, c := range map[string]struct {
		ping    string
		answers []string
		alive   int
		says    string // why nothing is known
	}{
		"two that agree":                         {down, []string{ours, ours}, 1, ""},
		"an empty one first":                     {up, []string{"", ours, ours}, 1, ""},
		"one that lacks it between":              {down, []string{ours, theirs, ours, ours}, 1, ""},
		"nothing, and the controller is up":      {up, []string{""}, 0, ""},
		"nothing, and the controller is down":    {down, []string{""}, 0, "no controller says that it is up"},
		"nothing, and the controller is away":    {"echo 'slurm_ping: Unable to contact slurm controller' >&2; exit 1", []string{""}, 0, "Unable to contact"},
		"only jobs of others":                    {down, []string{theirs}, 0, ""},
		"a line of ours that is cut off":         {up, []string{theirs + "7|RUNNING|forge-hpc-" + runA}, 0, "1 lines of squeue are about jobs of forge's, and 0"},
		"a job of ours twice by one id":          {up, []string{ours + ours}, 0, "2 lines"},
		"somebody's line that cannot be read":    {up, []string{"what\n" + ours}, 1, ""},
		"answers that never agree with the last": {down, []string{ours, theirs, ours, theirs, ours, theirs}, 0, "all different"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, err := saying(t, Options{RunRoot: t.TempDir()}, c.ping, c.answers...).Remains(t.Context())
			if c.says != "" {
				if forge.KindOf(err) != forge.KindUnavailable || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%+v, %v; want %q", list, err, c.says)
				}
				return
			}
			if err != nil || len(list) != c.alive || c.alive > 0 && (list[0].Run != runA || len(list[0].Alive[1]) != 1) {
				t.Errorf("%+v, %v", list, err)
			}
		})
	}
}

// closed is a hand that may not act for some.
type closed struct {
	Hand
	whom map[string]bool
}

func (h closed) Remains(_ context.Context, account, root string) ([]forge.Remains, error) {
	if h.whom[account] {
		return nil, errors.New("sudo: a password is required")
	}
	return rundir.Runs(context.Background(), root)
}

func TestAnAccountThatForgedMayNotActForHidesNobodyElse(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: seconds between one answer and the next")
	}
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "alice", runA), 0o700))
	whom := map[string]bool{"bob": true}
	e := saying(t, Options{RunRoot: root + "/{account}", Hand: closed{whom: whom}}, "exit 1",
		squeueLine(7, "alice", "forge-hpc-"+runA+".1")+"\n"+squeueLine(9, "bob", "forge-hpc-"+runB+".2")+"\n")
	list, err := e.Remains(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	if a := list[0]; a.Run != runA || a.Problem != "" || len(a.Alive[1]) != 1 {
		t.Errorf("%+v", a)
	}
	if b := list[1]; b.Run != runB || !strings.Contains(b.Problem, "password is required") || len(b.Alive[2]) != 1 {
		t.Errorf("%+v", b)
	}
	whom["alice"] = true
	if list, err := e.Remains(t.Context()); forge.KindOf(err) != forge.KindUnavailable {
		t.Errorf("when it may act for nobody: %+v, %v", list, err)
	}
}
