package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
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

// listen binds the unix socket and the loopback address.
func (d *Daemon) listen(ctx context.Context) error {
	path := d.cfg.Listen.Socket
	// The state lock is ours, so a socket file that is here was left by a daemon that is dead.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return forge.Invalidf("listen.socket", "%s: %v", path, err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return forge.Invalidf("listen.socket", "%s: %v", path, err)
	}
	d.listeners = append(d.listeners, l)
	d.stop.push("unix socket", closeOnce(l))
	if err := os.Chmod(path, 0o600); err != nil {
		return forge.Invalidf("listen.socket", "%s: %v", path, err)
	}
	if d.cfg.Listen.TCP == TCPOff {
		return nil
	}
	l, err = lc.Listen(ctx, "tcp", d.cfg.Listen.TCP)
	if err != nil {
		return (&forge.Error{Kind: forge.KindConflict, Op: "serve", Field: "listen.tcp", Err: fmt.Errorf("%s: %w", d.cfg.Listen.TCP, err)}).
			WithHint("set listen.tcp to a free port (127.0.0.1:0 picks one) or to %q", TCPOff)
	}
	d.listeners = append(d.listeners, l)
	d.stop.push("tcp listener", closeOnce(l))
	return os.WriteFile(filepath.Join(d.cfg.StateDir, addrFile), []byte(l.Addr().String()+"\n"), 0o600)
}

// closeOnce closes a listener that http.Server may have closed already.
func closeOnce(l net.Listener) func() error {
	return func() error {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

func (d *Daemon) serve(ctx context.Context) {
	base, cut := context.WithCancel(ctx)
	srv := &http.Server{
		Handler: d.handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, BaseContext: func(net.Listener) context.Context { return base },
	}
	for _, l := range d.listeners {
		d.wg.Go(func() {
			if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				select {
				case d.fatal <- fmt.Errorf("serve %s: %w", l.Addr(), err):
				default:
				}
			}
		})
	}
	d.stop.push("http", func() error {
		cut() // followers of events would otherwise hold the drain for its whole budget
		c, cancel := context.WithTimeout(context.Background(), stopBudget)
		defer cancel()
		return srv.Shutdown(c)
	})
}
