package invariant

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver of the tables

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/daemon"
	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/store"
)

// Facts is all that Judge looks at.
type Facts struct {
	Acknowledged []forge.RunID // submissions that a client was told are durable
	Runs         []Run
	Attempts     []Attempt
	Allocations  []Allocation
	Claims       []Claim
	Metrics      []Metric
	Versions     []Version
	Lines        []Line // of all histories, each model's in order
	Events       []Event
	Dirs         map[forge.RunID]Dir
	Procs        []Proc
	Reasons      map[forge.RunID]string // what the scheduler says of each pending run
	Plans        [2]string              // the same snapshot planned twice
	PlanFault    string                 // what CheckPlan says of it

	runDirs map[string]string // where attempts lie that were launched
}

// Run, Attempt, … are rows, as far as the invariants are about them.
type (
	Run struct {
		ID, Tenant, State, Register, Model string
		Attempt, GPUs                      int
	}
	Attempt struct {
		Run, State, Reason, ResumeFrom, Intent, Cluster string
		Number, Ranks, Exits                            int
		ResumeStep                                      int64
		HandedOver                                      bool
	}
	Allocation struct {
		Cluster, Node, Run string
		Slot, Attempt      int
	}
	Claim struct {
		Cluster, Node, For, From string
		Slot                     int
	}
	Metric struct {
		Run     string
		Step    int64
		Attempt int
		Loss    float64
		Eval    bool
	}
	Version struct{ ID, Model, Tenant, Stage, Run string }
	Event   struct {
		Seq               int64
		Type, Run, Tenant string
	}
	// Dir is what lies in a run directory.
	Dir struct {
		Fence    int
		Starts   []Start          // from proberank: each time a rank really began
		Verified map[string]int64 // checkpoint directories that verify, and their step; the branch point's too
	}
	Start struct{ Attempt, Rank int }
	Proc  struct {
		Pid, Attempt int
		Run          string
	}
)

// Gather reads the facts of one site. Processes are read first and looked at again at the end:
// one that ended in between was no violation.
func Gather(ctx context.Context, stateDir string, acknowledged []forge.RunID) (Facts, error) {
	f := Facts{Acknowledged: acknowledged, Dirs: map[forge.RunID]Dir{}, Reasons: map[forge.RunID]string{}}
	procs, err := marked()
	if err != nil {
		return f, err
	}
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(stateDir, "forge.db")+"?mode=ro&_busy_timeout=5000")
	if err != nil {
		return f, err
	}
	defer func() { _ = db.Close() }()
	if err := f.readTables(ctx, db); err != nil {
		return f, err
	}
	for _, r := range f.Runs {
		dir := cmp.Or(f.runDirs[r.ID], filepath.Join(stateDir, "runs", r.ID))
		d, err := readDir(ctx, dir, forge.RunID(r.ID))
		if err != nil {
			return f, err
		}
		f.Dirs[forge.RunID(r.ID)] = d
	}
	again, err := marked()
	if err != nil {
		return f, err
	}
	for p := range procs {
		if again[p] && f.knows(p.Run) {
			f.Procs = append(f.Procs, p)
		}
	}
	return f, f.readPlan(ctx, stateDir)
}

func (f *Facts) knows(run string) bool {
	for _, r := range f.Runs {
		if r.ID == run {
			return true
		}
	}
	return false
}

