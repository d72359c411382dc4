//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// machine is a systemd of its own: see systemd/boot.
type machine struct {
	t   *testing.T
	ctx context.Context
	pid string
	env []string
}

func bootMachine(t *testing.T, repo string) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test boots a systemd in namespaces of its own, and needs root for it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), caseTimeout)
	t.Cleanup(cancel)
	m := &machine{t: t, ctx: ctx}
	dir, err := os.MkdirTemp("", "fm")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var said bytes.Buffer
	cmd := exec.Command(filepath.Join(repo, "internal/e2e/systemd/boot"), dir, repo, binDir(t))
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, cmd.Start())
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-gone:
		case <-time.After(15 * time.Second):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			t.Error("the machine did not go away")
		}
	})
	m.until("booted", func() error {
		select {
		case <-gone:
			t.Fatalf("systemd does not run here (it needs root, overlayfs, cgroup2 and Debian's package systemd):\n%s", said.String())
		default:
		}
		b, err := os.ReadFile(filepath.Join(dir, "pid"))
		if err != nil {
			return err
		}
		m.pid = strings.TrimSpace(string(b))
		out, err := m.try("systemctl", "is-system-running")
		if err != nil {
			return fmt.Errorf("%s: %w", out, err)
		}
		return nil
	})
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := m.command(context.WithoutCancel(ctx), "journalctl", "-o", "short-precise", "-n", "80", "--no-pager").CombinedOutput()
			t.Logf("journal:\n%s", out)
		}
	})
	return m
}

func (m *machine) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", m.pid, "-a", "-r", "-w"}, args...)...)
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0"}, m.env...)
	return cmd
}

// try runs a command on the machine and gives all that it said.
func (m *machine) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(m.ctx, 45*time.Second)
	defer cancel()
	out, err := m.command(ctx, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (m *machine) do(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// step is a part of the test that may fail by itself.
func (m *machine) step(name string, f func(m *machine)) {
	m.t.Run(name, func(t *testing.T) {
		part := *m
		part.t = t
		f(&part)
	})
}

func (m *machine) until(what string, ok func() error) {
	m.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-m.ctx.Done():
			m.t.Fatalf("never %s: %v", what, err)
		case <-tick.C:
		}
	}
}

func (m *machine) write(path, text string) {
	m.t.Helper()
	cmd := m.command(m.ctx, "sh", "-c", `mkdir -p "$(dirname "$1")" && cat >"$1"`, "sh", path)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("write %s: %v\n%s", path, err, out)
	}
}

func (m *machine) property(unit, name string) string {
	m.t.Helper()
	return m.do("systemctl", "show", "--value", "-p", name, unit)
}

func (m *machine) ctl(v any, args ...string) {
	m.t.Helper()
	out := m.do(append(append([]string{"forgectl"}, args...), "-o", "json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		m.t.Fatalf("forgectl %s: %v in %q", strings.Join(args, " "), err, out)
	}
}

func (m *machine) run(number int64) api.RunDetail {
	m.t.Helper()
	var r api.RunDetail
	m.ctl(&r, "run", "show", fmt.Sprint(number))
	return r
}

// pidOf is the process with that name. (pgrep and kill are of a package that need not be there.)
func (m *machine) pidOf(name string) string {
	m.t.Helper()
	return m.do("sh", "-c", `for p in /proc/[0-9]*; do [ "$(cat "$p/comm" 2>/dev/null)" != "$1" ] || echo "${p#/proc/}"; done`, "sh", name)
}

// cgroup of a process, below the machine's own.
func (m *machine) cgroup(pid string) string {
	m.t.Helper()
	for line := range strings.Lines(m.do("cat", "/proc/"+pid+"/cgroup")) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path
		}
	}
	m.t.Fatalf("pid %s is in no cgroup", pid)
	return ""
}

const (
	letGo = "/home/forge/let-go"

	escapeRecipe = `name: escape
doc: What training does and a sandbox forbids
launch: rank
entry: {command: [/usr/local/bin/proberank, escape, ` + letGo + `]}
datasets: []
needs_dataset: false
needs_base: false
output: false
gang: {nodes: 1, gpus_per_node: 1, cpus_per_gpu: 1, memory_mib_per_gpu: 64}
limits: {time_limit: 10m, grace: 2s}
params: []
`
	systemdConfig = `listen: {socket: /run/forge/forged.sock, tcp: off}
recipes_dir: /etc/forge/recipes
clusters:
  - {name: local, cpu_slots: 2, memory: 8G, poll_every: 100ms, shim_socket: /run/forge/shim.sock}
`
)

