package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// slowRequest is one whose body is still on its way.
type slowRequest struct {
	t    *testing.T
	conn net.Conn
	rest string
}

func (r *rig) slow(t *testing.T) *slowRequest {
	t.Helper()
	conn, err := net.Dial("unix", r.live().cfg.Listen.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	body := `{"user":"late","role":"member"}`
	if _, err := fmt.Fprintf(conn, "POST /v1/keys HTTP/1.1\r\nHost: f\r\nX-API-Key: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", r.secret, len(body), body[:5]); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); r.requests.Load() == 0; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("the request never came")
		}
	}
	return &slowRequest{t: t, conn: conn, rest: body[5:]}
}

// finish sends the rest and returns the answer's status, 0 when there is none.
func (s *slowRequest) finish() int {
	if _, err := fmt.Fprint(s.conn, s.rest); err != nil {
		return 0
	}
	resp, err := http.ReadResponse(bufio.NewReader(s.conn), nil)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func (r *rig) waitStopping(t *testing.T) {
	t.Helper()
	select {
	case <-r.stopping:
	case <-time.After(20 * time.Second):
		t.Fatal("it does not begin to stop")
	}
}

func TestAStopLetsRequestsEndAndRecordsWhy(t *testing.T) {
	log := &lines{}
	r := start(t, 1, func(o *Options) { o.Log = NewLog(log, LogConfig{Level: "info"}).Logger() })
	req := r.slow(t)
	dir := r.live().cfg.StateDir
	r.cancel(errors.New("terminated"))
	r.waitStopping(t)
	if _, err := net.Dial("unix", r.live().cfg.Listen.Socket); err == nil {
		// The listener closes right after; a connection in this instant is not served any more.
		t.Log("one more connection was taken")
	}
	if code := req.finish(); code/100 != 2 {
		t.Errorf("a request that was being answered got %d", code)
	}
	r.stop()
	if _, err := os.Stat(filepath.Join(dir, dbFile+"-wal")); err == nil {
		t.Error("the database was not closed: its write-ahead log is there")
	}
	db, err := store.Open(t.Context(), filepath.Join(dir, dbFile), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all, err := db.For(r.op).Events(t.Context(), store.EventFilter{}, 0)
	if err != nil || len(all) == 0 {
		t.Fatal(err)
	}
	if e := all[len(all)-1]; e.Type != forge.EventDaemonStopped || e.Reason != string(forge.WhySignal) || !strings.Contains(e.Message, "terminated") {
		t.Errorf("the last event is %+v", e)
	}
	started := false
	for _, e := range all {
		started = started || e.Type == forge.EventDaemonStarted
	}
	if !started || !strings.Contains(log.String(), `"why":"terminated"`) {
		t.Errorf("started recorded: %t; the log:\n%s", started, log)
	}
}

func TestASecondSignalHurriesAndStillClosesTheDatabase(t *testing.T) {
	hurry := make(chan struct{})
	log := &lines{}
	r := start(t, 1, func(o *Options) { o.Hurry, o.Log = hurry, NewLog(log, LogConfig{Level: "info"}).Logger() })
	req := r.slow(t)
	dir := r.live().cfg.StateDir
	r.cancel(errors.New("terminated"))
	r.waitStopping(t)
	close(hurry)
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > stopBudget/2 {
		t.Errorf("it took %s", took)
	}
	if code := req.finish(); code != 0 {
		t.Errorf("a request that was cut off got %d", code)
	}
	if _, err := os.Stat(filepath.Join(dir, dbFile+"-wal")); err == nil {
		t.Error("the database was not closed: its write-ahead log is there")
	}
	if !strings.Contains(log.String(), "requests cut off") {
		t.Errorf("the log does not say what was cut off:\n%s", log)
	}
}

func TestALoopThatHangsIsLeftBehindInAHurry(t *testing.T) {
	hurry := make(chan struct{})
	log := &lines{}
	r := start(t, 1, func(o *Options) { o.Hurry, o.Log = hurry, NewLog(log, LogConfig{Level: "info"}).Logger() })
	r.await(t, r.submit(t, script(99)).ID, "served", func(forge.Run) bool { return r.ready.Load() })
	hang := make(chan struct{})
	defer close(hang)
	r.turns.add("hangs")
	r.wg.Go(func() { <-hang })
	close(hurry)
	r.stop()
	if !strings.Contains(log.String(), `"loops":["hangs"]`) {
		t.Errorf("the log does not say what it did not wait for:\n%s", log)
	}
}
