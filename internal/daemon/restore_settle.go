package daemon

import (
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
	"github.com/forge-ml/forge-ml/store"
)

// A database that was restored is older than the clusters. Until the two are compared, every table about what runs may be
// wrong, and each thing that the loops do by them could break an invariant:
//
//   - planning would give GPUs away that a run holds which the database does not know, or knows as waiting (invariant 3);
//   - launching attempt N+1 would find the claim and the records of an attempt N+1 of before, and take them for its own,
//     on other GPUs than that one has (invariants 2 and 3);
//   - launching a placed attempt anew, whose run directory is gone, would start it beside itself (invariant 2);
//   - an attempt whose directory is gone would be unknown for ever, and what it holds with it.
//
// So the loops start only once the comparison has come out clean. Nothing is killed for it: what lives and is not known is
// named, by its process ids, for a person to wait for or to end. The API answers meanwhile, and /readyz says why not.

// Remainer is what an executor must add for a restore: what it still has of runs, known or not.
type Remainer interface {
	Remains(ctx context.Context) ([]forge.Remains, error)
}

const (
	restoredFile  = "restored.json" // from a restore until the comparison is done
	settleEvery   = 2 * time.Second
	maxLost       = 1000 // attempts of one run; more is a fence that nobody of ours wrote
	maxNamed      = 20   // in a message
	maxMarkerSize = 64 << 10
)

// restoredMark is restored.json.
type restoredMark struct {
	TakenAt    time.Time `json:"taken_at"`
	RestoredAt time.Time `json:"restored_at"`
	From       string    `json:"from"`
}

// afterRestore calls start at once, unless the database was restored: then when it agrees with the clusters again.
func (d *Daemon) afterRestore(ctx context.Context, start func()) {
	mark, err := readRestored(d.live().cfg.StateDir)
	if errors.Is(err, fs.ErrNotExist) {
		start()
		return
	}
	if err != nil { // it is there, and that says enough
		d.log.Warn().Err(err).Msg("restored.json is not readable")
	}
	d.settling.Store(&[]string{"not compared yet"})
	d.loop(ctx, "settle", func(ctx context.Context) {
		if d.settleLoop(ctx, mark) {
			start()
		}
	})
}

func readRestored(stateDir string) (restoredMark, error) {
	return readJSONFile[restoredMark](filepath.Join(stateDir, restoredFile))
}

