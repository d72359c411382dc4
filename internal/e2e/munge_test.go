//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/mungetest"
)

// A person on a login node has an account, and no key.
func TestAPersonLogsInByMungeAndWorksWithTheKey(t *testing.T) {
	m := mungetest.Start(t)
	ctx, s := open(t, func(o *forgedtest.Options) {
		o.Listen = "  munge: {enabled: true, socket: " + m.Socket + "}\n"
	})
	tcp, err := s.TCP()
	must(t, err)
	const uid = 4242
	home, err := os.MkdirTemp("", "home")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	must(t, os.Chown(home, uid, uid))
	// Her own copy: the build's directory is not everyone's to see.
	ctl := filepath.Join(home, "forgectl")
	b, err := os.ReadFile(filepath.Join(binDir(t), "forgectl"))
	must(t, err)
	must(t, os.WriteFile(ctl, b, 0o755))
	as := func(args ...string) (string, string, int) {
		t.Helper()
		cmd := exec.CommandContext(ctx, ctl, args...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8"}
		cmd.Dir = home
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
	}

	if _, said, code := as("login", tcp, "--munge", "--socket", m.Socket); code != 3 || !strings.Contains(said, "uid 4242 is no user's") {
		t.Fatalf("before she is a user: exit %d, %s", code, said)
	}
	_, err = s.Ctl(ctx, "user", "create", "ina", "--unix-uid", "4242")
	must(t, err)
	if out, said, code := as("login", tcp, "--munge", "--socket", m.Socket, "--name", "hpc"); code != 0 || !strings.Contains(out, "\tina\tmember\t") {
		t.Fatalf("exit %d, %s%s", code, out, said)
	}
	if out, said, code := as("whoami"); code != 0 || !strings.Contains(out, "user\tina\n") || !strings.Contains(out, "known_by\tkey\n") || !strings.Contains(out, "expires\t") || said != "" {
		t.Errorf("exit %d, %s%s", code, out, said)
	}
	st, err := os.Stat(filepath.Join(home, ".config/forge/config.yaml"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key is kept with mode %v, %v", st.Mode(), err)
	}
	if out, err := s.Ctl(ctx, "key", "list"); err != nil || !strings.Contains(out, "munge login") {
		t.Errorf("the admin sees %s, %v", out, err)
	}
	if out, err := s.Ctl(ctx, "events"); err != nil || !strings.Contains(out, "login") {
		t.Errorf("the trail says %s, %v", out, err)
	}

	t.Run("another name of the server is not taken, and says what to do", func(t *testing.T) {
		if _, said, code := as("login", strings.Replace(tcp, "127.0.0.1", "127.0.0.2", 1), "--munge", "--socket", m.Socket); code == 0 {
			t.Errorf("logged in: %s", said)
		}
	})
	t.Run("without munged it is said that it is not there", func(t *testing.T) {
		if _, said, code := as("login", tcp, "--munge", "--socket", home+"/none"); code != 8 || !strings.Contains(said, "does munged run on this host?") {
			t.Errorf("exit %d, %s", code, said)
		}
	})
	t.Run("a key and munge at once, or a socket without munge, is refused", func(t *testing.T) {
		for _, args := range [][]string{{"login", tcp, "--munge", "--key-file", "x"}, {"login", tcp, "--socket", m.Socket}} {
			if _, said, code := as(args...); code != 2 {
				t.Errorf("%v: exit %d, %s", args, code, said)
			}
		}
	})
	t.Run("when she is disabled her key ends, and no new one is made", func(t *testing.T) {
		_, err = s.Ctl(ctx, "user", "disable", "ina")
		must(t, err)
		if _, _, code := as("whoami"); code != 3 {
			t.Errorf("exit %d", code)
		}
		if _, said, code := as("login", tcp, "--munge", "--socket", m.Socket); code != 3 {
			t.Errorf("exit %d, %s", code, said)
		}
	})
}
