package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/scheduler"
)

// rundata implements api.RunData.
type rundata struct{ d *Daemon }

const (
	maxLogRead    = 1 << 20
	defaultPoints = 512
	maxPoints     = 10_000
)

// Why says why a run is where it is, from the world as it is now.
func (s rundata) Why(ctx context.Context, p forge.Principal, run string) (api.Why, error) {
	t := s.d.db.For(p)
	r, err := t.Run(ctx, run)
	if err != nil {
		return api.Why{}, err
	}
	w := api.Why{Run: r.Number, State: r.State}
	attempts, err := t.Attempts(ctx, r.ID)
	if err != nil {
		return w, err
	}
	var last *forge.Attempt
	if len(attempts) > 0 {
		last = &attempts[len(attempts)-1]
		for _, a := range attempts {
			if a.State == forge.AttemptEnded {
				w.Evidence = append(w.Evidence, fmt.Sprintf("attempt %d ended %s: %s (%s)", a.Number, a.EndedAt.UTC().Format(time.RFC3339), a.Reason, a.Detail))
			}
		}
	}
	switch {
	case r.State == forge.RunPending && last != nil && last.State == forge.AttemptExited:
		w.Sentence = fmt.Sprintf("attempt %d has exited and is being judged: its checkpoints are hashed", last.Number)
	case r.State == forge.RunPending && last != nil && last.Queued():
		w.Code, w.Sentence = forge.HoldQueued, scheduler.Queued(*last, s.d.batchSystem(last.Cluster), s.d.unhanded.about(*last))
		if !last.Unknown.IsZero() {
			w.Sentence += fmt.Sprintf("; it has not answered since %s", last.Unknown.UTC().Format(time.RFC3339))
		}
		if r.Hold != nil {
			w.Sentence += fmt.Sprintf("; held by %s", r.Hold.By)
			w.Next = append(w.Next, fmt.Sprintf("forgectl run release %d", r.Number))
		}
	case r.State == forge.RunPending:
		now := s.d.outlooks.about(r, s.d.world, s.d.policy(), time.Now())
		held := scheduler.ExplainIn(now.snap, now.plan, r.ID)
		w.Code, w.Sentence = held.Code, "waits: "+held.Text
		if held.Code == forge.HoldPreempting {
			w.Sentence = held.Text
			s.saving(&w, r, now.snap)
		}
		if held.Text == "" {
			w.Sentence = "is about to be placed"
		}
		if held.Code == forge.HoldAfter || held.Code == forge.HoldAfterFailed {
			chain, err := s.d.chain(ctx, t, r)
			if err != nil {
				return w, err
			}
			if chain != nil {
				words, next := stepWords(r, chain)
				w.Evidence, w.Next = append(w.Evidence, words...), append(w.Next, next...)
			}
		}
		s.terms(ctx, &w, r, now, p)
		wayOut(&w, r, now.snap, p)
	case r.State == forge.RunProvisioning && last != nil:
		w.Sentence = fmt.Sprintf("has its GPUs on %s since %s; waits until every rank has started", nodeNames(*last), last.PlacedAt.UTC().Format(time.RFC3339))
		if why := s.d.unhanded.about(*last); why != "" {
			w.Sentence += fmt.Sprintf("; it could not be handed over to cluster %s so far, which is tried again: %s", last.Cluster, why)
		}
		if last.Intent == forge.IntentCheckpointPreempt {
			w.Sentence += "; is stopped to make room for a run ahead of it, and goes on later"
		}
	case r.State == forge.RunRunning && last != nil:
		w.Sentence = fmt.Sprintf("runs on %s since %s, step %d of %d", nodeNames(*last), last.StartedAt.UTC().Format(time.RFC3339), r.Step, r.TotalSteps)
		if last.Intent == forge.IntentCheckpointPreempt {
			w.Sentence += "; is saving to make room for a run ahead of it, and goes on later from there"
		}
		if !last.Unknown.IsZero() {
			w.Sentence += fmt.Sprintf("; its executor has not answered since %s", last.Unknown.UTC().Format(time.RFC3339))
		}
	case last != nil:
		w.Sentence = fmt.Sprintf("%s: %s", r.State, last.Detail)
		w.Next = append(w.Next, fmt.Sprintf("forgectl run logs %d", r.Number))
	default:
		w.Sentence = fmt.Sprintf("%s before it was placed", r.State)
	}
	if last != nil {
		if why := s.d.held.about(*last); why != "" {
			w.Sentence += "; its ranks have ended, and its GPUs stay allocated until it is known that they are empty: " + why
		}
	}
	if r.Cancel != "" && !r.State.Terminal() {
		w.Sentence += "; cancel was requested"
	}
	return w, nil
}

