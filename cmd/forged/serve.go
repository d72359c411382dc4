package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/forge-ml/forge-ml/internal/daemon"
)

func serve(c *cli.Context, errOut io.Writer) error {
	// From the first instruction on: a HUP or a TERM that comes while the database is opened must
	// not end the process half-way.
	ctx, stop := context.WithCancelCause(c.Context)
	defer stop(nil)
	s := obey(stop)
	cfg, err := load(c)
	if err != nil {
		return err
	}
	log := daemon.NewLog(errOut, cfg.Log)
	d, err := daemon.New(ctx, daemon.Options{Config: cfg, Log: log.Logger(), Version: version,
		ReadConfig: func() (daemon.Config, error) { return load(c) }, Reload: s.reload, Relog: log.Set, Hurry: s.hurry})
	if err != nil {
		return err
	}
	return d.Run(ctx)
}

// orders is what signals ask of the daemon.
type orders struct {
	reload chan struct{}
	hurry  chan struct{}
}

// obey: HUP reloads. The first TERM or INT stops and lets requests end, the second one stops at once,
// and after that the signals do what they do by default.
func obey(stop context.CancelCauseFunc) orders {
	o := orders{reload: make(chan struct{}, 1), hurry: make(chan struct{})}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		asked := false
		for s := range signals {
			switch {
			case s == syscall.SIGHUP:
				select {
				case o.reload <- struct{}{}:
				default: // one is about to happen, and will read the file then
				}
			case !asked:
				asked = true
				stop(errors.New(s.String()))
			default:
				close(o.hurry)
				signal.Reset(syscall.SIGTERM, syscall.SIGINT)
				return
			}
		}
	}()
	return o
}

// reloadTimeout bounds how long forged may take to judge its configuration.
const reloadTimeout = 30 * time.Second

func reload(c *cli.Context, out io.Writer) error {
	if err := noLeftovers(c); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, reloadTimeout)
	defer cancel()
	v, err := daemon.AskReload(ctx, c.String("state-dir"))
	if err != nil {
		return err
	}
	text := "nothing has changed"
	if len(v.Changed) > 0 {
		text = strings.Join(v.Changed, "\n")
	}
	_, err = fmt.Fprintln(out, text)
	return err
}
