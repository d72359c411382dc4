package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/direct"
	"github.com/forge-ml/forge-ml/slurm"
)

// ReloadVerdict is what became of the last reload: `forged reload` waits for it, and with it
// `systemctl reload`.
type ReloadVerdict struct {
	At      time.Time `json:"at"`
	Refused string    `json:"refused,omitempty"`
	Hint    string    `json:"hint,omitempty"`
	Changed []string  `json:"changed,omitempty"`
}

const reloadFile = "reload.json"

func (d *Daemon) reloadLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.askReload:
			d.reload(ctx)
		}
	}
}

// reload puts the file's configuration in force, whole or not at all, and says which in the log, as
// an event, to the service manager and in the verdict.
func (d *Daemon) reload(ctx context.Context) {
	d.tell(reloading())
	defer func() { d.tellStatus(); d.tell("READY=1") }()
	old := d.live()
	changed, err := d.takeConfig(ctx)
	v := ReloadVerdict{At: time.Now(), Changed: changed}
	e := forge.Event{Actor: actorForged, Type: forge.EventConfigReloaded, Reason: string(forge.WhySignal), Data: map[string]any{"changed": changed}}
	if err != nil {
		v.Refused, v.Hint = err.Error(), forge.HintOf(err)
		e.Type, e.Data = forge.EventConfigRefused, nil
		e.Message = "The configuration was not reloaded, and nothing was changed: " + v.Refused
		d.log.Error().Err(err).Str("hint", v.Hint).Msg("configuration refused; the old one stays in force")
		why := oneLine(v.Refused)
		d.refused.Store(&why)
	} else {
		e.Message = "The configuration was reloaded: " + strings.Join(changed, "; ")
		if len(changed) == 0 {
			e.Message = "The configuration was read again; nothing in it has changed"
		}
		d.log.Info().Strs("changed", changed).Msg("configuration reloaded")
		d.refused.Store(nil)
	}
	if err := d.db.AddEvent(ctx, e); err != nil && ctx.Err() == nil {
		d.log.Warn().Err(err).Msg("reload not recorded")
	}
	if err := writeVerdict(old.cfg.StateDir, v); err != nil {
		d.log.Warn().Err(err).Msg("verdict of the reload not written")
	}
}

// takeConfig builds all of the new before it touches the old: up to the last error nothing is in
// force that was not before.
func (d *Daemon) takeConfig(ctx context.Context) (changed []string, err error) {
	old := d.live()
	cfg, err := d.readConfig()
	if err != nil {
		return nil, err
	}
	diff := compare(old.cfg, cfg)
	if err := reloadable(diff); err != nil {
		return nil, err
	}
	var undo stopStack
	defer func() {
		if err != nil {
			err = errors.Join(err, undo.run(d.log))
		}
	}()
	fresh, err := d.build(cfg, old, nil, &undo)
	if err != nil {
		return nil, err
	}
	doors, err := d.bind(ctx, cfg, d.doors, &undo)
	if err != nil {
		return nil, err
	}
	// From here on nothing can fail.
	d.relog(cfg.Log)
	for _, cl := range cfg.Clusters {
		switch x := fresh.clusters[forge.ClusterName(cl.Name)].Executor.(type) {
		case interface{ Change(direct.With) }:
			x.Change(withOf(cl))
		case interface{ Change(slurm.With) }:
			x.Change(slurmWith(cl))
		}
	}
	d.settings.Store(fresh)
	d.world.setQueues(queuesOf(fresh))
	d.setHalfLife(fresh)
	d.setPrices(fresh)
	d.world.follow(d.policy())
	d.useDoors(doors)
	kick(d.kickWatch) // new clusters are watched
	kick(d.kickPlan)  // by the new policy
	if len(fresh.order) > len(old.order) {
		d.refreshNodes(ctx)
	}
	for _, c := range diff {
		changed = append(changed, c.String())
	}
	if !reflect.DeepEqual(old.health.Rules, fresh.health.Rules) || !reflect.DeepEqual(old.health.Patterns, fresh.health.Patterns) {
		changed = append(changed, "rules of GPU health changed")
	}
	changed = append(changed, compareFiles("recipe", digests(old.recipes.Names(), recipeDigest(old)), digests(fresh.recipes.Names(), recipeDigest(fresh)))...)
	changed = append(changed, compareFiles("gate", old.gates.digests(), fresh.gates.digests())...)
	return append(changed, compareFiles("suite", digests(old.suites.Names(), suiteDigest(old)), digests(fresh.suites.Names(), suiteDigest(fresh)))...), nil
}

// compareFiles: the files in recipes_dir and suites_dir may have changed although their names have not. Digests are by name.
func compareFiles(what string, old, fresh map[string]string) (changed []string) {
	names := slices.AppendSeq(slices.Collect(maps.Keys(old)), maps.Keys(fresh))
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		a, had := old[n]
		b, has := fresh[n]
		switch {
		case !had:
			changed = append(changed, what+" "+n+" added")
		case !has:
			changed = append(changed, what+" "+n+" removed")
		case a != b:
			changed = append(changed, what+" "+n+" changed")
		}
	}
	return changed
}

func digests(names []string, of func(string) string) map[string]string {
	out := make(map[string]string, len(names))
	for _, n := range names {
		out[n] = of(n)
	}
	return out
}

func recipeDigest(s *settings) func(string) string {
	return func(name string) string { r, _ := s.recipes.Get(name); return r.SHA256 }
}

func suiteDigest(s *settings) func(string) string {
	return func(name string) string { x, _ := s.suites.Get(name); return x.SHA256 }
}

func writeVerdict(stateDir string, v ReloadVerdict) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return putWhole(filepath.Join(stateDir, reloadFile), append(b, '\n'))
}

// putWhole replaces a small file of which a reader must never see a part. It need not survive a power loss.
func putWhole(path string, b []byte) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func readVerdict(stateDir string) (v ReloadVerdict, err error) {
	b, err := readBounded(filepath.Join(stateDir, reloadFile), maxConfigSize)
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(b, &v)
}

// AskReload asks the daemon on a state directory to read its configuration again, with the signal that
// anybody may send it, and waits for the verdict.
func AskReload(ctx context.Context, stateDir string) (ReloadVerdict, error) {
	const op = "reload"
	pid, err := lockHolder(stateDir)
	if err != nil {
		return ReloadVerdict{}, err
	}
	before, _ := readVerdict(stateDir)
	if err := unix.Kill(pid, unix.SIGHUP); err != nil {
		return ReloadVerdict{}, fmt.Errorf("signal forged (pid %d): %w", pid, err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if v, err := readVerdict(stateDir); err == nil && !v.At.Equal(before.At) {
			if v.Refused != "" {
				return v, (&forge.Error{Kind: forge.KindInvalid, Op: op, Err: errors.New(v.Refused)}).WithHint("%s", v.Hint)
			}
			return v, nil
		}
		select {
		case <-ctx.Done():
			return ReloadVerdict{}, forge.Errorf(forge.KindUnavailable, op, "forged (pid %d) was asked and has not answered: %w", pid, ctx.Err())
		case <-tick.C:
		}
	}
}
