package rundir

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	forge "github.com/forge-ml/forge-ml"
)

// Alive lists the living processes of our uid that belong to an attempt of a run below runRoot, by run and attempt: ranks
// by their marker, shims by their command line. It asks /proc and no file of a run directory, so that it also finds
// what goes on after its directory was deleted. An error means "not known", never "none".
func Alive(runRoot string) (map[forge.RunID]map[int][]int, error) {
	all, err := pids()
	if err != nil {
		return nil, err
	}
	out := map[forge.RunID]map[int][]int{}
	var buf []byte
	self, uid := os.Getpid(), os.Getuid()
	for _, pid := range all {
		if pid == self || !ownedBy(pid, uid) {
			continue
		}
		run, n := belongs(pid, runRoot, &buf)
		if run == "" {
			continue
		}
		if st, err := readStat(pid); err != nil || st.dead() && !threaded(pid) {
			continue
		}
		if out[run] == nil {
			out[run] = map[int][]int{}
		}
		out[run][n] = append(out[run][n], pid)
	}
	return out, nil
}

// belongs says which attempt a process is part of; no run when of none below runRoot.
func belongs(pid int, runRoot string, buf *[]byte) (forge.RunID, int) {
	if env, err := environ(pid, buf); err == nil {
		if dir, n := valueOf(env, "FORGE_RUN_DIR="), valueOf(env, "FORGE_ATTEMPT="); dir != "" {
			return inRoot(runRoot, dir, n)
		}
	}
	dir, n := shimOf(pid)
	return inRoot(runRoot, dir, n)
}

// shimOf is the run directory and the attempt that a process was called with.
func shimOf(pid int) (dir, n string) {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return "", ""
	}
	args := bytes.Split(line, []byte{0})
	for i := 1; i+1 < len(args); i++ {
		switch string(args[i]) {
		case "--run-dir":
			dir = string(args[i+1])
		case "--attempt":
			n = string(args[i+1])
		}
	}
	return dir, n
}

func valueOf(env []byte, name string) string {
	for kv := range bytes.SplitSeq(env, []byte{0}) {
		if v, ok := bytes.CutPrefix(kv, []byte(name)); ok {
			return string(v)
		}
	}
	return ""
}

// inRoot names the run whose directory is a direct child of the root; no run otherwise.
func inRoot(root, dir, attempt string) (forge.RunID, int) {
	n, err := strconv.Atoi(attempt)
	if err != nil || n < 1 || filepath.Dir(filepath.Clean(dir)) != filepath.Clean(root) {
		return "", 0
	}
	return forge.RunID(filepath.Base(dir)), n
}

// Newest is the highest attempt that a run directory knows of: what its fence allows or what has a directory, whichever is more.
// 0, nil: the run has no directory, or nothing was launched in it.
func Newest(runDir string) (int, error) {
	newest, err := ReadFence(runDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	names, err := os.ReadDir(attemptsDir(runDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, d := range names {
		if n, err := strconv.Atoi(d.Name()); err == nil && d.IsDir() && n > newest {
			newest = n
		}
	}
	return newest, nil
}
