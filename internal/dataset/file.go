package dataset

import (
	"errors"
	"io"

	forge "github.com/forge-ml/forge-ml"
)

// marked tells errors of the file from those of whatever reads through it.
type marked struct {
	m     *meter
	shown string
}

func (r marked) Read(p []byte) (int, error) {
	n, err := r.m.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &readError{readFailed(r.shown, err)}
	}
	return n, err
}

// read gives out the blocks of all files, in order. What is wrong with one file is a block of its own, and the next one is read.
func (s *source) read(m *meter, out emit) error {
	for i, name := range s.names {
		shown := s.shown(name)
		send := func(b *block) error {
			b.done = m.done
			return out(b)
		}
		err := s.readFile(i, name, m, send)
		if err != nil && forge.KindOf(err) == forge.KindInvalid {
			p := fileProblem(shown, err)
			err = send(&block{shown: shown, file: i, broken: &p})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *source) readFile(i int, name string, m *meter, out emit) error {
	shown := s.shown(name)
	f, err := s.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if f.before.Size() == 0 {
		return forge.Invalidf("path", "%s is empty", shown)
	}
	named := name
	if s.single {
		named = s.root
	}
	err = rowsOf(f, s.format, named, m.through(f), i, out)
	// A writer that is still at work tears the last row; say that, and not what the torn row looks like.
	if changed := f.unchanged(); changed != nil && (err == nil || forge.KindOf(err) == forge.KindInvalid) {
		return changed
	}
	if err != nil {
		return err
	}
	if m.file != f.before.Size() {
		return changed(shown)
	}
	entry := f.entry(name, m.sum())
	return out(&block{shown: shown, file: i, end: &entry})
}

// rowsOf gives out the rows of one file; m is what digests it.
func rowsOf(f *openFile, format forge.DatasetFormat, name string, m *meter, i int, out emit) error {
	size := f.before.Size()
	r := marked{m, f.shown}
	if format == forge.FormatParquet || format == forge.FormatArrow {
		// These are read here and there: the digest goes over them first, and they are then in the cache of the disk.
		if _, err := io.CopyBuffer(io.Discard, r, make([]byte, chunk)); err != nil {
			return unmarked(err)
		}
		open := openParquet
		if format == forge.FormatArrow {
			open = openArrow
		}
		rows, err := open(f, size)
		if err != nil {
			return err
		}
		return pack(rows, i, f.shown, out)
	}
	begin := make([]byte, 8)
	n, err := f.ReadAt(begin, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return readFailed(f.shown, err)
	}
	if err := checkMagic(begin[:n], name, f.shown); err != nil {
		return err
	}
	plain, err := plainBytes(r, name, f.shown, size)
	if err != nil {
		return unmarked(err)
	}
	defer plain.Close()
	switch format {
	case forge.FormatJSON:
		err = pack(newArray(plain, f.shown), i, f.shown, out)
	case forge.FormatCSV:
		err = pack(newCSV(plain, f.shown), i, f.shown, out)
	default:
		err = cut(plain, i, f.shown, out)
	}
	if err == nil { // what a decompressor leaves is part of the file, too
		_, err = io.Copy(io.Discard, r)
	}
	return unmarked(err)
}

// unmarked is the error of the file itself, where it is one.
func unmarked(err error) error {
	var of *readError
	if errors.As(err, &of) {
		return of.err
	}
	return err
}
