//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

func TestAClusterThatAReloadAddsRunsWhatIsSentThere(t *testing.T) {
	ctx, s := open(t)
	config := filepath.Join(s.State(), "config.yaml")
	before, err := os.ReadFile(config)
	must(t, err)
	runs := submit(t, ctx, s, "--set", "steps=400")
	until(t, ctx, s, runs, "running", func(r api.RunDetail) bool { return r.State == forge.RunRunning })

	must(t, os.WriteFile(config, append(before, "colour: red\n"...), 0o600))
	out, err := s.Daemon(ctx, "reload", "--state-dir", s.State()).CombinedOutput()
	refusedReload(t, out, err, "colour", "hint:")

	more := fmt.Sprintf("  - {name: second, node: host-2, cpu_slots: 1, cpus: 1, memory: 8G, network: none, poll_every: 50ms, run_root: %q}\n", filepath.Join(s.Dir, "runs2"))
	must(t, os.WriteFile(config, append(before, more...), 0o600))
	out, err = s.Daemon(ctx, "reload", "--state-dir", s.State()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "clusters.second: unset → direct") {
		t.Fatalf("forged reload: %v\n%s", err, out)
	}
	there := submit(t, ctx, s, "--cluster", "second", "--set", "steps=3")
	r := until(t, ctx, s, there, "ended", ended)
	if r.State != forge.RunCompleted || r.Attempts[0].Cluster != "second" {
		t.Errorf("%s on %s", r.State, r.Attempts[0].Cluster)
	}
	if r := until(t, ctx, s, runs, "ended", ended); r.State != forge.RunCompleted || r.Attempt != 1 {
		t.Errorf("what ran during the reload is %s, attempt %d", r.State, r.Attempt)
	}

	must(t, os.WriteFile(config, before, 0o600)) // and it cannot leave
	out, err = s.Daemon(ctx, "reload", "--state-dir", s.State()).CombinedOutput()
	refusedReload(t, out, err, "clusters.second", "restart")
	must(t, s.Stop(ctx))
	sound(t, ctx, s)
	out, err = s.Daemon(ctx, "reload", "--state-dir", s.State()).CombinedOutput()
	refusedReload(t, out, err, "no forged serves", "hint:")
}

func refusedReload(t *testing.T, out []byte, err error, words ...string) {
	t.Helper()
	if code := forgedtest.ExitCode(err); code != 2 {
		t.Errorf("exit code %d, want 2: %v\n%s", code, err, out)
	}
	for _, w := range words {
		if !strings.Contains(string(out), w) {
			t.Errorf("it does not say %q:\n%s", w, out)
		}
	}
}

// A request that never ends its body would hold a graceful stop for its whole budget.
func TestASecondTermEndsAStopAtOnce(t *testing.T) {
	ctx, s := open(t)
	runs := submit(t, ctx, s, "--set", "steps=400")
	until(t, ctx, s, runs, "running", func(r api.RunDetail) bool { return r.State == forge.RunRunning })
	conn, err := net.Dial("unix", s.Socket())
	must(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST /v1/runs HTTP/1.1\r\nHost: f\r\nX-API-Key: %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n", s.Key)
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(caseTimeout)))
	first, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(first, "100 Continue") { // forged is reading the body now
		t.Fatalf("%q, %v", first, err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	awaitLog := func(word string) {
		t.Helper()
		for !strings.Contains(s.LogTail(), word) {
			select {
			case <-ctx.Done():
				t.Fatalf("the log never says %q:\n%s", word, s.LogTail())
			case <-tick.C:
			}
		}
	}
	must(t, syscall.Kill(s.Pid(), syscall.SIGTERM))
	awaitLog("waiting for requests") // it does wait, and says for what
	began := time.Now()
	must(t, s.Stop(ctx)) // the second TERM
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("after the second signal it took %s", took)
	}
	if _, err := os.Stat(filepath.Join(s.State(), "forge.db-wal")); err == nil {
		t.Error("the database was not closed")
	}
	must(t, s.Start(ctx))
	if r := until(t, ctx, s, runs, "ended", ended); r.State != forge.RunCompleted || r.Attempt != 1 {
		t.Errorf("the run is %s, attempt %d", r.State, r.Attempt)
	}
	sound(t, ctx, s)
}
