package scanner

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
)

// The files of a scan, in its output directory.
const (
	ResultName       = "scanned.json"
	FingerprintsName = "fingerprints"
	RefusalName      = "refused.json"
)

// Schema is the version of ResultName that this package writes and reads.
const Schema = 1

// FingerprintBytes is how long each fingerprint is.
const FingerprintBytes = 8

// MaxResult bounds a result, which is read into memory: a manifest of 10,000 files is about 2 MB.
const MaxResult = 32 << 20

// Result is scanned.json, written last.
type Result struct {
	Schema       int           `json:"schema"`
	RunID        forge.RunID   `json:"run_id"`
	Scanned      forge.Scanned `json:"scanned"`
	Fingerprints Fingerprints  `json:"fingerprints"`
}

// Fingerprints vouches for the file of that name.
type Fingerprints struct {
	Count  int64  `json:"count"`
	SHA256 string `json:"sha256"`
}

// Check holds a result against what was asked for, and against itself. Who wrote it may be a program of somebody else's.
func (r Result) Check(run forge.RunID, ask forge.ScanAsk) error {
	switch {
	case r.Schema != Schema:
		return fmt.Errorf("%s has schema %d; this forged reads %d", ResultName, r.Schema, Schema)
	case r.RunID != run:
		return fmt.Errorf("%s is of run %.40q", ResultName, r.RunID)
	case ask.Kind != "" && r.Scanned.Kind != ask.Kind:
		return fmt.Errorf("%s is of kind %.40q; %s was asked for", ResultName, r.Scanned.Kind, ask.Kind)
	case r.Scanned.Layout.Preset != ask.Preset:
		return fmt.Errorf("%s was read by preset %.40q; %q was asked for", ResultName, r.Scanned.Layout.Preset, ask.Preset)
	case r.Fingerprints.Count != 0 && r.Fingerprints.Count != r.Scanned.Rows:
		return fmt.Errorf("there are fingerprints of %d rows, and %d rows", r.Fingerprints.Count, r.Scanned.Rows)
	}
	return nil
}

// Read takes the result that a scan left in a directory, or the error that it left instead.
func Read(dir string) (Result, error) {
	var r Result
	b, err := readBounded(filepath.Join(dir, ResultName), MaxResult)
	if errors.Is(err, fs.ErrNotExist) {
		return r, readRefusal(dir)
	}
	if err != nil {
		return r, err
	}
	return Decode(b)
}

// Decode reads scanned.json.
func Decode(b []byte) (Result, error) {
	var r Result
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&r); err != nil {
		return r, fmt.Errorf("%s does not parse: %w", ResultName, err)
	}
	return r, nil
}

// refusal is an error as it crosses from the process that read to the one that asked.
type refusal struct {
	Kind     forge.Kind         `json:"kind"`
	Field    string             `json:"field,omitempty"`
	Message  string             `json:"message"`
	Hint     string             `json:"hint,omitempty"`
	Problems []forge.RowProblem `json:"problems,omitempty"`
	Total    int64              `json:"total,omitempty"`

	Format forge.DatasetFormat `json:"format,omitempty"`
}

func refusalOf(err error) refusal {
	out := refusal{Kind: forge.KindOf(err), Message: err.Error(), Hint: forge.HintOf(err)}
	var e *forge.Error
	if errors.As(err, &e) {
		out.Field = e.Field
		if e.Err != nil {
			out.Message = e.Err.Error()
		}
	}
	var p *dataset.Problems
	if errors.As(err, &p) {
		out.Problems, out.Total, out.Format = p.Rows, p.Total, p.Format
	}
	return out
}

func readRefusal(dir string) error {
	b, err := readBounded(filepath.Join(dir, RefusalName), MaxResult)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("the process that reads has left nothing")
	}
	var r refusal
	if err := errors.Join(err, json.Unmarshal(b, &r)); err != nil {
		return fmt.Errorf("what the process that reads has left cannot be read: %w", err)
	}
	if r.Total > 0 {
		return &dataset.Problems{Rows: r.Problems, Total: r.Total, Format: r.Format}
	}
	return &forge.Error{Kind: r.Kind, Field: r.Field, Err: errors.New(r.Message), Hint: r.Hint}
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return b, err
}

// writeJSON leaves the whole file or none, on disk.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return whole(path, func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		return err
	})
}

// whole writes a file beside its place and puts it there once it is on disk.
func whole(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".part-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if err := errors.Join(write(f), f.Chmod(0o640), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// digested digests what is written through it and counts it.
type digested struct {
	w   io.Writer
	sum interface {
		io.Writer
		Sum([]byte) []byte
	}
	n int64
}

func newDigested(w io.Writer) *digested { return &digested{w: w, sum: sha256.New()} }

func (d *digested) Write(b []byte) (int, error) {
	n, err := d.w.Write(b)
	_, _ = d.sum.Write(b[:n])
	d.n += int64(n)
	return n, err
}

func (d *digested) hex() string { return hex.EncodeToString(d.sum.Sum(nil)) }
