package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) hookCommand() *cli.Command {
	site := &cli.BoolFlag{Name: "site", Usage: "the site's own hooks instead of the tenant's: for operators"}
	named := func(name, usage string, do func(context.Context, api.HookName) error) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, ArgsUsage: "HOOK", Flags: []cli.Flag{site}, Action: func(c *cli.Context) error {
			args, err := positionals(c, "HOOK")
			if err != nil {
				return err
			}
			return do(c.Context, api.HookName{Hook: args[0], Site: c.Bool("site")})
		}}
	}
	deliveries := named("deliveries", "list what was sent to a hook and what waits, newest first", nil)
	deliveries.Flags = append(deliveries.Flags, &cli.StringFlag{Name: "state", Usage: "waiting, delivered or failed", DefaultText: "all"}, &cli.IntFlag{Name: "limit", Usage: "at most so many, up to 1000", Value: 100})
	deliveries.Action = func(c *cli.Context) error {
		args, err := positionals(c, "HOOK")
		if err != nil {
			return err
		}
		return a.hookDeliveries(c.Context, api.HookName{Hook: args[0], Site: c.Bool("site")}, forge.DeliveryState(c.String("state")), c.Int("limit"))
	}
	return &cli.Command{Name: "hook", Usage: "tell webhooks, programs and mail addresses of events", Subcommands: []*cli.Command{
		{Name: "add", Usage: "add a hook; the secret of a webhook is shown once", ArgsUsage: "NAME",
			Description: "It is told of what happens from now on, at least once, in order. Where webhooks may go, which programs there are and\nwhether mail is sent says the site's configuration (docs/hooks.md).",
			Flags: []cli.Flag{
				&cli.StringSliceFlag{Name: "on", Usage: "groups (" + joinAny(forge.HookGroups) + ") or event types, comma-separated"},
				&cli.StringFlag{Name: "webhook", Usage: "`URL` that events are posted to"},
				&cli.StringFlag{Name: "command", Usage: "`PROGRAM` of the site, by its name in forged's configuration"},
				&cli.StringFlag{Name: "mail", Usage: "`ADDRESS` that mail goes to"},
				&cli.StringFlag{Name: "match", Usage: "only of models or runs whose name fits this pattern: chat, 'chat-*'", DefaultText: "all"},
				&cli.BoolFlag{Name: "failures", Usage: "not of runs that completed or were cancelled, nor of nodes that are well"},
				site,
			},
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "NAME")
				if err != nil {
					return err
				}
				return a.hookAdd(c.Context, api.CreateHookRequest{Name: args[0], On: listed(c.StringSlice("on")), URL: c.String("webhook"), Command: c.String("command"),
					Mail: c.String("mail"), Match: c.String("match"), Failures: c.Bool("failures"), Site: c.Bool("site")})
			}},
		{Name: "list", Usage: "list hooks and how they fare", Flags: []cli.Flag{site}, Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.hookList(c.Context, c.Bool("site"))
		}},
		named("show", "show a hook, never its secret", func(ctx context.Context, n api.HookName) error { return a.hookShow(ctx, n) }),
		named("rm", "remove a hook, with what was on its way to it", func(ctx context.Context, n api.HookName) error {
			return a.hookChange(ctx, n, "removed", (*client.Client).RemoveHook)
		}),
		named("test", "send a test at once and say how it went", func(ctx context.Context, n api.HookName) error { return a.hookTest(ctx, n) }),
		named("pause", "keep what comes for a hook until it is resumed", func(ctx context.Context, n api.HookName) error {
			return a.hookChange(ctx, n, "paused", (*client.Client).PauseHook)
		}),
		named("resume", "let a paused hook go on with what has happened meanwhile", func(ctx context.Context, n api.HookName) error {
			return a.hookChange(ctx, n, "resumed", (*client.Client).ResumeHook)
		}),
		deliveries,
	}}
}

// listed takes a flag that is given several times, or once with commas.
func listed(given []string) (out []string) {
	for _, g := range given {
		for word := range strings.SplitSeq(g, ",") {
			out = append(out, strings.TrimSpace(word))
		}
	}
	return out
}

// hookAdd prints the secret alone on standard output, as key create does.
func (a *app) hookAdd(ctx context.Context, r api.CreateHookRequest) error {
	if len(r.On) == 0 {
		return forge.Invalidf("on", "name what the hook is told of: %s, or event types", joinAny(forge.HookGroups)).WithHint("forgectl hook add %s --on stage,regression …", r.Name)
	}
	given := 0
	for _, v := range []string{r.URL, r.Command, r.Mail} {
		if v != "" {
			given++
		}
	}
	if given != 1 {
		return forge.Invalidf("webhook", "want exactly one of --webhook, --command and --mail")
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	h, err := cl.CreateHook(ctx, r)
	if err != nil {
		return err
	}
	if h.Kind == forge.HookWebhook && h.Secret == "" {
		return forge.Errorf(forge.KindUnavailable, "", "hook %s was added, and the answer with its secret was lost", h.Name).
			WithHint("forgectl hook rm %s, and add it again", h.Name)
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(h))
	}
	if h.Secret != "" {
		p.line("%s", clean(h.Secret))
	} else if p.mode == modeTSV {
		p.table().row(h.Name, "added")
	}
	err = p.done(nil)
	fmt.Fprintf(a.Err, "hook %s tells %s of %s\n", clean(h.Name), clean(h.Target), clean(strings.Join(h.On, ", ")))
	if h.Secret != "" {
		fmt.Fprintln(a.Err, "this is the only time that its secret is shown; the receiver checks signatures with it (docs/hooks.md)")
	}
	fmt.Fprintf(a.Err, "hint: forgectl hook test %s%s\n", clean(h.Name), siteWord(h.Site))
	return err
}

