package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/internal/api/client"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

var now = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func start(t *testing.T) (*apitest.Fake, *httptest.Server) {
	t.Helper()
	f := apitest.New(now)
	stop := make(chan struct{})
	ts := httptest.NewServer(server.New(f.Services(), server.Options{Log: zerolog.Nop(), Version: "1.2.3", Stop: stop}))
	t.Cleanup(func() { close(stop); ts.Close() })
	return f, ts
}

func connect(t *testing.T, address string, change ...func(*client.Options)) *client.Client {
	t.Helper()
	o := client.Options{Address: address, Key: apitest.MemberSecret}
	for _, c := range change {
		c(&o)
	}
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func addRun(f *apitest.Fake, n int64, state forge.RunState) forge.RunID {
	id := forge.RunID(fmt.Sprintf("01RUN%021d", n))
	f.AddRun(api.RunDetail{Run: forge.Run{ID: id, Number: n, User: "ada", State: state, SubmittedAt: now,
		Spec: forge.RunSpec{Recipe: "lora_sft", Gang: forge.Gang{Nodes: 2, GPUsPerNode: 4}}}})
	return id
}

func TestErrorsComeBackAsTheyWere(t *testing.T) {
	f, ts := start(t)
	c := connect(t, ts.URL)
	addRun(f, 1, forge.RunPending)
	for _, k := range forge.Kinds {
		t.Run(string(k), func(t *testing.T) {
			f.Fail("Run", &forge.Error{Kind: k, Field: "params.lora.r", Err: errors.New("what is wrong"), Hint: "what to do"})
			_, err := c.Run(t.Context(), "1")
			var e *forge.Error
			if !errors.As(err, &e) || e.Kind != k {
				t.Fatalf("got %v", err)
			}
			if k == forge.KindInternal {
				if strings.Contains(err.Error()+e.Hint, "what") {
					t.Errorf("internal text came through: %v, %s", err, e.Hint)
				}
				return
			}
			if e.Field != "params.lora.r" || e.Err.Error() != "what is wrong" || forge.HintOf(err) != "what to do" {
				t.Errorf("got %+v", e)
			}
		})
	}
	t.Run("a wrong key", func(t *testing.T) {
		if _, err := connect(t, ts.URL, func(o *client.Options) { o.Key = "wrong" }).Keys(t.Context(), api.Listing{}); forge.KindOf(err) != forge.KindUnauthorized {
			t.Errorf("got %v", err)
		}
	})
}

func TestNobodyThere(t *testing.T) {
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone.sock")
	l, err := net.Listen("unix", gone)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for name, c := range map[string]struct{ address, says string }{
		"no socket":             {"unix://" + filepath.Join(dir, "none.sock"), "no such socket"},
		"a socket without ears": {gone, "refused"},
		"a closed port":         {closed.URL, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := connect(t, c.address).Keys(t.Context(), api.Listing{})
			if forge.KindOf(err) != forge.KindUnavailable || !strings.Contains(err.Error(), c.says) || !strings.Contains(forge.HintOf(err), "forged serve") {
				t.Errorf("got %v, hint %q", err, forge.HintOf(err))
			}
		})
	}
	t.Run("a server that does not answer", func(t *testing.T) {
		stop := make(chan struct{})
		ts := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-stop:
			case <-r.Context().Done():
			}
		}))
		defer ts.Close()
		defer close(stop)
		_, err := connect(t, ts.URL, func(o *client.Options) { o.Timeout = 50 * time.Millisecond }).Keys(t.Context(), api.Listing{})
		if forge.KindOf(err) != forge.KindUnavailable || !strings.Contains(err.Error(), "in time") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("somebody else's server", func(t *testing.T) {
		for status, kind := range map[int]forge.Kind{200: forge.KindUnavailable, 404: forge.KindUnavailable, 403: forge.KindForbidden, 502: forge.KindUnavailable, 500: forge.KindUnavailable, 301: forge.KindUnavailable} {
			ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				w.Header().Set("Location", "http://example.invalid/")
				w.WriteHeader(status)
			}))
			if _, err := connect(t, ts.URL).Keys(t.Context(), api.Listing{}); forge.KindOf(err) != kind {
				t.Errorf("%d: got %v", status, err)
			}
			ts.Close()
		}
	})
	t.Run("an address that is none", func(t *testing.T) {
		for _, a := range []string{"", "forged.sock", "unix://relative", "ftp://x", "http://"} {
			if _, err := client.New(client.Options{Address: a}); forge.KindOf(err) != forge.KindInvalid {
				t.Errorf("%q: got %v", a, err)
			}
		}
	})
	t.Run("a caller who gives up is not an unavailable server", func(t *testing.T) {
		_, ts := start(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := connect(t, ts.URL).Keys(ctx, api.Listing{}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestOverAUnixSocket(t *testing.T) {
	f := apitest.New(now)
	dir, err := os.MkdirTemp("", "fc") // short: a socket's path holds 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "forged.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: server.New(f.Services(), server.Options{Version: "1.2.3"})}
	go srv.Serve(l)
	defer srv.Close()
	for _, address := range []string{path, "unix://" + path} {
		v, err := connect(t, address).Version(t.Context())
		if err != nil || v.Version != "1.2.3" {
			t.Errorf("%s: got %+v, %v", address, v, err)
		}
	}
}

func TestEveryMethod(t *testing.T) {
	f, ts := start(t)
	c, ctx := connect(t, ts.URL), t.Context()
	id := addRun(f, 1, forge.RunCompleted)
	f.WriteLog(id, 1, 3, "stderr", "hello")
	f.ChangeRun(1, func(d *api.RunDetail) {
		d.Attempt, d.Attempts = 1, []forge.Attempt{{Number: 1, State: forge.AttemptEnded}}
	})
	f.SetCheckpoints(id, forge.Checkpoint{Step: 7})
	f.SetMetrics(id, api.Metrics{Step: 7, Keys: []string{"loss", "lr"}, Curves: map[string][]forge.MetricBucket{"loss": {{Step: 7}}, "lr": {}}})
	f.AddEvent(forge.Event{Run: id, Number: 1, Message: "hi"})
	f.SetNodes(api.NodeView{Node: forge.Node{Name: "n1"}, FreeGPUs: 2})
	f.SetClusters(api.ClusterView{Cluster: forge.Cluster{Name: "local", Kind: "direct", Paused: &forge.Pause{Reason: "x", Since: now}}, FreeGPUs: 2})
	f.SetQueue(api.Queue{Others: api.OthersLoad{GPUs: 8}})
	must := func(err error, ok bool, what string) {
		t.Helper()
		if err != nil || !ok {
			t.Errorf("%s: %v, as expected: %v", what, err, ok)
		}
	}
	dv, err := c.AddDataset(ctx, api.AddDatasetRequest{Name: "chat", Paths: []string{"/d"}, License: "MIT"}, client.NewOnce())
	must(err, dv.License == "MIT" && dv.Number == 1, "AddDataset")
	scan, err := c.ScanDataset(ctx, api.ScanDatasetRequest{AddDatasetRequest: api.AddDatasetRequest{Name: "read", Paths: []string{"/d"}}, DryRun: true})
	must(err, scan.Run.Spec.Scan != nil && scan.Run.Spec.Scan.Name == "read", "ScanDataset")
	ds, err := c.Datasets(ctx, api.Listing{})
	must(err, len(ds.Items) == 1, "Datasets")
	d, err := c.Dataset(ctx, "chat")
	must(err, d.Name == "chat", "Dataset")
	one, err := c.DatasetVersion(ctx, "chat")
	must(err, one.Number == 1 && one.ID == dv.ID, "DatasetVersion")
	one, err = c.EditDataset(ctx, "chat@1", api.EditDatasetRequest{Description: new("of the desk")})
	must(err, one.Description == "of the desk" && one.License == "MIT", "EditDataset")
	checked, err := c.VerifyDataset(ctx, "chat@1", client.NewOnce())
	must(err, checked.Intact && checked.Name == "chat@1", "VerifyDataset")
	bytes := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("12345678")), nil }
	const sum = "ef797c8118f02dfb649607dd5d3f8c7623048c9c063d532cc95c5ed7a898a64f"
	sent, err := c.AddDatasetFile(ctx, sum, 8, bytes)
	must(err, sent.Bytes == 8, "AddDatasetFile")
	prints, err := c.AddDatasetRows(ctx, "chat@1", sum, 8, bytes)
	must(err, prints.Rows == 1, "AddDatasetRows")
	g, err := c.DatasetLineage(ctx, "chat@1", api.LineageQuery{Down: true, Limit: 5})
	must(err, len(g.Nodes) == 1 && g.Root == string(dv.ID), "DatasetLineage")
	went, err := c.DatasetImpact(ctx, sum)
	must(err, went.Digest == sum, "DatasetImpact")
	if _, err := c.WaiveDataset(ctx, "chat@1", "x"); forge.KindOf(err) != forge.KindForbidden {
		t.Errorf("a member waives: %v", err)
	}
	if _, err := c.DeleteDataset(ctx, "chat@1", api.DeleteDatasetRequest{}); forge.KindOf(err) != forge.KindForbidden {
		t.Errorf("a member deletes: %v", err)
	}
	if _, err := c.DatasetVersion(ctx, "chat@production"); forge.KindOf(err) != forge.KindInvalid {
		t.Errorf("a label of a dataset: %v", err)
	}
	mv, err := c.ImportModel(ctx, api.ImportModelRequest{Name: "tiny", Path: "/m"}, client.NewOnce())
	must(err, mv.Kind == forge.ModelBase, "ImportModel")
	once := client.NewOnce()
	defer f.UnderWay(forge.Principal{Tenant: "T1", UserID: "U1", Once: forge.Once{Op: "add-dataset", Key: string(once)}})()
	f.SetProgress(1, 2)
	far, err := c.Progress(ctx, once)
	must(err, far.Op == "add-dataset" && far.BytesDone == 1 && far.BytesTotal == 2, "Progress")
	mv, err = c.RegisterModel(ctx, api.RegisterModelRequest{Name: "bot", Run: "1"}, client.NewOnce())
	must(err, mv.Lineage.RunNumber == 1, "RegisterModel")
	ms, err := c.Models(ctx, api.Listing{Limit: 1})
	must(err, len(ms.Items) == 1 && ms.Next != "", "Models, the first page")
	ms, err = c.Models(ctx, api.Listing{Cursor: ms.Next, Limit: 1})
	must(err, len(ms.Items) == 1 && ms.Items[0].Name == "tiny", "Models")
	m, err := c.Model(ctx, "bot")
	must(err, m.Name == "bot", "Model")
	_, err = c.PromoteModel(ctx, "bot@1", api.PromoteRequest{}, client.NewOnce())
	must(err, true, "PromoteModel")
	_, err = c.PromoteModel(ctx, "bot@candidate", api.PromoteRequest{}, client.NewOnce())
	var refused *forge.GateRefusal
	if !errors.As(err, &refused) || refused.Report.Verdict != forge.GateMissing || forge.KindOf(err) != forge.KindPrecondition || forge.HintOf(err) == "" {
		t.Errorf("a gate that has not passed: %v", err)
	}
	alias, err := c.SetModelAlias(ctx, "bot", "best")
	must(err, alias.Version == 1, "SetModelAlias")
	aliases, err := c.ModelAliases(ctx, "bot")
	must(err, len(aliases) == 1, "ModelAliases")
	_, err = c.RemoveModelAlias(ctx, "bot", "best")
	must(err, true, "RemoveModelAlias")
	_, err = c.ArchiveModel(ctx, "bot@1", api.ArchiveRequest{Reason: "x"})
	must(err, true, "ArchiveModel")
	if _, err := c.RollBackModel(ctx, "bot", api.RollbackRequest{To: 1, Reason: "x"}, client.NewOnce()); forge.KindOf(err) != forge.KindForbidden {
		t.Errorf("a member rolls back: %v", err)
	}
	past, err := c.ModelHistory(ctx, "bot", api.Listing{})
	must(err, len(past.Items) == 2, "ModelHistory")
	held, err := c.VerifyModelHistory(ctx, "bot")
	must(err, held.Intact, "VerifyModelHistory")
	gates, err := c.Gates(ctx)
	must(err, len(gates) == 1, "Gates")
	_, err = c.Gate(ctx, "default")
	must(err, true, "Gate")
	prio := 0
	s, err := c.SubmitRun(ctx, api.SubmitRunRequest{Recipe: "lora_sft", Priority: &prio, TimeLimit: forge.Duration(90 * time.Minute), Set: []string{"lora.r=4"}})
	must(err, s.Run.Number == 2 && s.Run.Spec.Priority == 0 && s.Run.Spec.TimeLimit.D() == 90*time.Minute && s.Position == 1, "SubmitRun")
	r, err := c.Run(ctx, "2")
	must(err, r.Number == 2, "Run")
	rs, err := c.Runs(ctx, api.RunFilter{States: []forge.RunState{forge.RunPending, forge.RunCompleted}, User: "ada", Limit: 1})
	must(err, len(rs.Items) == 1 && rs.Items[0].Number == 2, "Runs")
	rows, err := c.RunRows(ctx, api.RunFilter{Limit: 1})
	must(err, len(rows.Items) == 1 && rows.Items[0].Number == 2, "RunRows, the first page")
	rows, err = c.RunRows(ctx, api.RunFilter{Cursor: rows.Next})
	must(err, len(rows.Items) == 1 && rows.Items[0].Number == 1 && rows.Items[0].GPUs == 8, "RunRows")
	hr, err := c.HoldRun(ctx, "2", "the data is late")
	must(err, hr.Hold != nil && hr.Hold.Reason == "the data is late", "HoldRun")
	hr, err = c.ReleaseRun(ctx, "2")
	must(err, hr.Hold == nil && hr.Number == 2, "ReleaseRun")
	_, err = c.RunSeat(ctx, "1", 3)
	must(nil, forge.KindOf(err) == forge.KindPrecondition, "RunSeat where nothing runs")
	_, err = c.InterruptRun(ctx, "2", forge.InterruptTimeout)
	must(nil, forge.KindOf(err) == forge.KindPrecondition, "InterruptRun of one that waits")
	_, err = c.ResumeCluster(ctx, "a/../b")
	must(nil, forge.KindOf(err) == forge.KindForbidden, "ResumeCluster of a member")
	cls, err := c.Clusters(ctx)
	must(err, len(cls) == 1 && cls[0].Kind == "direct" && cls[0].FreeGPUs == 2, "Clusters")
	cl, err := connect(t, ts.URL, func(o *client.Options) { o.Key = apitest.OperatorSecret }).ResumeCluster(ctx, "local")
	must(err, cl.Name == "local" && cl.Paused == nil, "ResumeCluster")
	cr, err := c.CancelRun(ctx, "2", forge.CancelSave)
	must(err, cr.Cancel == forge.CancelSave, "CancelRun")
	s, err = c.RetryRun(ctx, "1")
	must(err, s.Run.Parent == id, "RetryRun")
	w, err := c.Why(ctx, string(id))
	must(err, w.Run == 1 && w.Sentence != "", "Why")
	l, err := c.Log(ctx, "1", api.LogQuery{Rank: 3, Attempt: 1, Stream: "stderr", Offset: 1, Max: 2})
	must(err, l.Data == "el" && l.Next == 3 && !l.End, "Log")
	me, err := c.Metrics(ctx, "1", api.MetricsQuery{Keys: []string{"loss"}, From: 1, To: 9, Points: 5})
	must(err, len(me.Curves) == 1 && me.Step == 7, "Metrics")
	f.ChangeRun(1, func(d *api.RunDetail) { d.Attempt = 1 })
	added, err := c.AddMetrics(ctx, "1", api.AddMetricsRequest{Attempt: 1, Points: []api.MetricPoint{{Step: 8, Values: map[string]*float64{"loss": new(2.0), "nan": nil}}}})
	must(err, added.Points == 1 && added.Values == 1 && added.Dropped == 1, "AddMetrics")
	cs, err := c.Checkpoints(ctx, "1")
	must(err, len(cs) == 1 && cs[0].Step == 7, "Checkpoints")
	es, err := c.RunEvents(ctx, "1", 0, 10)
	must(err, len(es) == 1 && es[0].Message == "hi", "RunEvents")
	q, err := c.Queue(ctx)
	must(err, q.Others.GPUs == 8, "Queue")
	ns, err := c.Nodes(ctx)
	must(err, len(ns) == 1 && ns[0].FreeGPUs == 2, "Nodes")
	k, err := c.CreateKey(ctx, api.CreateKeyRequest{Name: "ci"})
	must(err, k.Secret != "" && k.Role == forge.RoleMember, "CreateKey")
	ks, err := c.Keys(ctx, api.Listing{})
	must(err, len(ks.Items) == 2, "Keys")
	rk, err := c.RevokeKey(ctx, string(k.ID), forge.WhyLeaked)
	must(err, rk.RevokedAt != nil, "RevokeKey")
	v, err := c.Version(ctx)
	must(err, v.Version == "1.2.3", "Version")
	_, err = c.Run(ctx, "a/../b?c")
	must(nil, forge.KindOf(err) == forge.KindNotFound, "a name with a slash stays a name")
}

func TestEveryRunPages(t *testing.T) {
	f, ts := start(t)
	const total = 6001
	for n := int64(1); n <= total; n++ {
		addRun(f, n, forge.RunPending)
	}
	c := connect(t, ts.URL)
	for limit, want := range map[int]int{0: total, 1: 1, 2500: 2500, 2501: 2501, 5000: 5000, 9000: total} {
		t.Run(fmt.Sprint("limit ", limit), func(t *testing.T) {
			next, n := int64(total), 0
			for r, err := range c.EveryRunRow(t.Context(), api.RunFilter{Limit: limit}) {
				if err != nil || r.Number != next {
					t.Fatalf("got %d, %v; want %d", r.Number, err, next)
				}
				next--
				n++
			}
			if n != want {
				t.Errorf("got %d rows, want %d", n, want)
			}
		})
	}
	t.Run("an error in the middle ends it", func(t *testing.T) {
		pages := 0
		f.Hook(func(m string) {
			if m == "Runs" {
				if pages++; pages == 2 {
					f.Fail("Runs", forge.Errorf(forge.KindUnavailable, "", "gone"))
				}
			}
		})
		var last error
		n := 0
		for _, err := range c.EveryRunRow(t.Context(), api.RunFilter{}) {
			if last = err; err == nil {
				n++
			}
		}
		if forge.KindOf(last) != forge.KindUnavailable || n != 2500 {
			t.Errorf("got %d rows and %v", n, last)
		}
	})
}

func TestEventsMissNothingOverLostConnections(t *testing.T) {
	f := apitest.New(now)
	inner := server.New(f.Services(), server.Options{})
	var conns sync.Map
	ts := httptest.NewUnstartedServer(inner)
	ts.Config.ConnState = func(c net.Conn, st http.ConnState) {
		if st == http.StateActive {
			conns.Store(c, true)
		}
	}
	ts.Start()
	defer ts.Close()
	const total = 400
	go func() {
		for i := range total {
			f.AddEvent(forge.Event{Message: fmt.Sprint(i)})
			if i%50 == 49 { // every line is cut, as a restarted proxy would
				conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); conns.Delete(c); return true })
				<-time.After(5 * time.Millisecond)
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got []int64
	for e, err := range connect(t, ts.URL).Events(ctx, "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, e.Seq); len(got) == total {
			break
		}
	}
	want := make([]int64, total)
	for i := range want {
		want[i] = int64(i) + 1
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d events: %v", len(got), got)
	}
	cancel()
	ts.CloseClientConnections()
}

func TestEventsComeOnceAndAskForTheRest(t *testing.T) {
	var asked []string
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get(api.HeaderLastEventID))
		w.Header().Set("Content-Type", "text/event-stream")
		n := len(asked) // the second answer repeats what the first one said
		fmt.Fprintf(w, ": hello\n\nid: 1\ndata: {\"seq\":1}\n\nid: %d\ndata: {\"seq\":%d}\n\n", n+1, n+1)
	}))
	defer ts.Close()
	var got []int64
	for e, err := range connect(t, ts.URL).Events(t.Context(), "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, e.Seq); e.Seq == 3 {
			break
		}
	}
	if !slices.Equal(got, []int64{1, 2, 3}) || !slices.Equal(asked, []string{"0", "2"}) {
		t.Errorf("got %v, asked after %v", got, asked)
	}
}

func TestEventsEnd(t *testing.T) {
	t.Run("with a refusal", func(t *testing.T) {
		_, ts := start(t)
		var last error
		for _, err := range connect(t, ts.URL).Events(t.Context(), "9", 0) {
			last = err
		}
		if forge.KindOf(last) != forge.KindNotFound {
			t.Errorf("got %v", last)
		}
	})
	t.Run("when the server is away for longer than the patience", func(t *testing.T) {
		ts := httptest.NewServer(http.NotFoundHandler())
		ts.Close()
		var last error
		for _, err := range connect(t, ts.URL, func(o *client.Options) { o.Patience = 200 * time.Millisecond }).Events(t.Context(), "", 0) {
			last = err
		}
		if forge.KindOf(last) != forge.KindUnavailable {
			t.Errorf("got %v", last)
		}
	})
	t.Run("without an error when the context does", func(t *testing.T) {
		f, ts := start(t)
		f.AddEvent(forge.Event{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for _, err := range connect(t, ts.URL).Events(ctx, "", 0) {
			if err != nil {
				t.Error(err)
			}
			cancel()
		}
	})
}
