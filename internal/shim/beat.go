package shim

import (
	"os"
	"time"
)

// Under a batch system no shim can see whether another one lives, and a node can lose all processes of a job without its own daemon
// noticing. While every rank runs that shows: the others get stuck, and progress stops. But once its own ranks have ended well, node 0
// waits for the last words of the others, and would wait for ever. So it says that it waits, and who lives answers by touching a file.

const (
	beatEvery   = 10 * time.Second
	silentAfter = 2 * time.Minute // a network filesystem may show the time of a file a minute late
)

// silence is how long the others have been quiet.
type silence struct {
	since time.Time         // node 0: when it began to wait; others: when they last answered
	seen  map[int]time.Time // the time of each node's beat, by its own clock
	heard map[int]time.Time // when it was last another one, by ours
	gone  []int
}

// wait is called on node 0 once its ranks have ended well.
func (p *peers) wait(now time.Time) {
	if p.locks || p.allEnded() || !p.quiet.since.IsZero() {
		return
	}
	f, err := os.OpenFile(p.at.WaitsPath(), os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return // nobody is asked, so that nobody is missed
	}
	_ = f.Close()
	p.quiet.since, p.quiet.seen, p.quiet.heard = now, map[int]time.Time{}, map[int]time.Time{}
}

// beat answers node 0, if it waits.
func (p *peers) beat(now time.Time) {
	if p.locks || p.self == 0 || now.Sub(p.quiet.since) < beatEvery {
		return
	}
	p.quiet.since = now
	if _, err := os.Lstat(p.at.WaitsPath()); err != nil {
		return
	}
	path := p.at.BeatPath(p.self)
	if os.Chtimes(path, now, now) == nil {
		return
	}
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o640); err == nil {
		_ = f.Close()
	}
}

// silent says that a node that was asked has not answered for too long.
func (p *peers) silent(node int, now time.Time) bool {
	if p.self != 0 || p.quiet.since.IsZero() {
		return false
	}
	if st, err := os.Lstat(p.at.BeatPath(node)); err == nil && !st.ModTime().Equal(p.quiet.seen[node]) {
		p.quiet.seen[node], p.quiet.heard[node] = st.ModTime(), now
	}
	from := p.quiet.since
	if heard, ok := p.quiet.heard[node]; ok {
		from = heard
	}
	return now.Sub(from) >= silentAfter
}
