// Package mungetest starts a munged of its own for a test: own key, own socket, nothing of the machine's.
package mungetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const patience = 20 * time.Second

// Munged is a running munged.
type Munged struct {
	Socket string
	dir    string
	stop   func()
}

// Start starts one and stops it at the end of the test.
func Start(t testing.TB) *Munged {
	t.Helper()
	// Every user must be able to reach the socket, and Go's own temporary directories are closed to others.
	dir, err := os.MkdirTemp("", "munge")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	key := make([]byte, 128)
	_, _ = rand.Read(key)
	for _, err := range []error{os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "key"), key, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m := &Munged{Socket: filepath.Join(dir, "socket"), dir: dir}
	m.start(t)
	t.Cleanup(func() { m.stop() })
	return m
}

// Restart forgets all that was decoded.
func (m *Munged) Restart(t testing.TB) {
	t.Helper()
	m.stop()
	m.start(t)
}

// Stop leaves nobody at the socket.
func (m *Munged) Stop() { m.stop() }

func (m *Munged) start(t testing.TB) {
	t.Helper()
	path, err := exec.LookPath("munged")
	if err != nil {
		path = "/usr/sbin/munged"
	}
	in := func(name string) string { return filepath.Join(m.dir, name) }
	cmd := exec.Command(path, "--foreground", "--force", "--key-file="+in("key"), "--socket="+m.Socket, "--pid-file="+in("pid"), "--log-file="+in("log"), "--seed-file="+in("seed"))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatalf("munged: %v (contrib/bootstrap/bootstrap installs it)", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	m.stop = func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = os.Remove(m.Socket)
		_ = os.Remove(m.Socket + ".lock")
	}
	deadline := time.After(patience)
	for {
		if _, err := m.encode(0, "ping"); err == nil {
			return
		}
		select {
		case <-ended:
			t.Fatalf("munged ended: %s", said.String())
		case <-deadline:
			t.Fatalf("munged does not answer: %s", said.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Encode makes a credential with this payload as a uid would; root may be any.
func (m *Munged) Encode(t testing.TB, uid int, payload string, options ...string) string {
	t.Helper()
	c, err := m.encode(uid, payload, options...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (m *Munged) encode(uid int, payload string, options ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "munge", append([]string{"--socket=" + m.Socket}, options...)...)
	cmd.Stdin = strings.NewReader(payload)
	if uid != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("munge as uid %d: %w", uid, err)
	}
	return strings.TrimSpace(string(out)), nil
}
