package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

const (
	cliRounds   = 100
	listRounds  = 15
	pendingRuns = 10_000
	idleTime    = 20 * time.Second
	clockTicks  = 100 // USER_HZ, fixed for user space on Linux
)

// cliStart is the CPU time of `forgectl version` against a Go program that prints one line.
func cliStart(ctx context.Context, e env) ([]figure, error) {
	dir, err := os.MkdirTemp("", "forgebench")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	src := filepath.Join(dir, "hello.go")
	if err := os.WriteFile(src, []byte("package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"hello\") }\n"), 0o600); err != nil {
		return nil, err
	}
	hello := filepath.Join(dir, "hello")
	build := exec.CommandContext(ctx, "go", "build", "-o", hello, src)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GO111MODULE=off")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("hello: %w\n%s", err, out)
	}
	var ours, theirs []float64
	for range cliRounds {
		for _, x := range []struct {
			to   *[]float64
			args []string
		}{{&theirs, []string{hello}}, {&ours, []string{filepath.Join(e.bin, "forgectl"), "version"}}} {
			cmd := exec.CommandContext(ctx, x.args[0], x.args[1:]...)
			if err := cmd.Run(); err != nil {
				return nil, err
			}
			*x.to = append(*x.to, float64((cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()).Microseconds())/1000)
		}
	}
	return []figure{atMost("cli_start", median(ours), "ms-cpu", "go-hello", median(theirs), 3)}, nil
}

// crowded is a site whose slots are taken and where 10,000 runs wait.
func crowded(ctx context.Context, e env) (*forgedtest.Site, error) {
	s, err := site(ctx, e)
	if err != nil {
		return nil, err
	}
	if err := occupy(ctx, s); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := fill(ctx, s, pendingRuns); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// withManyPending fills the queue with 10,000 runs and then looks at a listing, and at a daemon
// that has nothing to do.
func withManyPending(ctx context.Context, e env) ([]figure, error) {
	s, err := crowded(ctx, e)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	var list []float64
	for range listRounds {
		cmd := s.Command(ctx, "run", "list", "--limit", strconv.Itoa(pendingRuns))
		var lines lineCounter
		var hints bytes.Buffer // "the newest 10000; …", each time
		cmd.Stdout, cmd.Stderr = &lines, &hints
		began := time.Now()
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("run list: %w: %s", err, &hints)
		}
		list = append(list, float64(time.Since(began).Microseconds())/1000)
		if lines < pendingRuns {
			return nil, fmt.Errorf("run list printed %d lines, want %d", lines, pendingRuns)
		}
	}
	before, err := cpuTicks(s.Pid())
	if err != nil {
		return nil, err
	}
	select { // a daemon with nothing to do is what is measured here
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(idleTime):
	}
	after, err := cpuTicks(s.Pid())
	if err != nil {
		return nil, err
	}
	rss, err := rssMiB(s.Pid())
	if err != nil {
		return nil, err
	}
	percent := float64(after-before) / clockTicks / idleTime.Seconds() * 100
	return []figure{
		atMost("cli_list", median(list), "ms", "limit", 150, 1),
		atMost("idle_cpu", percent, "%core", "limit", 1, 1),
		atMost("idle_rss", rss, "MiB", "limit", 80, 1),
	}, nil
}

type lineCounter int

func (l *lineCounter) Write(b []byte) (int, error) {
	for _, c := range b {
		if c == '\n' {
			*l++
		}
	}
	return len(b), nil
}

var _ io.Writer = (*lineCounter)(nil)

func fill(ctx context.Context, s *forgedtest.Site, n int64) error {
	addr, err := s.TCP()
	if err != nil {
		return err
	}
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients, MaxConnsPerHost: clients}, Timeout: 30 * time.Second}
	defer hc.CloseIdleConnections()
	var left atomic.Int64
	left.Store(n)
	errs := make(chan error, clients)
	for range clients {
		go func() {
			for left.Add(-1) >= 0 {
				if err := post(ctx, hc, addr, s.Key, submitBody); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range clients {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

func cpuTicks(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		return 0, err
	}
	sys, err := strconv.ParseInt(f[12], 10, 64)
	return user + sys, err
}

func rssMiB(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscanf(strings.TrimSpace(rest), "%f kB", &kib); err != nil {
		return 0, err
	}
	return kib / 1024, nil
}
