package slurm

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
)

// Wake fires soon after something of ours has changed. It only says "look now": a Poll that comes by itself sees the same.
func (e *Executor) Wake() <-chan struct{} { return e.wake }

func (e *Executor) nudge() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// nudgeSlot is how finely later nudges are told apart. A thousand attempts that end together ask for the same one.
const nudgeSlot = 50 * time.Millisecond

func (e *Executor) nudgeIn(d time.Duration) (added bool) {
	at := time.Now().Add(d).Truncate(nudgeSlot).Add(nudgeSlot)
	if _, due := e.nudges.LoadOrStore(at.UnixMilli(), nil); due {
		return false
	}
	time.AfterFunc(time.Until(at), func() {
		e.nudges.Delete(at.UnixMilli())
		e.nudge()
	})
	return true
}

// Look says that a shim has reported something about an attempt: its records are read at the next Poll, which is now.
func (e *Executor) Look(id forge.ExternalID) {
	e.mu.Lock()
	if a := e.known[id]; a != nil {
		a.looked = time.Time{}
	}
	e.mu.Unlock()
	e.nudge()
}

// notifier wakes when a record appears in a directory of an attempt. Where the directory is shared it does not see what other
// machines do, and where inotify is used up it sees nothing: tick looks there, and Slurm is asked anyhow.
type notifier struct {
	fd   int
	file *os.File

	mu      sync.Mutex
	dirs    map[int32]forge.ExternalID // by watch
	watches map[forge.ExternalID][]int32
}

func (e *Executor) newNotifier() *notifier {
	n := &notifier{fd: -1, dirs: map[int32]forge.ExternalID{}, watches: map[forge.ExternalID][]int32{}}
	if !e.self {
		return n // under as_user forged reads no directory of a user
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		e.log.Debug().Err(err).Msg("inotify not available")
		return n
	}
	n.fd, n.file = fd, os.NewFile(uintptr(fd), "inotify")
	e.tasks.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			got, err := n.file.Read(buf)
			if err != nil {
				return
			}
			ids, all := n.owners(buf[:got])
			e.noticed(ids, all)
		}
	})
	return n
}

// owners reads events: the watch, a mask, a cookie, the length of a name, and the name. all: there were more than the kernel keeps.
func (n *notifier) owners(events []byte) (out []forge.ExternalID, all bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(events) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(events))
		mask := binary.NativeEndian.Uint32(events[4:])
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(events[12:]))
		id, ok := n.dirs[wd]
		if mask&unix.IN_IGNORED != 0 { // the directory is gone
			delete(n.dirs, wd)
		}
		if ok && !slices.Contains(out, id) {
			out = append(out, id)
		}
		all = all || mask&unix.IN_Q_OVERFLOW != 0
		events = events[min(size, len(events)):]
	}
	return out, all
}

func (e *Executor) noticed(ids []forge.ExternalID, all bool) {
	e.mu.Lock()
	for _, id := range ids {
		if a := e.known[id]; a != nil {
			a.looked = time.Time{}
		}
	}
	if all {
		for _, a := range e.known {
			a.looked = time.Time{}
		}
	}
	e.mu.Unlock()
	if len(ids) > 0 || all {
		e.nudge()
	}
}

func (n *notifier) works() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fd >= 0
}

// add watches a directory for an attempt until it is removed; to add it again changes nothing.
func (n *notifier) add(dir string, id forge.ExternalID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fd < 0 {
		return false
	}
	wd, err := unix.InotifyAddWatch(n.fd, dir, unix.IN_MOVED_TO|unix.IN_CREATE|unix.IN_ONLYDIR)
	if err != nil {
		return false
	}
	n.dirs[int32(wd)] = id
	n.watches[id] = append(n.watches[id], int32(wd))
	return true
}

// remove ends the watches of an attempt: the kernel has only so many.
func (n *notifier) remove(id forge.ExternalID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, wd := range n.watches[id] {
		if n.fd >= 0 && n.dirs[wd] == id {
			_, _ = unix.InotifyRmWatch(n.fd, uint32(wd))
			delete(n.dirs, wd)
		}
	}
	delete(n.watches, id)
}

func (n *notifier) close() error {
	if n.file == nil {
		return nil
	}
	n.mu.Lock()
	n.fd = -1 // the number may be another file's next
	n.mu.Unlock()
	return n.file.Close()
}

// watchesOf is how many directories records of an attempt can appear in.
func watchesOf(r Records) int { return 2 + len(r.Launched.PerNode) }

// watch sees to it that what appears in an attempt's directories is noticed: the claim and the nodes' directories, then what the
// shims write in them.
func (e *Executor) watch(a *attempt) {
	e.mu.Lock()
	r, seen := a.records, a.watching
	e.mu.Unlock()
	if r.Launched == nil || !e.notify.works() {
		return
	}
	if len(seen) == watchesOf(r) {
		return
	}
	dirs := []string{a.at.Dir(), filepath.Dir(a.at.NodeDir(0))}
	for node := range r.Launched.PerNode {
		dirs = append(dirs, a.at.NodeDir(node))
	}
	added := false
	for _, d := range dirs[len(seen):] {
		if !e.notify.add(d, a.id) {
			break
		}
		seen, added = append(seen, d), true
	}
	e.mu.Lock()
	a.watching = seen
	if added {
		a.looked = time.Time{} // what came before the watch is seen by one more look
	}
	e.mu.Unlock()
	if added {
		e.nudge()
	}
}

const (
	// tickEvery is how often directories are looked at that inotify does not see into.
	tickEvery = time.Second
	// tickShare is the most that this may take of the time: one part in so many.
	tickShare = 300
)

// tick looks at the directories of running attempts where records appear on other machines unseen.
func (e *Executor) tick() {
	if !e.self || e.near && e.notify.works() {
		return
	}
	wait := time.NewTimer(tickEvery)
	defer wait.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-wait.C:
		}
		began := time.Now()
		e.noticed(e.touched(), false)
		wait.Reset(max(tickEvery, tickShare*time.Since(began)))
	}
}

// touched lists running attempts one of whose directories has changed.
func (e *Executor) touched() []forge.ExternalID {
	type look struct {
		a    *attempt
		dirs []string
	}
	var looks []look
	e.mu.Lock()
	for _, a := range e.known {
		if a.records.Claim == nil || a.records.Launched == nil || !a.endSeen.IsZero() {
			continue
		}
		l := look{a: a, dirs: []string{a.at.Dir()}}
		for node := range a.records.Launched.PerNode {
			l.dirs = append(l.dirs, a.at.NodeDir(node))
		}
		looks = append(looks, l)
	}
	e.mu.Unlock()
	var out []forge.ExternalID
	for _, l := range looks {
		var newest time.Time
		for _, d := range l.dirs {
			if t, err := changed(d); err == nil && t.After(newest) {
				newest = t
			}
		}
		e.mu.Lock()
		if !newest.Equal(l.a.touched) {
			l.a.touched = newest
			out = append(out, l.a.id)
		}
		e.mu.Unlock()
	}
	return out
}

// local says that a directory lies on a filesystem of this machine's own, of which inotify sees everything.
func local(dir string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false
	}
	return slices.Contains([]int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, 0x2fc12fc1 /* ZFS */}, int64(st.Type))
}
