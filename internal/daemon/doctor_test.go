package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/executortest"
)

// came expects how a look came out, and that a bad one says what to do.
func came(t *testing.T, f finding, want api.CheckStatus, says string) {
	t.Helper()
	if f.status != want || !strings.Contains(f.found, says) {
		t.Fatalf("got %s: %s; want %s that says %q", f.status, f.found, want, says)
	}
	if (want == api.CheckWarn || want == api.CheckFail) && f.fix == "" {
		t.Errorf("%s: no fix", f.found)
	}
}

func TestASoundSiteHasNothingToFix(t *testing.T) {
	r := start(t, 2)
	if err := os.MkdirAll(r.clusterList()[0].RunRoot, 0o700); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range r.checks(t.Context()) {
		if seen[c.Name] {
			t.Errorf("%s stands twice", c.Name)
		}
		seen[c.Name] = true
		if c.Status == api.CheckFail || c.Found == "" {
			t.Errorf("%s is %s: %s", c.Name, c.Status, c.Found)
		}
	}
	for _, name := range []string{"clock_skew", "state_disk_free", "disk_latency", "state_lock", "last_backup", "outbox_stuck", "run_root_writable/local", "python_environment/local"} {
		if !seen[name] {
			t.Errorf("there is no check %s", name)
		}
	}
}

func TestALookThatHangsIsUnknownAndIsNotStartedTwice(t *testing.T) {
	var d doctor
	hang, looks := make(chan struct{}), atomic.Int32{}
	c := check{"stuck", 10 * time.Millisecond, func(context.Context) finding { looks.Add(1); <-hang; return fine("back") }}
	came(t, d.run(t.Context(), c), api.CheckUnknown, "no answer within 10ms")
	came(t, d.run(t.Context(), c), api.CheckUnknown, "has not come back")
	if n := looks.Load(); n != 1 {
		t.Errorf("%d looks hang", n)
	}
	close(hang)
	deadline := time.Now().Add(10 * time.Second)
	for d.run(t.Context(), check{"stuck", time.Second, func(context.Context) finding { return fine("back") }}).status != api.CheckOK {
		if time.Now().After(deadline) {
			t.Fatal("a look that came back still counts as away")
		}
	}
}

func TestFaultsOfDisksAndFiles(t *testing.T) {
	t.Run("a full disk", func(t *testing.T) {
		dir := tmpfs(t, "1m")
		f, err := os.Create(filepath.Join(dir, "ballast"))
		if err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := f.Write(make([]byte, 4096)); err != nil {
				break
			}
		}
		_ = f.Close()
		came(t, freeSpace(dir), api.CheckFail, "0 %")
		came(t, syncLatency(dir), api.CheckFail, "no space left")
		came(t, writable(dir), api.CheckFail, "no space left")
	})
	t.Run("a disk without inodes", func(t *testing.T) {
		dir := tmpfs(t, "64m,nr_inodes=4")
		for _, n := range []string{"a", "b", "c"} {
			_ = os.WriteFile(filepath.Join(dir, n), nil, 0o600)
		}
		came(t, freeSpace(dir), api.CheckFail, "0 % of its inodes")
	})
	t.Run("a disk that is mounted read-only", func(t *testing.T) {
		dir := tmpfs(t, "1m")
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		came(t, writable(dir), api.CheckFail, "read-only")
	})
	t.Run("a run root that is gone", func(t *testing.T) {
		f := writable(filepath.Join(t.TempDir(), "absent"))
		came(t, f, api.CheckFail, "no such file")
		if !strings.Contains(f.fix, "mkdir -p") {
			t.Errorf("fix: %s", f.fix)
		}
	})
	t.Run("a slow disk", func(t *testing.T) {
		came(t, judgeLatency("/d", 3*time.Millisecond), api.CheckOK, "3ms")
		came(t, judgeLatency("/d", 80*time.Millisecond), api.CheckWarn, "80ms")
		came(t, judgeLatency("/d", 2*time.Second), api.CheckFail, "2s")
	})
	t.Run("a lock file that was replaced", func(t *testing.T) {
		dir := t.TempDir()
		lock, err := lockState(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = lock.release() }()
		came(t, heldLock(dir), api.CheckOK, "is held")
		if err := os.Remove(filepath.Join(dir, lockFile)); err != nil {
			t.Fatal(err)
		}
		came(t, heldLock(dir), api.CheckFail, "a second forged could serve")
		if err := os.WriteFile(filepath.Join(dir, lockFile), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		came(t, heldLock(dir), api.CheckFail, "it was replaced")
	})
	t.Run("files of interrupted work", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, ".x.tmp"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		came(t, staleFiles(dir, time.Now()), api.CheckOK, "nothing")
		came(t, staleFiles(dir, time.Now().Add(2*time.Hour)), api.CheckWarn, "1 files")
	})
	t.Run("no backup, an old one, a young one", func(t *testing.T) {
		dir := t.TempDir()
		came(t, lastBackupAge(dir, time.Now()), api.CheckWarn, "no backup")
		if err := writeJSONFile(filepath.Join(dir, lastBackupFile), LastBackup{TakenAt: time.Now(), File: "/b"}); err != nil {
			t.Fatal(err)
		}
		came(t, lastBackupAge(dir, time.Now()), api.CheckOK, "/b")
		came(t, lastBackupAge(dir, time.Now().Add(8*24*time.Hour)), api.CheckWarn, "192h")
	})
}

