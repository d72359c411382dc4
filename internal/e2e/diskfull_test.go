//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

const (
	exitUnavailable = 8
	tmpfsSize       = "12m"
)

func TestAFullDiskRefusesAndLosesNothing(t *testing.T) {
	// A filesystem of its own, owned by the user that forged runs as: root may write past a full disk.
	dir, err := os.MkdirTemp("", "forge")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+tmpfsSize+",uid=65534,gid=65534,mode=0755"); err != nil {
		t.Fatalf("a small tmpfs cannot be mounted (this test needs root): %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	bin := filepath.Join(t.TempDir(), "bin")
	copyBin(t, bin)
	ctx, s := open(t, func(o *forgedtest.Options) {
		o.KeepOnStop = true // it is a mount point
		o.Network = "host"  // an unprivileged user may not be allowed a network namespace
		o.Dir, o.Bin, o.User = dir, bin, &syscall.Credential{Uid: 65534, Gid: 65534}
	})
	kept := submit(t, ctx, s, "--set", "steps=2")
	until(t, ctx, s, kept, "ended", ended)

	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	_, err = s.Ctl(ctx, "run", "submit", "probe", "--set", "steps=2")
	if err == nil { // the write-ahead log may have had room left in its file
		fill(t, ballast)
		for range 200 {
			if _, err = s.Ctl(ctx, "run", "submit", "probe", "--set", "steps=2"); err != nil {
				break
			}
		}
	}
	refused(t, err, exitUnavailable)
	if strings.Contains(err.Error(), "SQL") {
		t.Errorf("the error speaks of our insides: %v", err)
	}
	if r := show(t, ctx, s, kept); r.State != forge.RunCompleted {
		t.Errorf("reading while full: run is %s", r.State)
	}
	must(t, os.Remove(ballast))
	again := submit(t, ctx, s, "--set", "steps=2")
	if r := until(t, ctx, s, again, "ended", ended); r.State != forge.RunCompleted {
		t.Errorf("after space came back: %s (%s)", r.State, r.Reason)
	}
	sound(t, ctx, s)
}

// copyBin puts the binaries where an unprivileged user may execute them.
func copyBin(t *testing.T, to string) {
	t.Helper()
	must(t, os.MkdirAll(to, 0o755))
	for d := to; d != "/" && d != "/tmp"; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	for _, name := range []string{"forged", "forgectl", "proberank"} {
		b, err := os.ReadFile(filepath.Join(binDir(t), name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(to, name), b, 0o755))
	}
}

func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(t, err)
	defer func() { _ = f.Close() }()
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}
