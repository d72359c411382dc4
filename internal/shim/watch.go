package shim

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// peersEvery is how often the other nodes of the gang are looked at.
const peersEvery = time.Second

// watch runs until every local rank has ended and, on node 0 after a good end, every other node has
// said how it went: the output belongs to the whole gang.
func (s *shim) watch() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	s.look()
	var ahead <-chan int
	if s.job != nil {
		done := make(chan struct{})
		defer close(done)
		ahead = watchFence(s.at, fenceEvery, done)
	}
	for {
		// Who stops a whole step also stops its ranks: that they ended is what followed, also where they were faster.
		select {
		case <-s.events.term:
			s.terminated()
		default:
		}
		s.reap()
		s.send()
		if s.gang.running() == 0 && (s.node > 0 || !s.gang.allZero() || s.peers.allEnded() || s.gang.level == levelKill) {
			return
		}
		select {
		case <-s.events.child:
		case <-s.events.look:
			s.look()
		case <-s.events.term:
			s.terminated()
		case <-s.events.limit:
			if s.job != nil {
				s.gang.warned(time.Now())
			}
		case f := <-s.gpus.findings():
			s.heard(f)
		case by := <-ahead:
			s.gang.superseded(by, time.Now())
		case <-tick.C:
			now := time.Now()
			s.look()
			s.gang.tick(s.statSigns(), now)
			if s.node == 0 && s.gang.running() == 0 {
				s.peers.wait(now)
			}
			if l, detail := s.peers.look(now); l > levelNone {
				s.gang.peer(l, detail, now)
			}
		}
	}
}

// terminated is a TERM to this shim. Nobody says from whom.
func (s *shim) terminated() {
	s.look() // forged may have cancelled through an executor that sends TERM by itself
	s.gang.terminated(-1, time.Now())
}

// look reads what forged asks for. A file that cannot be read is no request: a network filesystem
// that hiccups must not end a run.
func (s *shim) look() {
	if stop, err := s.stop(); err == nil {
		s.gang.asked(stop, time.Now())
	}
}

// abandon ends the ranks that were started before one of them could not be.
func (s *shim) abandon() {
	s.gang.level = levelKill
	for s.gang.running() > 0 {
		s.send()
		s.reap()
		if s.gang.running() > 0 {
			<-s.events.child
		}
	}
}

// peers looks at the other shims of a gang over the run directory.
type peers struct {
	at      rundir.Attempt
	self, n int
	next    time.Time
	ended   map[int]bool
	locks   bool // a lock that is free is evidence: all shims are on this host
	zero    bool // every rank of every node that has ended exited 0
	quiet   silence
}

// look says whether another node's end is to end this one too. A node that is gone without a record
// ends the gang: its ranks will not answer again.
func (p *peers) look(now time.Time) (level, string) {
	if p.n == 1 || now.Before(p.next) {
		return levelNone, ""
	}
	p.next = now.Add(peersEvery)
	if p.ended == nil {
		p.ended = map[int]bool{}
	}
	p.beat(now)
	worst, words := levelNone, ""
	for node := range p.n {
		if node == p.self || p.ended[node] {
			continue
		}
		gone := false
		if p.locks { // before exit.json, which is written under it
			lock, err := rundir.ProbeLock(p.at.LockPath(node))
			gone = err == nil && lock.Dead()
		}
		x, err := rundir.ReadExit(p.at, node)
		l, detail := levelNone, ""
		switch {
		case err == nil:
			p.ended[node] = true
			l, detail = peerEnd(node, x)
		case os.IsNotExist(err) && gone:
			p.ended[node] = true
			l, detail = levelEnd, fmt.Sprintf("the shim of node %d is gone", node)
		case os.IsNotExist(err) && p.silent(node, now):
			p.ended[node] = true
			p.quiet.gone = append(p.quiet.gone, node)
			l, detail = levelEnd, fmt.Sprintf("node %d has given no sign of life for %s since the ranks of node 0 ended well", node, silentAfter)
		}
		p.zero = p.zero && l == levelNone
		if l > worst {
			worst, words = l, detail
		}
	}
	return worst, words
}

func (p *peers) allEnded() bool { return p.n == 1 || len(p.ended) == p.n-1 }

// peerEnd reads another node's last word.
func peerEnd(node int, x rundir.Exit) (level, string) {
	if len(x.Ranks) == 0 {
		return levelEnd, fmt.Sprintf("node %d did not start: %s", node, x.Detail)
	}
	if x.Cause == forge.StopGPUFault { // what the gang has computed since is not to be saved
		return levelKill, fmt.Sprintf("node %d ended: %s", node, x.Detail)
	}
	l := levelNone
	for _, r := range x.Ranks {
		switch r.Code {
		case 0:
		case forge.ExitCheckpointed:
			l = max(l, levelWait)
		default:
			l = levelEnd
		}
	}
	return l, fmt.Sprintf("node %d ended: %s", node, x.Detail)
}

// becomeSubreaper makes the kernel give orphaned descendants to this process, so that none is left
// when it says that the attempt has ended.
func becomeSubreaper() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}
