package shim

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// level is how hard the ranks are being ended. It only grows.
type level int

const (
	levelNone level = iota
	levelWait       // a rank saved and left by itself: the others get the grace, undisturbed
	levelSave       // TERM to each rank, which saves and exits 85
	levelEnd        // TERM to each rank's process group
	levelKill       // KILL to each rank's process group
)

// member is one local rank.
type member struct {
	rank     int // global
	pid      int // 0: not started
	started  time.Time
	ended    bool
	notified level // strongest level whose signal was sent to it
	exit     forge.RankExit
}

// signs is what the ranks let see of their progress.
type signs struct {
	size  int64     // of metrics.jsonl
	mtime time.Time // of metrics.jsonl
	beat  time.Time // modification time of the heartbeat
}

func (s signs) any() bool { return s.size > 0 || !s.beat.IsZero() }

// gang decides when the ranks of this node are to be ended and how hard. It holds no clock and
// does no I/O: the loop tells it what happened and sends what it orders.
type gang struct {
	node                       forge.NodeName
	limit, start, stall, grace time.Duration // zero: none; stall and start only where progress is watched
	limitGrace                 time.Duration // instead of grace, where somebody else's KILL follows the limit

	began   time.Time // of the attempt on this node
	live    time.Time // when the last rank had started
	members []*member

	seen   signs
	seenAt time.Time // when seen last changed

	level  level
	killAt time.Time
	cause  forge.StopCause // the first one; what follows from it does not replace it
	detail string
	byUID  int

	fault  *forge.Finding // of a GPU, that the end is put down to
	failBy time.Time      // when ranks that should have ended after a fault of their own are ended
}

// ask raises the level. The first cause stays; the earliest KILL stays.
func (g *gang) ask(l level, cause forge.StopCause, detail string, now time.Time) {
	if g.cause == "" {
		g.cause, g.detail = cause, detail
	}
	if l <= g.level {
		return
	}
	g.level = l
	grace := g.grace
	if cause == forge.StopTimeLimit && g.limitGrace > 0 {
		grace = g.limitGrace
	}
	if at := now.Add(grace); g.killAt.IsZero() || at.Before(g.killAt) {
		g.killAt = at
	}
}

// asked is a stop file.
func (g *gang) asked(stop rundir.Stop, now time.Time) {
	if stop.Intent == forge.IntentCheckpointLimit {
		g.ask(levelSave, forge.StopTimeLimit, "forged took the time limit for come", now)
		return
	}
	l, kind := levelSave, stop.Signal
	switch kind {
	case forge.SignalKill:
		l = levelKill
	case forge.SignalCancel:
		l = levelEnd
	}
	g.ask(l, forge.StopIntent, "forged asked to "+string(kind), now)
}

// terminated is a TERM to the shim itself from somebody who is not forged.
func (g *gang) terminated(uid int, now time.Time) {
	detail := "the shim was sent SIGTERM"
	if uid >= 0 {
		detail = fmt.Sprintf("the shim was sent SIGTERM by uid %d", uid)
	}
	if g.cause == "" {
		g.byUID = uid
	}
	g.ask(levelSave, forge.StopSignal, detail, now)
}

// exited records the end of a local rank and what it means for the others. Exit 0 while others run
// is normal; 85 leaves the others the grace to do the same; anything else ends the gang.
func (g *gang) exited(m *member, ws syscall.WaitStatus, oom bool, now time.Time) {
	m.ended = true
	m.exit = forge.RankExit{Rank: m.rank, Node: g.node, StartedAt: m.started, EndedAt: now}
	words := ""
	if ws.Signaled() {
		m.exit.Signal = int(ws.Signal())
		m.exit.Code = 128 + m.exit.Signal
		m.exit.OOM = oom && ws.Signal() == syscall.SIGKILL && m.notified < levelKill
		words = fmt.Sprintf("rank %d was ended by signal %d", m.rank, m.exit.Signal)
	} else {
		m.exit.Code = ws.ExitStatus()
		words = fmt.Sprintf("rank %d exited %d", m.rank, m.exit.Code)
	}
	// A rank that was asked to save and exits with a code of its own choice speaks for itself.
	m.exit.ByShim = m.notified >= levelEnd && m.exit.Code != 0 || m.notified == levelSave && m.exit.Signal != 0
	if m.exit.ByShim {
		return
	}
	switch m.exit.Code {
	case 0:
	case forge.ExitCheckpointed:
		g.ask(levelWait, forge.StopRankExit, words, now)
	default:
		g.ask(levelEnd, forge.StopRankExit, words, now)
	}
}