func siteWord(site bool) string {
	if site {
		return " --site"
	}
	return ""
}

func hookState(h forge.Hook) string {
	switch {
	case h.PausedAt != nil:
		return "paused"
	case h.FailingSince != nil:
		return "failing"
	}
	return "works"
}

func (a *app) hookList(ctx context.Context, site bool) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	p := a.printer()
	all := client.Every(ctx, api.Listing{}, func(ctx context.Context, l api.Listing) (api.List[forge.Hook], error) {
		return cl.Hooks(ctx, api.HookListing{Listing: l, Site: site})
	})
	if p.mode == modeJSON {
		return p.done(jsonList(p, all))
	}
	t := p.table("HOOK", "KIND", "STATE", ">WAITING", "ON", "TARGET:1", "MATCH:3", "LAST-OK:2", "ERROR:1")
	for h, err := range all {
		if err != nil {
			return p.done(err)
		}
		t.row(h.Name, string(h.Kind), hookState(h), strconv.FormatInt(h.Waiting, 10), strings.Join(h.On, ","), h.Target, h.Match, p.timeOf(h.LastOKAt), h.LastError)
	}
	t.flush()
	return p.done(nil)
}

func (a *app) hookShow(ctx context.Context, n api.HookName) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	h, err := cl.Hook(ctx, n)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(h))
	}
	only := ""
	if h.Failures {
		only = "failures"
	}
	p.fields("hook", h.Name, "id", string(h.ID), "state", hookState(h), "kind", string(h.Kind), "target", h.Target, "on", strings.Join(h.On, ", "), "match", h.Match, "only", only,
		"waiting", strconv.FormatInt(h.Waiting, 10), "created", p.time(h.CreatedAt), "by", h.CreatedBy, "paused", p.timeOf(h.PausedAt), "last ok", p.timeOf(h.LastOKAt),
		"failing since", p.timeOf(h.FailingSince), "error", h.LastError)
	return p.done(nil)
}

func (a *app) hookChange(ctx context.Context, n api.HookName, done string, do func(*client.Client, context.Context, api.HookName) (forge.Hook, error)) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	h, err := do(cl, ctx, n)
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(h))
	case modeTSV:
		p.table().row(h.Name, done)
	default:
		p.line("hook %s is %s", clean(h.Name), done)
	}
	return p.done(nil)
}

// hookTest fails where the test was not taken, so that a script may rest on it.
func (a *app) hookTest(ctx context.Context, n api.HookName) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	d, err := cl.TestHook(ctx, n)
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		err = p.json(d)
	case modeTSV:
		p.table().row(d.ID, string(d.State), strconv.Itoa(d.Status), strconv.FormatInt(d.TookMS, 10), d.Error)
	default:
		if d.Error == "" {
			p.line("hook %s took delivery %s in %d ms", clean(n.Hook), clean(d.ID), d.TookMS)
		}
		if d.Output != "" {
			p.line("%s", clean(strings.TrimRight(d.Output, "\n")))
		}
	}
	if err := p.done(err); err != nil || d.Error == "" {
		return err
	}
	return forge.Errorf(forge.KindUnavailable, "hook.test", "hook %s did not take delivery %s: %s", n.Hook, d.ID, d.Error)
}

func (a *app) hookDeliveries(ctx context.Context, n api.HookName, state forge.DeliveryState, limit int) error {
	if limit < 1 {
		return forge.Invalidf("limit", "%d: want at least 1", limit)
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	p := a.printer()
	l, err := cl.HookDeliveries(ctx, n, api.HookListing{Listing: api.Listing{Limit: min(limit, api.MaxLimit)}, State: state})
	if err != nil {
		return err
	}
	if p.mode == modeJSON {
		return p.done(jsonList(p, each(l.Items)))
	}
	t := p.table("DELIVERY:1", ">EVENT", "TYPE", "STATE", ">TRIES", "MADE:2", "TRIED", "NEXT:1", ">STATUS", ">MS:3", "ERROR")
	number := func(n int64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
	for _, d := range l.Items {
		t.row(d.ID, number(d.Event), string(d.Type), string(d.State), strconv.Itoa(d.Tries), p.time(d.MadeAt), p.timeOf(d.TriedAt), p.timeOf(d.NextAt), number(int64(d.Status)), strconv.FormatInt(d.TookMS, 10), d.Error)
	}
	t.flush()
	return p.done(nil)
}
