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

func (a *app) gcCommand() *cli.Command {
	return &cli.Command{Name: "gc", Usage: "say what old runs and artefacts cost on disk, and remove what may go",
		Description: "Attempts and checkpoints of runs that ended long ago, outputs that were copied, copies of no version, old snapshots. Never what a registered version needs, the\n" +
			"newest verified checkpoint of a run, or anything that a run which is still to come builds on. For admins of the tenant.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Usage: "only say what may go, and why others stay"},
			&cli.StringFlag{Name: "older-than", Value: "30d", Usage: "of runs that ended longer ago: 30d, 720h"},
			&cli.BoolFlag{Name: "site", Usage: "of all tenants; for operators"},
			&cli.BoolFlag{Name: "list", Usage: "name each thing, the largest first"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
		},
		Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			age, err := gcAge(c.String("older-than"))
			if err != nil {
				return err
			}
			return a.gc(c.Context, api.GCQuery{OlderThan: age, Site: c.Bool("site")}, c.Bool("dry-run"), c.Bool("yes"), c.Bool("list"))
		}}
}

// gcAge is a duration in which days may be named, too.
func gcAge(s string) (forge.Duration, error) {
	if n := len(s); n > 1 && s[n-1] == 'd' {
		if days, err := strconv.ParseUint(s[:n-1], 10, 16); err == nil {
			return forge.Duration(time.Duration(days) * 24 * time.Hour), nil
		}
	}
	d, err := forge.ParseDuration(s)
	if err != nil {
		return 0, forge.Invalidf("older-than", "%w", err)
	}
	return forge.Duration(d), nil
}

func (a *app) gc(ctx context.Context, q api.GCQuery, dry, yes, list bool) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	if dry || !yes {
		if !dry {
			if err := a.mustAsk("--yes removes what --dry-run shows"); err != nil {
				return err
			}
		}
		stop := a.spin(ctx, "looking what may go", "", nil)
		r, err := cl.GCPlan(ctx, q)
		stop()
		if err != nil {
			return err
		}
		if err := a.printGC(r, list); err != nil || dry || r.Count == 0 {
			return err
		}
		if !a.said(fmt.Sprintf("remove %s, %s?", plural(r.Count, "thing"), size(r.Bytes)), "nothing was removed") {
			return nil
		}
	}
	stop := a.spin(ctx, "removing", "", nil)
	r, err := cl.GCRun(ctx, q)
	stop()
	if err != nil {
		return err
	}
	return a.printGC(r, list)
}

func (a *app) printGC(r api.GCReport, list bool) error {
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(r))
	}
	word := map[bool]string{false: "goes", true: "gone"}[r.Removed]
	if list {
		t := p.table("KIND", ">SIZE", ">RUN", ">ATTEMPT:3", ">STEP:3", "WHY:2", "PATH")
		for _, x := range r.Items {
			t.row(x.Kind, p.bytes(x.Bytes), p.orDash(nonzero(x.Run)), p.orDash(nonzero(int64(x.Attempt))), p.orDash(nonzero(x.Step)), x.Why, x.Path)
		}
		t.flush()
	} else {
		t := p.table("KIND", ">COUNT", ">SIZE", "WHAT", "WHY")
		rows := func(all []api.GCSum, what string) {
			for _, s := range all {
				w := what
				if s.Yours {
					w = "its owner's"
				}
				t.row(s.Kind, strconv.Itoa(s.Count), p.bytes(s.Bytes), w, s.Why)
			}
		}
		rows(r.Goes, word)
		rows(r.Stays, "stays")
		t.flush()
	}
	if p.people() {
		verb := map[bool]string{false: "may go", true: "are free now"}[r.Removed]
		p.line("%s: %s %s (runs that ended more than %s ago)", plural(r.Count, "thing"), size(r.Bytes), verb, r.OlderThan)
	}
	for _, f := range r.Failed {
		what := f.Path
		if what == "" {
			what = fmt.Sprintf("run %d", f.Run)
		}
		fmt.Fprintf(a.Err, "not removed: %s: %s\n", clean(what), clean(f.Why))
	}
	if r.Removed && len(r.Failed) > 0 {
		return p.done(forge.Errorf(forge.KindInternal, "", "%s could not be removed", plural(len(r.Failed), "thing")))
	}
	return p.done(nil)
}

func nonzero(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
