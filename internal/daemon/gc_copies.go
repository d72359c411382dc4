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
)

// orphanLife is how long a copy of no version, or half a copy, stays: whoever makes it may not have stored its row yet.
const orphanLife = 24 * time.Hour

// copies looks below every artefact root.
func (g *gcPass) copies(ctx context.Context) error {
	seen := map[string]bool{}
	for _, c := range g.d.clusterList() {
		root := c.ArtifactRoot
		if root == "" || seen[root] {
			continue
		}
		seen[root] = true
		if c.AsUser {
			if err := g.copiesOfPeople(ctx, c); err != nil {
				return err
			}
			continue
		}
		for _, tenant := range g.tenants(root) {
			dir := filepath.Join(root, tenant)
			entries, err := os.ReadDir(dir)
			if err != nil {
				g.fail(thing{GCItem: api.GCItem{Kind: api.GCCopy, Path: dir}}, err)
				continue
			}
			for _, e := range entries {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err := g.copy(ctx, dir, e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// tenants are the directories of tenants below a root that this look is about.
func (g *gcPass) tenants(root string) (names []string) {
	entries, _ := os.ReadDir(root)
	for _, e := range entries {
		if e.IsDir() && (g.tenant == "" || e.Name() == string(g.tenant)) && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

func (g *gcPass) copy(ctx context.Context, dir string, e fs.DirEntry) error {
	name := e.Name()
	t := thing{GCItem: api.GCItem{Kind: api.GCCopy, Path: filepath.Join(dir, name), Why: "no version has it"}, rel: name, goes: true}
	half, isHalf := strings.CutPrefix(name, artefact.HalfPrefix)
	switch {
	case name == artefact.TrashDir && e.IsDir():
		for _, x := range artefact.Trash(dir) {
			g.leftover(dir, x)
		}
		return nil
	case isHalf && artefact.IsCopy(half):
		t.Kind, t.Why = api.GCIncoming, "a copy that was cut off"
	case !artefact.IsCopy(name):
		return nil // somebody's own
	}
	used := func() error {
		known, err := g.d.db.RootInUse(ctx, t.Path)
		st, serr := os.Lstat(t.Path)
		switch {
		case err != nil || serr != nil:
			return errors.Join(err, serr)
		case known:
			t.goes, t.Why = false, "a registered version lies there"
		case g.now.Sub(changedAt(st)) < orphanLife:
			t.goes, t.Why = false, "it is younger than a day: it may be registered just now"
		}
		return nil
	}
	return g.one(ctx, dir, t, used, &g.d.using, func(x *thing) { *x = t })
}

// one judges a thing that stands by itself and removes it, looking again under the lock.
func (g *gcPass) one(ctx context.Context, root string, t thing, judge func() error, lock tryLocker, fresh func(*thing)) error {
	if err := judge(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	fresh(&t)
	var err error
	if t.Bytes, err = artefact.Usage(t.Path); err != nil {
		g.fail(t, err)
		return nil
	}
	if !g.remove || !t.goes {
		g.note([]thing{t})
		return nil
	}
	bytes := t.Bytes
	if !taken(ctx, lock) {
		g.fail(t, errInUse)
		return nil
	}
	err = judge()
	fresh(&t)
	t.Bytes = bytes
	name := ""
	if err == nil && t.goes {
		name, err = artefact.Away(root, t.rel)
	}
	lock.Unlock()
	if err == nil && name != "" {
		err = artefact.Purge(root, name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.fail(t, err)
		return nil
	}
	g.note([]thing{t})
	return nil
}

type tryLocker interface {
	TryLock() bool
	Unlock()
}

// bothLocks are held together: of those who keep snapshots and of those who begin to use something.
type bothLocks struct{ a, b tryLocker }

func (l bothLocks) TryLock() bool {
	if !l.a.TryLock() {
		return false
	}
	if l.b.TryLock() {
		return true
	}
	l.a.Unlock()
	return false
}

func (l bothLocks) Unlock() { l.b.Unlock(); l.a.Unlock() }

// snapshots looks at working directories whose runs have all ended long ago.
func (g *gcPass) snapshots(ctx context.Context) error {
	root := filepath.Join(g.d.live().cfg.StateDir, snapshotsDir)
	for _, tenant := range g.tenants(root) {
		dir := filepath.Join(root, tenant, "used")
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if !digestForm.MatchString(e.Name()) {
				continue
			}
			t := thing{GCItem: api.GCItem{Kind: api.GCSnapshot, Path: filepath.Join(dir, e.Name()), Why: "all runs of it have ended; a retry or an export of one needs it again"}, rel: e.Name(), goes: true}
			judge := func() error {
				used, err := g.d.db.SnapshotsInUse(ctx, forge.TenantID(tenant), g.cutoff)
				st, serr := os.Lstat(t.Path)
				switch {
				case err != nil || serr != nil:
					return errors.Join(err, serr)
				case used[e.Name()]:
					t.goes, t.Why = false, "a run of it has not ended, or lately"
				case g.now.Sub(changedAt(st)) < orphanLife:
					t.goes, t.Why = false, "it is younger than a day"
				}
				return nil
			}
			if err := g.one(ctx, dir, t, judge, bothLocks{&g.d.using, &g.d.snapshotLock}, func(x *thing) { *x = t }); err != nil {
				return err
			}
		}
	}
	return nil
}

// report sums up.
func (g *gcPass) report(began time.Time) api.GCReport {
	r := api.GCReport{At: g.now.UTC(), OlderThan: g.q.OlderThan, Site: g.q.Site, Removed: g.remove, Goes: sums(g.things), Stays: sums(g.stay), Items: []api.GCItem{}, Failed: g.failed,
		Count: len(g.things), Elapsed: forge.Duration(time.Since(began).Round(time.Millisecond))}
	slices.SortStableFunc(g.things, func(a, b thing) int { return cmp.Compare(b.Bytes, a.Bytes) })
	for i, t := range g.things {
		if r.Bytes += t.Bytes; i < api.MaxGCItems {
			r.Items = append(r.Items, t.GCItem)
		}
	}
	if len(r.Failed) > api.MaxGCItems {
		r.Failed = r.Failed[:api.MaxGCItems]
	}
	return r
}

// maxReasons bounds the lines of one kind: reasons that name a run or a version are many.
const maxReasons = 20

func sums(all []thing) []api.GCSum {
	out := []api.GCSum{}
	of := map[api.GCSum]int{}
	lines := map[string]int{}
	for _, t := range all {
		k := api.GCSum{Kind: t.Kind, Why: t.Why, Yours: t.Yours}
		i, ok := of[k]
		if !ok && lines[t.Kind] >= maxReasons {
			k.Why = "for other reasons of the same sort"
			i, ok = of[k]
		}
		if !ok {
			i = len(out)
			of[k], out = i, append(out, k)
			lines[t.Kind]++
		}
		out[i].Count++
		out[i].Bytes += t.Bytes
	}
	slices.SortStableFunc(out, func(a, b api.GCSum) int {
		return cmp.Or(cmp.Compare(slices.Index(api.GCKinds, a.Kind), slices.Index(api.GCKinds, b.Kind)), cmp.Compare(b.Bytes, a.Bytes))
	})
	return out
}

func (g *gcPass) event(r api.GCReport) forge.Event {
	what, counts := "of the tenant", map[string]any{"bytes": r.Bytes, "count": r.Count, "failed": len(r.Failed), "older_than": r.OlderThan.String()}
	if g.q.Site {
		what = "of the site"
	}
	for _, s := range r.Goes {
		n, _ := counts[s.Kind].(int)
		counts[s.Kind] = n + s.Count
	}
	return forge.Event{Tenant: g.tenant, Actor: g.p.Actor(), Type: forge.EventGCDone, Reason: string(forge.WhyRequested), Data: counts,
		Message: fmt.Sprintf("gc %s removed %d things, %d bytes; %d could not be removed", what, r.Count, r.Bytes, len(r.Failed))}
}