// terms adds where a run stands, when it is expected to start, and what would let it start sooner.
func (s rundata) terms(ctx context.Context, w *api.Why, r forge.Run, now *outlook, p forge.Principal) {
	t, waits := now.terms(r.ID)
	if !waits {
		return
	}
	w.Terms, w.Position, w.Waiting = &t, t.Position, t.Waiting
	if w.Code == "" { // starts in this very plan
		return
	}
	w.Start = s.d.forecasts.of(ctx, now, r.ID).start(r.ID)
	w.Sentence += startText(w.Start, t.Holders, now.snap.Now)
	if text := holdersText(t.Holders, now.snap.Now); text != "" {
		w.Evidence = append(w.Evidence, text)
	}
	for _, way := range now.sooner(r.ID, s.d.maxPriority(p)) {
		w.Sooner = append(w.Sooner, way.Change)
		if way.Run.Priority != r.Spec.Priority {
			w.Next = append(w.Next, fmt.Sprintf("forgectl run priority %d %d", r.Number, way.Run.Priority))
		}
	}
}

// saving says for whom a run waits that something was stopped for: the tenant's own runs by number,
// those of others as a count (invariant 8), and how long it can take at most.
func (s rundata) saving(w *api.Why, r forge.Run, snap forge.Snapshot) {
	others := 0
	var grace forge.Duration
	for _, a := range snap.Active {
		if !slices.ContainsFunc(snap.Claims, func(c forge.Claim) bool { return c.For == r.ID && c.From == a.Run }) {
			continue
		}
		v, ok := s.d.world.run(a.Run)
		grace = max(grace, v.Spec.Grace)
		if !ok || v.Tenant != r.Tenant {
			others++
			continue
		}
		w.Evidence = append(w.Evidence, fmt.Sprintf("run %d (priority %d, attempt %d) saves and stops", v.Number, v.Spec.Priority, a.Number))
	}
	if others > 0 {
		w.Evidence = append(w.Evidence, fmt.Sprintf("%d of other tenants", others))
	}
	if grace > 0 {
		w.Evidence = append(w.Evidence, fmt.Sprintf("expected to start within %s: what has not stopped by then is killed, and goes on later from its last checkpoint", grace))
	}
}

// wayOut names the commands that let a run go on which nothing else will: a release keeps the
// checkpoints, a retry starts from zero.
func wayOut(w *api.Why, r forge.Run, snap forge.Snapshot, p forge.Principal) {
	if r.Hold != nil {
		w.Next = append(w.Next, fmt.Sprintf("forgectl run release %d", r.Number), fmt.Sprintf("forgectl run retry %d", r.Number))
	}
	if w.Code != forge.HoldPaused {
		return
	}
	for _, c := range snap.Paused {
		if r.Spec.Cluster == "" || r.Spec.Cluster == c.Cluster {
			w.Next = append(w.Next, "forgectl cluster resume "+string(c.Cluster))
		}
	}
	if p.Role != forge.RoleOperator {
		w.Evidence = append(w.Evidence, "only an operator may resume a cluster")
	}
}

func nodeNames(a forge.Attempt) string {
	names := make([]string, len(a.Placement))
	for i, s := range a.Placement {
		names[i] = string(s.Node)
	}
	return strings.Join(names, ", ")
}

// Log reads a piece of one rank's output where it lies.
func (s rundata) Log(ctx context.Context, p forge.Principal, run string, q api.LogQuery) (api.LogChunk, error) {
	t := s.d.db.For(p)
	r, err := t.Run(ctx, run)
	if err != nil {
		return api.LogChunk{}, err
	}
	out := api.LogChunk{Rank: q.Rank, Stream: q.Stream, Attempt: q.Attempt, Next: q.Offset, State: r.State}
	if q.Stream != "stdout" && q.Stream != "stderr" {
		return out, forge.Invalidf("stream", "%q: want stdout or stderr", q.Stream)
	}
	if n := rankCount(r.Spec); q.Rank < 0 || q.Rank >= n {
		return out, forge.Invalidf("rank", "%d: run %d has ranks 0 to %d", q.Rank, r.Number, n-1)
	}
	attempts, err := t.Attempts(ctx, r.ID)
	if err != nil {
		return out, err
	}
	if len(attempts) == 0 {
		if q.Attempt > 0 {
			return out, forge.Invalidf("attempt", "%d: run %d has not been started yet", q.Attempt, r.Number)
		}
		out.End = r.State.Terminal()
		return out, nil
	}
	if q.Attempt == 0 {
		q.Attempt = len(attempts)
	}
	i := slices.IndexFunc(attempts, func(a forge.Attempt) bool { return a.Number == q.Attempt })
	if i < 0 {
		return out, forge.Invalidf("attempt", "%d: run %d has attempts 1 to %d", q.Attempt, r.Number, len(attempts))
	}
	a := attempts[i]
	out.Attempt = a.Number
	if i+1 < len(attempts) {
		out.Newer = attempts[i+1].Number
	}
	over := !a.State.Open()
	if a.ExternalID == "" {
		out.End = over
		return out, nil
	}
	c, ok := s.d.live().clusters[a.Cluster]
	if !ok {
		return out, forge.Errorf(forge.KindUnavailable, "run.logs", "cluster %q is not configured any more", a.Cluster)
	}
	size := q.Max
	if size <= 0 || size > maxLogRead {
		size = maxLogRead
	}
	chunk, err := c.Files.Read(ctx, a.ExternalID, fmt.Sprintf("%s.%d", q.Stream, q.Rank), q.Offset, size)
	if err != nil {
		return out, err
	}
	// A character may lie across the cut; its bytes wait for the next piece.
	cut := wholeRunes(chunk.Data, over && chunk.Next >= chunk.Size)
	out.Data = strings.ToValidUTF8(string(chunk.Data[:cut]), "\uFFFD")
	out.Next = chunk.Next - int64(len(chunk.Data)-cut) // and not counted from the offset: a part of what was printed may not be kept
	out.End = over && out.Next >= chunk.Size
	return out, nil
}

