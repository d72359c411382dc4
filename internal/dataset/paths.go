package dataset

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

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
				all = append(all, onlyData(matches)...)
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

// onlyData leaves out what a pattern matches and is no data, unless there is nothing else to name.
func onlyData(matches []string) []string {
	data := slices.DeleteFunc(slices.Clone(matches), func(path string) bool {
		fi, err := os.Stat(path)
		return formatOf(path) == "" && (err != nil || !fi.IsDir())
	})
	if len(data) == 0 {
		return matches
	}
	return data
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