func (g *gang) limitWords() string {
	if g.limitGrace > 0 {
		return fmt.Sprintf("the time limit is near: %s are left for the save", g.limitGrace.Round(time.Second))
	}
	return fmt.Sprintf("the time limit of %s came", g.limit)
}

// warned is Slurm's own word that its limit is near.
func (g *gang) warned(now time.Time) {
	g.ask(levelSave, forge.StopTimeLimit, "Slurm said that the time limit is near", now)
}

// superseded is a fence that is ahead: what the ranks would save is of no use to anybody.
func (g *gang) superseded(by int, now time.Time) {
	g.ask(levelEnd, forge.StopSuperseded, fmt.Sprintf("attempt %d holds the fence", by), now)
}

// peer is the end of another node's part of the gang.
func (g *gang) peer(l level, detail string, now time.Time) {
	g.ask(l, forge.StopRankExit, detail, now)
}

// tick looks at the limits.
func (g *gang) tick(s signs, now time.Time) {
	if s != g.seen {
		g.seen, g.seenAt = s, now
	}
	switch {
	case g.limit > 0 && now.Sub(g.began) >= g.limit:
		g.ask(levelSave, forge.StopTimeLimit, g.limitWords(), now)
	case g.start > 0 && !g.live.IsZero() && !g.seen.any() && now.Sub(g.live) >= g.start:
		g.ask(levelSave, forge.StopStartTimeout, fmt.Sprintf("no first step within %s of the start", g.start), now)
	case g.stall > 0 && g.seen.any() && now.Sub(g.seenAt) >= g.stall:
		g.ask(levelSave, forge.StopStall, fmt.Sprintf("no step for %s", g.stall), now)
	}
	if !g.failBy.IsZero() && !now.Before(g.failBy) && g.level == levelNone && g.running() > 0 {
		g.ask(levelEnd, forge.StopGPUError, g.fault.Words+", after which the ranks did not end by themselves", now)
	}
	if !g.killAt.IsZero() && !now.Before(g.killAt) && g.level < levelKill {
		g.level = levelKill
		if late := g.outstayed(); late != "" {
			g.detail = sentence(g.detail, late)
		}
	}
}

// order is one signal that is due.
type order struct {
	pid int // negative: the process group
	sig syscall.Signal
}

// orders returns what must be sent now, each once.
func (g *gang) orders() []order {
	var out []order
	for _, m := range g.members {
		if m.pid == 0 || m.ended || m.notified >= g.level {
			continue
		}
		switch g.level {
		case levelSave:
			// To the rank alone: a group TERM would end the data loader's workers, and with
			// them the step that was to be saved.
			out = append(out, order{m.pid, syscall.SIGTERM})
		case levelEnd:
			out = append(out, order{-m.pid, syscall.SIGTERM})
		case levelKill:
			out = append(out, order{-m.pid, syscall.SIGKILL})
		default:
			continue
		}
		m.notified = g.level
	}
	return out
}

// outstayed names who has to be killed: that a program does not listen is for its user to know.
func (g *gang) outstayed() string {
	var late []string
	for _, m := range g.members {
		if m.pid != 0 && !m.ended {
			late = append(late, strconv.Itoa(m.rank))
		}
	}
	if len(late) == 0 {
		return ""
	}
	if len(late) > 8 {
		late = append(late[:8], "…")
	}
	return "killed at the end of the grace, by which it had not ended: rank " + strings.Join(late, ", ")
}

// running counts the local ranks that have started and not ended.
func (g *gang) running() int {
	n := 0
	for _, m := range g.members {
		if m.pid != 0 && !m.ended {
			n++
		}
	}
	return n
}

// allZero says that every local rank ended well.
func (g *gang) allZero() bool {
	for _, m := range g.members {
		if !m.ended || m.exit.Code != 0 {
			return false
		}
	}
	return true
}
