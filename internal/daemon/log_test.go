package daemon

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// TestEachLineAboutAnAttemptCanBeFoundByItsRun tells a story in which nearly every line about an attempt
// is written, and looks at all of them.
func TestEachLineAboutAnAttemptCanBeFoundByItsRun(t *testing.T) {
	log := &lines{}
	r := start(t, 2, func(o *Options) { o.Log = NewLog(log, LogConfig{Level: "debug"}).Logger() })
	r.fake.FailSubmit(errors.New("connection reset"), true)
	run := r.submit(t, script(1))
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	r.await(t, run.ID, "running", inState(forge.RunRunning))
	r.fake.Silence(true) // a request to cancel cannot be handed on
	r.await(t, run.ID, "unknown", func(forge.Run) bool { a, ok := r.world.attempt(run.ID); return ok && !a.Unknown.IsZero() })
	if _, err := r.db.For(r.op).RequestCancel(t.Context(), string(run.ID), forge.CancelTerm); err != nil {
		t.Fatal(err)
	}
	kick(r.kickOutbox)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(log.String(), "outbox row not done"); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("the story did not come to its end:\n%s", log)
		}
	}
	r.fake.Silence(false)
	r.stop()

	seen := map[string]bool{}
	for line := range strings.Lines(log.String()) {
		var f map[string]any
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		message, _ := f["message"].(string)
		_, attempt := f["attempt"]
		if !attempt && f["run"] == nil && !strings.Contains(line, string(run.ID)) {
			continue
		}
		seen[message] = true
		if f["run"] != string(run.ID) || f["run_number"] != float64(run.Number) || f["attempt"] != 1.0 || f["cluster"] != "local" {
			t.Errorf("a line about attempt 1 of run %s: %s", run.ID, line)
		}
	}
	for _, message := range []string{"submit not clean; looking for it", "outbox row not done; it stays"} {
		if !seen[message] {
			t.Errorf("the story has no line %q:\n%s", message, log)
		}
	}
	if strings.Contains(log.String(), r.secret) {
		t.Error("a key is in the log")
	}
}
