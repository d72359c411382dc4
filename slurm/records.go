package slurm

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// book is what was read of an attempt, and how its directories looked just before.
type book struct {
	records Records
	dirs    []string    // the attempt's directory and those of its nodes
	stamp   []time.Time // their modification times
	settled bool        // every stamp was old enough when it was taken for a later change to have another
	readAt  time.Time
	askedAt time.Time
}

const (
	// racy is how old a directory's time must be before an equal one means "nothing has changed": filesystems
	// count in steps of up to two seconds.
	racy = 2 * time.Second
	// rereadAfter is how long an unchanged stamp is believed at all: the clock of a file server may stand behind.
	rereadAfter = time.Minute
	// keepBooks is how long a book that nobody asks for is kept.
	keepBooks = 10 * time.Minute
)

// Records reads what shims have left. A thousand attempts are looked at every few seconds, so that nothing is read again
// whose directory has not changed: records are renamed into place.
func (h *Own) Records(ctx context.Context, account string, ats []rundir.Attempt) ([]Records, error) {
	if err := h.only(account); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	out := make([]Records, len(ats))
	for i, at := range ats {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := h.books[at]
		if b == nil {
			b = &book{}
			h.books[at] = b
		}
		b.look(at, now)
		out[i] = b.records
	}
	if now.Sub(h.swept) > keepBooks {
		h.swept = now
		for at, b := range h.books {
			if now.Sub(b.askedAt) > keepBooks {
				delete(h.books, at)
			}
		}
	}
	return out, nil
}

// Forget has the records of attempts read anew, whatever their directories say.
func (h *Own) Forget(ats []rundir.Attempt) {
	if len(ats) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, at := range ats {
		if b := h.books[at]; b != nil {
			b.settled = false
		}
	}
}

func (b *book) look(at rundir.Attempt, now time.Time) {
	b.askedAt = now
	stamp, err := b.stampOf(at)
	if err != nil {
		*b = book{askedAt: now, records: unreadable(at, err)}
		return
	}
	if b.settled && now.Sub(b.readAt) < rereadAfter && slices.EqualFunc(stamp, b.stamp, time.Time.Equal) {
		return
	}
	launched := b.records.Launched
	b.stamp, b.readAt, b.settled = stamp, now, true
	for _, t := range stamp {
		b.settled = b.settled && now.Sub(t) > racy
	}
	b.records, err = readRecords(at, launched)
	if err != nil {
		*b = book{askedAt: now, records: Records{Launched: launched, Error: err.Error()}}
	}
}

// unreadable tells a run that was deleted from a filesystem that is away.
func unreadable(at rundir.Attempt, err error) Records {
	if errors.Is(err, fs.ErrNotExist) {
		if st, serr := os.Stat(filepath.Dir(at.RunDir)); serr == nil && st.IsDir() {
			return Records{Missing: true}
		}
	}
	return Records{Error: err.Error()}
}

// stampOf looks at the directories that a record of the attempt can appear in. That a rank has ended, which its shim says before its own
// end, lies elsewhere and is read with the rest: it counts only if the shim never comes to that.
func (b *book) stampOf(at rundir.Attempt) ([]time.Time, error) {
	nodes := 0
	if l := b.records.Launched; l != nil {
		nodes = len(l.PerNode)
	}
	if len(b.dirs) != nodes+1 {
		b.dirs = []string{at.Dir()}
		for node := range nodes {
			b.dirs = append(b.dirs, at.NodeDir(node))
		}
	}
	stamp := make([]time.Time, len(b.dirs))
	for i, dir := range b.dirs {
		t, err := changed(dir)
		if err != nil && (i == 0 || !errors.Is(err, fs.ErrNotExist)) {
			return nil, err
		}
		stamp[i] = t
	}
	return stamp, nil
}

// changed opens the directory: to open is what makes a network filesystem ask its server, and forget that a name in it was
// absent. To stat is answered from memory, for up to a minute.
func changed(dir string) (time.Time, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return time.Time{}, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return time.Time{}, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	return time.Unix(st.Mtim.Unix()), nil
}

// readRecords reads everything. A record that is absent is left out, and so is a broken one, which waiting does not mend; one
// that cannot be read is an error.
func readRecords(at rundir.Attempt, launched *Launched) (Records, error) {
	r := Records{Launched: launched, Live: map[int]rundir.Live{}, Exits: map[int]rundir.Exit{}}
	var errs errorList
	if r.Launched == nil {
		r.Launched = readLaunched(at, &errs)
	}
	r.Claim = read(&errs, at, readClaim)
	r.Batch = read(&errs, at, rundir.ReadBatch)
	r.Stop = read(&errs, at, rundir.ReadStop)
	r.Status = read(&errs, at, rundir.ReadStatus)
	r.Resume = read(&errs, at, rundir.ReadResume)
	r.Output = read(&errs, at, readOutput)
	if r.Launched == nil {
		return r, errors.Join(errs...)
	}
	rank := 0
	for node, n := range r.Launched.PerNode {
		if v := read(&errs, at, func(at rundir.Attempt) (rundir.Live, error) { return rundir.ReadLive(at, node) }); v != nil {
			r.Live[node] = *v
		}
		if v := read(&errs, at, func(at rundir.Attempt) (rundir.Exit, error) { return rundir.ReadExit(at, node) }); v != nil {
			r.Exits[node] = *v
		} else {
			for k := rank; k < rank+n; k++ {
				if x := read(&errs, at, func(at rundir.Attempt) (forge.RankExit, error) { return rundir.ReadRankExit(at, k) }); x != nil {
					r.Ranks = append(r.Ranks, *x)
				}
			}
		}
		rank += n
	}
	if len(r.Exits) < len(r.Launched.PerNode) {
		r.Log = lastWords(at)
	}
	return r, errors.Join(errs...)
}

// maxWords bounds what is quoted of a log.
const maxWords = 600

// lastWords are the end of what script and srun said, on one line.
func lastWords(at rundir.Attempt) string {
	f, err := os.OpenFile(at.BatchLogPath(), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return ""
	}
	buf := make([]byte, min(st.Size(), maxWords))
	n, _ := f.ReadAt(buf, st.Size()-int64(len(buf)))
	return cut(strings.Join(strings.Fields(string(buf[:n])), " "), maxWords)
}

type errorList []error

func read[T any](errs *errorList, at rundir.Attempt, f func(rundir.Attempt) (T, error)) *T {
	v, err := f(at)
	if err == nil {
		return &v
	}
	if !noRecord(err) {
		*errs = append(*errs, err)
	}
	return nil
}

func noRecord(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, rundir.ErrBroken)
}

// readClaim takes a claim that power was lost under for what it is: somebody's, and not to be made again.
func readClaim(at rundir.Attempt) (rundir.Claim, error) {
	c, err := rundir.ReadClaim(at)
	if errors.Is(err, rundir.ErrBroken) {
		return rundir.Claim{By: "unreadable"}, nil
	}
	return c, err
}

func readLaunched(at rundir.Attempt, errs *errorList) *Launched {
	l := read(errs, at, rundir.ReadLaunch)
	if l == nil {
		return nil
	}
	out := &Launched{Run: l.Run, RunNumber: l.Number, Gang: l.Spec.Gang, Grace: l.Spec.Grace, At: time.Now()}
	_, out.PerNode = rundir.Ranks(l.Launch)
	if st, err := os.Stat(at.LaunchPath()); err == nil {
		out.At = st.ModTime()
	}
	return out
}
