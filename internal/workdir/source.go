package workdir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

const (
	// IgnoreFile names what stays out, as a .gitignore does.
	IgnoreFile = ".forgeignore"
	// DiffFile is in a snapshot what git says has changed since the commit.
	DiffFile = ".forge-diff.patch"
	// DefaultLimit bounds the files of a snapshot, in bytes.
	DefaultLimit = 100 << 20
	// MaxFiles bounds how many there are.
	MaxFiles = 50_000

	maxDiff    = 8 << 20
	gitTimeout = 2 * time.Minute
	maxListing = 64 << 20
)

// listing is what a directory has for a snapshot.
type listing struct {
	files    []string // sorted, with slashes
	left     []string // files that git does not track and that were not asked for
	commit   string
	dirty    bool
	diff     []byte
	diffLost bool // it is too large to be kept
}

// list decides which files belong to a snapshot.
func list(ctx context.Context, dir string, untracked bool) (listing, error) {
	inRepo, err := repository(ctx, dir)
	switch {
	case err != nil:
		return listing{}, err
	case inRepo:
		return tracked(ctx, dir, untracked)
	case !hasIgnore(dir):
		if l, rules, err := walk(dir); err != nil || !rules {
			return l, err
		}
	}
	// git reads the rules, in a repository of its own that knows of no file.
	if _, err := exec.LookPath("git"); err != nil {
		return listing{}, forge.Errorf(forge.KindPrecondition, "snapshot", "%s has a %s, and git, which reads it, is not installed", dir, IgnoreFile).
			WithHint("install git, or remove %s and keep in the directory only what the run needs", IgnoreFile)
	}
	scratch, err := os.MkdirTemp("", "forge-snapshot")
	if err != nil {
		return listing{}, err
	}
	defer os.RemoveAll(scratch)
	if _, err := git(ctx, scratch, "init", "-q", "--bare", scratch); err != nil {
		return listing{}, err
	}
	names, err := gitNames(ctx, dir, "--git-dir="+scratch, "--work-tree="+dir, "ls-files", "-z", "--others", "--exclude-per-directory="+IgnoreFile)
	return listing{files: names}, err
}

// hasIgnore looks at the top: what is named there need not be walked through.
func hasIgnore(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, IgnoreFile))
	return err == nil
}

func tracked(ctx context.Context, dir string, untracked bool) (listing, error) {
	var l listing
	// That there is no commit yet is no error.
	if out, err := git(ctx, dir, "rev-parse", "--verify", "-q", "HEAD"); err == nil {
		l.commit = strings.TrimSpace(string(out))
	}
	files, err := gitNames(ctx, dir, "ls-files", "-z", "--cached", "--recurse-submodules")
	if err != nil {
		return l, err
	}
	others, err := gitNames(ctx, dir, "ls-files", "-z", "--others", "--exclude-standard")
	if err != nil {
		return l, err
	}
	out := map[string]bool{}
	for _, kind := range []string{"--cached", "--others"} {
		ignored, err := gitNames(ctx, dir, "ls-files", "-z", kind, "--ignored", "--exclude-per-directory="+IgnoreFile)
		if err != nil {
			return l, err
		}
		for _, f := range ignored {
			out[f] = true
		}
	}
	others = slices.DeleteFunc(others, func(f string) bool { return out[f] })
	if untracked {
		files = append(files, others...)
	} else {
		l.left = others
	}
	l.files = slices.DeleteFunc(files, func(f string) bool { return out[f] })
	slices.Sort(l.files)
	l.files = slices.Compact(l.files)
	if len(l.files) == 0 {
		return l, forge.Errorf(forge.KindPrecondition, "snapshot", "git tracks nothing of %s", dir).WithHint("git add what the run needs, or --include-untracked")
	}
	if l.commit == "" {
		l.dirty = true
		return l, nil
	}
	status, err := git(ctx, dir, "status", "--porcelain", "-z", "--untracked-files=no", "--", ".")
	if err != nil {
		return l, err
	}
	l.dirty = len(status) > 0 || untracked && len(others) > 0
	if len(status) > 0 {
		l.diff, err = git(ctx, dir, "diff", "--no-color", "--no-ext-diff", "--binary", "--relative", "HEAD", "--", ".")
		if err != nil {
			return l, err
		}
		if len(l.diff) > maxDiff {
			l.diff, l.diffLost = nil, true
		}
	}
	return l, nil
}

// walk lists a directory that is no repository; rules says that one below it has an ignore file.
func walk(dir string) (l listing, rules bool, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return forge.Invalidf("workdir", "%w", err)
		}
		if d.Name() == ".git" {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		rules = rules || d.Name() == IgnoreFile
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if l.files = append(l.files, filepath.ToSlash(rel)); len(l.files) > MaxFiles {
			return tooMany(dir)
		}
		return nil
	})
	slices.Sort(l.files)
	return l, rules, err
}

func tooMany(dir string) error {
	return forge.Invalidf("workdir", "%s has more than %d files", dir, MaxFiles).WithHint("name in %s what a run does not need: data is registered where it lies, with forgectl dataset add", IgnoreFile)
}

// repository says whether git has the directory. A .git that git does not take for one is an error: all of it, with what
// is ignored, would be taken otherwise.
func repository(ctx context.Context, dir string) (bool, error) {
	_, missing := exec.LookPath("git")
	if missing == nil {
		out, err := git(ctx, dir, "rev-parse", "--is-inside-work-tree")
		if err == nil {
			return strings.TrimSpace(string(out)) == "true", nil
		}
		if _, lerr := os.Lstat(filepath.Join(dir, ".git")); lerr == nil {
			return false, err
		}
		return false, nil
	}
	if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
		return false, forge.Errorf(forge.KindPrecondition, "snapshot", "%s is a git repository, and git is not installed", dir)
	}
	return false, nil
}

func gitNames(ctx context.Context, dir string, args ...string) ([]string, error) {
	out, err := git(ctx, dir, args...)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range strings.SplitSeq(string(out), "\x00") {
		if name != "" && !strings.HasSuffix(name, "/") { // a repository inside one: not ours
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) > 4*MaxFiles {
		return nil, tooMany(dir)
	}
	return names, nil
}

// git runs it without what a caller's environment could point elsewhere, and without programs that a repository names.
func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false"}, args...)...)
	cmd.Dir = dir
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "GIT_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C")
	var out, said capped
	out.limit, said.limit = maxListing, 4<<10
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		words, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		if ctx.Err() != nil {
			words = fmt.Sprintf("no answer within %s", gitTimeout)
		}
		return nil, forge.Errorf(forge.KindPrecondition, "snapshot", "git in %s: %s (%w)", dir, words, err)
	}
	if out.over {
		return nil, forge.Errorf(forge.KindPrecondition, "snapshot", "git in %s says more than %d bytes", dir, maxListing)
	}
	return out.Bytes(), nil
}

type capped struct {
	bytes.Buffer
	limit int
	over  bool
}

func (c *capped) Write(b []byte) (int, error) {
	if room := c.limit - c.Len(); len(b) > room {
		c.over = true
		_, err := c.Buffer.Write(b[:max(room, 0)])
		return len(b), err
	}
	return c.Buffer.Write(b)
}

// isGone tells a file that git tracks and that was removed from one that cannot be read.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
