package shim

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// oomCounter reads how often the kernel's out-of-memory killer struck in our cgroup, or on the
// host where the cgroup does not say. Best effort: unreadable counts as never.
type oomCounter struct {
	path, key string
	before    int64
}

func newOOMCounter() oomCounter {
	for _, c := range oomSources() {
		if n, ok := readCounter(c.path, c.key); ok {
			c.before = n
			return c
		}
	}
	return oomCounter{}
}

// struck says whether it was at work since the shim started.
func (c oomCounter) struck() bool {
	n, ok := readCounter(c.path, c.key)
	return ok && n > c.before
}

func oomSources() []oomCounter {
	var out []oomCounter
	data, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(f) != 3:
		case f[0] == "0" && f[1] == "":
			out = append(out, oomCounter{path: filepath.Join("/sys/fs/cgroup", f[2], "memory.events"), key: "oom_kill"})
		case f[1] == "memory":
			out = append(out, oomCounter{path: filepath.Join("/sys/fs/cgroup/memory", f[2], "memory.oom_control"), key: "oom_kill"})
		}
	}
	return append(out, oomCounter{path: "/proc/vmstat", key: "oom_kill"})
}

func readCounter(path, key string) (int64, bool) {
	if path == "" {
		return 0, false
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if v, ok := strings.CutPrefix(sc.Text(), key+" "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
