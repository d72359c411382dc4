package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

const (
	execRounds   = 20
	execBound    = 3 * time.Minute
	lostEvery    = 10 // steps between saves
	lostRounds   = 3  // of each: a kill, a signal
	lostBound    = 6 * time.Minute
	lostStepsMax = 2000 // more than all rounds can come to
)

// restartExec is the time from a rank's exit to the exec of the next attempt's: the rank is killed with -9, its shim sees it go and takes its leave, forged records
// the end and places the run again, and a new shim verifies the checkpoint and starts the rank, whose first instruction writes down the time. A direct executor that
// is asked as often as an installation's; 20 rounds, each behind a new checkpoint. The value is the worst.
func restartExec(ctx context.Context, e env) ([]figure, error) {
	ctx, cancel := context.WithTimeout(ctx, execBound)
	defer cancel()
	s, err := forgedtest.New(ctx, forgedtest.Options{Bin: e.bin, CPUSlots: 1, Network: "none", PollEvery: defaultPoll, WithProbe: true})
	if err != nil {
		return nil, err
	}
	took, err := execs(ctx, e, s)
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	fmt.Printf("  restart_exec_s: %d kills, median %.3f s, worst %.3f s\n", len(took), median(took), slices.Max(took))
	return []figure{atMost("restart_exec_s", slices.Max(took), "s", "limit", 1, 1)}, nil
}

func execs(ctx context.Context, e env, s *forgedtest.Site) ([]float64, error) {
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	run, err := submitTo(ctx, s, "probe", "--time", "1h", "--set", "steps=1000000", "--set", "step_ms=10", "--set", "save_every=5")
	if err != nil {
		return nil, err
	}
	var took []float64
	for attempt := 1; attempt <= execRounds; attempt++ {
		r, err := shown(ctx, s, run, fmt.Sprint("behind a save in attempt ", attempt), func(r api.RunDetail) bool {
			return r.Attempt == attempt && r.State == forge.RunRunning && r.Attempts[attempt-1].SavedStep > 0
		})
		if err != nil {
			return nil, err
		}
		l, err := liveIn(attemptDir(s, run.ID, attempt))
		if err != nil {
			return nil, err
		}
		killed := time.Now()
		if err := syscall.Kill(l.Ranks[0].Pid, syscall.SIGKILL); err != nil {
			return nil, err
		}
		var next forgedtest.Begun
		if err := until(ctx, func() (bool, error) {
			starts, err := s.Starts(string(run.ID))
			i := slices.IndexFunc(starts, func(b forgedtest.Begun) bool { return b.Attempt == attempt+1 })
			if i >= 0 {
				next = starts[i]
			}
			return i >= 0, err
		}); err != nil {
			return nil, err
		}
		took = append(took, next.At.Sub(killed).Seconds())
		if e.verbose {
			fmt.Printf("  attempt %d killed at step %d: the next began after %.3f s\n", attempt, r.Step, took[len(took)-1])
		}
	}
	return took, nil
}

// lostSteps is how many steps are done again: the last that an attempt of lora_sft reported less the one that the next resumed from. First after kills -9 of the rank at
// random steps, then after signals with the recipe's own grace, 30 s. The values are the worst.
func lostSteps(ctx context.Context, e env) ([]figure, error) {
	ctx, cancel := context.WithTimeout(ctx, lostBound)
	defer cancel()
	s, err := newSchool(ctx, e, forgedtest.Options{})
	if err != nil {
		return nil, err
	}
	killed, asked, err := s.lose(ctx, e)
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	signal := slices.Max(asked)
	return []figure{
		atMost("lost_steps_kill", slices.Max(killed), "steps", "interval", lostEvery, 1),
		{"lost_steps_signal", signal, "steps", "interval", lostEvery, "0", signal == 0},
	}, nil
}

func (s *school) lose(ctx context.Context, e env) (killed, asked []float64, err error) {
	rnd := e.random("lost_steps")
	run, err := s.train(ctx, "lora_sft", map[string]any{"train.max_steps": lostStepsMax, "train.batch_size": 8, "checkpoint.every_steps": lostEvery})
	if err != nil {
		return nil, nil, err
	}
	from := int64(0) // the step that the attempt resumed from
	for attempt := 1; attempt <= 2*lostRounds; attempt++ {
		dir := attemptDir(s.Site, run.ID, attempt)
		if err := reaches(ctx, dir, from+int64(lostEvery+rnd.IntN(2*lostEvery))); err != nil {
			return nil, nil, err
		}
		kill := attempt <= lostRounds
		if kill {
			l, err := liveIn(dir)
			if err == nil {
				err = syscall.Kill(l.Ranks[0].Pid, syscall.SIGKILL)
			}
			if err != nil {
				return nil, nil, err
			}
		} else if _, err := s.Ctl(ctx, "run", "interrupt", fmt.Sprint(run.Number), "--as", "preempt"); err != nil {
			return nil, nil, err
		}
		r, err := shown(ctx, s.Site, run, fmt.Sprint("in attempt ", attempt+1), func(r api.RunDetail) bool { return r.Attempt > attempt && r.State == forge.RunRunning })
		if err != nil {
			return nil, nil, err
		}
		last, err := lastStep(dir)
		if err != nil {
			return nil, nil, err
		}
		from = r.Attempts[attempt].ResumeStep
		fmt.Fprintf(os.Stderr, "lost_steps: attempt %d ended %s at step %d, the next goes on from %d\n", attempt, r.Attempts[attempt-1].Reason, last, from)
		if kill {
			killed = append(killed, float64(last-from))
		} else {
			asked = append(asked, float64(last-from))
		}
	}
	return killed, asked, nil
}

// reaches waits until an attempt has reported a step.
func reaches(ctx context.Context, attempt string, step int64) error {
	for {
		at, err := lastStep(attempt)
		if err != nil || at >= step {
			return err
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("%s is at step %d, not %d: %w", attempt, at, step, err)
		}
	}
}

// random is a generator that follows from -seed, or from the clock; the seed is told so that a failure can be tried again.
func (e env) random(name string) *rand.Rand {
	seed := e.seed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	fmt.Fprintf(os.Stderr, "%s: -seed %d\n", name, seed)
	return rand.New(rand.NewPCG(seed, 3))
}
