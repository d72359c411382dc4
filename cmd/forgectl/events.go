package main

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) eventsCommand() *cli.Command {
	return &cli.Command{Name: "events", Usage: "print the tenant's trail: who did what, when and why",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with what happens, until interrupted"},
			&cli.StringSliceFlag{Name: "type", Usage: "only events of this type, like run.ended; may be given more than once, or separated by commas"},
			&cli.StringFlag{Name: "actor", Usage: "only what this user did, or forged"},
			&cli.StringFlag{Name: "since", Usage: "only from then on: a time, or how long ago (2h, 7d)"},
			&cli.Int64Flag{Name: "after", Usage: "only events with a greater seq"},
		},
		Action: func(c *cli.Context) error {
			f, err := a.parseEvents(c)
			if err != nil {
				return err
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			if c.Bool("follow") {
				return a.streamEvents(c.Context, cl, f, forever)
			}
			return a.eventList(c.Context, cl, f)
		}}
}

func (a *app) parseEvents(c *cli.Context) (api.EventFilter, error) {
	f := api.EventFilter{Actor: c.String("actor"), After: c.Int64("after")}
	if _, err := positionals(c); err != nil {
		return f, err
	}
	for _, word := range c.StringSlice("type") {
		for s := range strings.SplitSeq(word, ",") {
			if !slices.Contains(forge.EventTypes, forge.EventType(s)) {
				return f, forge.Invalidf("type", "%q is no type of event%s", s, didYouMean(s, texts(forge.EventTypes))).WithHint("there are %s", joinAny(forge.EventTypes))
			}
			f.Types = append(f.Types, forge.EventType(s))
		}
	}
	var err error
	f.Since, err = a.moment(c, "since")
	return f, err
}

// moment reads a time, or how long ago it was. A date alone is its first moment in this host's zone.
func (a *app) moment(c *cli.Context, name string) (time.Time, error) {
	if !c.IsSet(name) {
		return time.Time{}, nil
	}
	text := c.String(name)
	for _, form := range []string{time.RFC3339, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(form, text, time.Local); err == nil {
			return t, nil
		}
	}
	d, err := lifetime(c, name)
	if err != nil {
		return time.Time{}, forge.Invalidf(name, "%q is no time; want 2026-11-25T14:00:00Z, 2026-11-25, or how long ago: 2h, 7d", text)
	}
	return a.Now().Add(-d), nil
}

func (a *app) eventList(ctx context.Context, cl *client.Client, f api.EventFilter) error {
	p := a.printer()
	var all []forge.Event
	for {
		page, err := cl.EventList(ctx, f, api.MaxLimit)
		if err != nil {
			return err
		}
		all = append(all, page...)
		if len(page) < api.MaxLimit {
			break
		}
		f.After = page[len(page)-1].Seq
	}
	if p.mode == modeJSON {
		return p.done(jsonList(p, each(all)))
	}
	t := p.table(">SEQ", "TIME", "TYPE", "ACTOR", ">RUN", ">ATTEMPT:1", "REASON", "MESSAGE")
	for _, e := range all {
		t.row(trailCells(p, e)...)
	}
	t.flush()
	a.nothing(p, len(all), "no such events", "forgectl events --follow waits for the next")
	return p.done(nil)
}

// trailCells is eventCells with the run, which a trail of many has to name.
func trailCells(p *printer, e forge.Event) []string {
	run := ""
	if e.Number > 0 {
		run = strconv.FormatInt(e.Number, 10)
	}
	return slices.Insert(eventCells(p, e), 4, p.orDash(run))
}
