package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"
)

func (a *app) queueCommand() *cli.Command {
	return &cli.Command{Name: "queue", Usage: "show what waits and runs, in the order of the plan", Action: func(c *cli.Context) error {
		if _, err := positionals(c); err != nil {
			return err
		}
		return a.queue(c.Context)
	}}
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
	t := p.table(">PLACE", ">RUN", "STATE", "NAME", "USER", "RECIPE", ">PRIORITY", ">GPUS", "SINCE", "WHY")
	for _, e := range q.Entries {
		place := strconv.Itoa(e.Position)
		if e.Position == 0 && p.people() {
			place = "-" // has its GPUs
		}
		t.row(place, strconv.FormatInt(e.Run, 10), string(e.State), p.orDash(e.Name), e.User, e.Recipe, strconv.Itoa(e.Priority), strconv.Itoa(e.GPUs), p.time(e.Since), e.Why)
	}
	t.flush()
	err = p.done(nil)
	a.nothing(p, len(q.Entries), "nothing waits or runs", "forgectl run submit RECIPE --dataset NAME --base NAME")
	if o := q.Others; o.Waiting+o.Running > 0 {
		fmt.Fprintf(a.Err, "of others: %s running on %s, %d waiting\n", plural(o.Running, "run"), plural(o.GPUs, "GPU"), o.Waiting)
	}
	return err
}
