package forgedtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is one that carries a site's mark.
type Process struct {
	Pid     int
	Command string
}

// Survivors lists the living processes whose command line or environment names dir. Zombies
// are dead: they have neither.
func Survivors(dir string) ([]Process, error) {
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var out []Process
	for _, p := range procs {
		pid, err := strconv.Atoi(filepath.Base(p))
		if err != nil || pid == os.Getpid() {
			continue
		}
		cmd, err := os.ReadFile(filepath.Join(p, "cmdline"))
		if err != nil || len(cmd) == 0 {
			continue
		}
		env, _ := os.ReadFile(filepath.Join(p, "environ"))
		if bytes.Contains(cmd, []byte(dir)) || bytes.Contains(env, []byte("FORGE_RUN_DIR="+dir)) {
			out = append(out, Process{pid, strings.TrimSpace(strings.ReplaceAll(string(cmd), "\x00", " "))})
		}
	}
	return out, nil
}

// Shims are the shims among them. A rank between fork and exec still shows its shim's command line, and leads no session.
func Shims(all []Process) (out []Process) {
	for _, p := range all {
		if sid, _ := unix.Getsid(p.Pid); p.shim() && sid == p.Pid {
			out = append(out, p)
		}
	}
	return out
}

// Ranks are those among them that run a program.
func Ranks(all []Process, program string) (out []Process) {
	for _, p := range all {
		if !p.shim() && strings.Contains(p.Command, program) {
			out = append(out, p)
		}
	}
	return out
}

func (p Process) shim() bool { return strings.Contains(p.Command, " shim --run-dir") }
