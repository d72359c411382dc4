package workdir

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Inspect reads an archive as Unpack would, and writes nothing: what is in it, or why it is not a snapshot.
func Inspect(ctx context.Context, r io.Reader, limit int64) (bytes int64, files int, err error) {
	err = each(ctx, r, limit, func(h *tar.Header, body io.Reader) error {
		files++
		n, err := io.Copy(io.Discard, body)
		bytes += n
		return err
	})
	return bytes, files, err
}

// Unpack puts a snapshot into a directory that is there and empty. Files and directories get the rights of the directory's
// group, and the owner's right to run what may be run; nothing else of the archive's modes counts.
func Unpack(ctx context.Context, r io.Reader, dir string, limit int64) error {
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	group := st.Mode().Perm() & 0o070
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return each(ctx, r, limit, func(h *tar.Header, body io.Reader) error {
		if parent := path.Dir(h.Name); parent != "." {
			if err := root.MkdirAll(parent, 0o700|group); err != nil {
				return err
			}
		}
		if h.Typeflag == tar.TypeSymlink {
			return root.Symlink(h.Linkname, h.Name)
		}
		mode := 0o600 | group&0o060
		if h.Mode&0o111 != 0 {
			mode |= 0o100 | group&0o010
		}
		f, err := root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, body)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		return err
	})
}

// each goes through an archive from wherever, and holds every entry to what Take writes.
func each(ctx context.Context, r io.Reader, limit int64, do func(*tar.Header, io.Reader) error) error {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return bad("it is not gzip: %w", err)
	}
	zip.Multistream(false) // one stream: what follows it nobody has looked at
	// Headers and padding are bounded with the rest: 6 KiB an entry are more than the longest names need.
	in := tar.NewReader(&io.LimitedReader{R: zip, N: limit + MaxFiles*6144})
	left, files := limit, 0
	links := map[string]bool{}
	seen := map[string]bool{}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return bad("%w", err)
		}
		if files++; files > MaxFiles {
			return bad("it has more than %d files", MaxFiles)
		}
		if left -= h.Size; left < 0 {
			return bad("its files have more than the %d bytes that they may have", limit)
		}
		if err := check(h, links, seen); err != nil {
			return err
		}
		if err := do(h, in); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum) {
				return bad("%s: %w", h.Name, err)
			}
			return err
		}
	}
	if files == 0 {
		return bad("it is empty")
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(zip, 1<<20)); err != nil { // to the checksum behind it
		return bad("%w", err)
	}
	return nil
}

func check(h *tar.Header, links, seen map[string]bool) error {
	name := h.Name
	if len(name) > maxName || !filepath.IsLocal(name) || path.Clean(name) != name || name == "." || strings.ContainsRune(name, 0) {
		return bad("%.100q is not a path below the directory", name)
	}
	if seen[name] {
		return bad("%.100q is there twice", name)
	}
	seen[name] = true
	for up := path.Dir(name); up != "."; up = path.Dir(up) {
		if links[up] { // what lies below a link would land where the link leads
			return bad("%.100q lies below a link", name)
		}
		if path.Base(up) == ".git" {
			return bad("%.100q is git's own", name)
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeSymlink:
		if !stays(name, h.Linkname) || h.Size != 0 {
			return bad("%.100q is a link to %.100q, which leads out of the directory", name, h.Linkname)
		}
		links[name] = true
	default:
		return bad("%.100q is neither a file nor a link", name)
	}
	return nil
}

func bad(format string, args ...any) error {
	return forge.Invalidf("snapshot", "this is no snapshot of a directory: "+format, args...)
}