func (f *Facts) readTables(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	f.runDirs = map[string]string{}
	return errors.Join(
		rows(ctx, tx, `SELECT run, run_dir FROM attempts ORDER BY run, number`, func(s scan) error {
			var run, dir string
			err := s(&run, &dir)
			f.runDirs[run] = dir
			return err
		}),
		rows(ctx, tx, `SELECT id, tenant, state, register, model, attempt, nodes * gpus_per_node FROM runs ORDER BY id`, func(s scan) error {
			var r Run
			err := s(&r.ID, &r.Tenant, &r.State, &r.Register, &r.Model, &r.Attempt, &r.GPUs)
			f.Runs = append(f.Runs, r)
			return err
		}),
		rows(ctx, tx, `SELECT a.run, a.number, a.state, a.reason, a.resume_from, a.resume_step, r.nodes * r.gpus_per_node,
			CASE a.exits WHEN '' THEN 0 ELSE json_array_length(a.exits) END, a.intent, a.cluster, a.handed_over FROM attempts a JOIN runs r ON r.id = a.run ORDER BY a.run, a.number`, func(s scan) error {
			var a Attempt
			err := s(&a.Run, &a.Number, &a.State, &a.Reason, &a.ResumeFrom, &a.ResumeStep, &a.Ranks, &a.Exits, &a.Intent, &a.Cluster, &a.HandedOver)
			f.Attempts = append(f.Attempts, a)
			return err
		}),
		rows(ctx, tx, `SELECT cluster, node, slot, run, attempt FROM allocations`, func(s scan) error {
			var a Allocation
			err := s(&a.Cluster, &a.Node, &a.Slot, &a.Run, &a.Attempt)
			f.Allocations = append(f.Allocations, a)
			return err
		}),
		rows(ctx, tx, `SELECT cluster, node, slot, for_run, from_run FROM claims`, func(s scan) error {
			var c Claim
			err := s(&c.Cluster, &c.Node, &c.Slot, &c.For, &c.From)
			f.Claims = append(f.Claims, c)
			return err
		}),
		rows(ctx, tx, `SELECT run, step, attempt, coalesce(json_extract("values", '$.loss'), 0),
			run IN (SELECT run FROM run_specs WHERE json_extract(spec, '$.eval') = 1) FROM run_metrics ORDER BY run, step`, func(s scan) error {
			var m Metric
			err := s(&m.Run, &m.Step, &m.Attempt, &m.Loss, &m.Eval)
			f.Metrics = append(f.Metrics, m)
			return err
		}),
		rows(ctx, tx, `SELECT id, model, tenant, stage, coalesce(run, '') FROM model_versions`, func(s scan) error {
			var v Version
			err := s(&v.ID, &v.Model, &v.Tenant, &v.Stage, &v.Run)
			f.Versions = append(f.Versions, v)
			return err
		}),
		f.readHistories(ctx, tx),
		rows(ctx, tx, `SELECT seq, type, coalesce(run, ''), coalesce(tenant, '') FROM events ORDER BY seq`, func(s scan) error {
			var e Event
			err := s(&e.Seq, &e.Type, &e.Run, &e.Tenant)
			f.Events = append(f.Events, e)
			return err
		}),
	)
}

type scan func(...any) error

func rows(ctx context.Context, tx *sql.Tx, query string, each func(scan) error) error {
	r, err := tx.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	defer func() { _ = r.Close() }()
	for r.Next() {
		if err := each(r.Scan); err != nil {
			return fmt.Errorf("%s: %w", query, err)
		}
	}
	return r.Err()
}

func readDir(ctx context.Context, dir string, run forge.RunID) (Dir, error) {
	d := Dir{Verified: map[string]int64{}}
	b, err := os.ReadFile(filepath.Join(dir, "fence"))
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil // never launched
	}
	if err != nil {
		return d, err
	}
	if d.Fence, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
		return d, fmt.Errorf("fence of %s: %w", run, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "starts")); err == nil {
		sc := bufio.NewScanner(bytes.NewReader(b))
		for sc.Scan() {
			var s Start
			if _, err := fmt.Sscanf(sc.Text(), "%d %d", &s.Attempt, &s.Rank); err != nil {
				return d, fmt.Errorf("starts of %s: %w", run, err)
			}
			d.Starts = append(d.Starts, s)
		}
	}
	saves, err := rundir.CheckpointsContext(ctx, dir, run, true)
	if err != nil {
		return d, err
	}
	for _, s := range saves {
		if s.Verdict == forge.VerdictVerified {
			d.Verified[s.Path] = s.Step
		}
	}
	return d, branchPoint(ctx, dir, d)
}

