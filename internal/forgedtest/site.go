// Package forgedtest starts a real forged on a state directory of its own and drives it with
// the real forgectl. The end-to-end tests, the crash-point test, the benchmarks and the demo
// all stand on it, so that they show the same program that users run.
package forgedtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Options says which binaries to run and how the one cluster looks.
type Options struct {
	Bin       string // directory with forged, forgectl and proberank
	Forged    string // another forged than Bin's, e.g. one with crash points
	Python    string // interpreter of the training environment; empty: no module recipes
	CPUSlots  int
	Network   string            // host | none
	Env       map[string]string // of ranks
	Extra     string            // more YAML at the top level of config.yaml
	Clusters  string            // YAML of the list of clusters, instead of the one direct cluster; RunRoot says where their runs lie
	Listen    string            // more YAML below listen, indented by two
	ServeEnv  []string          // added to forged's own environment
	PollEvery time.Duration     // default 200ms
	RunRoot   string            // default: below the state directory
	// ArtifactRoot is that of the one direct cluster; "": outputs are not copied.
	ArtifactRoot string
	Dir          string // default: a new directory under TMPDIR, short enough for sockets
	WithProbe    bool   // install the "probe" recipe
	User         *syscall.Credential
	KeepOnStop   bool
}

// Site is one state directory and the daemon on it.
type Site struct {
	Dir    string
	Key    string
	o      Options
	cmd    *exec.Cmd
	exited chan struct{}
	err    error
}

// startTimeout bounds how long forged may take until it is ready.
const startTimeout = 20 * time.Second

// New runs `forged init` and writes the configuration.
func New(ctx context.Context, o Options) (*Site, error) {
	if o.Forged == "" {
		o.Forged = filepath.Join(o.Bin, "forged")
	}
	if o.PollEvery == 0 {
		o.PollEvery = 200 * time.Millisecond
	}
	if o.Network == "" {
		o.Network = "host"
	}
	dir := o.Dir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "forge"); err != nil {
			return nil, err
		}
	}
	s := &Site{Dir: dir, o: o}
	if err := os.MkdirAll(s.RecipesDir(), 0o755); err != nil {
		return nil, err
	}
	if o.WithProbe {
		if err := s.writeProbe(); err != nil {
			return nil, err
		}
	}
	env := ""
	for k, v := range o.Env {
		env += fmt.Sprintf("      %s: %q\n", k, v)
	}
	if env != "" {
		env = "    env:\n" + env
	}
	python := ""
	if o.Python != "" {
		python = fmt.Sprintf("    python: %q\n", o.Python)
	}
	if o.RunRoot != "" {
		python += fmt.Sprintf("    run_root: %q\n", o.RunRoot)
	}
	if o.ArtifactRoot != "" {
		python += fmt.Sprintf("    artifact_root: %q\n", o.ArtifactRoot)
	}
	clusters := o.Clusters
	if clusters == "" {
		clusters = fmt.Sprintf("  - name: local\n    kind: direct\n    node: host-1\n    cpu_slots: %d\n    cpus: %d\n    memory: 64G\n    network: %s\n    poll_every: %s\n    user_programs: true\n%s%s",
			o.CPUSlots, max(o.CPUSlots, 1), o.Network, o.PollEvery, python, env)
	}
	policy := "policy: {preset: fair}\n" // stories are told in the order of arrival, unless they are about another
	if strings.HasPrefix(o.Extra, "policy:") || strings.Contains(o.Extra, "\npolicy:") {
		policy = ""
	}
	cfg := fmt.Sprintf("listen:\n  tcp: 127.0.0.1:0\n%srecipes_dir: %q\n%s%sclusters:\n%s", o.Listen, s.RecipesDir(), policy, o.Extra, clusters)
	keyFile := filepath.Join(dir, "operator.key")
	out, err := s.command(ctx, o.Forged, "init", "--state-dir", s.State(), "--key-file", keyFile).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("forged init: %w\n%s", err, out)
	}
	b, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	s.Key = strings.TrimSpace(string(b))
	return s, s.own(filepath.Join(s.State(), "config.yaml"), cfg)
}

// own writes a file for the user that forged runs as.
func (s *Site) own(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	if s.o.User == nil {
		return nil
	}
	return os.Chown(path, int(s.o.User.Uid), int(s.o.User.Gid))
}

// State is the daemon's state directory, RecipesDir the site's recipes, LogFile the daemon's log.
func (s *Site) State() string      { return filepath.Join(s.Dir, "state") }
func (s *Site) RecipesDir() string { return filepath.Join(s.Dir, "recipes") }
func (s *Site) LogFile() string    { return filepath.Join(s.Dir, "forged.log") }

