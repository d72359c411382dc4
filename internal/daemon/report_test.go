package daemon

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
)

// looking is a fake that hears of reports.
type looking struct {
	*executortest.Fake
	heard chan forge.ExternalID
}

func (l looking) Look(id forge.ExternalID) { l.heard <- id }

// tell sends a report over the socket and returns the status.
func tell(t *testing.T, r *rig, body string) int {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", r.live().cfg.Listen.Socket)
	}}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Post("http://forged"+forge.ReportPath, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var said bytes.Buffer
	if _, err := said.ReadFrom(res.Body); err != nil || said.Len() > 0 {
		t.Errorf("the answer says %q, %v", &said, err)
	}
	return res.StatusCode
}

func TestAReportOfAShimOnlyMeansLookNow(t *testing.T) {
	heard := make(chan forge.ExternalID, 16)
	r := start(t, 1, func(o *Options) {
		o.Clusters[0].Executor = looking{o.Clusters[0].Executor.(*executortest.Fake), heard}
	})
	run := r.submit(t, script(1))
	r.running(t, run)
	a, _ := r.world.attempt(run.ID)
	key := forge.AttemptKey(run.ID, 1)
	l, err := r.launchOf(t.Context(), run, a)
	if err != nil || l.Report == nil || l.Report.Socket != r.live().cfg.Listen.Socket {
		t.Fatalf("the launch says %+v, %v", l.Report, err)
	}
	// The answer is the same to everybody, and only the attempt's own token is listened to.
	for name, body := range map[string]string{
		"no body":                     ``,
		"no token":                    `{"attempt":"` + key + `"}`,
		"another attempt's token":     `{"attempt":"` + key + `","token":"` + r.reports.token(forge.AttemptKey(run.ID, 2)) + `"}`,
		"an attempt that there isn't": `{"attempt":"` + forge.AttemptKey(run.ID, 2) + `","token":"` + r.reports.token(forge.AttemptKey(run.ID, 2)) + `"}`,
		"more than is read":           `{"attempt":"` + key + `","x":"` + strings.Repeat("x", 4096) + `","token":"` + l.Report.Token + `"}`,
	} {
		if got := tell(t, r, body); got != http.StatusNoContent {
			t.Errorf("%s: %d", name, got)
		}
	}
	select {
	case id := <-heard:
		t.Fatalf("it looked at %s", id)
	default:
	}
	if got := tell(t, r, `{"attempt":"`+key+`","token":"`+l.Report.Token+`"}`); got != http.StatusNoContent {
		t.Errorf("status %d", got)
	}
	select {
	case id := <-heard:
		if id != a.ExternalID {
			t.Errorf("it looked at %s, want %s", id, a.ExternalID)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody looked")
	}
}

func TestTokensOfAttemptsOutliveTheDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), reportFile)
	first, err := reportSecret(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := reportSecret(path)
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("another secret after a restart: %v", err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if other, err := reportSecret(path); err != nil || len(other) != len(first) || bytes.Equal(first, other) {
		t.Errorf("a broken one is not made anew: %v", err)
	}
}

func TestShimsOfClustersThatNobodyListensForAreNotTold(t *testing.T) {
	r := start(t, 1)
	run := r.submit(t, script(1))
	r.launched(t, run.ID, 1)
	a, _ := r.world.attempt(run.ID)
	if to := r.reportTo(a); to != nil {
		t.Errorf("a cluster without a listener reports to %+v", to)
	}
}
