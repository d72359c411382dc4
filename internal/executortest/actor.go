package executortest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// actor acts a Program out: what a shim and its ranks would have done by now. It is asked at every
// look and keeps no timer, so that a Fake leaves nothing running.
type actor struct {
	f        *Fake
	a        *fakeAttempt
	p        Program
	began    time.Time
	lastLog  time.Time // when metrics last changed
	killAt   time.Time
	children []int
}

func newActor(f *Fake, a *fakeAttempt, p Program, now time.Time) *actor {
	return &actor{f: f, a: a, p: p, began: now}
}

// act brings the attempt up to now.
func (a *fakeAttempt) act(now time.Time) {
	if a.actor != nil && !a.over() && a.state != forge.ObservQueued {
		a.actor.step(now)
	}
}

func (t *actor) step(now time.Time) {
	a := t.a
	if a.state == forge.ObservStarting {
		t.start(now)
		return
	}
	spec := a.launch.Spec
	stepped := !t.lastLog.IsZero()
	switch {
	case spec.TimeLimit > 0 && now.Sub(t.began) >= spec.TimeLimit.D():
		t.endGang(forge.StopTimeLimit, "the time limit came", now)
	case spec.StartTimeout > 0 && !stepped && now.Sub(a.started) >= spec.StartTimeout.D():
		t.endGang(forge.StopStartTimeout, "no first step", now)
	case spec.StallTimeout > 0 && stepped && now.Sub(t.lastLog) >= spec.StallTimeout.D():
		t.endGang(forge.StopStall, "no step", now)
	}
	if !t.killAt.IsZero() && !now.Before(t.killAt) {
		t.kill(now)
	}
	if len(a.exits) == a.ranks {
		t.finish()
	}
}

// start lets every rank do what it does at once.
func (t *actor) start(now time.Time) {
	t.a.state, t.a.started = forge.ObservRunning, now.UTC()
	for rank := range t.a.ranks {
		act := t.p.act(rank)
		if act.Child {
			t.f.pids++
			t.children = append(t.children, t.f.pids)
			t.print(rank, fmt.Sprintf("child %d\n", t.f.pids))
		}
		for step := 1; step <= act.Lines && rank == 0; step++ {
			t.a.streams[forge.StreamMetrics] = append(t.a.streams[forge.StreamMetrics], MetricLine(int64(step), int64(act.Lines))...)
			t.lastLog = now
		}
		if act.Output {
			t.a.end.Output = &forge.Manifest{Root: t.a.launch.Config.OutputDir, Files: []forge.File{{Path: "model.bin", Size: 7, SHA256: fmt.Sprintf("%064d", 7)}}}
		}
		t.print(rank, "start\n")
		if !act.Hold {
			t.exit(rank, act.Exit, 0, false, now)
		}
	}
	if t.a.failing() {
		t.endGang(forge.StopRankExit, "a rank failed", now)
	}
}

func (t *actor) print(rank int, text string) {
	s := fmt.Sprintf("stdout.%d", rank)
	t.a.streams[s] = append(t.a.streams[s], text...)
}

func (t *actor) exit(rank, code int, sig syscall.Signal, byShim bool, now time.Time) {
	if _, ended := t.a.exits[rank]; ended {
		return
	}
	t.a.exits[rank] = forge.RankExit{
		Rank: rank, Node: t.a.node(), Code: code, Signal: int(sig), ByShim: byShim, StartedAt: t.a.started, EndedAt: now.UTC(),
	}
}

// endGang is the first reason to end; what follows from it does not replace it.
func (t *actor) endGang(cause forge.StopCause, detail string, now time.Time) {
	if t.a.end.Cause != "" {
		return
	}
	t.a.end.Cause, t.a.end.Detail = cause, detail
	t.terminate(now)
}

// asked is a signal from forged.
func (t *actor) asked(s forge.SignalKind, now time.Time) {
	if t.a.over() {
		return
	}
	if t.a.state == forge.ObservStarting {
		t.start(now)
	}
	cause := forge.StopIntent
	if s == forge.SignalLimit {
		cause = forge.StopTimeLimit
	}
	t.a.end.Cause = cmp.Or(t.a.end.Cause, cause)
	if s == forge.SignalKill {
		t.kill(now)
		return
	}
	t.terminate(now)
}

// terminate sends TERM to every rank that runs; KILL follows after the grace.
func (t *actor) terminate(now time.Time) {
	if t.killAt.IsZero() {
		t.killAt = now.Add(t.a.launch.Spec.Grace.D())
	}
	for rank := range t.a.ranks {
		act := t.p.act(rank)
		switch {
		case act.OnTerm == TermDies:
			t.exit(rank, 128+int(syscall.SIGTERM), syscall.SIGTERM, true, now)
		case act.OnTerm == TermSaves && t.a.stop == forge.SignalCancel:
			t.exit(rank, ExitOnCancel, 0, true, now)
		case act.OnTerm == TermSaves:
			if _, ended := t.a.exits[rank]; rank == 0 && !ended {
				t.f.save(forge.Checkpoint{
					Run: t.a.launch.Run, Attempt: t.a.launch.Attempt, Step: int64(max(1, act.Lines)), World: t.a.ranks, Bytes: 15,
				})
			}
			t.exit(rank, forge.ExitCheckpointed, 0, false, now)
		}
	}
}

func (t *actor) kill(now time.Time) {
	for rank := range t.a.ranks {
		t.exit(rank, 128+int(syscall.SIGKILL), syscall.SIGKILL, true, now)
	}
}

func (t *actor) finish() {
	for _, pid := range t.children {
		t.f.dead[pid] = true
	}
	if t.a.failing() {
		t.a.end.Output = nil
	}
	t.a.end.Cause = cmp.Or(t.a.end.Cause, forge.StopRankExit)
	t.a.state = forge.ObservExited
}

// metricsLine is one row as rank 0 writes it.
func metricsLine(total int64, r forge.MetricRow) []byte {
	data, err := json.Marshal(struct {
		Step   int64              `json:"step"`
		Total  int64              `json:"total_steps"`
		Time   time.Time          `json:"time"`
		Values map[string]float64 `json:"values"`
	}{r.Step, total, cmp.Or(r.Time, time.Now()).UTC(), r.Values})
	if err != nil {
		panic(err) // a test gave a value that is not a number
	}
	return append(data, '\n')
}
