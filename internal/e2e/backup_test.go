//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/invariant"
)

const (
	exitForgedInvalid  = 2
	exitForgedDamaged  = 3
	exitForgedConflict = 6
)

// forged runs a command of forged and returns what it printed.
func forged(t *testing.T, ctx context.Context, s *forgedtest.Site, args ...string) (string, error) {
	t.Helper()
	cmd := s.Daemon(ctx, args...)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("forged %s: %w\n%s", strings.Join(args, " "), err, errOut.String())
	}
	return string(out), nil
}

// storm submits about 50 runs a second until it is told to stop, and keeps the ids that were acknowledged.
type storm struct {
	mu   sync.Mutex
	acks []forge.RunID
	stop context.CancelFunc
	done sync.WaitGroup
}

func startStorm(t *testing.T, ctx context.Context, s *forgedtest.Site) *storm {
	t.Helper()
	base, err := s.TCP()
	must(t, err)
	ctx, stop := context.WithCancel(ctx)
	st := &storm{stop: stop}
	tick := time.NewTicker(20 * time.Millisecond)
	for range 4 {
		st.done.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				if id, err := post(ctx, base, s.Key); err == nil {
					st.mu.Lock()
					st.acks = append(st.acks, id)
					st.mu.Unlock()
				} else if ctx.Err() == nil {
					t.Errorf("submission during the storm: %v", err)
					return
				}
			}
		})
	}
	return st
}

func (st *storm) acknowledged() []forge.RunID {
	st.mu.Lock()
	defer st.mu.Unlock()
	return append([]forge.RunID(nil), st.acks...)
}

func (st *storm) end() { st.stop(); st.done.Wait() }

