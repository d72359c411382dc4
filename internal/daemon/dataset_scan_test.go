package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/internal/dataset/scanner"
	"github.com/forge-ml/forge-ml/internal/executortest"
)

const textRow = `{"text":"hello there"}` + "\n"

func rowsAt(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// passOver is what a pass over the file finds, as forgectl or a job would send it.
func passOver(t *testing.T, path string) forge.Scanned {
	t.Helper()
	found, err := dataset.Scan(t.Context(), []string{path}, dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return found.Scanned
}

func TestForgedReadsByAChildAndLeavesNothingBehind(t *testing.T) {
	r := start(t, 1)
	added, err := datasets{r.Daemon}.AddDataset(t.Context(), r.op, api.AddDatasetRequest{Name: "d", Paths: []string{rowsAt(t, textRow+textRow)}})
	if err != nil || added.Rows != 2 || added.Kind != forge.KindText {
		t.Fatalf("%+v, %v", added, err)
	}
	_, err = datasets{r.Daemon}.AddDataset(t.Context(), r.op, api.AddDatasetRequest{Name: "d", Paths: []string{rowsAt(t, textRow+"{\n")}})
	if forge.KindOf(err) != forge.KindInvalid || err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("%v", err)
	}
	state := r.live().cfg.StateDir
	for _, glob := range []string{filepath.Join(filepath.Dir(state), "?", "*.db"), filepath.Join(filepath.Dir(state), "[s]", "*")} {
		_, err = datasets{r.Daemon}.AddDataset(t.Context(), r.op, api.AddDatasetRequest{Name: "d", Paths: []string{glob}})
		if err == nil || !strings.Contains(err.Error(), "forged itself") {
			t.Errorf("%s: %v", glob, err)
		}
	}
	left, err := os.ReadDir(filepath.Join(r.live().cfg.StateDir, scansDir))
	if err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestAReadingEndsWithWhoAskedForIt(t *testing.T) {
	r := start(t, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	rows := rowsAt(t, strings.Repeat(`{"text":"`+strings.Repeat("x", 1000)+`"}`+"\n", 50_000))
	began := time.Now()
	_, err := r.scan(ctx, forge.ScanAsk{Paths: []string{rows}}, func(done, _ int64) {
		if done > 0 {
			cancel(errors.New("the client has gone"))
		}
	})
	if !errors.Is(err, context.Canceled) || time.Since(began) > 20*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	if r.scans.in != 0 {
		t.Error("its turn has not ended")
	}
}

func TestReadersHaveTheirTurnOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q turns
		if err := q.enter(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		gone, leave := context.WithCancel(t.Context())
		order := make(chan string, 3)
		enter := func(ctx context.Context, who string) {
			go func() {
				if err := q.enter(ctx, 1); err != nil {
					who += " gone"
				}
				order <- who
			}()
			synctest.Wait() // it stands in the queue
		}
		enter(t.Context(), "first")
		enter(gone, "second")
		enter(t.Context(), "third")
		leave()
		if got := <-order; got != "second gone" {
			t.Errorf("%s", got)
		}
		for _, want := range []string{"first", "third"} {
			q.leave()
			if got := <-order; got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		q.leave()
		if q.in != 0 || len(q.queue) != 0 {
			t.Errorf("%d are in, %d wait", q.in, len(q.queue))
		}
		q.in = 1
		for range maxScansAhead {
			q.queue = append(q.queue, make(chan struct{}))
		}
		if err := q.enter(t.Context(), 1); forge.KindOf(err) != forge.KindUnavailable || err == nil {
			t.Errorf("one too many: %v", err)
		}
	})
}

// soon waits for something to be so.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick, deadline := time.NewTicker(5*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

func TestForgedReadsNothingOfPeopleWhoseJobsAreTheirOwn(t *testing.T) {
	r := start(t, 1)
	path := rowsAt(t, textRow)
	found := passOver(t, path)
	s := *r.live()
	c := *s.clusters["local"]
	c.AsUser = true
	s.clusters = map[forge.ClusterName]*Cluster{"local": &c}
	r.settings.Store(&s)
	_, err := datasets{r.Daemon}.AddDataset(t.Context(), r.op, api.AddDatasetRequest{Name: "d", Paths: []string{path}})
	if forge.KindOf(err) != forge.KindPrecondition || !strings.Contains(forge.HintOf(err), "--on-cluster") {
		t.Errorf("%v (%s)", err, forge.HintOf(err))
	}
	if _, err := (datasets{r.Daemon}).AddDataset(t.Context(), r.op, api.AddDatasetRequest{Name: "d", Paths: []string{path}, Scanned: &found}); err != nil {
		t.Errorf("what somebody else has read is registered all the same: %v", err)
	}
}

func TestWhatSomebodyElseHasReadIsHeldAgainstAllThatCanBeKnown(t *testing.T) {
	r := start(t, 1)
	path := rowsAt(t, textRow+textRow+textRow)
	add := func(change func(*forge.Scanned)) error {
		s := passOver(t, path)
		s.Report.PII = &forge.PIIReport{Rows: 3}
		change(&s)
		_, err := datasets{r.Daemon}.AddDataset(t.Context(), r.op, api.AddDatasetRequest{Name: "d", Paths: []string{path}, Scanned: &s})
		return err
	}
	for name, c := range map[string]struct {
		change func(*forge.Scanned)
		says   string
	}{
		"a directory of forged's":       {func(s *forge.Scanned) { s.Manifest.Root = r.live().cfg.StateDir; s.Manifest.Files[0].Path = "forge.db" }, "forged itself"},
		"a way out of the root":         {func(s *forge.Scanned) { s.Manifest.Files[0].Path = "../x" }, "below the root"},
		"a relative root":               {func(s *forge.Scanned) { s.Manifest.Root = "rows" }, "absolute"},
		"no files":                      {func(s *forge.Scanned) { s.Manifest.Files = nil }, "1 to 10000"},
		"a file twice":                  {func(s *forge.Scanned) { s.Manifest.Files = append(s.Manifest.Files, s.Manifest.Files[0]) }, "each one once"},
		"a digest that is none":         {func(s *forge.Scanned) { s.Manifest.Files[0].SHA256 = "XYZ" }, "hexadecimal"},
		"another size":                  {func(s *forge.Scanned) { s.Manifest.Files[0].Size++ }, "not what was scanned"},
		"a kind that is none":           {func(s *forge.Scanned) { s.Kind = "poem" }, "kind of dataset"},
		"a format that is none":         {func(s *forge.Scanned) { s.Layout.Format = "zip" }, "not a format"},
		"a map and a preset":            {func(s *forge.Scanned) { s.Layout.Preset, s.Layout.Map = "alpaca", map[string]string{"a": "b"} }, "one of them"},
		"no rows":                       {func(s *forge.Scanned) { s.Rows = 0 }, "one row at least"},
		"more duplicates than rows":     {func(s *forge.Scanned) { s.Report.Duplicates.Rows = 3 }, "cannot be"},
		"lengths of other rows":         {func(s *forge.Scanned) { s.Report.Lengths = []forge.LengthBin{{Below: 2, Rows: 1}} }, "hold 1 rows"},
		"personal data in too many":     {func(s *forge.Scanned) { s.Report.PII.RowsFound = 4 }, "4 rows with findings"},
		"personal data that is nowhere": {func(s *forge.Scanned) { s.Report.PII.RowsFound = 1 }, "does not go with its counts"},
		"personal data that is hidden": {func(s *forge.Scanned) {
			s.Report.PII.Counts = []forge.PIICount{{Entity: "email", Confidence: "high", Findings: 2, Rows: 2}}
		}, "does not go with its counts"},
		"a text that moves the terminal": {func(s *forge.Scanned) { s.Columns[0] = "a\x1b[2J" }, "control character"},
	} {
		t.Run(name, func(t *testing.T) {
			err := add(c.change)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; want %s", err, c.says)
			}
		})
	}
	if err := add(func(s *forge.Scanned) { s.Report.By = forge.ScannedByJob }); err != nil {
		t.Fatal(err)
	}
	v, err := datasets{r.Daemon}.DatasetNumber(t.Context(), r.op, forge.Ref{Name: "d", Number: 1})
	if err != nil || v.Scan == nil || v.Scan.By != forge.ScannedByForgectl || v.PII != forge.PIIClean {
		t.Errorf("nobody says for somebody else that they have read: %+v, %v", v.Scan, err)
	}
}

// scansBy submits a scan by a run, lets it end well with what change makes of its files, and returns the run.
func (r *rig) scansBy(t *testing.T, name, path string, change func(*scanner.Result), state forge.RunState) forge.Run {
	t.Helper()
	out, err := datasets{r.Daemon}.ScanDataset(t.Context(), r.op, api.ScanDatasetRequest{AddDatasetRequest: api.AddDatasetRequest{Name: name, Paths: []string{path}, License: "MIT", PIIPolicy: forge.PIIBlock}})
	if err != nil {
		t.Fatal(err)
	}
	key := r.launched(t, out.Run.ID, 1)
	r.fake.Start(key)
	left := scanner.Result{Schema: scanner.Schema, RunID: out.Run.ID, Scanned: passOver(t, path)}
	change(&left)
	text, err := json.Marshal(left)
	if err != nil {
		t.Fatal(err)
	}
	r.fake.Leave(key, forge.StreamScanned, string(text))
	r.fake.Exit(key, executortest.Ending{Output: output(t, map[string]string{"scanned.json": "{}"})}, 0)
	return r.await(t, out.Run.ID, string(state), inState(state))
}

func TestARunReadsADatasetAndRegistersItWithItsEnd(t *testing.T) {
	r := start(t, 1)
	soon(t, "there are nodes", func() bool { return len(r.world.nodeList()) > 0 })
	path := rowsAt(t, textRow)
	run := r.scansBy(t, "d", path, func(*scanner.Result) {}, forge.RunCompleted)
	v, err := datasets{r.Daemon}.DatasetNumber(t.Context(), r.op, forge.Ref{Name: "d", Number: 1})
	if err != nil || v.Rows != 1 || v.License != "MIT" || v.CreatedBy != run.User || v.Scan == nil || v.Scan.By != forge.ScannedByJob {
		t.Fatalf("%+v, %v", v, err)
	}
	if run.Spec.Gang.GPUs() != 1 || run.Spec.Launch != forge.LaunchNode || !run.Spec.NoGPU() {
		t.Errorf("%+v", run.Spec)
	}
	for name, c := range map[string]struct {
		change func(*scanner.Result)
		says   string
	}{
		"of another run":       {func(s *scanner.Result) { s.RunID = "X" }, "is of run"},
		"a schema of tomorrow": {func(s *scanner.Result) { s.Schema = 2 }, "has schema 2"},
		"a digest of nothing":  {func(s *scanner.Result) { s.Scanned.Manifest.Files[0].SHA256 = "" }, "hexadecimal"},
		"forged's own files": {func(s *scanner.Result) {
			s.Scanned.Manifest.Root = r.live().cfg.StateDir
			s.Scanned.Manifest.Files[0].Path = "x"
		}, "forged itself"},
		"fingerprints of others": {func(s *scanner.Result) { s.Fingerprints.Count = 7 }, "fingerprints of 7 rows"},
		"findings that were to be refused": {func(s *scanner.Result) {
			s.Scanned.Report.PII = &forge.PIIReport{Rows: 1, RowsFound: 1, Counts: []forge.PIICount{{Entity: forge.PIIEmail, Field: "text", Confidence: forge.ConfidenceHigh, Findings: 1, Rows: 1}}}
		}, "policy is to refuse"},
	} {
		t.Run(name, func(t *testing.T) {
			got := r.scansBy(t, "other", path, c.change, forge.RunFailed)
			as, err := r.db.AttemptsOf(t.Context(), got.ID)
			if err != nil || got.Reason != forge.EndOutputsInvalid || !strings.Contains(as[0].Detail, c.says) {
				t.Errorf("%s: %s, %v; want %s", got.Reason, as[0].Detail, err, c.says)
			}
			if _, err := (datasets{r.Daemon}).Dataset(t.Context(), r.op, "other"); forge.KindOf(err) != forge.KindNotFound {
				t.Errorf("it is registered all the same: %v", err)
			}
		})
	}
}

func TestARunThatReadsIsSubmittedByDatasetAddAlone(t *testing.T) {
	r := start(t, 1)
	_, err := runs{r.Daemon}.SubmitRun(t.Context(), r.op, api.SubmitRunRequest{Recipe: scanRecipe})
	if forge.KindOf(err) != forge.KindInvalid || !strings.Contains(forge.HintOf(err), "--on-cluster") {
		t.Errorf("%v", err)
	}
	for name, q := range map[string]api.ScanDatasetRequest{
		"redaction by a job":          {AddDatasetRequest: api.AddDatasetRequest{PIIPolicy: forge.PIIRedact}},
		"a copy":                      {AddDatasetRequest: api.AddDatasetRequest{Copy: true}},
		"a cluster that is not there": {Cluster: "moon"},
		"forged's own directory":      {AddDatasetRequest: api.AddDatasetRequest{Paths: []string{r.live().cfg.StateDir}}},
	} {
		if q.Name = "d"; q.Paths == nil {
			q.Paths = []string{rowsAt(t, textRow)}
		}
		if _, err := (datasets{r.Daemon}).ScanDataset(t.Context(), r.op, q); forge.KindOf(err) != forge.KindInvalid || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhereThereAreOnlyGPUsAJobThatReadsSaysSo(t *testing.T) {
	r := startRacked(t, racked("local")...)
	q := api.ScanDatasetRequest{AddDatasetRequest: api.AddDatasetRequest{Name: "d", Paths: []string{rowsAt(t, textRow)}}, DryRun: true}
	_, err := datasets{r.Daemon}.ScanDataset(t.Context(), r.op, q)
	if forge.KindOf(err) != forge.KindPrecondition || err == nil || !strings.Contains(err.Error(), "without a GPU") {
		t.Errorf("%v", err)
	}
	q.Cluster = "local"
	out, err := datasets{r.Daemon}.ScanDataset(t.Context(), r.op, q)
	if err != nil || !strings.Contains(fmt.Sprint(out.Warnings), "holds a GPU") {
		t.Errorf("%v, %v", out.Warnings, err)
	}
}

func TestAScanIsNicedAndEndsWithForged(t *testing.T) {
	dir, r := t.TempDir(), start(t, 1)
	ask := forge.RankConfig{Scan: &forge.ScanAsk{Paths: []string{rowsAt(t, strings.Repeat(textRow, 2_000_000))}}, OutputDir: dir}
	text, err := json.Marshal(ask)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.json")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	in, alive, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.StartProcess(r.self, []string{r.self, "scan", scanner.ChildFlag, config}, &os.ProcAttr{Files: []*os.File{in, nil, nil}})
	if err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	soon(t, "it is niced", func() bool {
		n, err := syscall.Getpriority(syscall.PRIO_PROCESS, p.Pid)
		return err == nil && n == 1 // the system call answers 20 less the nice value
	})
	_ = alive.Close() // as it is when forged has been killed
	if st, err := p.Wait(); err != nil || st.ExitCode() != forge.ExitBadInput {
		t.Errorf("%v, %v", st, err)
	}
}
