package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// killing is one run that is killed again and again, now its rank, now its shim, now forged, each as likely. Most kills come at a random step, spread over the run, so that
// it is neither over before the last nor at its end for the first; each fourth comes at a random moment after the one before, to meet a start. What is done follows from
// the seed; where the processes are at that moment does not.
type killing struct {
	name    string
	e       env
	rnd     *rand.Rand
	kills   int
	steps   int
	slack   int           // last steps that see no kill
	start   time.Duration // about what a start takes
	program string        // a word of a rank's command line

	site    *forgedtest.Site
	run     forge.Run
	attempt int       // the newest
	spent   int       // the attempt whose processes were killed: what it has reported is no progress any more
	down    bool      // forged is dead
	back    time.Time // and starts again then
	began   time.Time
	did     map[string]int
}

const (
	killsRetry    = "retry: {backoff_min: 50ms, backoff_max: 500ms, fruitless_limit: 100000, pause_after: 100000}\nlimits: {requests_per_second: 0}\n"
	killsLook     = 5 * time.Millisecond
	killsTold     = 10 * time.Second
	killsLeaveFor = 10 * time.Second // after its end
	downAtMost    = 300 * time.Millisecond
)

// kills50 is a run of 200 steps of lora_sft that is killed 50 times, and one that is not: what differs between them, and what was left.
func kills50(ctx context.Context, e env) ([]figure, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	s, err := newSchool(ctx, e, forgedtest.Options{Extra: killsRetry, PollEvery: 200 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	kills, slack, every := 50, 20, 5
	if e.kills > 0 {
		kills = e.kills
	}
	steps := (slack + 18*kills/5 + every - 1) / every * every // 200 with 50 kills
	// A step is long beside a start of forged, else the run would be over while forged is down. Dropout needs the states of the generators back.
	params := map[string]any{"train.max_steps": steps, "train.batch_size": 4, "train.gradient_accumulation_steps": 4, "train.deterministic": true,
		"lora.dropout": 0.1, "checkpoint.every_steps": every, "train.learning_rate": 5e-3}
	k := &killing{name: "kills_50", e: e, kills: kills, steps: steps, slack: slack, start: 8 * time.Second, program: "forge_train.lora_sft", site: s.Site}
	submit := func() (forge.Run, error) { return s.train(ctx, "lora_sft", params) }
	last := fmt.Sprint("checkpoints/checkpoint-", steps)
	return k.figure(ctx, submit, submit, "output/adapter_model.safetensors", last+"/optimizer.pt", last+"/scheduler.pt", last+"/rng_state.pth")
}

// kills1000 is the same with a program that saves and resumes, and has no torch to import.
func kills1000(ctx context.Context, e env) ([]figure, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	s, err := forgedtest.New(ctx, forgedtest.Options{Bin: e.bin, CPUSlots: 1, Network: "none", PollEvery: 200 * time.Millisecond, WithProbe: true, Extra: killsRetry})
	if err == nil {
		err = s.Start(ctx)
	}
	if err != nil {
		return nil, err
	}
	k := &killing{name: "kills_1000", e: e, kills: 1000, slack: 500, start: 300 * time.Millisecond, program: "proberank", site: s}
	if e.kills > 0 {
		k.kills = e.kills
	}
	k.steps = 15*k.kills + k.slack
	submit := func(stepMS int) func() (forge.Run, error) {
		return func() (forge.Run, error) {
			return submitTo(ctx, s, "probe", "--time", "1h", "--set", fmt.Sprint("steps=", k.steps), "--set", fmt.Sprint("step_ms=", stepMS), "--set", "save_every=10", "--set", "keep_last=2")
		}
	}
	return k.figure(ctx, submit(0), submit(20), "output/adapter.bin")
}

// figure lets one run be, kills the other, and counts what is wrong.
func (k *killing) figure(ctx context.Context, calm, killed func() (forge.Run, error), files ...string) ([]figure, error) {
	k.rnd, k.began, k.did = k.e.random(k.name), time.Now(), map[string]int{}
	wrong, err := k.compare(ctx, calm, killed, files)
	for _, w := range wrong {
		fmt.Printf("  %s: %s\n", k.name, w)
	}
	if err != nil {
		if log := k.site.LogTail(); k.e.verbose {
			err = fmt.Errorf("%w\n%s", err, log)
		}
		return nil, errors.Join(err, k.site.Close())
	}
	fmt.Printf("  %s: %v in %d attempts, %.0f s\n", k.name, k.did, k.attempt, time.Since(k.began).Seconds())
	f := figure{k.name, float64(len(wrong)), "faults", "kills", float64(k.kills), "0 differences, orphans or doubled steps", len(wrong) == 0}
	return []figure{f}, k.site.Close()
}

func (k *killing) compare(ctx context.Context, calm, killed func() (forge.Run, error), files []string) ([]string, error) {
	undisturbed, err := calm()
	if err != nil {
		return nil, err
	}
	first, err := completed(ctx, k.site, undisturbed)
	if err != nil {
		return nil, err
	}
	if k.run, err = killed(); err != nil {
		return nil, err
	}
	if err := k.strikes(ctx); err != nil {
		return nil, err
	}
	second, err := completed(ctx, k.site, k.run)
	if err != nil {
		return nil, err
	}
	k.attempt = second.Attempt
	return judged{k.site, k.steps, files}.of(ctx, first, second)
}

func (k *killing) strikes(ctx context.Context) error {
	told := time.Now()
	for n := range k.kills {
		step := int64((float64(n) + k.rnd.Float64()) * float64(k.steps-k.slack) / float64(k.kills))
		soon := time.Duration(-1)
		if k.rnd.IntN(4) == 0 {
			soon = time.Duration(k.rnd.Int64N(int64(k.start)))
		}
		victim := []string{"rank", "shim", "forged"}[k.rnd.IntN(3)]
		within := time.Duration(k.rnd.Int64N(int64(20 * time.Millisecond)))
		if err := k.strike(ctx, victim, max(1, step), soon, within); err != nil {
			return fmt.Errorf("kill %d of %d, the %s: %w", n+1, k.kills, victim, err)
		}
		if k.did[victim]++; time.Since(told) > killsTold {
			told = time.Now()
			fmt.Fprintf(os.Stderr, "%s: %d of %d kills, step %d of %d, attempt %d, %.0f s\n", k.name, n+1, k.kills, step, k.steps, k.attempt, time.Since(k.began).Seconds())
		}
	}
	return k.heal(ctx, true)
}

// strike waits for its moment and kills. What is not there then is waited for.
func (k *killing) strike(ctx context.Context, victim string, step int64, soon, within time.Duration) error {
	began, looked := time.Now(), time.Now()
	for {
		if err := k.heal(ctx, victim == "forged"); err != nil {
			return err
		}
		due, err := k.reached(step)
		if err != nil {
			return err
		}
		if due || soon >= 0 && time.Since(began) > soon {
			if err := pause(ctx, within); err != nil {
				return err
			}
			if done, err := k.kill(victim); done || err != nil {
				return err
			}
		}
		if err := pause(ctx, killsLook); err != nil {
			return err
		}
		if !k.down && time.Since(looked) > 2*time.Second {
			looked = time.Now()
			if err := k.lives(ctx); err != nil {
				return err
			}
		}
	}
}

// heal starts forged again when it is due.
func (k *killing) heal(ctx context.Context, now bool) error {
	if !k.down || !now && time.Now().Before(k.back) {
		return nil
	}
	k.down = false
	return k.site.Start(ctx)
}

// reached says whether the newest attempt has reported a step; what one that was killed has reported does not count.
func (k *killing) reached(step int64) (bool, error) {
	for {
		if _, err := os.Stat(attemptDir(k.site, k.run.ID, k.attempt+1)); err != nil {
			break
		}
		k.attempt++
	}
	if k.attempt <= k.spent {
		return false, nil
	}
	at, err := lastStep(attemptDir(k.site, k.run.ID, k.attempt))
	return at >= step, err
}

func (k *killing) kill(victim string) (bool, error) {
	if victim == "forged" {
		k.site.Kill()
		k.down, k.back = true, time.Now().Add(time.Duration(k.rnd.Int64N(int64(downAtMost))))
		return true, nil
	}
	all, err := forgedtest.Survivors(k.site.RunDir(string(k.run.ID)))
	if err != nil {
		return false, err
	}
	those := forgedtest.Shims(all)
	if victim == "rank" {
		those = forgedtest.Ranks(all, k.program)
	}
	if len(those) == 0 {
		return false, nil
	}
	k.spent = k.attempt
	err = syscall.Kill(those[k.rnd.IntN(len(those))].Pid, syscall.SIGKILL)
	return err == nil, gone(err)
}

// gone passes over a process that ended by itself meanwhile.
func gone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// lives is an error when no kill can come any more.
func (k *killing) lives(ctx context.Context) error {
	var r api.RunDetail
	if err := k.site.CtlJSON(ctx, &r, "run", "show", fmt.Sprint(k.run.Number)); err != nil {
		return err
	}
	if r.State.Terminal() || r.Hold != nil {
		events, _ := k.site.Ctl(ctx, "run", "events", fmt.Sprint(k.run.Number))
		lines := strings.Split(events, "\n")
		return fmt.Errorf("the run is %s (%s) at step %d, hold %+v\n%s", r.State, r.Reason, r.Step, r.Hold, strings.Join(lines[max(0, len(lines)-30):], "\n"))
	}
	return nil
}
