package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
)

// stopStack closes what was opened, last first. One failing step never skips the rest, and a
// second run does nothing.
type stopStack struct{ steps []stopStep }

type stopStep struct {
	name string
	f    func() error
}

func (s *stopStack) push(name string, f func() error) { s.steps = append(s.steps, stopStep{name, f}) }

func (s *stopStack) run(log zerolog.Logger) error {
	var errs []error
	for len(s.steps) > 0 {
		step := s.steps[len(s.steps)-1]
		s.steps = s.steps[:len(s.steps)-1]
		if err := step.f(); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", step.name, err))
		}
		log.Debug().Str("step", step.name).Msg("stopped")
	}
	return errors.Join(errs...)
}

const (
	stopBudget    = 10 * time.Second // for requests that are being answered when a stop begins
	hurryPatience = time.Second      // for loops that have been told to end, when nobody wants to wait
	sayEvery      = 2 * time.Second  // what a stop still waits for
)

// drain lets requests end within the budget, and ends them when there is a hurry.
func (d *Daemon) drain() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopBudget)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.http.Shutdown(ctx)
	}()
	d.wait(done, d.hurry, func() { d.log.Info().Int64("requests", d.requests.Load()).Msg("waiting for requests") })
	cancel()
	<-done
	if n := d.requests.Load(); n > 0 {
		d.log.Warn().Int64("requests", n).Msg("requests cut off")
	}
	return d.http.Close()
}

// join waits for the loops, which have been told to end. Calls to executors and reads of run
// directories end with their context; one that does not (a file system that hangs) is left behind when
// there is a hurry.
func (d *Daemon) join() {
	done := make(chan struct{})
	go func() { d.wg.Wait(); close(done) }()
	say := func() { d.log.Info().Strs("loops", d.turns.names()).Msg("waiting for loops") }
	if d.wait(done, d.hurry, say) {
		return
	}
	late, stop := context.WithTimeout(context.Background(), hurryPatience)
	defer stop()
	if !d.wait(done, late.Done(), say) {
		d.log.Warn().Strs("loops", d.turns.names()).Msg("loops left behind")
	}
}

// wait waits for done or for enough, whichever is first, and says now and then that it does.
func (d *Daemon) wait(done, enough <-chan struct{}, say func()) bool {
	tick := time.NewTicker(sayEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return true
		case <-enough:
			return false
		case <-tick.C:
			say()
		}
	}
}

// recordTimeout bounds the last write; a disk that hangs must not hang the stop.
const recordTimeout = 5 * time.Second

func (d *Daemon) recordStart(ctx context.Context) {
	if err := d.db.AddEvent(ctx, forge.Event{Actor: actorForged, Type: forge.EventDaemonStarted, Message: "forged " + d.version + " has started"}); err != nil {
		d.log.Warn().Err(err).Msg("start not recorded")
	}
}

func (d *Daemon) recordStop(ctx context.Context, fault error) {
	e := forge.Event{Actor: actorForged, Type: forge.EventDaemonStopped, Reason: string(forge.WhySignal)}
	if fault != nil {
		e.Reason = string(forge.WhyFault)
		e.Message = "forged has stopped by itself: " + fault.Error()
	} else {
		e.Message = "forged was stopped: " + context.Cause(ctx).Error()
	}
	if open, _ := d.world.counts(); open > 0 {
		e.Message += fmt.Sprintf("; %d attempts go on", open)
	}
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.db.AddEvent(rctx, e); err != nil {
			d.log.Warn().Err(err).Msg("stop not recorded")
		}
	}()
	d.wait(done, rctx.Done(), func() { d.log.Info().Msg("waiting for the database") })
}

// roster is who is at work.
type roster struct {
	mu sync.Mutex
	in map[string]bool
}

func (r *roster) add(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.in == nil {
		r.in = map[string]bool{}
	}
	r.in[name] = true
}

func (r *roster) remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.in, name)
}

func (r *roster) has(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.in[name]
}

func (r *roster) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.in))
}
