package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml"
	"golang.org/x/sys/unix"

	"github.com/forge-ml/forge-ml/internal/api"
)

const (
	lockFile = "forged.lock"
	diskWarn = 5 << 30
	diskFail = 512 << 20
	// maxDaemonConfig bounds what is read of forged's configuration.
	maxDaemonConfig = 1 << 20
)

// stateDir looks at what a forged that does not answer left on this host.
func (d *examination) stateDir(dir string) {
	st, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		d.say("state_dir", api.CheckFail, "forged init --state-dir "+dir+"; or name the server: forgectl login SERVER", "there is no state directory %s on this host", dir)
		return
	}
	if _, rerr := os.ReadDir(dir); err != nil || rerr != nil {
		d.say("state_dir", api.CheckUnknown, "sudo forgectl doctor --server unix://"+filepath.Join(dir, socketFile), "%s may not be looked into by this user", dir)
		return
	}
	d.say("state_dir", api.CheckOK, "", "%s, of uid %d, mode %04o", dir, ownerOf(st), st.Mode().Perm())
	d.lock(dir)
	d.disk("disk", dir)
	for _, root := range runRoots(dir) {
		d.runDir(root, ownerOf(st))
	}
}

// lock says who holds the state directory. /proc/locks is read instead of trying to take the lock,
// which would turn away a forged that starts in this very moment.
func (d *examination) lock(dir string) {
	path := filepath.Join(dir, lockFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		d.say("lock", api.CheckOK, "", "no forged has served here yet")
		return
	}
	if err != nil {
		d.say("lock", api.CheckUnknown, "", "%s cannot be read: %s", path, cause(err))
		return
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	held, err := lockHolder(path)
	switch {
	case err != nil:
		d.say("lock", api.CheckUnknown, "", "who holds %s cannot be learned: %s", path, cause(err))
	case held:
		d.say("lock", api.CheckFail, fmt.Sprintf("read its log (journalctl -u forged); if it hangs: kill %d, and start it again", pid),
			"a forged with pid %d holds %s and does not answer", pid, dir)
	case pid > 0 && alive(pid):
		d.say("lock", api.CheckOK, "", "nobody holds it; pid %d in it belongs to another program by now", pid)
	default:
		d.say("lock", api.CheckOK, "", "nobody holds it; the forged that did (pid %d) is gone, and the next one takes it over", pid)
	}
}

// lockHolder says whether some process holds a flock on a file.
func lockHolder(path string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return false, err
	}
	b, err := os.ReadFile("/proc/locks")
	if err != nil {
		return false, err
	}
	file := fmt.Sprintf(" %02x:%02x:%d ", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)), st.Ino)
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, "FLOCK") && !strings.Contains(line, "->") && strings.Contains(line, file) {
			return true, nil
		}
	}
	return false, nil
}

func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

func (d *examination) disk(name, dir string) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		d.say(name, api.CheckUnknown, "", "%s: %s", dir, err)
		return
	}
	free := int64(fs.Bavail) * int64(fs.Bsize)
	fix := "df -h " + dir + "; make room, or move it to a larger disk: forged refuses what it cannot store"
	switch {
	case free < diskFail:
		d.say(name, api.CheckFail, fix, "%s has %s left, too little to start", dir, size(free))
	case free < diskWarn:
		d.say(name, api.CheckWarn, fix, "%s has %s left", dir, size(free))
	default:
		d.say(name, api.CheckOK, "", "%s has %s left", dir, size(free))
	}
	if fs.Files > 0 && fs.Ffree == 0 {
		d.say(name, api.CheckFail, "df -i "+dir, "%s has no inodes left", dir)
	}
}

// runRoots are where runs are written: what forged's configuration says, or its default.
func runRoots(dir string) []string {
	var cfg struct {
		Clusters []struct {
			RunRoot string `yaml:"run_root"`
		} `yaml:"clusters"`
	}
	if st, err := os.Stat(filepath.Join(dir, "config.yaml")); err == nil && st.Size() < maxDaemonConfig {
		if b, err := os.ReadFile(filepath.Join(dir, "config.yaml")); err == nil {
			_ = yaml.Unmarshal(b, &cfg) // a broken one is said by: forged config check
		}
	}
	var roots []string
	for _, c := range cfg.Clusters {
		if c.RunRoot != "" {
			roots = append(roots, c.RunRoot)
		}
	}
	if roots == nil {
		roots = []string{filepath.Join(dir, "runs")}
	}
	return roots
}

func (d *examination) runDir(root string, owner int) {
	st, err := os.Stat(root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.say("run_dir", api.CheckOK, "", "%s is not there yet; the first start makes it", root)
	case err != nil:
		d.say("run_dir", api.CheckUnknown, "", "%s: %s", root, cause(err))
	case !st.IsDir():
		d.say("run_dir", api.CheckFail, "mv "+root+" "+root+".old", "%s is no directory", root)
	case ownerOf(st) != owner && st.Mode().Perm()&0o022 == 0:
		d.say("run_dir", api.CheckFail, fmt.Sprintf("chown %d %s", owner, root), "%s belongs to uid %d, and forged (uid %d) may not write there", root, ownerOf(st), owner)
	case ownerOf(st) == owner && st.Mode().Perm()&0o300 != 0o300:
		d.say("run_dir", api.CheckFail, "chmod u+rwx "+root, "%s may not be written by its owner (mode %04o)", root, st.Mode().Perm())
	default:
		d.say("run_dir", api.CheckOK, "", "%s can be written", root)
	}
	if err == nil {
		var ro unix.Statfs_t
		if unix.Statfs(root, &ro) == nil && ro.Flags&unix.ST_RDONLY != 0 {
			d.say("run_dir", api.CheckFail, "mount -o remount,rw "+root, "%s is on a file system that is mounted read-only", root)
		}
	}
}