// tmpfs mounts a filesystem of its own; tests run as root, as the one about the full disk does.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("a small tmpfs cannot be mounted (this test needs root): %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func TestPythonEnvironment(t *testing.T) {
	script := func(body string) string {
		path := filepath.Join(t.TempDir(), "python")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ctx := t.Context()
	came(t, pythonEnvironment(ctx, ""), api.CheckWarn, "no interpreter")
	came(t, pythonEnvironment(ctx, filepath.Join(t.TempDir(), "absent")), api.CheckFail, "not an executable")
	came(t, pythonEnvironment(ctx, script(`echo "ModuleNotFoundError: No module named 'peft'" >&2; exit 1`)), api.CheckFail, "No module named 'peft'")
	came(t, pythonEnvironment(ctx, script(`test -z "$FORGE_SECRET" && echo "python 3.11, torch 2"`)), api.CheckOK, "torch 2")
	t.Setenv("FORGE_SECRET", "x")
	came(t, pythonEnvironment(ctx, script(`test -z "$FORGE_SECRET" && echo "torch 2"`)), api.CheckOK, "torch 2")
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	came(t, pythonEnvironment(short, script("exec sleep 60")), api.CheckUnknown, "did not import")
}

func TestWhatWaitsTooLong(t *testing.T) {
	r := start(t, 2)
	run := r.submit(t, script(2))
	r.launched(t, run.ID, 1) // its nodes are known
	r.fake.Start(forge.AttemptKey(run.ID, 1))
	r.await(t, run.ID, "running", inState(forge.RunRunning))
	r.fake.Silence(true)
	if _, err := r.db.For(r.op).RequestCancel(t.Context(), "1", forge.CancelTerm); err != nil {
		t.Fatal(err)
	}
	kick(r.kickOutbox)
	came(t, r.outboxStuck(t.Context(), time.Now()), api.CheckOK, "to signal attempt 1 of run 1")
	f := r.outboxStuck(t.Context(), time.Now().Add(2*time.Minute))
	came(t, f, api.CheckWarn, "to signal attempt 1 of run 1")
	if !strings.Contains(f.fix, "forgectl run events 1") {
		t.Errorf("fix: %s", f.fix)
	}
	came(t, r.outboxStuck(t.Context(), time.Now().Add(time.Hour)), api.CheckFail, "limits 1m0s and 15m0s")
	r.await(t, run.ID, "unknown", func(forge.Run) bool {
		a, ok := r.world.attempt(run.ID)
		return ok && !a.Unknown.IsZero()
	})
	came(t, r.executorUnknown(time.Now()), api.CheckOK, "1 attempts")
	came(t, r.executorUnknown(time.Now().Add(time.Hour)), api.CheckWarn, "stays allocated")
	r.fake.Silence(false)
}

func TestAClockThatWentBackIsSeenByTheNewestEvent(t *testing.T) {
	r := serveOn(t, madeAt(t, time.Now().Add(10*time.Minute)), executortest.NewFake(fakeNode(1)))
	came(t, r.checkClock(t.Context()), api.CheckFail, "the clock went back")
}

func TestACertificateThatEndsSoonIsSaid(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(60 * 24 * time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: end},
		&x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	came(t, certificate(nil, time.Now()), api.CheckOK, "without")
	came(t, certificate([]string{file}, time.Now()), api.CheckOK, "in 59 days")
	came(t, certificate([]string{file}, end.Add(-36*time.Hour)), api.CheckWarn, "in 1 days")
	came(t, certificate([]string{file}, end.Add(time.Hour)), api.CheckFail, "ends")
	came(t, certificate([]string{filepath.Join(t.TempDir(), "absent.pem")}, end), api.CheckFail, "no such file")
}

func TestMoreThanThereIsWasGuaranteedToTenants(t *testing.T) {
	r := start(t, 2)
	r.refreshNodes(t.Context())
	s := tenants{r.Daemon}
	promise := func(tenant string, gpus int) {
		t.Helper()
		if _, err := s.UpdateTenant(t.Context(), r.op, tenant, api.UpdateTenantRequest{GPUs: &gpus}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.CreateTenant(t.Context(), r.op, api.CreateTenantRequest{Name: "lab"}); err != nil {
		t.Fatal(err)
	}
	promise(string(r.op.Tenant), 1)
	promise("lab", 1)
	came(t, r.guarantees(), api.CheckOK, "2 GPUs are guaranteed to tenants, of 2")
	promise("lab", 2)
	came(t, r.guarantees(), api.CheckWarn, "3 GPUs are guaranteed to tenants, of 2")
}
