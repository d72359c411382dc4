package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/artefact"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/store"
)

const (
	opGC   = "gc"
	gcPage = 100 // runs that are read at once
)

// collector implements api.GC.
type collector struct{ d *Daemon }

// GCPlan implements api.GC.
func (s collector) GCPlan(ctx context.Context, p forge.Principal, q api.GCQuery) (api.GCReport, error) {
	return s.collect(ctx, p, q, false, time.Now())
}

// GCRun implements api.GC.
func (s collector) GCRun(ctx context.Context, p forge.Principal, q api.GCQuery) (api.GCReport, error) {
	if !s.d.collecting.TryLock() {
		return api.GCReport{}, forge.Errorf(forge.KindConflict, opGC, "another gc is under way").WithHint("forgectl gc --dry-run shows what it leaves")
	}
	defer s.d.collecting.Unlock()
	return s.collect(ctx, p, q, true, time.Now())
}

// collect looks at everything once. What removes looks again at each, under the lock that all who begin to use something take.
func (s collector) collect(ctx context.Context, p forge.Principal, q api.GCQuery, remove bool, began time.Time) (api.GCReport, error) {
	var none api.GCReport
	if err := least(p, opGC, forge.RoleAdmin, "looking what of a tenant may be removed"); err != nil {
		return none, err
	}
	if q.Site {
		if err := least(p, opGC, forge.RoleOperator, "looking at what all tenants have"); err != nil {
			return none, err
		}
	}
	q.OlderThan = cmp.Or(q.OlderThan, forge.Duration(api.DefaultGCAge))
	if q.OlderThan.D() < api.LeastGCAge {
		return none, forge.Invalidf("older_than", "%s: want at least %s", q.OlderThan, api.LeastGCAge)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // a stop does not wait for it: what is left is for the next one
		select {
		case <-s.d.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	g := &gcPass{d: s.d, p: p, q: q, remove: remove, cutoff: began.Add(-q.OlderThan.D()), now: began}
	if !q.Site {
		g.tenant = p.Tenant
	}
	err := errors.Join(g.runs(ctx), g.copies(ctx), g.snapshots(ctx))
	r := g.report(began)
	if remove && (r.Count > 0 || len(r.Failed) > 0) {
		if eerr := s.d.db.AddEvent(context.WithoutCancel(ctx), g.event(r)); eerr != nil {
			s.d.log.Warn().Err(eerr).Msg("the event about gc could not be written")
		}
	}
	if err != nil && ctx.Err() != nil {
		err = forge.Errorf(forge.KindUnavailable, opGC, "cut off after %d of it had gone", r.Count).WithHint("the next gc goes on")
	}
	return r, err
}

// usingPatience is how long a removal waits for those who are about to use something: nobody of them waits for a removal.
var usingPatience = 2 * time.Second

var errInUse = errors.New("somebody submits or registers just now, and might need it: the next gc looks again")

func taken(ctx context.Context, l tryLocker) bool {
	for deadline := time.Now().Add(usingPatience); ; {
		if l.TryLock() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// gcPass is one look.
type gcPass struct {
	d           *Daemon
	p           forge.Principal
	q           api.GCQuery
	tenant      forge.TenantID // "": all
	remove      bool
	now, cutoff time.Time
	things      []thing // that go or have gone
	stay        []thing
	failed      []api.GCItem
}

// branchesSince: what runs that ended since then began from is theirs still, for a retry.
func (g *gcPass) branchesSince() time.Time { return g.now.Add(-heldLife) }

func (g *gcPass) runs(ctx context.Context) error {
	uses, err := g.d.db.UsesOf(ctx, "", g.branchesSince())
	if err != nil {
		return err
	}
	roots := map[string]bool{}
	for after := forge.RunID(""); ; {
		page, err := g.d.db.OldRuns(ctx, g.tenant, g.cutoff, after, gcPage)
		if err != nil || len(page) == 0 {
			g.trash(roots)
			return err
		}
		for _, o := range page {
			if after = o.Run.ID; ctx.Err() != nil {
				return ctx.Err()
			}
			c, err := g.d.place(o)
			if err != nil {
				g.fail(thing{GCItem: api.GCItem{Kind: api.GCAttempt, Run: o.Run.Number}}, err)
				continue
			}
			roots[c.RunRoot] = roots[c.RunRoot] || !c.AsUser
			g.oldRun(ctx, c, o, uses)
		}
	}
}

// oldRun is one run: planned by what is known of all, and removed by what is known now.
func (g *gcPass) oldRun(ctx context.Context, c *Cluster, o store.OldRun, uses store.Uses) {
	things := g.measured(c, judgeOld(o, uses, g.there(c)))
	if !g.remove || c.AsUser || !slices.ContainsFunc(things, func(t thing) bool { return t.goes }) {
		g.note(things)
		return
	}
	var bad map[saveKey]string
	var err error
	if slices.ContainsFunc(things, func(t thing) bool { return t.goes && len(t.save) > 0 }) {
		bad, err = g.readAgain(ctx, c, o)
	}
	var done []thing
	if err == nil {
		done, err = g.removeRun(ctx, c, o.Run.ID, bad)
	}
	if err != nil {
		g.fail(thing{GCItem: api.GCItem{Kind: api.GCAttempt, Run: o.Run.Number}}, err)
		return
	}
	g.note(done)
}

// removeRun looks at a run again and moves away what may go, while nobody can begin to use it; the bytes go after that. Bad are
// checkpoints that do not read whole any more.
func (g *gcPass) removeRun(ctx context.Context, c *Cluster, id forge.RunID, bad map[saveKey]string) (things []thing, err error) {
	if !taken(ctx, &g.d.using) {
		return nil, errInUse
	}
	locked := true
	defer func() {
		if locked {
			g.d.using.Unlock()
		}
	}()
	o, err := g.d.db.OldRun(ctx, id)
	if err != nil {
		return nil, err
	}
	doubt(o.Saves, bad)
	uses, err := g.d.db.UsesOf(ctx, id, g.branchesSince())
	if err != nil {
		return nil, err
	}
	var gone []string
	say := store.Gone{Run: id, Actor: g.p.Actor()}
	counts := map[string]int{}
	for _, t := range g.measured(c, judgeOld(o, uses, g.there(c))) {
		if !t.goes {
			if why, ok := badSave(t, bad); ok {
				g.fail(t, errors.New(why))
				continue
			}
			things = append(things, t)
			continue
		}
		if err := g.backed(t, o.Run, uses); err != nil {
			g.fail(t, err)
			continue
		}
		name, err := artefact.Away(c.RunRoot, t.rel)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			g.fail(t, err)
			continue
		}
		if err == nil {
			gone = append(gone, name)
			crash.At("gc.moved")
		}
		things = append(things, t)
		say.Bytes, say.Steps = say.Bytes+t.Bytes, append(say.Steps, t.save...)
		counts[t.Kind]++
	}
	g.d.using.Unlock()
	locked = false
	var words []string
	for _, kind := range api.GCKinds {
		if n := counts[kind]; n > 0 {
			words = append(words, fmt.Sprintf("%d × %s", n, kind))
		}
	}
	if len(words) > 0 {
		say.Message = fmt.Sprintf("removed by gc: %s; %d bytes", strings.Join(words, ", "), say.Bytes)
	}
	err = g.d.db.GCGone(context.WithoutCancel(ctx), say) // after the renames: what is marked as gone is gone
	for _, name := range gone {
		_ = artefact.Purge(c.RunRoot, name) // the end of this pass tries again, and says what cannot be removed
	}
	return things, err
}

// backed holds that what an output is said to be a copy of is there: by name and size, since every byte of it was read when it was made.
func (g *gcPass) backed(t thing, r forge.Run, u store.Uses) error {
	if t.Kind != api.GCOutput {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), execTimeout)
	defer cancel()
	v, err := g.d.db.ModelOfRun(ctx, r.ID)
	if err != nil {
		return err
	}
	for _, f := range v.Manifest.Files {
		path := filepath.Join(v.Manifest.Root, filepath.FromSlash(f.Path))
		if st, err := os.Lstat(path); err != nil || st.Size() != f.Size {
			return fmt.Errorf("the copy of %s@%d is not whole: %s is missing or has another size", v.Name, v.Number, path)
		}
	}
	return nil
}

// there says whether a checkpoint's manifest is on the disk. Of people's files nobody can say more than the tables.
func (g *gcPass) there(c *Cluster) func(forge.Checkpoint) bool {
	return func(s forge.Checkpoint) bool {
		if c.AsUser {
			return true
		}
		_, err := os.Lstat(filepath.Join(s.Path, "forge_manifest.json"))
		return err == nil
	}
}

// measured adds what things cost, and leaves out those that are not there.
func (g *gcPass) measured(c *Cluster, all []thing) []thing {
	var out []thing
	var lost []forge.Checkpoint
	for _, t := range all {
		if c.AsUser {
			t.Yours = true
			if t.Kind == api.GCOutput && !t.goes {
				continue // whether there is any is not known
			}
			for _, s := range t.save {
				if t.Kind == api.GCAttempt {
					t.Bytes += s.Bytes
				}
			}
			out = append(out, t)
			continue
		}
		rel, err := filepath.Rel(filepath.Clean(c.RunRoot), t.Path)
		if err != nil || !filepath.IsLocal(rel) {
			continue
		}
		t.rel = rel
		if _, err := os.Lstat(t.Path); err != nil {
			// Removed by somebody, or by a gc that was killed before it had noted it. Where the run's directory is not there either, its filesystem may only not be mounted.
			if _, rerr := os.Lstat(filepath.Join(c.RunRoot, strings.Split(rel, "/")[0])); rerr == nil && t.goes && g.remove && errors.Is(err, fs.ErrNotExist) {
				lost = append(lost, t.save...)
			}
			continue
		}
		if t.Bytes, err = artefact.Usage(t.Path); err != nil {
			g.fail(t, err)
			continue
		}
		out = append(out, t)
	}
	if len(lost) > 0 {
		_ = g.d.db.GCGone(context.Background(), store.Gone{Run: lost[0].Run, Actor: g.p.Actor(), Steps: lost,
			Message: fmt.Sprintf("%d × checkpoint gone from the disk: removed by a gc that was cut off, or by somebody", len(lost))})
	}
	for i, t := range out { // what is listed by itself does not count twice
		if t.Kind != api.GCAttempt || t.goes || c.AsUser {
			continue
		}
		for _, x := range out {
			if x.Attempt == t.Attempt && x.Kind != api.GCAttempt {
				out[i].Bytes = max(0, out[i].Bytes-x.Bytes)
			}
		}
	}
	return out
}

func (g *gcPass) note(all []thing) {
	for _, t := range all {
		switch {
		case t.goes && t.Yours && g.remove:
			whose := "its owner"
			if t.Run > 0 {
				whose = "the run's owner"
			}
			t.Why = "it belongs to " + whose + ": " + t.Why
			g.stay = append(g.stay, t)
		case t.goes:
			g.things = append(g.things, t)
		default:
			g.stay = append(g.stay, t)
		}
	}
}

func (g *gcPass) fail(t thing, err error) {
	if t.Why = err.Error(); errors.Is(err, fs.ErrPermission) && t.Path != "" {
		t.Why += fmt.Sprintf(": forged runs as uid %d, which may not remove it; its owner can: rm -r %s", os.Getuid(), t.Path)
	}
	g.failed = append(g.failed, t.GCItem)
}

// trash is what removals that were cut off have left below roots.
func (g *gcPass) trash(roots map[string]bool) {
	for root, ours := range roots {
		if !ours {
			continue
		}
		for _, name := range artefact.Trash(root) {
			g.leftover(root, name)
		}
	}
}

func (g *gcPass) leftover(root, name string) {
	t := thing{GCItem: api.GCItem{Kind: api.GCIncoming, Path: filepath.Join(root, artefact.TrashDir, name), Why: "a removal that was cut off"}, goes: true}
	t.Bytes, _ = artefact.Usage(t.Path)
	if g.remove {
		if err := artefact.Purge(root, name); err != nil {
			g.fail(t, err)
			return
		}
	}
	g.note([]thing{t})
}
