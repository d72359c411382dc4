package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// tell says something to the service manager, if there is one (sd_notify). It is never worth failing for.
func (d *Daemon) tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		d.log.Debug().Err(err).Msg("service manager not told")
	}
}

func reloading() string {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return daemon.SdNotifyReloading
	}
	return fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, t.Nano()/1000)
}

// watchdogLoop tells the service manager that forged lives, twice in each of its intervals, and only
// when it does. A manager that hears nothing for an interval kills and restarts it.
func (d *Daemon) watchdogLoop(ctx context.Context) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval <= 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		cctx, cancel := context.WithTimeout(ctx, interval/2)
		err := d.pulse(cctx)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			d.log.Error().Err(err).Msg("the watchdog is not fed")
		default:
			d.tell(daemon.SdNotifyWatchdog)
			d.tellStatus()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pulse asks those on whom all else hangs to turn once, rather than to trust that they would: an idle
// loop and a hanging one look the same.
func (d *Daemon) pulse(ctx context.Context) error {
	if err := d.db.Beat(ctx); err != nil {
		return fmt.Errorf("the store's writer does not turn: %w", err)
	}
	if d.settling.Load() != nil {
		return nil // the plan loop has not begun: see restore_settle.go
	}
	if !d.turns.has("plan") { // it waits for the clusters after a restore, however long they take
		return nil
	}
	before := d.planned.Load()
	kick(d.kickPlan)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for d.planned.Load() == before {
		select {
		case <-ctx.Done():
			return errors.Join(errors.New("planning does not turn"), ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// tellStatus is the line that `systemctl status` shows.
func (d *Daemon) tellStatus() {
	note := ""
	if f := d.refused.Load(); f != nil {
		note = "; the new configuration was refused: " + *f
	}
	open, waiting := d.world.counts()
	d.tell(fmt.Sprintf("STATUS=serving: %d attempts open, %d runs wait%s", open, waiting, note))
}

func (d *world) counts() (open, waiting int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, a := range d.attempts {
		if a.State.Open() {
			open++
		}
	}
	return open, len(d.pending)
}
