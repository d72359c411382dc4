package rundir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Files reads what attempts write, for executors. Its memory is the good verdicts about checkpoints; the zero
// value is ready, and it is safe for concurrent use.
type Files struct {
	mu       sync.Mutex
	verified map[string]forge.Checkpoint // by path, digest of the manifest and stamp
}

// maxRead bounds one Read, whatever the caller asks for.
const maxRead = 4 << 20

// Read returns bytes of a stream from offset. The file is opened below the attempt's directory
// without leaving it: a rank may have put a link or a FIFO in its place.
func (*Files) Read(ctx context.Context, at Attempt, stream string, offset int64, limit int) (forge.Chunk, error) {
	path, err := StreamPath(stream)
	if err != nil {
		return forge.Chunk{}, err
	}
	if offset < 0 {
		return forge.Chunk{}, forge.Invalidf("offset", "%d: want 0 or more", offset)
	}
	if err := ctx.Err(); err != nil {
		return forge.Chunk{}, err
	}
	empty := forge.Chunk{Next: offset}
	root, err := os.OpenRoot(at.Dir())
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, unavailable(err)
	}
	defer root.Close()
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, unavailable(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return empty, unavailable(err)
	}
	if !st.Mode().IsRegular() {
		return empty, forge.Errorf(forge.KindPrecondition, "files.read", "%s is not a regular file", path)
	}
	empty.Size = st.Size()
	n := min(int64(limit), maxRead, st.Size()-offset)
	if n <= 0 {
		return empty, nil
	}
	buf := make([]byte, n)
	got, err := f.ReadAt(buf, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return empty, unavailable(err)
	}
	out := forge.Chunk{Data: buf[:got], Next: offset + int64(got), Size: st.Size()}
	if wholeFiles[stream] == "" && bytes.IndexByte(out.Data, 0) >= 0 { // zeros are rare in what is printed, and what a hole reads as
		if cut, ok := readCut(root, path, st.Size()); ok {
			out = cut.around(out, offset)
		}
	}
	return out, nil
}

func unavailable(err error) error {
	return forge.Errorf(forge.KindUnavailable, "files.read", "%w", err)
}

// maxVerified bounds the memory of verdicts; beyond it all are forgotten and hashed again.
const maxVerified = 4096

// Checkpoints lists the checkpoints of a run. A good verdict is kept for as long as the manifest is
// the same, byte for byte, and no file looks different: hashing gigabytes once is enough. A new attempt
// does not rest on it: its shim reads every byte again.
func (f *Files) Checkpoints(ctx context.Context, run forge.RunID, runDir string, verify bool) ([]forge.Checkpoint, error) {
	list, err := CheckpointsContext(ctx, runDir, run, false)
	if err != nil || !verify {
		return list, err
	}
	fit := fitIn(runDir, run)
	for i, c := range list {
		if c.Verdict != forge.VerdictWritten {
			continue
		}
		stamp, err := Stamp(c.Path) // before the hashing, so that a change during it is seen later
		if err != nil {
			stamp = fmt.Sprint(time.Now().UnixNano()) // never met again
		}
		key := c.Path + "#" + c.SHA256 + "#" + stamp
		f.mu.Lock()
		known, ok := f.verified[key]
		f.mu.Unlock()
		if ok {
			list[i] = known
			continue
		}
		if list[i], err = Verify(ctx, fit, c); err != nil {
			return nil, err
		}
		if list[i].Verdict == forge.VerdictVerified {
			f.remember(key, list[i])
		}
	}
	return slices.DeleteFunc(list, func(c forge.Checkpoint) bool { return !c.Removed.IsZero() }), nil
}

func (f *Files) remember(key string, c forge.Checkpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.verified == nil || len(f.verified) >= maxVerified {
		f.verified = map[string]forge.Checkpoint{}
	}
	f.verified[key] = c
}

// Runs lists every run that has a directory below the run root, sorted by id, with its newest attempt. An error means
// that nothing is known.
func Runs(ctx context.Context, root string) ([]forge.Remains, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var out []forge.Remains
	for _, d := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !d.IsDir() || !isRun(d.Name()) {
			continue
		}
		r := forge.Remains{Run: forge.RunID(d.Name())}
		if r.Newest, err = Newest(filepath.Join(root, d.Name())); err != nil {
			r.Problem = err.Error()
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b forge.Remains) int { return strings.Compare(string(a.Run), string(b.Run)) })
	return out, nil
}

// isRun: run directories are named by ULIDs, 26 letters and digits; whatever else lies in the root is somebody's own.
func isRun(name string) bool {
	return len(name) == 26 && strings.Trim(name, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}
