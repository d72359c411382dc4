package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// replayOnly are the flags that say how a trace is replayed.
var replayOnly = []string{"trace", "cluster", "estimates", "restart-cost", "checkpoint-every", "grace-ok", "node-mtbf", "seed", "plot", "generate", "load"}

func liveOptions(c *cli.Context) (api.WhatIfQuery, error) {
	for _, name := range replayOnly {
		if c.IsSet(name) {
			return api.WhatIfQuery{}, forge.Invalidf(name, "cannot be used with --live, which looks at the server's own queue: it says how a trace is replayed")
		}
	}
	q := api.WhatIfQuery{AddNodes: c.StringSlice("add-nodes"), Drain: c.StringSlice("drain")}
	text(c, "policy", &q.Policy)
	if len(q.AddNodes)+len(q.Drain) == 0 && q.Policy == "" {
		return q, forge.Invalidf("", "--live needs something to change").WithHint("forgectl simulate --live --add-nodes 4x8:h100 | --drain NODE | --policy srsf")
	}
	return q, nil
}

func (a *app) simulateLive(ctx context.Context, q api.WhatIfQuery) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	w, err := cl.WhatIf(ctx, q)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(w))
	}
	if p.people() {
		p.ahead("now", w.Now)
		p.ahead("then", w.Then)
		p.line("%s", effectOn("of all that wait", w.Others))
		p.line("")
	}
	heads := []string{">RUN", "NAME", ">GPUS", "START NOW", "START THEN", "CHANGE"}
	tenants := len(w.Runs) > 0 && w.Runs[0].Tenant != ""
	if tenants {
		heads = append(heads, "TENANT")
	}
	t := p.table(heads...)
	for _, r := range w.Runs {
		row := []string{strconv.FormatInt(r.Run, 10), p.orDash(r.Name), strconv.Itoa(r.GPUs), p.due(r.Now), p.due(r.Then), change(r.Now, r.Then)}
		if tenants {
			row = append(row, string(r.Tenant))
		}
		t.row(row...)
	}
	t.flush()
	if w.More > 0 && p.people() {
		p.line("… and %d more", w.More)
	}
	return p.done(nil)
}

func (p *printer) ahead(name string, f api.AheadFigures) {
	took := func(s float64) string { return span(time.Duration(s * float64(time.Second))) }
	line := fmt.Sprintf("%-5s policy %s on %s: %d of %d that wait start", name, clean(f.Policy), plural(f.GPUs, "GPU"), f.Start, f.Waiting)
	if f.Start > 0 {
		line += fmt.Sprintf("; wait %s on average, p95 %s, longest %s", took(f.AvgWaitS), took(f.P95WaitS), took(f.MaxWaitS))
	}
	p.line("%s", line)
}

// due is a time to come.
func (p *printer) due(t time.Time) string {
	switch {
	case !p.people():
		return p.time(t)
	case t.IsZero():
		return "not known"
	}
	return inTime(p.now, t)
}

func change(now, then time.Time) string {
	switch d := then.Sub(now); {
	case now.IsZero() && then.IsZero():
		return ""
	case then.IsZero():
		return "not any more, as far as was looked"
	case now.IsZero():
		return "starts then"
	case d >= time.Minute:
		return span(d) + " later"
	case d <= -time.Minute:
		return span(-d) + " sooner"
	}
	return "same"
}

// effectOn says what a change does to runs of others.
func effectOn(whom string, e api.Effect) string {
	if e.Later+e.Sooner+e.Never == 0 {
		return whom + ": none starts later or sooner"
	}
	t := fmt.Sprintf("%s: %d later", whom, e.Later)
	if e.Later > 0 {
		t += ", by " + span(e.Most.D()) + " at most"
	}
	t += fmt.Sprintf("; %d sooner", e.Sooner)
	if e.Never > 0 {
		t += fmt.Sprintf("; %d not any more, as far as was looked", e.Never)
	}
	return t
}
