package main

import (
	"context"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) runEventsCommand() *cli.Command {
	return &cli.Command{Name: "events", Usage: "print what happened to a run", ArgsUsage: "RUN",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on until the run ends"},
			&cli.Int64Flag{Name: "after", Usage: "only events with a greater seq"},
		},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "RUN")
			if err != nil {
				return err
			}
			return a.runEvents(c.Context, args[0], c.Int64("after"), c.Bool("follow"))
		}}
}

func (a *app) runEvents(ctx context.Context, run string, after int64, follow bool) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	d, err := cl.Run(ctx, run)
	if err != nil {
		return err
	}
	if follow && !d.State.Terminal() {
		return a.streamEvents(ctx, cl, api.EventFilter{Run: run, After: after}, untilRunEnds)
	}
	p := a.printer()
	all, err := allEvents(ctx, cl, run, after)
	if err != nil {
		return err
	}
	if p.mode == modeJSON {
		return p.done(jsonList(p, each(all)))
	}
	t := p.table(">SEQ", "TIME", "TYPE", "ACTOR:1", ">ATTEMPT:2", "REASON", "MESSAGE")
	for _, e := range all {
		t.row(eventCells(p, e)...)
	}
	t.flush()
	return p.done(nil)
}

func allEvents(ctx context.Context, cl *client.Client, run string, after int64) ([]forge.Event, error) {
	var all []forge.Event
	for {
		page, err := cl.RunEvents(ctx, run, after, api.MaxLimit)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < api.MaxLimit {
			return all, nil
		}
		after = page[len(page)-1].Seq
	}
}

func eventCells(p *printer, e forge.Event) []string {
	attempt := ""
	if e.Attempt > 0 {
		attempt = strconv.Itoa(e.Attempt)
	}
	return []string{strconv.FormatInt(e.Seq, 10), p.time(e.Time), string(e.Type), e.Actor, p.orDash(attempt), p.orDash(e.Reason), e.Message}
}

// When a stream of events ends by itself.
func forever(forge.Event) bool        { return false }
func untilRunEnds(e forge.Event) bool { return e.Type == forge.EventRunEnded }

// streamEvents prints events as they come; each goes out at once. For programs that read JSON
// it is an object a line.
func (a *app) streamEvents(ctx context.Context, cl *client.Client, f api.EventFilter, last func(forge.Event) bool) error {
	p := a.printer()
	for e, err := range cl.EventsWhere(ctx, f) {
		if err != nil {
			return p.done(err)
		}
		switch {
		case p.mode == modeJSON:
			err = jsonLine(p, e)
		case p.mode == modeTSV && f.Run == "":
			p.table().row(trailCells(p, e)...)
		case p.mode == modeTSV:
			p.table().row(eventCells(p, e)...)
		case f.Run == "":
			p.line("%s", trailLine(e))
		default:
			p.line("%s", eventLine(e))
		}
		if err == nil {
			err = p.w.Flush()
		}
		if isClosedPipe(err) {
			return nil
		}
		if err != nil || last(e) {
			return err
		}
	}
	return ctx.Err()
}

// eventLine is an event in a scrolling view, where a relative time would be wrong a second later.
func eventLine(e forge.Event) string {
	s := e.Time.UTC().Format(time.TimeOnly) + "  " + clean(string(e.Type))
	if e.Attempt > 0 {
		s += " (attempt " + strconv.Itoa(e.Attempt) + ")"
	}
	return s + "  " + clean(e.Message)
}

// trailLine is eventLine where the day, the run and who did it are not known from elsewhere.
func trailLine(e forge.Event) string {
	s := e.Time.UTC().Format(time.DateTime) + "  " + clean(string(e.Type)) + "  " + clean(e.Actor)
	if e.Number > 0 {
		s += "  run " + strconv.FormatInt(e.Number, 10)
	}
	if e.Reason != "" {
		s += " (" + clean(e.Reason) + ")"
	}
	return s + "  " + clean(e.Message)
}