func (s rundata) Metrics(ctx context.Context, p forge.Principal, run string, q api.MetricsQuery) (api.Metrics, error) {
	t := s.d.db.For(p)
	r, err := t.Run(ctx, run)
	if err != nil {
		return api.Metrics{}, err
	}
	if q.Points <= 0 {
		q.Points = defaultPoints
	}
	if q.Points > maxPoints {
		return api.Metrics{}, forge.Invalidf("points", "%d: want at most %d", q.Points, maxPoints)
	}
	m, err := t.Metrics(ctx, r.ID, q.Keys, q.From, q.To, q.Points)
	if err != nil {
		return api.Metrics{}, err
	}
	out := api.Metrics{Step: r.Step, TotalSteps: r.TotalSteps, Keys: m.Keys, Curves: m.Curves, Last: m.Last}
	if rec, err := s.d.live().recipes.Get(r.Spec.Recipe); err == nil && len(rec.Metrics) > 0 { // a recipe may be gone since
		out.Units = make(map[string]string, len(rec.Metrics))
		for _, m := range rec.Metrics {
			out.Units[m.Name] = m.Unit
		}
	}
	return out, nil
}

func (s rundata) Checkpoints(ctx context.Context, p forge.Principal, run string) ([]forge.Checkpoint, error) {
	t := s.d.db.For(p)
	r, err := t.Run(ctx, run)
	if err != nil {
		return nil, err
	}
	saves, err := t.Checkpoints(ctx, r.ID)
	forge.MarkBest(saves)
	if every, ok := r.Spec.Whole("checkpoint.keep_every"); ok && every >= 1 {
		for i := range saves {
			saves[i].Kept = saves[i].Usable() && saves[i].Step > 0 && saves[i].Step%every == 0
		}
	}
	return saves, err
}

// Queue lists the tenant's runs in the order of the plan, limit of them at most; the load of others is counted
// and not named (invariant 8).
func (s rundata) Queue(ctx context.Context, p forge.Principal, limit int) (api.Queue, error) {
	now := s.d.outlooks.of(s.d.world, s.d.policy(), time.Now())
	q := api.Queue{Entries: []api.QueueEntry{}}
	add := func(id forge.RunID, pos int, since time.Time) bool {
		if len(q.Entries) >= limit {
			q.More++
			return false
		}
		r, ok := s.d.world.run(id)
		if ok {
			q.Entries = append(q.Entries, queueEntry(r, pos, "", since))
		}
		return ok
	}
	for _, a := range now.snap.Active {
		if a.Tenant == p.Tenant {
			if add(a.Run, 0, a.PlacedAt) && a.Queued() {
				q.Entries[len(q.Entries)-1].Why = s.queued(a)
			}
			continue
		}
		if a.Queued() {
			q.Others.Waiting++
			continue
		}
		q.Others.Running++
		for _, sh := range a.Placement {
			q.Others.GPUs += len(sh.Slots)
		}
	}
	running := len(q.Entries)
	var shown []forge.RunID
	why := map[forge.RunID]string{}
	for i, w := range now.queue() {
		if w.Tenant != p.Tenant {
			q.Others.Waiting++
		} else if add(w.ID, i+1, w.SubmittedAt) {
			shown = append(shown, w.ID)
			why[w.ID] = ""
		}
	}
	now.why(why)
	var ahead *forecast
	if len(shown) > 0 {
		ahead = s.d.forecasts.of(ctx, now, shown[:min(len(shown), forecastHead)]...)
	}
	for i, id := range shown {
		q.Entries[running+i].Why, q.Entries[running+i].Start = why[id], ahead.start(id)
	}
	return q, nil
}

// queued says why a run waits that a cluster's own queue has.
func (s rundata) queued(a forge.ActiveAttempt) string {
	x, ok := s.d.world.attempt(a.Run)
	if !ok || !x.Queued() {
		return ""
	}
	return scheduler.Queued(x, s.d.batchSystem(a.Cluster), s.d.unhanded.about(x))
}

func queueEntry(r forge.Run, pos int, why string, since time.Time) api.QueueEntry {
	return api.QueueEntry{Position: pos, Run: r.Number, Name: r.Spec.Name, User: r.User, Recipe: r.Spec.Recipe, State: r.State,
		Priority: r.Spec.Priority, GPUs: r.Spec.Gang.GPUs(), Why: why, Since: since}
}
