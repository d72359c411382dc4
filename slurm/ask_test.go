package slurm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// asking is an executor over programs of Slurm that are lines of shell, and a run root with the attempts of some runs, which were
// handed over as jobs 1, 2, …
func asking(t *testing.T, attempts int, programs map[string]string) (*Executor, []*attempt) {
	t.Helper()
	bin, root := t.TempDir(), t.TempDir()
	for name, script := range programs {
		must(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\necho \"$*\" >>"+bin+"/"+name+".calls\n"+script+"\n"), 0o755))
	}
	e, err := New(Options{Cluster: "hpc", Tools: Tools{Bin: bin, Timeout: 10 * time.Second}, RunRoot: root, Shim: "/shim", PollEvery: time.Hour, Log: zerolog.Nop()})
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	var all []*attempt
	for i := range attempts {
		a := e.learn("", rundir.At(filepath.Join(root, fmt.Sprintf("01ASKED%019d", i)), 1))
		a.made, a.missing = time.Now().Add(-time.Hour), missingBefore
		a.records.Batch = &rundir.BatchRecord{JobID: fmt.Sprint(i + 1)}
		all = append(all, a)
	}
	return e, all
}

// called are the calls of a program so far.
func called(t *testing.T, e *Executor, program string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(e.o.Tools.Bin, program+".calls"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

const away = "echo 'slurm: error: Unable to contact slurm controller (connect failure)' >&2; exit 1"

func TestFindBelievesOnlyJobsOfTheOwner(t *testing.T) {
	name := "forge-hpc-" + runA + ".1"
	find := func(t *testing.T, squeue string) forge.Lookup {
		e, _ := asking(t, 0, map[string]string{"squeue": squeue})
		dir := filepath.Join(e.o.RunRoot, runA)
		must(t, os.MkdirAll(rundir.At(dir, 1).Dir(), 0o750))
		return e.Find(t.Context(), forge.AttemptKey(runA, 1), dir)
	}
	t.Run("a stranger's job of the same name is none of ours", func(t *testing.T) {
		if l := find(t, `case "$*" in *--user=*) ;; *) echo '`+squeueLine(9, "mallory", name)+`' ;; esac`); l.State != forge.LookupAbsent {
			t.Errorf("%+v", l)
		}
	})
	t.Run("an answer that cannot be read says nothing", func(t *testing.T) {
		if l := find(t, "echo '9|RUNNING|forge-hpc-'"); l.State != forge.LookupUnknown {
			t.Errorf("%+v", l)
		}
	})
}

func TestAControllerThatGoesAwayAmongQuestionsIsNotWaitedForByEach(t *testing.T) {
	t.Run("for jobs that are asked for by id", func(t *testing.T) {
		e, lost := asking(t, 5, map[string]string{"squeue": "", "sacct": "exit 1", "scontrol": away})
		e.askFor(lost, time.Now())
		if n := len(called(t, e, "scontrol")); n != 1 {
			t.Errorf("it was asked %d times", n)
		}
		for _, a := range lost {
			if a.gone {
				t.Errorf("%s is gone, and nobody said so", a.name)
			}
		}
	})
	t.Run("for jobs of attempts that never began", func(t *testing.T) {
		e, all := asking(t, 5, map[string]string{"scancel": away})
		var list []stranger
		for i, a := range all {
			must(t, os.MkdirAll(a.at.Dir(), 0o750))
			if _, err := rundir.Revoke(a.at, time.Now()); err != nil {
				t.Fatal(err)
			}
			list = append(list, stranger{job: entry{ID: fmt.Sprint(i + 1), Name: a.name}, at: a.at})
		}
		e.endStrangers(list)
		if n := len(called(t, e, "scancel")); n != 1 {
			t.Errorf("it was asked %d times", n)
		}
	})
}

func TestABrokenAnswerAboutAJobWithoutAnIDDoesNotMakeItGone(t *testing.T) {
	for answer, gone := range map[string]bool{"": true, "7|RUNNING|forge-hpc-": false} {
		e, lost := asking(t, 1, map[string]string{"squeue": "echo '" + answer + "'", "sacct": "exit 1"})
		lost[0].records.Batch, lost[0].missing = nil, missingBefore+1
		e.askFor(lost, time.Now())
		if lost[0].gone != gone {
			t.Errorf("after %q it is gone: %v", answer, lost[0].gone)
		}
	}
}

func TestOnALateClusterTheWaitIsCountedByForgedsOwnClock(t *testing.T) {
	w := aGang().job("PENDING", "Resources")
	if got := w.handedOver(); !got.Equal(noon.Add(-time.Hour)) {
		t.Errorf("without a note of it: %s", got)
	}
	w.records.Batch = &rundir.BatchRecord{JobID: "7", At: noon.Add(-time.Second)} // the controller's clock is an hour behind
	if got := w.handedOver(); !got.Equal(noon.Add(-time.Second)) {
		t.Errorf("%s", got)
	}
}

func TestThousandsThatEndTogetherAskForFewNudges(t *testing.T) {
	e, _ := asking(t, 0, nil)
	n := 0
	for range 5000 {
		if e.nudgeIn(10 * time.Second) {
			n++
		}
	}
	if n > 100 {
		t.Errorf("%d nudges", n)
	}
	e.nudgeIn(time.Millisecond)
	select {
	case <-e.Wake():
	case <-time.After(patienceInside):
		t.Error("no nudge came")
	}
}

const patienceInside = 30 * time.Second
