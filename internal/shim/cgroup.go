package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-ml/forge-ml/internal/rundir"
)

// ranksGroup is a cgroup of the ranks' own, below the shim's. The zero value is none, and nothing is lost then but certainty: leftovers are found by who
// their parent is and by their marker.
type ranksGroup struct {
	path rundir.Cgroup
	dir  *os.File // what ranks are cloned into
}

// groupRanks makes it where the shim's own cgroup was delegated to it. In a job of a batch system cgroups are that system's.
func (s *shim) groupRanks() {
	if s.job != nil {
		return
	}
	own, err := ownCgroup("/proc/self/cgroup", "/proc/self/mountinfo")
	if err == nil {
		s.group, err = newGroup(filepath.Join(own, rundir.CgroupName(s.at, s.node)))
	}
	if err != nil {
		s.log.Debug().Err(err).Msg("no cgroup for the ranks: what is left of them is found by its parents and its marker")
	}
}

func newGroup(path string) (ranksGroup, error) {
	if err := os.Mkdir(path, 0o755); err != nil {
		return ranksGroup{}, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return ranksGroup{}, errors.Join(err, os.Remove(path))
	}
	return ranksGroup{path: rundir.Cgroup(path), dir: dir}, nil
}

// drop gives up a cgroup that ranks cannot be started in.
func (g *ranksGroup) drop() {
	if g.dir != nil {
		_ = g.dir.Close()
		_ = g.path.Remove()
	}
	*g = ranksGroup{}
}

// ownCgroup is the directory of this process's cgroup of version 2, if it may make others below it and move processes there. The root is nobody's to
// delegate: whoever may write to it has been given no cgroup, but is root.
func ownCgroup(cgroups, mounts string) (string, error) {
	data, err := os.ReadFile(cgroups)
	if err != nil {
		return "", err
	}
	own := ""
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			own = path
		}
	}
	if own == "" || own == "/" || strings.Contains(own, "..") {
		return "", fmt.Errorf("own cgroup is %q", own)
	}
	data, err = os.ReadFile(mounts)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		before, after, _ := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if !strings.HasPrefix(after, "cgroup2 ") || len(f) < 5 {
			continue
		}
		below, ok := strings.CutPrefix(own, strings.TrimSuffix(f[3], "/"))
		if !ok {
			continue
		}
		dir := filepath.Join(f[4], below)
		for _, path := range []string{dir, filepath.Join(dir, "cgroup.procs")} {
			if err := unix.Access(path, unix.W_OK); err != nil {
				return "", fmt.Errorf("%s: %w", path, err)
			}
		}
		return dir, nil
	}
	return "", errors.New("cgroups of version 2 are not mounted")
}
