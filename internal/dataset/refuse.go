package dataset

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	forge "github.com/forge-ml/forge-ml"
)

// unreadable turns what the system said about a path into what the user can do about it.
func unreadable(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e := forge.Invalidf("path", "%s does not exist", path)
		for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
			if _, err := os.Stat(dir); err == nil {
				return e.WithHint("%s exists, what follows does not; the path is looked up on the server's host", dir)
			}
			if dir == "/" || dir == "." {
				return e
			}
		}
	case errors.Is(err, fs.ErrPermission):
		return forge.Invalidf("path", "%s cannot be read by uid %d: permission denied", path, os.Geteuid()).
			WithHint("The file and every directory above it must be readable by the account that forged runs as")
	case errors.Is(err, syscall.ELOOP):
		return forge.Invalidf("path", "%s is a loop of symbolic links", path)
	case errors.Is(err, syscall.ENOTDIR):
		return forge.Invalidf("path", "%s does not exist: a part of the path before its end is a file", path)
	case errors.Is(err, syscall.ENAMETOOLONG):
		return forge.Invalidf("path", "the path is too long for the filesystem (%d bytes)", len(path))
	}
	return &forge.Error{Kind: forge.KindUnavailable, Op: "dataset.read", Field: "path", Err: err}
}

// readFailed leaves the end of the context as it is and wraps what the disk said.
func readFailed(path string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return unreadable(path, err)
}

func notRegular(path string, fi fs.FileInfo) error {
	what := "not a regular file"
	switch m := fi.Mode(); {
	case m.IsDir():
		what = "a directory"
	case m&fs.ModeNamedPipe != 0:
		what = "a named pipe"
	case m&fs.ModeSocket != 0:
		what = "a socket"
	case m&fs.ModeDevice != 0:
		what = "a device"
	}
	return forge.Invalidf("path", "%s is %s; want a regular file", path, what)
}

func changed(path string) error {
	return (&forge.Error{Kind: forge.KindConflict, Op: "dataset.read", Field: "path",
		Err: errors.New(path + " changed while it was read")}).
		WithHint("Try again when whoever writes it has finished")
}

// changedSince is for data that is not what was registered.
func changedSince(path string) error {
	return (&forge.Error{Kind: forge.KindConflict, Op: "dataset.read", Field: "path",
		Err: errors.New(path + " has another size than when it was registered")}).
		WithHint("Versions do not change: register the data as it is now as the next version")
}
