package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

const (
	watchEvery = 2 * time.Second
	watchLeast = 100 * time.Millisecond
)

type watchOptions struct {
	on    bool
	every time.Duration
}

func watchFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "look again and again, until interrupted; in a pipe a block, or with -o json a line, a change"},
		&cli.StringFlag{Name: "interval", Usage: "how often to look: 5s, 1m", DefaultText: watchEvery.String()},
	}
}

func parseWatch(c *cli.Context, every time.Duration) (watchOptions, error) {
	w := watchOptions{on: c.Bool("watch"), every: every}
	if !c.IsSet("interval") {
		return w, nil
	}
	d, err := forge.ParseDuration(c.String("interval"))
	switch {
	case err != nil:
		return w, forge.Invalidf("interval", "%w", err)
	case d < watchLeast:
		return w, forge.Invalidf("interval", "%s is too short; want %s or more", d, watchLeast)
	}
	w.every, w.on = d, true
	return w, nil
}

// view is what a watched command shows at one moment.
type view struct {
	value any              // as JSON
	print func(p *printer) // for people, and as TSV
	key   func() (key any) // what counts as a change; nil: the value
	last  bool             // nothing changes any more
}

func (v view) changed(last []byte) (now []byte, changed bool, err error) {
	key := v.value
	if v.key != nil {
		key = v.key()
	}
	now, err = json.Marshal(key)
	return now, !bytes.Equal(now, last), err
}

// watch shows a view until it is interrupted. On a terminal it is drawn again in its place, with times
// that go on; in a pipe it is written when something changed. A server that is away is borne with.
func (a *app) watch(ctx context.Context, w watchOptions, look func(context.Context, *client.Client) (view, error)) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	calm := patience{app: a}
	live := screen{w: a.Out, live: true, width: a.Width}
	var last []byte
	for first := true; ; {
		v, err := look(ctx, cl)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && first, !calm.forgive(err):
			return err
		case err != nil:
			live.drawn = 0 // what was just said on standard error stands below the view
		default:
			first = false
			if err := a.showView(v, &live, &last); err != nil {
				if isClosedPipe(err) {
					return nil
				}
				return fmt.Errorf("output: %w", err)
			}
			if v.last {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(w.every):
		}
	}
}

func (a *app) showView(v view, live *screen, last *[]byte) error {
	now, changed, err := v.changed(*last)
	if err != nil {
		return err
	}
	*last = now
	p := a.printer()
	if p.people() && a.OutTTY {
		live.draw(a.render(p, v))
		return nil
	}
	if !changed {
		return nil
	}
	if p.mode == modeJSON {
		if err := jsonLine(p, v.value); err != nil {
			return err
		}
		return p.w.Flush()
	}
	v.print(p)
	p.line("") // between two blocks
	return p.w.Flush()
}

// render makes the lines of a view, as many as the terminal has: what scrolled off it could not be
// drawn again.
func (a *app) render(p *printer, v view) []string {
	var b bytes.Buffer
	p.w.Reset(&b)
	p.notes = io.Discard
	v.print(p)
	_ = p.w.Flush()
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if b.Len() == 0 {
		lines = []string{"nothing there"}
	}
	if room := a.Height - 1; room > 1 && len(lines) > room {
		lines = append(lines[:room-1], fmt.Sprintf("… and %s more", plural(len(lines)-room+1, "line")))
	}
	return lines
}
