// Package bootstrap_test runs the bootstrap script on machines made of stand-ins: a PATH of
// links to the real tools, with single ones missing, old, or replaced by a recording script.
package bootstrap_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// machine is a pretended host.
type machine struct {
	t      *testing.T
	dir    string // everything lies below it
	script string // the copy that runs, its system paths moved below dir
}

var plainTools = []string{
	"bash", "sh", "env", "cat", "chmod", "curl", "cut", "dirname", "flock", "git", "grep", "gcc", "gzip", "head", "id", "ln", "make",
	"mkdir", "mktemp", "mv", "printf", "rm", "sed", "sha256sum", "sort", "tar", "tee", "timeout", "touch", "tr", "uname",
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir()}
	for _, d := range []string{"bin", "cache", "repo/contrib/bootstrap"} {
		if err := os.MkdirAll(filepath.Join(m.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range plainTools {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatalf("the test needs %s: %v", tool, err)
		}
		if err := os.Symlink(path, filepath.Join(m.dir, "bin", tool)); err != nil {
			t.Fatal(err)
		}
	}
	m.tool("shellcheck", "exit 0")
	m.tool("go", "echo go1.26.8")
	m.tool("systemd-analyze", "exit 0")
	m.tool("systemd", "exit 0")
	for _, tool := range []string{"zsh", "fish", "groff", "slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd", "ip", "patchelf"} {
		m.tool(tool, "exit 0")
	}
	m.write("debian-keys", "")
	m.write("modules-init", "")
	m.tool("python3", `case "$*" in *print*) echo 3.11.2;; esac`)
	m.tool("sudo", "exit 1")
	m.tool("apt-get", `echo "apt-get $*" >>"$FORGE_TEST_LOG"; ls "$FORGE_TEST_POLICY" >>"$FORGE_TEST_LOG" 2>&1; eval "$FORGE_TEST_ON_APT"`)
	m.link("ls")
	m.write("os-release", "ID=debian\n")
	m.write("repo/go.mod", "module x\n\ngo 1.26.0\n")

	src, err := os.ReadFile("bootstrap")
	if err != nil {
		t.Fatal(err)
	}
	m.script = string(src)
	m.edit("/etc/os-release", filepath.Join(m.dir, "os-release"))
	m.edit("/lib/systemd/systemd", filepath.Join(m.dir, "bin", "systemd"))
	m.edit("sbin=/usr/sbin ", "sbin="+filepath.Join(m.dir, "sbin")+" ")
	m.edit("/usr/share/modules/init/bash", filepath.Join(m.dir, "modules-init"))
	m.edit("/usr/share/keyrings/debian-archive-keyring.gpg", filepath.Join(m.dir, "debian-keys"))
	m.edit("/usr/sbin/policy-rc.d", filepath.Join(m.dir, "policy-rc.d"))
	return m
}

// edit changes the copy of the script; text that is not there any more fails the test.
func (m *machine) edit(old, replacement string) {
	m.t.Helper()
	if !strings.Contains(m.script, old) {
		m.t.Fatalf("the bootstrap script no longer has %q", old)
	}
	m.script = strings.ReplaceAll(m.script, old, replacement)
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(name string) string {
	b, _ := os.ReadFile(filepath.Join(m.dir, name))
	return string(b)
}

func (m *machine) remove(name string) {
	m.t.Helper()
	if err := os.Remove(filepath.Join(m.dir, name)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) link(tool string) {
	m.t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(m.dir, "bin", tool)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) tool(name, body string) {
	m.t.Helper()
	path := filepath.Join(m.dir, "bin", name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) without(name string) {
	m.t.Helper()
	m.remove(filepath.Join("bin", name))
}

// run runs the script; onAPT is what the pretended apt-get does.
func (m *machine) run(onAPT string, args ...string) (output string, ok bool) {
	m.t.Helper()
	path := filepath.Join(m.dir, "repo/contrib/bootstrap/bootstrap")
	if err := os.WriteFile(path, []byte(m.script), 0o700); err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, bash, append([]string{path}, args...)...)
	cmd.Env = []string{
		"PATH=" + filepath.Join(m.dir, "bin"), "HOME=" + m.dir, "XDG_CACHE_HOME=" + filepath.Join(m.dir, "cache"),
		"FORGE_GO_SITE=file://" + filepath.Join(m.dir, "site"), "FORGE_TEST_LOG=" + filepath.Join(m.dir, "apt.log"),
		"FORGE_TEST_POLICY=" + filepath.Join(m.dir, "policy-rc.d"), "FORGE_TEST_ON_APT=" + onAPT,
		"B=" + filepath.Join(m.dir, "bin"),
	}
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

const makesShellcheck = `case "$*" in *install*) printf '#!/bin/sh\n' >"$B/shellcheck"; chmod +x "$B/shellcheck";; esac`

func TestBootstrap(t *testing.T) {
	t.Run("a complete machine is left alone, in silence", func(t *testing.T) {
		m := newMachine(t)
		if out, ok := m.run(""); !ok || out != "" {
			t.Fatalf("ok=%v output=%q, want success and silence", ok, out)
		}
	})

	t.Run("--check names what is missing and installs nothing", func(t *testing.T) {
		m := newMachine(t)
		m.without("shellcheck")
		m.without("git")
		out, ok := m.run("", "--check")
		if ok || !strings.Contains(out, "missing: shellcheck") || !strings.Contains(out, "missing: git") {
			t.Fatalf("ok=%v output=%q", ok, out)
		}
		if log := m.read("apt.log"); log != "" {
			t.Fatalf("apt-get was called:\n%s", log)
		}
	})

	t.Run("a missing package is installed with one update, no recommends, a lock timeout and services kept from starting", func(t *testing.T) {
		m := asRoot(newMachine(t))
		m.without("shellcheck")
		m.write("policy-rc.d", "#!/bin/sh\n# the site's own\n")
		out, ok := m.run(makesShellcheck)
		if !ok {
			t.Fatalf("failed: %s", out)
		}
		log := m.read("apt.log")
		if strings.Count(log, " update") != 1 || !strings.Contains(log, "install -y --no-install-recommends shellcheck") || !strings.Contains(log, "DPkg::Lock::Timeout=") {
			t.Fatalf("apt-get was called so:\n%s", log)
		}
		if got := m.read("policy-rc.d"); !strings.Contains(got, "the site's own") {
			t.Fatalf("the site's policy-rc.d did not come back: %q", got)
		}
		if strings.Contains(log, "No such file") {
			t.Fatalf("no policy-rc.d was in place while apt-get ran:\n%s", log)
		}
	})

	t.Run("a machine without systemd gets it, for the test that boots one", func(t *testing.T) {
		m := asRoot(newMachine(t))
		m.without("systemd")
		out, ok := m.run(`case "$*" in *install*) printf '#!/bin/sh\n' >"$B/systemd"; chmod +x "$B/systemd";; esac`)
		if log := m.read("apt.log"); !ok || !strings.Contains(log, "install -y --no-install-recommends systemd") {
			t.Fatalf("ok=%v output=%q, apt-get was called so:\n%s", ok, out, log)
		}
	})

	t.Run("a machine without the shells and groff gets them, for the tests of completion and man pages", func(t *testing.T) {
		m := asRoot(newMachine(t))
		for _, tool := range []string{"zsh", "fish", "groff"} {
			m.without(tool)
		}
		out, ok := m.run(`case "$*" in *install*) for t in zsh fish groff; do printf '#!/bin/sh\n' >"$B/$t"; chmod +x "$B/$t"; done;; esac`)
		if log := m.read("apt.log"); !ok || !strings.Contains(log, "install -y --no-install-recommends zsh fish groff-base") {
			t.Fatalf("ok=%v output=%q, apt-get was called so:\n%s", ok, out, log)
		}
	})

	t.Run("a machine without Slurm gets it, its accounting, its second version's tools and environment modules, for the tests on real clusters", func(t *testing.T) {
		m := asRoot(newMachine(t))
		tools := []string{"slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd", "ip", "patchelf"}
		for _, tool := range tools {
			m.without(tool)
		}
		m.remove("debian-keys")
		m.remove("modules-init")
		if err := os.MkdirAll(filepath.Join(m.dir, "sbin"), 0o700); err != nil {
			t.Fatal(err)
		}
		// Debian's /usr/sbin is not in everybody's PATH.
		out, ok := m.run(`case "$*" in *install*) for t in ` + strings.Join(tools, " ") + `; do printf '#!/bin/sh\n' >"$B/../sbin/$t"; chmod +x "$B/../sbin/$t"; done; >"$B/../debian-keys"; >"$B/../modules-init";; esac`)
		want := "install -y --no-install-recommends slurmctld slurmd slurm-client munge slurmdbd mariadb-server iproute2 patchelf environment-modules debian-archive-keyring"
		if log := m.read("apt.log"); !ok || !strings.Contains(log, want) {
			t.Fatalf("ok=%v output=%q, apt-get was called so:\n%s", ok, out, log)
		}
	})

	t.Run("a failing apt-get fails it and puts the policy back", func(t *testing.T) {
		m := asRoot(newMachine(t))
		m.without("shellcheck")
		out, ok := m.run("exit 100")
		if ok || !strings.Contains(out, "apt-get update failed") {
			t.Fatalf("ok=%v output=%q", ok, out)
		}
		if got := m.read("policy-rc.d"); got != "" {
			t.Fatalf("our policy-rc.d stayed behind: %q", got)
		}
	})

	t.Run("a package that is still not there after the install is named", func(t *testing.T) {
		m := asRoot(newMachine(t))
		m.without("shellcheck")
		if out, ok := m.run(""); ok || !strings.Contains(out, "still missing: shellcheck") {
			t.Fatalf("ok=%v output=%q", ok, out)
		}
	})

	t.Run("another system is told what to install", func(t *testing.T) {
		m := newMachine(t)
		m.without("shellcheck")
		m.write("os-release", "ID=fedora\n")
		if out, ok := m.run(""); ok || !strings.Contains(out, "no Debian or Ubuntu") || !strings.Contains(out, "shellcheck") {
			t.Fatalf("ok=%v output=%q", ok, out)
		}
	})

	t.Run("without root and sudo the command to type is named", func(t *testing.T) {
		m := newMachine(t)
		m.without("id")
		m.tool("id", "echo 1000")
		m.without("shellcheck")
		if out, ok := m.run(""); ok || !strings.Contains(out, "sudo apt-get install --no-install-recommends shellcheck") {
			t.Fatalf("ok=%v output=%q", ok, out)
		}
	})

	t.Run("a Python that is too old is named, not replaced", func(t *testing.T) {
		m := newMachine(t)
		m.tool("python3", `case "$*" in *venv*) exit 1;; *platform*) echo 3.9.2;; esac`)
		if out, ok := m.run(""); ok || !strings.Contains(out, "python3 is 3.9.2") {
			t.Fatalf("ok=%v output=%q", ok, out)
		}
	})
}

func TestBootstrapGo(t *testing.T) {
	t.Run("an archive with another checksum is refused and nothing is installed", func(t *testing.T) {
		m := newMachine(t)
		m.without("go")
		m.goArchive("echo go1.26.8")
		out, ok := m.run("")
		if ok || !strings.Contains(out, "wrong checksum") {
			t.Fatalf("ok=%v output=%q", ok, out)
		}
		left, _ := filepath.Glob(filepath.Join(m.dir, "cache/forge-ml", "*go*"))
		hidden, _ := filepath.Glob(filepath.Join(m.dir, "cache/forge-ml", ".go*"))
		if len(left)+len(hidden) != 0 {
			t.Fatalf("left behind: %v %v", left, hidden)
		}
	})

	for name, present := range map[string]string{"missing": "", "too old": "echo go1.21.3"} {
		t.Run("where Go is "+name+" the pinned one goes into the cache directory", func(t *testing.T) {
			m := newMachine(t)
			m.without("go")
			if present != "" {
				m.tool("go", present)
			}
			sum := m.goArchive("echo go1.26.8")
			m.script = regexp.MustCompile(`=[0-9a-f]{64}\b`).ReplaceAllString(m.script, "="+sum)
			if out, ok := m.run(""); !ok || !strings.Contains(out, "fetching") {
				t.Fatalf("ok=%v output=%q", ok, out)
			}
			if _, err := os.Stat(filepath.Join(m.dir, "cache/forge-ml/go/bin/go")); err != nil {
				t.Fatal(err)
			}
			if out, ok := m.run(""); !ok || out != "" {
				t.Fatalf("the second time: ok=%v output=%q, want silence", ok, out)
			}
		})
	}

	t.Run("a site that does not answer is named", func(t *testing.T) {
		m := newMachine(t)
		m.without("go")
		if out, ok := m.run(""); ok || !strings.Contains(out, "cannot fetch") {
			t.Fatalf("ok=%v output=%q", ok, out)
		}
	})
}

// asRoot pretends root, whoever runs the test.
func asRoot(m *machine) *machine {
	m.t.Helper()
	m.without("id")
	m.tool("id", "echo 0")
	return m
}

// goArchive puts an archive with a pretended go on the pretended site and returns its sum.
func (m *machine) goArchive(body string) string {
	m.t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	tw := tar.NewWriter(gz)
	script := "#!/bin/sh\n" + body + "\n"
	if err := tw.WriteHeader(&tar.Header{Name: "go/bin/go", Mode: 0o755, Size: int64(len(script))}); err != nil {
		m.t.Fatal(err)
	}
	if _, err := tw.Write([]byte(script)); err != nil {
		m.t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		m.t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		m.t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(m.dir, "site"), 0o700); err != nil {
		m.t.Fatal(err)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		m.write("site/go1.26.8.linux-"+arch+".tar.gz", buf.String())
	}
	sum := sha256.Sum256(buf.Bytes())
	return hex.EncodeToString(sum[:])
}
