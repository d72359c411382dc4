package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// maxRead bounds one Read, whatever the caller asks for.
const maxRead = 4 << 20

// Read returns bytes of a stream from offset. The file is opened below the attempt's directory
// without leaving it: a rank may have put a link or a FIFO in its place.
func (e *Executor) Read(ctx context.Context, id forge.ExternalID, stream string, offset int64, limit int) (forge.Chunk, error) {
	at, err := e.parseID(id)
	if err != nil {
		return forge.Chunk{}, err
	}
	path, err := rundir.StreamPath(stream)
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
		return empty, forge.Errorf(forge.KindPrecondition, "direct.read", "%s is not a regular file", path)
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
	return forge.Chunk{Data: buf[:got], Next: offset + int64(got), Size: st.Size()}, nil
}

func unavailable(err error) error {
	return forge.Errorf(forge.KindUnavailable, "direct.read", "%w", err)
}

// maxVerified bounds the memory of verdicts; beyond it all are forgotten and hashed again.
const maxVerified = 4096

// Checkpoints lists the checkpoints of a run. A good verdict is kept for as long as the manifest is
// the same, byte for byte, and no file looks different: hashing gigabytes once is enough. A new attempt
// does not rest on it: its shim reads every byte again.
func (e *Executor) Checkpoints(ctx context.Context, run forge.RunID, runDir string, verify bool) ([]forge.Checkpoint, error) {
	if err := e.confined(runDir); err != nil {
		return nil, err
	}
	list, err := rundir.CheckpointsContext(ctx, runDir, run, false)
	if err != nil || !verify {
		return list, err
	}
	for i, c := range list {
		if c.Verdict == forge.VerdictTorn {
			continue
		}
		stamp, err := rundir.Stamp(c.Path) // before the hashing, so that a change during it is seen later
		if err != nil {
			stamp = fmt.Sprint(time.Now().UnixNano()) // never met again
		}
		key := c.Path + "#" + c.SHA256 + "#" + stamp
		e.mu.Lock()
		known, ok := e.verified[key]
		e.mu.Unlock()
		if ok {
			list[i] = known
			continue
		}
		if list[i], err = rundir.Verify(ctx, run, c); err != nil {
			return nil, err
		}
		if list[i].Verdict != forge.VerdictVerified {
			continue
		}
		e.mu.Lock()
		if len(e.verified) >= maxVerified {
			clear(e.verified)
		}
		e.verified[key] = list[i]
		e.mu.Unlock()
	}
	return list, nil
}
