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

// maxFiles bounds a directory: a mistyped path like / must not become an hour of reading.
const maxFiles = 10_000

// source is the files of one dataset, all opened below one directory that they cannot leave.
type source struct {
	root    string // what the manifest names
	single  bool   // root is the file itself
	format  forge.DatasetFormat
	names   []string
	listed  []string // with those that cannot be read
	ignored []string
	wrong   []forge.RowProblem // files and directories that cannot be read
	size    int64
	dir     *os.Root // nil for a single file
	given   []string // what was named: files and directories, below root
}

// openSource finds the files that paths name. Nothing is opened yet but the directory.
func openSource(paths []string, format forge.DatasetFormat) (*source, error) {
	given, err := expand(paths)
	if err != nil {
		return nil, err
	}
	root, dirs := "", 0
	for i, path := range given {
		var fi fs.FileInfo
		if given[i], fi, err = statRoot(path); err != nil {
			return nil, err
		}
		if len(given) == 1 && !fi.IsDir() {
			return openSingle(given[i], fi, format)
		}
		dir := given[i]
		if fi.IsDir() {
			dirs++
		} else if dir = filepath.Dir(dir); formatOf(given[i]) == "" && fi.Mode().IsRegular() {
			return nil, noData(given[i])
		}
		root = common(root, dir)
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, unreadable(root, err)
	}
	s := &source{root: root, dir: dir}
	for _, g := range given {
		rel, err := filepath.Rel(root, g)
		if err != nil {
			return nil, unreadable(g, err)
		}
		s.given = append(s.given, rel)
	}
	if err = s.find(format); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// expand resolves globs; a name that exists is what it is, whatever it looks like. The same file twice is once.
func expand(paths []string) ([]string, error) {
	if len(paths) == 0 {
		return nil, forge.Invalidf("path", "no path given")
	}
	var all []string
	for _, p := range paths {
		if filepath.IsAbs(p) && strings.ContainsAny(p, "*?[") && !strings.ContainsRune(p, 0) {
			if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) {
				matches, err := filepath.Glob(p)
				switch {
				case err != nil:
					return nil, forge.Invalidf("path", "%s is no pattern: %v", p, err)
				case len(matches) == 0:
					return nil, forge.Invalidf("path", "nothing matches %s", p)
				}
				all = append(all, matches...)
				continue
			}
		}
		if filepath.IsAbs(p) {
			p = filepath.Clean(p)
		}
		all = append(all, p)
	}
	if len(all) > maxFiles {
		return nil, forge.Invalidf("path", "%d paths; want at most %d", len(all), maxFiles)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// common is the directory that both lie in.
func common(a, b string) string {
	if a == "" {
		return b
	}
	for a != "/" && a != b && !strings.HasPrefix(b, a+"/") {
		a = filepath.Dir(a)
	}
	return a
}

func openSingle(path string, fi fs.FileInfo, format forge.DatasetFormat) (*source, error) {
	if !fi.Mode().IsRegular() {
		return nil, notRegular(path, fi)
	}
	if format == "" {
		format = formatOf(path)
	}
	if format == "" {
		return nil, noData(path)
	}
	return &source{root: path, single: true, format: format, names: []string{"."}, size: fi.Size()}, nil
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

// find lists the files and looks at each before the first is read, so that the total is known.
func (s *source) find(format forge.DatasetFormat) error {
	names, ignored, wrong, err := s.list()
	if err != nil {
		return err
	}
	var rest []string
	if s.format, s.names, rest, err = onlyFormat(s.root, names, format); err != nil {
		return err
	}
	s.ignored, s.wrong = append(ignored, rest...), wrong
	slices.Sort(s.ignored)
	switch {
	case len(s.names) > 0:
	case len(wrong) > 0: // they are the answer
	case len(s.ignored) == 0:
		return forge.Invalidf("path", "directory %s is empty", s.root)
	default:
		return forge.Invalidf("path", "directory %s has no files of data (it has %s); those are %s", s.root, some(s.ignored), allFormats).
			WithHint("Hidden files and linked directories do not count")
	}
	s.listed = s.names
	readable := s.names[:0:0]
	for _, name := range s.names {
		fi, err := s.stat(name)
		switch {
		case forge.KindOf(err) == forge.KindInvalid && err != nil:
			s.wrong = append(s.wrong, fileProblem(s.shown(name), err))
		case err != nil:
			return err
		default:
			s.size += fi.Size()
			readable = append(readable, name)
		}
	}
	s.names = readable
	return nil
}

// list walks what was given: the files and what else is there, both sorted. It takes exactly the files that the trainer takes
// (forge_train/rows.py): nothing hidden, no linked directories. Else a run would read what nobody checked.
func (s *source) list() (names, ignored []string, wrong []forge.RowProblem, err error) {
	entries := 0
	for _, given := range s.given {
		err = fs.WalkDir(s.dir.FS(), filepath.ToSlash(given), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				err = unreadable(filepath.Join(s.root, path), err)
				if path == "." || forge.KindOf(err) != forge.KindInvalid {
					return err
				}
				wrong = append(wrong, fileProblem(s.shown(path), err))
				return fs.SkipDir
			}
			if entries++; entries > maxFiles {
				return forge.Invalidf("path", "%s holds more than %d files", s.root, maxFiles)
			}
			hidden := strings.HasPrefix(e.Name(), ".")
			switch {
			case path == given && e.IsDir():
			case path == given:
				names = append(names, path)
			case hidden && e.IsDir():
				ignored = append(ignored, path)
				return fs.SkipDir
			case e.IsDir():
			case hidden || formatOf(path) == "" || s.linkedDir(path, e):
				ignored = append(ignored, path)
			default:
				names = append(names, path)
			}
			return nil
		})
		if err != nil {
			return nil, nil, nil, err
		}
	}
	slices.Sort(names)
	slices.Sort(ignored)
	return slices.Compact(names), slices.Compact(ignored), wrong, nil
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

func (s *source) stat(name string) (fs.FileInfo, error) {
	fi, err := s.dir.Stat(name)
	if err == nil {
		if !fi.Mode().IsRegular() {
			return nil, notRegular(s.shown(name), fi)
		}
		return fi, nil
	}
	if l, lerr := s.dir.Lstat(name); lerr == nil && l.Mode()&fs.ModeSymlink != 0 && !errors.Is(err, fs.ErrPermission) {
		if errors.Is(err, syscall.ELOOP) {
			return nil, unreadable(s.shown(name), syscall.ELOOP)
		}
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
	names, _, _, err := s.list()
	if err == nil {
		_, names, _, err = onlyFormat(s.root, names, s.format)
	}
	if err == nil && slices.Equal(names, s.listed) {
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
