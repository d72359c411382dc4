package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// checkAtOnce is how large a database may be to be read whole before the daemon serves. A larger one is read beside
// the work: 1M runs must not keep a restart waiting.
const checkAtOnce = 64 << 20

// Damaged says that err is about a database file that is not whole.
func Damaged(err error) bool { return errors.Is(err, store.ErrDamaged) }

// databasePresent refuses a state directory without a database before the store would make one. An empty file is no
// database: to serve it would be to begin anew, over a site that lost everything.
func databasePresent(stateDir, path string) error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return (&forge.Error{Kind: forge.KindPrecondition, Op: "serve", Field: "state_dir",
			Err: fmt.Errorf("%s has no database", stateDir)}).WithHint("make one: forged init --state-dir %s; or restore a backup: forged restore FILE --state-dir %s", stateDir, stateDir)
	case err != nil:
		return stateDirError(stateDir, err)
	case st.Size() == 0:
		return sayWayOut(stateDir, store.Damaged(path, "it is empty"))
	}
	return nil
}

// sayWayOut adds to a refusal of a damaged database where its newest backup is.
func sayWayOut(stateDir string, err error) error {
	last, lerr := ReadLastBackup(stateDir)
	if !Damaged(err) || lerr != nil {
		return err
	}
	return &forge.Error{Kind: forge.KindOf(err), Op: "serve", Err: err, Hint: fmt.Sprintf("%s\nthe newest backup is of %s: %s",
		forge.HintOf(err), last.TakenAt.Format(time.RFC3339), last.File)}
}

// checkNow reads a database that is small enough for it. It comes before there are settings.
func (d *Daemon) checkNow(ctx context.Context, stateDir string) error {
	file, log := d.db.Size()
	if file+log > checkAtOnce {
		return nil
	}
	return sayWayOut(stateDir, d.db.Check(ctx))
}

// checkBeside reads a large database once, while the daemon works. Damage stops planning and turns /readyz red: what runs is
// watched to its end as far as the tables can still be read, and nothing new rests on them.
func (d *Daemon) checkBeside(ctx context.Context) {
	file, log := d.db.Size()
	if file+log > checkAtOnce {
		d.checkWhole(ctx, file+log)
	}
}

func (d *Daemon) checkWhole(ctx context.Context, bytes int64) {
	began := time.Now()
	err := d.db.Check(ctx)
	switch {
	case ctx.Err() != nil:
	case Damaged(err):
		d.foundDamage(ctx, sayWayOut(d.live().cfg.StateDir, err))
	case err != nil:
		d.log.Warn().Err(err).Msg("the database was not checked")
	default:
		d.log.Info().Dur("took", time.Since(began)).Int64("bytes", bytes).Msg("the database is whole")
	}
}

func (d *Daemon) foundDamage(ctx context.Context, err error) {
	text := err.Error()
	d.damage.Store(&text)
	d.log.Error().Err(err).Str("hint", forge.HintOf(err)).Msg("nothing is placed any more")
	if eerr := d.db.AddEvent(ctx, forge.Event{Actor: actorForged, Type: forge.EventPlanRefused, Reason: "damaged",
		Message: "Nothing is placed any more: " + text + "; next: " + forge.HintOf(err)}); eerr != nil && ctx.Err() == nil {
		d.log.Warn().Err(eerr).Msg("the event about it could not be written")
	}
}