// Socket is the daemon's unix socket; Server the address that forgectl takes.
func (s *Site) Socket() string { return filepath.Join(s.State(), "forged.sock") }
func (s *Site) Server() string { return "unix://" + s.Socket() }

// RunDir is the directory of a run.
func (s *Site) RunDir(run string) string {
	if s.o.RunRoot != "" {
		return filepath.Join(s.o.RunRoot, run)
	}
	return filepath.Join(s.State(), "runs", run)
}

// As is the same site for whoever holds another key, with a home of its own.
func (s *Site) As(key string) *Site {
	c := *s
	c.Key = key
	return &c
}

// TCP is the loopback address that was bound.
func (s *Site) TCP() (string, error) {
	b, err := os.ReadFile(filepath.Join(s.State(), "forged.addr"))
	return "http://" + strings.TrimSpace(string(b)), err
}

func (s *Site) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir, "LANG=C.UTF-8", "FORGE_SERVER=" + s.Server(), "FORGE_API_KEY=" + s.Key}, s.o.ServeEnv...)
	if s.o.User != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.o.User}
	}
	return cmd
}

// Start runs `forged serve` and waits until it is ready, or says why it is not.
func (s *Site) Start(ctx context.Context) error { return s.StartAs(ctx, s.o.Forged) }

// StartAs runs another program in forged's place, with more environment.
func (s *Site) StartAs(ctx context.Context, program string, env ...string) error {
	log, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	s.cmd = s.command(context.WithoutCancel(ctx), program, "serve", "--state-dir", s.State())
	s.cmd.Env = append(s.cmd.Env, env...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.exited = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { s.err = cmd.Wait(); close(done) }(s.cmd, s.exited)
	return s.WaitReady(ctx)
}

// WaitReady asks /readyz until it says yes, the daemon is gone, or the time is over.
func (s *Site) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	hc := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", s.Socket())
	}}}
	var last error
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://forged/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := hc.Do(req); err == nil {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			last = fmt.Errorf("readyz: %s", bytes.TrimSpace(body))
		} else {
			last = err
		}
		select {
		case <-s.exited:
			return fmt.Errorf("forged ended: %w\n%s", s.err, s.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("forged is not ready: %w\n%s", last, s.LogTail())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// LogTail is the end of the daemon's log.
func (s *Site) LogTail() string {
	b, _ := os.ReadFile(s.LogFile())
	if len(b) > 4000 {
		b = b[len(b)-4000:]
	}
	return string(b)
}

// Pid is the daemon's.
func (s *Site) Pid() int { return s.cmd.Process.Pid }

// Exited is closed when the daemon has ended.
func (s *Site) Exited() <-chan struct{} { return s.exited }

// Kill ends the daemon with SIGKILL and waits until it is gone.
func (s *Site) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// Stop ends the daemon with SIGTERM; what ran goes on.
func (s *Site) Stop(ctx context.Context) error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
		return s.err
	case <-ctx.Done():
		return fmt.Errorf("forged does not stop: %w", ctx.Err())
	}
}

// Ctl runs forgectl and returns what it printed; an error carries its stderr.
func (s *Site) Ctl(ctx context.Context, args ...string) (string, error) {
	cmd := s.command(ctx, filepath.Join(s.o.Bin, "forgectl"), args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("forgectl %s: %w\n%s", strings.Join(args, " "), err, errOut.String())
	}
	return out.String(), nil
}

// CtlJSON runs forgectl with -o json and decodes what it printed.
func (s *Site) CtlJSON(ctx context.Context, v any, args ...string) error {
	out, err := s.Ctl(ctx, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		return fmt.Errorf("forgectl %s: %w in %q", strings.Join(args, " "), err, out)
	}
	return nil
}

// ExitCode is the exit code inside an error of Ctl, -1 when there is none.
func ExitCode(err error) int {
	var x *exec.ExitError
	if errors.As(err, &x) {
		return x.ExitCode()
	}
	return -1
}

// Command is forgectl to be run by the caller, e.g. on the terminal.
func (s *Site) Command(ctx context.Context, args ...string) *exec.Cmd {
	return s.command(ctx, filepath.Join(s.o.Bin, "forgectl"), args...)
}

// Daemon is another forged command on this site, to be run by the caller.
func (s *Site) Daemon(ctx context.Context, args ...string) *exec.Cmd {
	return s.command(ctx, s.o.Forged, args...)
}

// Close ends the daemon and everything that it started, and removes the directory.
func (s *Site) Close() error {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	left, err := Survivors(s.Dir)
	for _, p := range left {
		_ = syscall.Kill(p.Pid, syscall.SIGKILL)
	}
	if s.o.KeepOnStop {
		return err
	}
	return errors.Join(err, os.RemoveAll(s.Dir))
}
