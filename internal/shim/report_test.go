package shim_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

func TestAShimReportsItsStartAndItsEnd(t *testing.T) {
	type said struct{ Attempt, Token string }
	heard := make(chan said, 8)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var s said
		if r.Method == http.MethodPost && r.URL.Path == forge.ReportPath && json.NewDecoder(r.Body).Decode(&s) == nil {
			heard <- s
		}
		w.WriteHeader(http.StatusNoContent)
	})
	secure := httptest.NewTLSServer(handler)
	defer secure.Close()
	sum := sha256.Sum256(secure.Certificate().Raw)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	local := &http.Server{Handler: handler}
	go func() { _ = local.Serve(l) }()
	defer local.Close()

	for _, c := range []struct {
		name string
		to   forge.ReportTo
		want int
	}{
		{"over the socket, and then not over the network too", forge.ReportTo{Socket: socket, URL: secure.URL, Token: "t"}, 2},
		{"over the network, where there is no such socket", forge.ReportTo{Socket: "/no/such/socket", URL: secure.URL, Pin: hex.EncodeToString(sum[:]), Token: "t"}, 2},
		{"to nobody who shows another certificate", forge.ReportTo{URL: secure.URL, Pin: hex.EncodeToString(make([]byte, 32)), Token: "t"}, 0},
		{"and ends as ever where nobody listens", forge.ReportTo{Socket: "/no/such/socket", URL: "http://127.0.0.1:1", Token: "t"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := handedOver(t, 1, 1, program(t, executortest.Act{}), func(l *rundir.LaunchFile) { l.Report = &c.to })
			if code, log := ranIn(t, a, planted(0, 1, "0"), nil); code != 0 {
				t.Fatalf("exit %d\n%s", code, log)
			}
			if c.want > 0 { // the first goes beside the ranks, and may come after their end
				eventually(t, "reports", func() bool { return len(heard) >= c.want-1 })
			}
			if len(heard) > c.want || c.want > 0 && len(heard) == 0 {
				t.Errorf("%d reports, want %d", len(heard), c.want)
			}
			for len(heard) > 0 {
				if s := <-heard; s.Token != "t" || s.Attempt != forge.AttemptKey(forge.RunID(filepath.Base(a.RunDir)), 2) {
					t.Errorf("said %+v", s)
				}
			}
		})
	}
}