// TestUnderSystemd boots a real systemd, installs forged as an operator would, and holds the units to
// what they promise.
func TestUnderSystemd(t *testing.T) {
	repo, err := filepath.Abs("../..")
	must(t, err)
	m := bootMachine(t, repo)
	install := []string{"/srv/repo/contrib/systemd/install", "--bin", "/srv/bin"}

	said := m.do(install...)
	key := regexp.MustCompile(`(?m)^operator key\s+(\S+)$`).FindStringSubmatch(said)
	if key == nil {
		m.t.Fatalf("the installer shows no operator key:\n%s", said)
	}
	for _, next := range []string{"systemctl enable --now forge-shim.socket forged", "systemctl status forged", "forgectl node list"} {
		if !strings.Contains(said, next) {
			m.t.Errorf("the installer does not name the next step %q:\n%s", next, said)
		}
	}
	m.env = []string{"FORGE_SERVER=unix:///run/forge/forged.sock", "FORGE_API_KEY=" + key[1]}
	m.do("install", "-m", "755", "/srv/bin/proberank", "/usr/local/bin/proberank")

	m.step("systemd finds no fault in the units", func(m *machine) {
		for _, unit := range []string{"forged.service", "forge-shim.socket", "forge-shim@.service", "forge-ranks.slice"} {
			if out, err := m.try("systemd-analyze", "verify", "/etc/systemd/system/"+unit); err != nil || out != "" {
				m.t.Errorf("%s: %v\n%s", unit, err, out)
			}
		}
	})

	m.step("installing again changes no configuration and makes no new key", func(m *machine) {
		m.write("/etc/forge/recipes/escape.yaml", escapeRecipe)
		m.write("/var/lib/forge/config.yaml", systemdConfig)
		if again := m.do(install...); strings.Contains(again, "operator key") {
			m.t.Errorf("it made a new key:\n%s", again)
		}
		if got := m.do("cat", "/var/lib/forge/config.yaml"); got != strings.TrimSpace(systemdConfig) {
			m.t.Errorf("the configuration is now\n%s", got)
		}
	})

	m.step("the service is active only once it serves", func(m *machine) {
		m.do("systemctl", "enable", "--now", "forge-shim.socket", "forged")
		var nodes []api.NodeView
		m.ctl(&nodes, "node", "list") // at once: READY=1 came after the listeners
		if s := m.property("forged", "StatusText"); !strings.HasPrefix(s, "serving") {
			m.t.Errorf("status says %q", s)
		}
		if u := m.property("forged", "User"); u != "forge" {
			m.t.Errorf("it runs as %s", u)
		}
	})

	var out api.Submitted
	m.ctl(&out, "run", "submit", "escape")
	run := out.Run.Number
	rank := ""
	m.step("a rank writes into its home and maps W+X, in a slice of its own", func(m *machine) {
		m.until("running outside the sandbox", func() error {
			r := m.run(run)
			if r.State.Terminal() || r.Hold != nil {
				m.t.Fatalf("%+v", r)
			}
			log, err := m.try("forgectl", "run", "logs", fmt.Sprint(run))
			if err != nil || !strings.Contains(log, "wrote into /home/forge and mapped a page W+X") {
				return fmt.Errorf("%s: %w %s", r.State, err, log)
			}
			return nil
		})
		rank = m.pidOf("proberank")
		if at := m.cgroup(rank); !strings.HasPrefix(at, "/forge.slice/forge-ranks.slice/forge-shim@") {
			m.t.Errorf("the rank is in cgroup %s", at)
		}
		if at := m.cgroup(m.property("forged", "MainPID")); at != "/system.slice/forged.service" {
			m.t.Errorf("forged is in cgroup %s", at)
		}
	})

	m.step("in the daemon's own sandbox the same is refused", func(m *machine) {
		// The installed unit with another program in it.
		m.write("/run/systemd/system/in-sandbox.service", m.do("cat", "/etc/systemd/system/forged.service"))
		m.do("chmod", "755", "/home") // so that only the sandbox is in the way
		for what, script := range map[string]string{
			"read-only file system": "exec /usr/local/bin/proberank escape",
			"map a page W+X":        "HOME=/var/lib/forge exec /usr/local/bin/proberank escape",
		} {
			m.write("/run/systemd/system/in-sandbox.service.d/probe.conf",
				"[Service]\nType=oneshot\nRestart=no\nWatchdogSec=0\nExecStart=\nExecStart=/bin/sh -c '"+script+"'\n")
			m.do("systemctl", "daemon-reload")
			if _, err := m.try("systemctl", "start", "in-sandbox"); err == nil {
				m.t.Errorf("%s: it was allowed", script)
				continue
			}
			m.until("told", func() error {
				if log := m.do("journalctl", "-u", "in-sandbox", "-o", "cat", "--no-pager"); !strings.Contains(log, what) {
					return fmt.Errorf("%q is not in %s", what, log)
				}
				return nil
			})
		}
	})

	m.step("a restart of the daemon, and of the socket, leaves the rank alone", func(m *machine) {
		before := m.property("forged", "MainPID")
		m.do("systemctl", "restart", "forge-shim.socket", "forged")
		if m.property("forged", "MainPID") == before {
			m.t.Error("it was not restarted")
		}
		if still := m.pidOf("proberank"); still != rank {
			m.t.Errorf("the rank was %s and is %s", rank, still)
		}
		if r := m.run(run); r.State != forge.RunRunning || r.Attempt != 1 {
			m.t.Errorf("the run is %s, attempt %d", r.State, r.Attempt)
		}
	})

	m.step("a reload of a bad file fails, says why and changes nothing", func(m *machine) {
		before := m.property("forged", "MainPID")
		m.write("/var/lib/forge/config.yaml", systemdConfig+"no_such_key: 1\n")
		if out, err := m.try("systemctl", "reload", "forged"); err == nil {
			m.t.Errorf("systemctl was content: %s", out)
		}
		if log := m.do("journalctl", "-u", "forged", "-o", "cat", "--no-pager"); !strings.Contains(log, "configuration refused") || !strings.Contains(log, "no_such_key") {
			m.t.Errorf("the journal does not say why:\n%s", log)
		}
		if s := m.property("forged", "StatusText"); !strings.Contains(s, "refused") {
			m.t.Errorf("status says %q", s)
		}
		if a, pid := m.property("forged", "ActiveState"), m.property("forged", "MainPID"); a != "active" || pid != before {
			m.t.Errorf("it is %s, pid %s, was %s", a, pid, before)
		}
		m.write("/var/lib/forge/config.yaml", strings.Replace(systemdConfig, "tcp: off", "tcp: 127.0.0.1:7433", 1))
		m.do("systemctl", "reload", "forged")
		if pid := m.property("forged", "MainPID"); pid != before {
			m.t.Error("a good reload restarted it")
		}
		if addr := m.do("cat", "/var/lib/forge/forged.addr"); addr != "127.0.0.1:7433" {
			m.t.Errorf("after the good reload it serves %s", addr)
		}
	})

	m.step("the watchdog restarts a daemon that hangs, and the rank does not notice", func(m *machine) {
		m.write("/etc/systemd/system/forged.service.d/soon.conf", "[Service]\nWatchdogSec=4s\nRestartSec=100ms\n")
		m.do("systemctl", "daemon-reload")
		m.do("systemctl", "restart", "forged")
		hung := m.property("forged", "MainPID")
		m.do("sh", "-c", `kill -STOP "$1"`, "sh", hung)
		m.until("restarted", func() error {
			if pid := m.property("forged", "MainPID"); pid == hung || pid == "0" || m.property("forged", "ActiveState") != "active" {
				return fmt.Errorf("pid %s", pid)
			}
			return nil
		})
		if log := m.do("journalctl", "-u", "forged", "-o", "cat", "--no-pager"); !strings.Contains(log, "Watchdog timeout") {
			m.t.Errorf("it was restarted for another reason:\n%s", log)
		}
		if still := m.pidOf("proberank"); still != rank {
			m.t.Errorf("the rank was %s and is %s", rank, still)
		}
	})

	m.step("the run ends well, as the same attempt, and leaves no unit", func(m *machine) {
		m.write(letGo, "")
		m.until("ended", func() error {
			if r := m.run(run); !r.State.Terminal() {
				return fmt.Errorf("%s", r.State)
			}
			return nil
		})
		if r := m.run(run); r.State != forge.RunCompleted || r.Attempt != 1 {
			m.t.Errorf("%+v", r)
		}
		m.until("clean", func() error {
			if left := m.do("systemctl", "list-units", "--all", "--plain", "--no-legend", "forge-shim@*"); left != "" {
				return fmt.Errorf("%s", left)
			}
			return nil
		})
	})

	m.step("stopping records why", func(m *machine) {
		m.do("systemctl", "stop", "forged")
		if r := m.property("forged", "Result"); r != "success" {
			m.t.Errorf("it stopped with %s", r)
		}
		if log := m.do("journalctl", "-u", "forged", "-o", "cat", "--no-pager"); !strings.Contains(log, `"why":"terminated"`) {
			m.t.Errorf("the log does not say why it stopped:\n%s", log)
		}
		if _, err := m.try("test", "-S", "/run/forge/shim.sock"); err != nil {
			m.t.Error("the stop of the daemon took the ranks' socket with it")
		}
	})
}