// branchPoint adds the checkpoint of another run that this one was told to begin from.
func branchPoint(ctx context.Context, dir string, d Dir) error {
	b, err := os.ReadFile(rundir.SpecPath(dir))
	if err != nil {
		return nil // never launched whole
	}
	var spec forge.RunSpec
	if err := json.Unmarshal(b, &spec); err != nil || spec.ResumeFrom == nil {
		return err
	}
	from := *spec.ResumeFrom
	c, err := rundir.Verify(ctx, rundir.Fit{Run: from.Run}, forge.Checkpoint{Attempt: from.Attempt, Step: from.Step, Path: from.Path})
	if err == nil && c.Verdict == forge.VerdictVerified && c.SHA256 == from.SHA256 {
		d.Verified[c.Path] = c.Step
	}
	return err
}

// marked lists the living processes that carry the mark of an attempt.
func marked() (map[Proc]bool, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	out := map[Proc]bool{}
	for _, d := range dirs {
		env, err := os.ReadFile(filepath.Join(d, "environ"))
		if err != nil || len(env) == 0 { // gone, a zombie, or not ours
			continue
		}
		p := Proc{}
		p.Pid, _ = strconv.Atoi(filepath.Base(d))
		for kv := range bytes.SplitSeq(env, []byte{0}) {
			if v, ok := bytes.CutPrefix(kv, []byte("FORGE_RUN_ID=")); ok {
				p.Run = string(v)
			}
			if v, ok := bytes.CutPrefix(kv, []byte("FORGE_ATTEMPT=")); ok {
				p.Attempt, _ = strconv.Atoi(string(v))
			}
		}
		if p.Run != "" {
			out[p] = true
		}
	}
	return out, nil
}

// queues are the clusters that were handed runs. What a site's configuration lets wait there is not in the tables.
func (f *Facts) queues() (out []forge.ClusterQueue) {
	for _, a := range f.Attempts {
		q := forge.ClusterQueue{Cluster: forge.ClusterName(a.Cluster), Binding: forge.BindEager}
		if a.HandedOver && !slices.Contains(out, q) {
			out = append(out, q)
		}
	}
	slices.SortFunc(out, func(a, b forge.ClusterQueue) int { return strings.Compare(string(a.Cluster), string(b.Cluster)) })
	return out
}

// readPlan plans what the tables hold, twice.
func (f *Facts) readPlan(ctx context.Context, stateDir string) error {
	db, err := store.Open(ctx, filepath.Join(stateDir, "forge.db"), store.Options{})
	if err != nil {
		return err
	}
	w, err := db.World(ctx)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	now := time.Now()
	for i := range f.Plans {
		snap := daemon.SnapshotOf(w, now, f.queues()...)
		plan := scheduler.Plan(snap, scheduler.DefaultPolicy())
		b, err := json.Marshal(plan)
		if err != nil {
			return err
		}
		f.Plans[i] = string(b)
		if err := scheduler.CheckPlan(snap, scheduler.DefaultPolicy(), plan); err != nil {
			f.PlanFault = err.Error()
		}
		for _, h := range plan.Hold {
			for _, id := range h.Runs {
				f.Reasons[id] = h.Text
			}
		}
		for _, p := range plan.Place {
			f.Reasons[p.Run] = "is about to be placed"
		}
		for _, a := range w.Attempts {
			if a.Queued() {
				f.Reasons[a.Run] = scheduler.Queued(a, "its own queue", "")
			}
		}
		for _, p := range snap.Pending {
			if _, ok := f.Reasons[p.ID]; !ok {
				f.Reasons[p.ID] = ""
			}
		}
	}
	return nil
}