func post(ctx context.Context, base, key string) (forge.RunID, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/runs", strings.NewReader(`{"recipe":"probe","params":{"steps":1},"gpus_per_node":2,"priority":1}`))
	if err != nil {
		return "", err
	}
	req.Header.Set("X-API-Key", key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode/100 != 2 {
		return "", fmt.Errorf("%s: %s", resp.Status, body)
	}
	return idIn(body)
}

func idIn(body []byte) (forge.RunID, error) {
	var s api.Submitted
	err := json.Unmarshal(body, &s)
	return s.Run.ID, err
}

// lose ends everything of a site, as a machine that burns down does, and leaves what is outside of its state directory.
func lose(t *testing.T, s *forgedtest.Site) {
	t.Helper()
	s.Kill()
	left, err := forgedtest.Survivors(s.Dir)
	must(t, err)
	for _, p := range left {
		_ = syscall.Kill(p.Pid, syscall.SIGKILL)
	}
	must(t, os.RemoveAll(s.State()))
}

// whole judges what a backup holds by itself: restored beside the site, its invariants hold and its events count on without a gap.
func whole(t *testing.T, ctx context.Context, s *forgedtest.Site, file string, acknowledged []forge.RunID) invariant.Facts {
	t.Helper()
	dir := filepath.Join(s.Dir, "beside-"+strconv.FormatInt(time.Now().UnixNano(), 36))
	_, err := forged(t, ctx, s, "restore", "--state-dir", dir, file)
	must(t, err)
	f, err := invariant.Gather(ctx, dir, acknowledged)
	must(t, err)
	submitted := map[string]int{}
	for i, e := range f.Events {
		if e.Seq != int64(i+1) {
			t.Fatalf("event %d has seq %d: something is missing before it", i+1, e.Seq)
		}
		if e.Type == string(forge.EventRunSubmitted) {
			submitted[e.Run]++
		}
	}
	for _, r := range f.Runs {
		if submitted[r.ID] != 1 {
			t.Errorf("run %s is there with %d events of its submission: half a transaction", r.ID, submitted[r.ID])
		}
	}
	if len(submitted) != len(f.Runs) {
		t.Errorf("%d submissions, %d runs", len(submitted), len(f.Runs))
	}
	for _, id := range acknowledged {
		if submitted[string(id)] == 0 {
			t.Errorf("run %s was acknowledged before the backup and is not in it", id)
		}
	}
	return f
}

func TestABackupOfABusySiteBringsEverythingBackThatWasAcknowledgedBeforeIt(t *testing.T) {
	ctx, s := open(t)
	path := write(t, filepath.Join(s.Dir, "d.jsonl"), goodRow)
	_, err := s.Ctl(ctx, "dataset", "add", "d", path, "--license", "MIT")
	must(t, err)
	var ana api.CreatedKey
	must(t, s.CtlJSON(ctx, &ana, "key", "create", "ana"))
	done := submit(t, ctx, s, "--set", "steps=6", "--register", "bot")
	until(t, ctx, s, done, "ended", ended)
	busy := submit(t, ctx, s, "--gpus-per-node", "2", "--set", "steps=3000", "--set", "step_ms=20", "--set", "save_every=5")
	before := until(t, ctx, s, busy, "saved", atStep(6))
	lastUsed := regexp.MustCompile(`,"last_used_at":"[^"]*"`) // a minute; asking moves it on
	shows := func() string {
		var all strings.Builder
		for _, args := range [][]string{{"dataset", "show", "d"}, {"model", "show", "bot"}, {"run", "show", done}, {"key", "list"}} {
			out, err := s.Ctl(ctx, append(args, "-o", "json")...)
			must(t, err)
			all.WriteString(lastUsed.ReplaceAllString(out, ""))
		}
		return all.String()
	}
	shown := shows()

	// The backup is taken in the middle of a storm.
	st := startStorm(t, ctx, s)
	for len(st.acknowledged()) < 40 {
		select {
		case <-ctx.Done():
			t.Fatal("the storm does not come up")
		case <-time.After(5 * time.Millisecond):
		}
	}
	acknowledged := append(st.acknowledged(), before.ID)
	file := filepath.Join(s.Dir, "site.tar.gz")
	_, err = forged(t, ctx, s, "backup", "--state-dir", s.State(), "--out", file)
	must(t, err)
	after := len(st.acknowledged())
	st.end()
	if after < len(acknowledged) {
		t.Errorf("%d submissions before the backup, %d after it: it kept the writer waiting", len(acknowledged), after)
	}
	if mode := stat(t, file).Mode().Perm(); mode != 0o600 {
		t.Errorf("the backup has mode %o", mode)
	}
	out, err := forged(t, ctx, s, "backup", "verify", file)
	must(t, err)
	for _, w := range []string{"forge.db", "config.yaml", "recipes/probe.yaml", "not in it    run directories of cluster local"} {
		if !strings.Contains(out, w) {
			t.Errorf("verify does not say %q:\n%s", w, out)
		}
	}
	_, err = forged(t, ctx, s, "restore", "--state-dir", s.State(), file)
	refused(t, err, exitForgedConflict, "not empty", "forge.db")

	lose(t, s)
	f := whole(t, ctx, s, file, acknowledged)
	t.Logf("%d runs in the backup, %d acknowledged before it began, %d when it was done", len(f.Runs), len(acknowledged), after)
	_, err = forged(t, ctx, s, "restore", "--state-dir", s.State(), file)
	must(t, err)
	must(t, s.Start(ctx))
	if got := shows(); got != shown {
		t.Errorf("before:\n%s\nafter the restore:\n%s", shown, got)
	}
	_, err = s.Ctl(ctx, "run", "list", "--key", ana.Secret)
	must(t, err)

	// What was at work is held, and says so; it goes on when it is released, and not before.
	held := until(t, ctx, s, busy, "waiting", func(r api.RunDetail) bool { return r.State == forge.RunPending })
	if held.Hold == nil || !strings.Contains(held.Hold.Reason, "restored from a backup of") {
		t.Errorf("not held: %+v", held.Hold)
	}
	next := submit(t, ctx, s, "--set", "steps=4")
	if r := until(t, ctx, s, next, "ended", ended); r.State != forge.RunCompleted {
		t.Errorf("a run after the restore is %s", r.State)
	}
	if r := show(t, ctx, s, busy); r.State != forge.RunPending || r.Attempt != held.Attempt {
		t.Errorf("held and yet %s in attempt %d", r.State, r.Attempt)
	}
	_, err = s.Ctl(ctx, "run", "release", busy)
	must(t, err)
	until(t, ctx, s, busy, "at work again", func(r api.RunDetail) bool {
		return r.State == forge.RunRunning && r.Attempt > held.Attempt && r.Step > 3
	})
	_, err = s.Ctl(ctx, "run", "cancel", busy, "--now")
	must(t, err)
	until(t, ctx, s, busy, "ended", ended)
	sound(t, ctx, s, acknowledged...)
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	st, err := os.Stat(path)
	must(t, err)
	return st
}
