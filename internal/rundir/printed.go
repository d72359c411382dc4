package rundir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
)

// Cut is what of a rank's stream is not kept: the bytes from From up to To. It lies beside the stream as stdout.cut or stderr.cut.
type Cut struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

const (
	cutSuffix = ".cut"
	// cutGrain is what holes begin and end at: a filesystem gives back whole blocks only, and zeroes the rest of one.
	cutGrain = 64 << 10
	// cutTail is how much of the newest is kept where the filesystem knows no holes: it passes through memory.
	cutTail = 1 << 20
)

// MinPrinted is the least that a stream may be bounded to.
const MinPrinted = 1 << 20

// Printed bounds what one stream of a rank takes on the disk. The rank goes on writing into the same file, and no byte that is kept gets another
// offset: what is between the beginning and the newest is given back as a hole. So the rank never waits for
// anybody, and who reads along keeps its place.
type Printed struct {
	f     *os.File
	path  string
	limit int64
	cut   Cut
	punch func(fd int, from, to int64) error
}

// OpenPrinted bounds the file that f is open on, for appending, below path. It takes f over.
func OpenPrinted(f *os.File, path string, limit int64) *Printed {
	return &Printed{f: f, path: path, limit: max(limit, MinPrinted), punch: punchHole}
}

// Close lets go of the file.
func (p *Printed) Close() error { return p.f.Close() }

// Bound gives back the middle once the stream takes more than its limit: a quarter of it stays of the beginning, at least a quarter of the
// newest. first: this was the first time.
func (p *Printed) Bound() (first bool, err error) {
	st, err := p.f.Stat()
	if err != nil {
		return false, err
	}
	size := st.Size()
	if size < p.cut.To { // somebody has shortened the file
		p.cut = Cut{}
	}
	head := p.limit / 4 / cutGrain * cutGrain
	kept := size
	if p.cut.To > 0 {
		kept = size - (p.cut.To - p.cut.From)
	}
	if kept <= p.limit {
		return false, nil
	}
	next := Cut{From: head, To: (size - p.limit/4) / cutGrain * cutGrain}
	// First the record: a reader who meets zeros asks it what they are. On a full disk it can be written once there is room.
	werr := p.record(next)
	if err := p.punch(int(p.f.Fd()), max(next.From, p.cut.To), next.To); err != nil {
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
			return false, fmt.Errorf("give back a part of %s: %w", filepath.Base(p.path), err)
		}
		if next.To, err = p.shorten(next.From, size); err != nil {
			return false, fmt.Errorf("shorten %s: %w", filepath.Base(p.path), err)
		}
		werr = p.record(next)
	}
	first, p.cut = p.cut.To == 0, next
	if werr != nil {
		werr = p.record(next)
	}
	return first, werr
}

func (p *Printed) record(c Cut) error {
	content, err := JSON(p.path+cutSuffix, c)
	if err != nil {
		return err
	}
	return WriteFast(content)
}

func punchHole(fd int, from, to int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
}

// shorten does the same where there are no holes to be punched (NFS before 4.2): cut off, made as long again, and the newest put back where it
// was. What the rank writes meanwhile may be lost.
func (p *Printed) shorten(from, size int64) (to int64, err error) {
	f, err := os.OpenFile(p.path, os.O_RDWR|syscall.O_NOFOLLOW, 0) // not for appending: what is put back has its place
	if err != nil {
		return 0, err
	}
	defer f.Close()
	ours, err := p.f.Stat()
	if err != nil {
		return 0, err
	}
	if st, err := f.Stat(); err != nil || !os.SameFile(st, ours) {
		return 0, errors.Join(errors.New("another file lies there now"), err)
	}
	to = max(size-cutTail, from)
	tail := make([]byte, size-to)
	n, err := f.ReadAt(tail, to)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if err := f.Truncate(from); err != nil {
		return 0, err
	}
	if err := f.Truncate(size); err != nil {
		return 0, err
	}
	_, err = f.WriteAt(tail[:n], to)
	return to, err
}

// readCut reads what is not kept of a stream. Whoever wrote it may have written anything.
func readCut(root *os.Root, stream string, size int64) (Cut, bool) {
	f, err := root.OpenFile(stream+cutSuffix, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Cut{}, false
	}
	defer f.Close()
	var c Cut
	data, err := readRegular(f, stream+cutSuffix, maxRecord)
	if err != nil || json.Unmarshal(data, &c) != nil || c.From < 0 || c.To <= c.From || c.To > size {
		return Cut{}, false
	}
	return c, true
}

// around leaves out what is not kept: a chunk ends before it, or is one line that says so and leads behind it.
func (c Cut) around(in forge.Chunk, offset int64) forge.Chunk {
	switch {
	case offset >= c.To || in.Next <= c.From:
	case offset < c.From:
		in.Data, in.Next = in.Data[:c.From-offset], c.From
	default:
		in.Data, in.Next = fmt.Appendf(nil, "\n[forge: %d bytes are not kept here, between the beginning and the newest: this rank printed more than log_limit allows]\n", c.To-c.From), c.To
	}
	return in
}
