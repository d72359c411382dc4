package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

// wallTime writes a time as the wall shows it in its own zone, and for people how far away it is.
func (p *printer) wallTime(t time.Time) string {
	switch {
	case t.IsZero():
		return p.orDash("")
	case !p.people():
		return t.Format(time.RFC3339)
	}
	return t.Format("2006-01-02 15:04 -07:00") + ", " + ago(p.now, t)
}

// number writes a number that 0 stands for none of.
func (p *printer) number(n int64) string {
	if n == 0 {
		return p.orDash("")
	}
	return strconv.FormatInt(n, 10)
}

func (a *app) scheduleList(ctx context.Context) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	p := a.printer()
	all := client.Every(ctx, api.Listing{}, cl.Schedules)
	if p.mode == modeJSON {
		return p.done(jsonList(p, all))
	}
	t := p.table("NAME", "CRON", "TZ:4", "NEXT", "LAST", "FIRING:3", ">RUN", "STATE:2", "VERDICT", "BLOCKS:1")
	n := 0
	for s, err := range all {
		if err != nil {
			return p.done(err)
		}
		n++
		next := p.wallTime(s.Next)
		if !s.PausedAt.IsZero() && p.people() {
			next = "paused " + p.time(s.PausedAt)
		}
		var f forge.Firing
		if s.Last != nil {
			f = *s.Last
		}
		t.row(s.Name, s.Cron, s.TZ, next, p.time(f.Due), p.orDash(string(f.State)), p.number(f.Run), p.orDash(string(f.RunState)), p.orDash(string(f.Verdict)), p.orDash(strings.Join(s.Blocks, ",")))
	}
	t.flush()
	a.nothing(p, n, "no schedules yet", `forgectl schedule add "0 3 * * *" --eval --suite safety --model NAME@production`)
	return p.done(nil)
}

func (a *app) scheduleShow(ctx context.Context, name string, firings int) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	s, err := cl.Schedule(ctx, name, firings)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(s))
	}
	paused := ""
	if !s.PausedAt.IsZero() {
		paused = p.time(s.PausedAt)
	}
	p.fields("schedule", s.Name, "when", s.Cron+" in "+s.TZ, "next", p.wallTime(s.Next), "paused", paused, "recipe", s.Run.Recipe, "suite", s.Run.Suite, "model", s.Run.Model, "baseline", s.Baseline,
		"overlap", string(s.Overlap), "catch up", string(s.CatchUp), "on regression", string(s.OnRegression), "blocks", strings.Join(s.Blocks, ", "), "made by", s.User+" as "+string(s.Role), "made", p.time(s.CreatedAt))
	p.section("firings")
	t := p.table("DUE", "FIRING", ">RUN", "STATE:2", "MODEL:3", "BASELINE:4", "VERDICT", ">MISSED:1", "WORDS")
	for _, f := range s.Firings {
		p.tagged(t, "firing", p.time(f.Due), string(f.State), p.number(f.Run), p.orDash(string(f.RunState)), p.orDash(f.Model), p.orDash(f.Baseline), p.orDash(string(f.Verdict)), strconv.Itoa(f.Missed), wordsOfFiring(f))
	}
	t.flush()
	return p.done(nil)
}

func wordsOfFiring(f forge.Firing) string {
	var all []string
	if f.By != "" {
		all = append(all, "asked for by "+f.By)
	}
	for _, w := range []string{f.Words, f.VerdictWords} {
		if w != "" {
			all = append(all, w)
		}
	}
	if f.Cleared != "" {
		all = append(all, "cleared by "+f.Cleared)
	}
	return strings.Join(all, "; ")
}
