package rundir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
)

// rename is the step that makes new content visible; tests make it fail.
var rename = os.Rename

var tempSeq atomic.Uint64

// tempPath is a name in the same directory (rename(2) does not cross filesystems) that two
// writers, also on two hosts that share the directory, do not pick at once.
func tempPath(path string) string {
	host, _ := os.Hostname()
	n := strconv.FormatUint(tempSeq.Add(1), 10)
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp-"+host+"-"+strconv.Itoa(os.Getpid())+"-"+n)
}

// Content is one file of a durable set.
type Content struct {
	Path string
	Data []byte
}

// JSON is the content of a JSON file.
func JSON(path string, v any) (Content, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return Content{}, fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	return Content{Path: path, Data: append(data, '\n')}, nil
}

// WriteDurable replaces the files so that a reader sees the old content, the new, or nothing,
// and so that the new survives a power loss once it returns. The files are synced side by side
// (one journal commit serves them all) and then renamed in the order given: whoever sees the last
// sees all. An error leaves the files that were not yet renamed as they were.
func WriteDurable(set ...Content) error {
	temps, err := writeTemps(set, true)
	defer func() {
		for _, t := range temps {
			if t != "" {
				_ = os.Remove(t)
			}
		}
	}()
	if err != nil {
		return err
	}
	for i, c := range set {
		if err := rename(temps[i], c.Path); err != nil {
			return fmt.Errorf("write %s: %w", c.Path, err)
		}
		temps[i] = ""
	}
	return syncDirs(set)
}

// WriteFast is WriteDurable of a file that nobody needs after a power loss.
func WriteFast(c Content) error {
	temp := tempPath(c.Path)
	err := writeTemp(temp, c.Data, false)
	if err == nil {
		err = rename(temp, c.Path)
	}
	if err != nil {
		_ = os.Remove(temp)
		return fmt.Errorf("write %s: %w", c.Path, err)
	}
	return nil
}

// WriteJSON durably writes one JSON file.
func WriteJSON(path string, v any) error {
	c, err := JSON(path, v)
	if err != nil {
		return err
	}
	return WriteDurable(c)
}

func writeTemps(set []Content, sync bool) ([]string, error) {
	temps, errs := make([]string, len(set)), make([]error, len(set))
	each(len(set), func(i int) {
		temps[i] = tempPath(set[i].Path)
		errs[i] = writeTemp(temps[i], set[i].Data, sync)
	})
	return temps, errors.Join(errs...)
}

func writeTemp(temp string, data []byte, sync bool) error {
	f, err := openLike(temp, os.O_WRONLY|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr // network filesystems report a full disk only here
	}
	return err
}

func syncDirs(set []Content) error {
	var dirs []string
	seen := map[string]bool{}
	for _, c := range set {
		if d := filepath.Dir(c.Path); !seen[d] {
			seen[d] = true
			dirs = append(dirs, d)
		}
	}
	errs := make([]error, len(dirs))
	each(len(dirs), func(i int) { errs[i] = SyncDir(dirs[i]) })
	return errors.Join(errs...)
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// each calls f for 0..n-1 side by side; a single call stays on this goroutine.
func each(n int, f func(i int)) {
	if n == 1 {
		f(0)
		return
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// readBounded reads a small file that may have been put there by anyone who can write to the
// directory: no link is followed, nothing but a regular file is opened (a FIFO would block for
// ever), and no more than limit bytes are read.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readRegular(f, path, limit)
}

func readRegular(f *os.File, path string, limit int64) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that are read", path, st.Size(), limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s grew beyond %d bytes while it was read", path, limit)
	}
	return data, err
}

// ErrBroken says that a record is there and does not parse. Records are renamed into place whole, so
// that waiting does not help: the disk lost what it had, or a rank wrote over it.
var ErrBroken = errors.New("the record is broken")

// readJSON reads one record. A missing file is fs.ErrNotExist.
func readJSON[T any](path string, limit int64) (T, error) {
	var v T
	data, err := readBounded(path, limit)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, fmt.Errorf("read %s: %w: %w", path, ErrBroken, err)
	}
	return v, nil
}
