package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) queueCommand() *cli.Command {
	return &cli.Command{Name: "queue", Usage: "show what waits and runs, in the order of the plan", Flags: watchFlags(),
		Description: "forgectl queue --watch\n\nSTART is when a run is expected to start, with the interval in which four of five do. forgectl run why RUN says more of one.",
		Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			w, err := parseWatch(c, watchEvery)
			if err != nil {
				return err
			}
			if w.on {
				return a.watch(c.Context, w, a.queueView)
			}
			return a.queue(c.Context)
		}}
}

// watchedEntries is more than a screen holds, and what forged is asked for every other second.
const watchedEntries = 100

func (a *app) queueView(ctx context.Context, cl *client.Client) (view, error) {
	limit := 0
	if a.printer().people() {
		limit = watchedEntries
	}
	q, err := cl.QueueHead(ctx, limit)
	return view{value: q, print: func(p *printer) {
		p.queue(q)
		if q.More > 0 && p.people() {
			p.line("%d more", q.More)
		}
		if o := othersLoad(q); o != "" && p.people() {
			p.line("%s", o)
		}
	}}, err
}

func (a *app) queue(ctx context.Context) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	q, err := cl.Queue(ctx)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(q))
	}
	p.queue(q)
	err = p.done(nil)
	a.nothing(p, len(q.Entries), "nothing waits or runs", "forgectl run submit RECIPE --dataset NAME --base NAME")
	if q.More > 0 {
		fmt.Fprintf(a.Err, "%d more are behind these\n", q.More)
	}
	if o := othersLoad(q); o != "" {
		fmt.Fprintln(a.Err, o)
	}
	return err
}

func (p *printer) queue(q api.Queue) {
	t := p.table(">PLACE", ">RUN", "STATE", "NAME", "USER:4", "RECIPE:2", ">PRIORITY:1", ">GPUS", "SINCE:3", "START:5", "WHY")
	for _, e := range q.Entries {
		place := strconv.Itoa(e.Position)
		if e.Position == 0 && p.people() {
			place = "-" // has its GPUs
		}
		row := []string{place, strconv.FormatInt(e.Run, 10), string(e.State), p.orDash(e.Name), e.User, e.Recipe, strconv.Itoa(e.Priority), strconv.Itoa(e.GPUs), p.time(e.Since), p.orDash(p.start(e.Start)), e.Why}
		if !p.people() { // programs find the columns where they were
			row[9], row[10] = row[10], row[9]
		}
		t.row(row...)
	}
	t.flush()
	if q.More > 0 && p.people() {
		p.line("… and %d more", q.More)
	}
}

func othersLoad(q api.Queue) string {
	if o := q.Others; o.Waiting+o.Running > 0 {
		return fmt.Sprintf("of others: %s running on %s, %d waiting", plural(o.Running, "run"), plural(o.GPUs, "GPU"), o.Waiting)
	}
	return ""
}