func (d *Daemon) settleLoop(ctx context.Context, mark restoredMark) bool {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	for {
		wait, strays := d.settle(ctx)
		if ctx.Err() != nil {
			return false
		}
		if len(wait) == 0 {
			if err := d.settled(ctx, mark, strays); err == nil {
				return true
			} else {
				wait = []string{err.Error()}
			}
		}
		if old := d.settling.Swap(&wait); old == nil || !slices.Equal(*old, wait) {
			d.log.Warn().Strs("waits_for", wait).Msg("restored from a backup: nothing is placed, launched or watched until the clusters agree with it")
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// settled ends the comparison, for good.
func (d *Daemon) settled(ctx context.Context, mark restoredMark, strays []string) error {
	message := fmt.Sprintf("The clusters agree with the database of %s again; placing goes on", mark.TakenAt.UTC().Format(time.RFC3339))
	if n := len(strays); n > 0 {
		message += fmt.Sprintf("; %d run directories belong to runs that were submitted after it and are not known: %s", n, strings.Join(strays[:min(n, maxNamed)], ", "))
	}
	if err := d.db.AddEvent(ctx, forge.Event{Actor: actorForged, Type: forge.EventBackupRestored, Reason: string(forge.WhyRequested), Message: message,
		Data: map[string]any{"unknown_runs": len(strays)}}); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(d.live().cfg.StateDir, restoredFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d.settling.Store(nil)
	d.log.Info().Int("unknown_runs", len(strays)).Msg(message)
	return nil
}

// settle compares once and mends what can be mended. It returns what has to be waited for, and the runs of
// which there is a directory and nothing else.
func (d *Daemon) settle(ctx context.Context) (wait, strays []string) {
	clusters := d.clusterList()
	for _, c := range clusters {
		name := c.Name
		r, ok := c.Executor.(Remainer)
		if !ok {
			wait = append(wait, fmt.Sprintf("cluster %s cannot say what it still has of runs", name))
			continue
		}
		cctx, cancel := context.WithTimeout(ctx, execTimeout)
		list, err := r.Remains(cctx)
		cancel()
		if err != nil {
			wait = append(wait, fmt.Sprintf("cluster %s does not answer: %v", name, err))
			continue
		}
		w, s := d.settleCluster(ctx, c, list)
		wait, strays = append(wait, w...), append(strays, s...)
	}
	for _, a := range d.world.open() {
		if !slices.ContainsFunc(clusters, func(c *Cluster) bool { return c.Name == a.Cluster }) {
			wait = append(wait, fmt.Sprintf("attempt %d of run %s is on cluster %q, which is not configured", a.Number, a.Run, a.Cluster))
		}
	}
	return wait, strays
}

func (d *Daemon) settleCluster(ctx context.Context, c *Cluster, list []forge.Remains) (wait, strays []string) {
	remains := map[forge.RunID]forge.Remains{}
	for _, m := range list {
		remains[m.Run] = m
		known := false
		if r, err := d.db.RunByID(ctx, m.Run); err == nil {
			known = true
			if m.Newest > r.Attempt && r.State.Terminal() && len(m.Alive) == 0 {
				continue // final in the database; what came after it was its owner's to know
			}
		} else if forge.KindOf(err) != forge.KindNotFound {
			wait = append(wait, err.Error())
			continue
		}
		if !known && len(m.Alive) == 0 {
			strays = append(strays, string(m.Run))
			continue
		}
		if err := d.settleRun(ctx, c, m); err != nil {
			wait = append(wait, err.Error())
		}
	}
	for _, a := range d.world.open() {
		if a.Cluster != c.Name || !a.State.Open() || len(remains[a.Run].Alive[a.Number]) > 0 {
			continue
		}
		if err := d.settleAttempt(ctx, c, a); err != nil {
			wait = append(wait, err.Error())
		}
	}
	return wait, strays
}

// settleRun counts a run's attempts past those that the database did not live to see.
func (d *Daemon) settleRun(ctx context.Context, c *Cluster, m forge.Remains) error {
	r, known := d.world.run(m.Run)
	a, open := d.world.attempt(m.Run)
	for n, pids := range m.Alive {
		end := "kill "
		if c.Slurm != nil {
			end = "scancel " // jobs are alive, and not processes here
		}
		end += strings.Trim(fmt.Sprint(pids), "[]")
		if !known || !open || a.Number != n || !a.State.Open() || n < m.Newest {
			return fmt.Errorf("attempt %d of run %s is at work on cluster %s and the database does not know it; wait for it, or end it: %s", n, m.Run, c.Name, end)
		}
		if m.Newest == 0 && m.Problem != "" {
			return fmt.Errorf("attempt %d of run %d is at work on cluster %s: %s", n, r.Number, c.Name, m.Problem)
		}
		if m.Newest == 0 {
			return fmt.Errorf("attempt %d of run %d is at work on cluster %s and its run directory is gone, so that it can save nothing; end it: %s", n, r.Number, c.Name, end)
		}
		return nil // it went on as the database has it
	}
	switch {
	case m.Problem != "":
		return fmt.Errorf("the directory of run %s on cluster %s: %s", m.Run, c.Name, m.Problem)
	case !known:
		return nil
	case m.Newest > r.Attempt+maxLost:
		return fmt.Errorf("the fence of run %s on cluster %s is at %d, the database knows %d attempts; correct the file fence", m.Run, c.Name, m.Newest, r.Attempt)
	}
	for n := r.Attempt; n <= m.Newest; n++ {
		if n > r.Attempt || open && m.Newest > n || open && d.halfLost(ctx, a) {
			if err := d.loseAttempt(ctx, c, r, n); err != nil {
				return fmt.Errorf("attempt %d of run %s: %w", n, m.Run, err)
			}
		}
	}
	return nil
}

// halfLost says that a crash came between the two writes of loseAttempt: the attempt has exited and nobody is to end it.
func (d *Daemon) halfLost(ctx context.Context, a forge.Attempt) bool {
	if a.State != forge.AttemptExited {
		return false
	}
	rows, err := d.db.Outbox(ctx)
	return err == nil && !slices.ContainsFunc(rows, func(o store.OutboxRow) bool { return o.Run == a.Run && o.Attempt == a.Number })
}

// loseAttempt records one attempt that was superseded while the database was not looking: its metrics and checkpoints are
// read as far as they are there, its outcome is not judged. By the intents that were lost with the database it could
// come out as somebody's failure, and a terminal state is final.
func (d *Daemon) loseAttempt(ctx context.Context, c *Cluster, r forge.Run, n int) error {
	dir := d.runDir(r.ID, c.Name)
	cctx, cancel := context.WithTimeout(ctx, execTimeout)
	look := c.Executor.Find(cctx, forge.AttemptKey(r.ID, n), dir) // one that never started is made unable to
	cancel()
	if look.State == forge.LookupUnknown {
		return errors.New(look.Evidence)
	}
	a, open := d.world.attempt(r.ID)
	switch {
	case !open || a.Number < n:
		if err := d.db.AddLostAttempt(ctx, store.LostAttempt{Run: r.ID, Number: n, Cluster: c.Name, RunDir: dir, ExternalID: look.ID}); err != nil {
			return err
		}
	case a.State.Open():
		if err := d.db.AttemptExited(ctx, store.Exit{Run: r.ID, Attempt: n}); err != nil {
			return err
		}
	}
	if look.State == forge.LookupFound {
		lost := forge.Attempt{Run: r.ID, Number: n, Cluster: c.Name, RunDir: dir, ExternalID: look.ID}
		if err := d.progress(ctx, c, lost, true, time.Now()); err != nil {
			return err
		}
		d.cursors.drop(lost)
	}
	_, _, err := d.db.AttemptEnded(ctx, store.End{Run: r.ID, Attempt: n, Reason: forge.EndSuperseded, Next: forge.RunPending, Avoid: r.Avoid,
		Fruitless: r.Fruitless, Retries: r.Retries, NotBefore: r.NotBefore, Detail: "the database was restored from a backup that is older than this attempt's end"})
	return err
}

// settleAttempt looks after an attempt that the database has as open and of which nothing lives. One that left records is
// left to the watch loop, which reads them. One of which there is nothing, not even its directory, can be made
// unable to start, and is then known to be over.
func (d *Daemon) settleAttempt(ctx context.Context, c *Cluster, a forge.Attempt) error {
	if now, ok := d.world.attempt(a.Run); !ok || now.Number != a.Number || !now.State.Open() {
		return nil // ended by settleRun
	}
	cctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	switch look := c.Executor.Find(cctx, forge.AttemptKey(a.Run, a.Number), a.RunDir); look.State {
	case forge.LookupAbsent:
		return d.db.AttemptExited(ctx, store.Exit{Run: a.Run, Attempt: a.Number})
	case forge.LookupUnknown:
		return fmt.Errorf("cluster %s does not say whether attempt %d of run %s started: %s", c.Name, a.Number, a.Run, look.Evidence)
	}
	return nil
}
