package dataset

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	forge "github.com/forge-ml/forge-ml"
)

const extension = ".jsonl"

// maxFiles bounds a directory: a mistyped path like / must not become an hour of reading.
const maxFiles = 10_000

// source is the files of one dataset, all opened below one directory that they cannot leave.
type source struct {
	root    string // what the manifest names
	single  bool   // root is the file itself
	names   []string
	ignored []string
	size    int64
	dir     *os.Root // nil for a single file
}

// openSource finds the files. Nothing is opened yet but the directory.
func openSource(path string) (*source, error) {
	path, fi, err := statRoot(path)
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return openSingle(path, fi)
	}
	dir, err := os.OpenRoot(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	s := &source{root: path, dir: dir}
	if s.names, s.ignored, err = s.list(); err == nil {
		err = s.measure()
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func openSingle(path string, fi fs.FileInfo) (*source, error) {
	if !fi.Mode().IsRegular() {
		return nil, notRegular(path, fi)
	}
	if filepath.Ext(path) != extension {
		return nil, forge.Invalidf("path", "%s is not a %s file", path, extension).
			WithHint("A dataset is JSON Lines: one JSON object a line, in a file named *%s or a directory of them", extension)
	}
	return &source{root: path, single: true, names: []string{"."}, size: fi.Size()}, nil
}

// statRoot resolves nothing but . and ..: the name that the user gave is the one that is
// recorded, because it is the one that is the same on all nodes.
func statRoot(path string) (string, fs.FileInfo, error) {
	switch {
	case path == "":
		return "", nil, forge.Invalidf("path", "no path given")
	case strings.ContainsRune(path, 0):
		return "", nil, forge.Invalidf("path", "path %q holds a NUL byte", path)
	case !filepath.IsAbs(path):
		return "", nil, forge.Invalidf("path", "%s is not an absolute path", path).
			WithHint("It is read by the server, which has another working directory; try: \"$(realpath %s)\"", path)
	}
	path = filepath.Clean(path)
	fi, err := os.Stat(path)
	if err != nil {
		return "", nil, unreadable(path, err)
	}
	return path, fi, nil
}

func (s *source) close() {
	if s.dir != nil {
		_ = s.dir.Close()
	}
}

// shown is the name for error messages.
func (s *source) shown(name string) string {
	if s.single {
		return s.root
	}
	return filepath.Join(s.root, name)
}

// list walks the directory: the dataset's files and what else is there, both sorted. It takes
// exactly the files that the trainer takes (forge_train/rows.py): all .jsonl below the
// directory, nothing hidden, no linked directories. Else a run would read what nobody checked.
func (s *source) list() (names, ignored []string, err error) {
	entries := 0
	err = fs.WalkDir(s.dir.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return unreadable(filepath.Join(s.root, path), err)
		}
		if entries++; entries > maxFiles {
			return forge.Invalidf("path", "%s holds more than %d files", s.root, maxFiles)
		}
		hidden := strings.HasPrefix(e.Name(), ".")
		switch {
		case path == ".":
		case hidden && e.IsDir():
			ignored = append(ignored, path)
			return fs.SkipDir
		case e.IsDir():
		case hidden || filepath.Ext(path) != extension || s.linkedDir(path, e):
			ignored = append(ignored, path)
		default:
			names = append(names, path)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(names)
	slices.Sort(ignored)
	switch {
	case len(names) > 0:
		return names, ignored, nil
	case len(ignored) == 0:
		return nil, nil, forge.Invalidf("path", "directory %s is empty", s.root)
	}
	return nil, nil, forge.Invalidf("path", "directory %s has no %s files (it has %s)", s.root, extension, some(ignored)).
		WithHint("Hidden files and linked directories do not count, and compressed files are not read")
}

// linkedDir is a symbolic link to a directory that is named like a file.
func (s *source) linkedDir(path string, e fs.DirEntry) bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return false
	}
	fi, err := s.dir.Stat(path)
	return err == nil && fi.IsDir()
}

func some(names []string) string {
	const shown = 5
	if n := len(names); n > shown {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), n-shown)
	}
	return strings.Join(names, ", ")
}

// measure looks at every file before the first is read, so that what can never be read is
// refused at once and not after an hour.
func (s *source) measure() error {
	for _, name := range s.names {
		fi, err := s.stat(name)
		if err != nil {
			return err
		}
		s.size += fi.Size()
	}
	return nil
}

func (s *source) stat(name string) (fs.FileInfo, error) {
	fi, err := s.dir.Stat(name)
	if err == nil {
		if !fi.Mode().IsRegular() {
			return nil, notRegular(s.shown(name), fi)
		}
		return fi, nil
	}
	if l, lerr := s.dir.Lstat(name); lerr == nil && l.Mode()&fs.ModeSymlink != 0 && !errors.Is(err, fs.ErrPermission) {
		to, _ := s.dir.Readlink(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, forge.Invalidf("path", "%s is a symbolic link to %q, which does not exist", s.shown(name), to)
		}
		return nil, forge.Invalidf("path", "%s is a symbolic link to %q, which leaves the directory", s.shown(name), to).
			WithHint("Put the file itself there (a hard link will do), or register the directory that it lies in")
	}
	return nil, unreadable(s.shown(name), err)
}

// open opens one file. Not a pipe: stat has looked, and O_NONBLOCK guards the moment between.
// A single file may be a symbolic link to anywhere: it is the very path that the user named.
func (s *source) open(name string) (*openFile, error) {
	shown, flags := s.shown(name), os.O_RDONLY|syscall.O_NONBLOCK
	if s.single {
		f, err := os.OpenFile(s.root, flags, 0)
		return newOpenFile(f, shown, err, func() (fs.FileInfo, error) { return os.Stat(s.root) })
	}
	if _, err := s.stat(name); err != nil {
		return nil, err
	}
	f, err := s.dir.OpenFile(name, flags, 0)
	return newOpenFile(f, shown, err, func() (fs.FileInfo, error) { return s.dir.Stat(name) })
}

// unchanged lists the directory again: a file that came or went while others were read would
// make a version that never existed.
func (s *source) unchanged() error {
	if s.single {
		return nil
	}
	names, _, err := s.list()
	if err == nil && slices.Equal(names, s.names) {
		return nil
	}
	return changed(s.root)
}

// openFile is a file and what it looked like when it was opened.
type openFile struct {
	*os.File
	shown  string
	before fs.FileInfo
	again  func() (fs.FileInfo, error)
}

func newOpenFile(f *os.File, shown string, err error, again func() (fs.FileInfo, error)) (*openFile, error) {
	if err != nil {
		return nil, unreadable(shown, err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = notRegular(shown, fi)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &openFile{File: f, shown: shown, before: fi, again: again}, nil
}

// unchanged holds the open file and its name against what was there before.
func (f *openFile) unchanged() error {
	open, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := f.again()
	same := err == nil && os.SameFile(open, named) && open.Size() == f.before.Size() &&
		open.ModTime().Equal(f.before.ModTime())
	if same {
		return nil
	}
	return changed(f.shown)
}

func (f *openFile) entry(name, sum string) forge.File {
	e := forge.File{Path: filepath.ToSlash(name), Size: f.before.Size(), SHA256: sum, ModTime: f.before.ModTime().UTC()}
	if st, ok := f.before.Sys().(*syscall.Stat_t); ok {
		e.Inode = st.Ino
	}
	return e
}
