// Package systemd_test runs the installer below a DESTDIR, where it only copies. What it does to a real
// host is shown by internal/e2e, on a systemd of its own.
package systemd_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// programs is a directory with what was built, as far as an installer looks.
func programs(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, n), []byte("#!/bin/sh\n# "+n+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func install(t *testing.T, dest string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "./install", args...)
	cmd.Env = append(os.Environ(), "DESTDIR="+dest)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestBelowADestdirItCopiesAndTouchesNothingElse(t *testing.T) {
	dest, bin := t.TempDir(), programs(t, "forged", "forgectl")
	for range 2 { // again and again
		if out, err := install(t, dest, "--bin", bin, "--prefix", "/opt/forge"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for path, mode := range map[string]os.FileMode{
		"opt/forge/bin/forged": 0o755, "opt/forge/bin/forgectl": 0o755,
		"etc/systemd/system/forged.service": 0o644, "etc/systemd/system/forge-shim.socket": 0o644,
		"etc/systemd/system/forge-shim@.service": 0o644, "etc/systemd/system/forge-ranks.slice": 0o644,
		"usr/lib/sysusers.d/forge-ml.conf": 0o644, "opt/forge/share/forge-ml/config.yaml": 0o600,
	} {
		st, err := os.Stat(filepath.Join(dest, path))
		if err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %o", path, st, err, mode)
		}
	}
	for _, unit := range []string{"forged.service", "forge-shim@.service"} {
		b, err := os.ReadFile(filepath.Join(dest, "etc/systemd/system", unit))
		if err != nil || !strings.Contains(string(b), "ExecStart=/opt/forge/bin/forged ") || strings.Contains(string(b), "@BINDIR@") {
			t.Errorf("%s does not start the program of the prefix (%v):\n%s", unit, err, b)
		}
	}
	for _, path := range []string{"var/lib/forge", "home"} {
		if _, err := os.Stat(filepath.Join(dest, path)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was made: a package does not ship it", path)
		}
	}
	left, err := filepath.Glob(filepath.Join(dest, "*/*/*/*.new"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestTheInstallerSaysWhatItMisses(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"a program that was not built":    {[]string{"--bin", programs(t, "forged")}, "forgectl is not there: make build"},
		"an unknown argument":             {[]string{"--force"}, "unknown argument --force"},
		"a relative prefix":               {[]string{"--prefix", "opt"}, "want an absolute path"},
		"a prefix that would break units": {[]string{"--prefix", "/opt/a|b c"}, "plain characters"},
	} {
		t.Run(name, func(t *testing.T) {
			dest := t.TempDir()
			if out, err := install(t, dest, c.args...); err == nil || !strings.Contains(out, c.says) {
				t.Errorf("%v: %s", err, out)
			}
			if left, _ := os.ReadDir(dest); len(left) > 0 {
				t.Errorf("it began all the same: %v", left)
			}
		})
	}
}
