package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	forge "github.com/forge-ml/forge-ml"
)

// Bounds of what a compressed file may become: a few megabytes of it must not read for days. Memory is bounded in any case, as rows
// are looked at while they come.
const (
	maxRatio = 200     // times its size, beyond what any file may become
	maxBytes = 1 << 40 // in any case
	window   = 128 << 20
)

// freely is how many bytes any file may become.
var freely int64 = 1 << 30

var magics = []struct {
	begins, compression, what, hint string
}{
	{"\x1f\x8b", gzipped, "gzip-compressed", "Name it *.gz, or decompress it first: gunzip"},
	{"\x28\xb5\x2f\xfd", zstded, "zstd-compressed", "Name it *.zst, or decompress it first: unzstd"},
	{"PK\x03\x04", "-", "a zip archive", "Unpack it first: unzip"},
	{"PAR1", "-", "a Parquet file", "Name it *.parquet"},
	{"ARROW1", "-", "an Arrow file", "Name it *.arrow"},
	{"\xfd7zXZ\x00", "-", "xz-compressed", "Decompress it first: unxz"},
	{"BZh", "-", "bzip2-compressed", "Decompress it first: bunzip2"},
}

// checkMagic holds what a file of text begins with against its name.
func checkMagic(begin []byte, name, shown string) error {
	compression := compressionOf(name)
	for _, m := range magics {
		if bytes.HasPrefix(begin, []byte(m.begins)) {
			if m.compression == compression {
				return nil
			}
			return forge.Invalidf("path", "%s is %s", shown, m.what).WithHint("%s", m.hint)
		}
	}
	if compression != asIs {
		return forge.Invalidf("path", "%s is named %s and not compressed like that", shown, compression)
	}
	return nil
}

// plainBytes decompresses r, which has size bytes and is read for the first time.
func plainBytes(r io.Reader, name, shown string, size int64) (io.ReadCloser, error) {
	limit := min(max(freely, size*maxRatio), maxBytes)
	switch compressionOf(name) {
	case gzipped:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, damaged(shown, err)
		}
		return &inflated{r: z, left: limit, shown: shown, close: func() { _ = z.Close() }}, nil
	case zstded:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
		if err != nil {
			return nil, damaged(shown, err)
		}
		return &inflated{r: z, left: limit, shown: shown, close: z.Close}, nil
	}
	return io.NopCloser(r), nil
}

// inflated ends with an error that names the file: of the bytes in it, or that there are too many.
type inflated struct {
	r     io.Reader
	left  int64
	shown string
	close func()
}

func (i *inflated) Close() error { i.close(); return nil }

func (i *inflated) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	if i.left -= int64(n); i.left < 0 {
		return 0, forge.Invalidf("path", "%s holds more than %d times its size, and more than %d GiB: is it meant to fill disks?", i.shown, maxRatio, freely>>30).
			WithHint("Decompress it yourself, and name the result")
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = damaged(i.shown, err)
	}
	return n, err
}

// damaged passes on what came from the disk, and says the rest of the file.
func damaged(shown string, err error) error {
	var from *readError
	if errors.As(err, &from) {
		return from.err
	}
	return forge.Invalidf("path", "%s is cut off or damaged: %s", shown, fmt.Sprintf("%.100s", err))
}

// readError is one of the file itself, below whatever reads through it.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }
