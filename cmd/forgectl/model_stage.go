package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func whyFlag(usage string) cli.Flag { return &cli.StringFlag{Name: "reason", Usage: usage} }

func (a *app) modelStageCommands() []*cli.Command {
	return []*cli.Command{
		{Name: "promote", Usage: "bring a version into the next stage, through its gate", ArgsUsage: "NAME[@VERSION]",
			Description: "Each rule of the gate is shown with what it rests on. What is not there is missing, and never a pass: the exit code is then 7, also with --dry-run.\n" +
				"Members bring what they registered to candidate; production needs an admin, and --force an admin and a reason: it is marked for ever.",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "to", Usage: "candidate or production; default the stage behind the one that it is in"},
				&cli.BoolFlag{Name: "dry-run", Usage: "gather the evidence and ask the gate; change nothing"},
				&cli.BoolFlag{Name: "force", Usage: "past a gate that has not passed"},
				whyFlag("why; with --force it has to be given"),
			},
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "NAME[@VERSION]")
				if err != nil {
					return err
				}
				r := api.PromoteRequest{To: forge.Stage(c.String("to")), DryRun: c.Bool("dry-run"), Force: c.Bool("force"), Reason: c.String("reason")}
				if r.Force && r.Reason == "" {
					return forge.Invalidf("reason", "is missing: it says for ever why the gate did not count").WithHint("forgectl model promote %s --force --reason WHY", args[0])
				}
				return a.modelPromote(c.Context, args[0], r)
			}},
		{Name: "rollback", Usage: "bring an earlier version back to production", ArgsUsage: "NAME",
			Description: "By itself that which NAME@previous names: what the version in production took the place of. A second rollback goes further back.",
			Flags:       []cli.Flag{&cli.IntFlag{Name: "to", Usage: "number of another version that was in production"}, whyFlag("why; it has to be given")},
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "NAME")
				if err != nil {
					return err
				}
				return a.modelRollback(c.Context, args[0], api.RollbackRequest{To: c.Int("to"), Reason: c.String("reason")})
			}},
		{Name: "archive", Usage: "take a version out of its stage; nothing is deleted", ArgsUsage: "NAME@VERSION", Flags: []cli.Flag{whyFlag("why; it has to be given")},
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "NAME@VERSION")
				if err != nil {
					return err
				}
				if r, err := forge.ParseRef(args[0]); err == nil && r.Number == 0 && r.Label == "" {
					return forge.Invalidf("name", "%q names no version; want %s@NUMBER", args[0], r.Name).WithHint("forgectl model show %s", r.Name)
				}
				return a.modelArchive(c.Context, args[0], c.String("reason"))
			}},
		{Name: "history", Usage: "show who moved which version where, and why", ArgsUsage: "NAME",
			Description: "With --verify every line is hashed anew and held against the one before it, the versions and the events; what does not hold is named, and the exit code is 1.",
			Flags:       []cli.Flag{&cli.BoolFlag{Name: "verify", Usage: "hash the whole history anew"}},
			Action: func(c *cli.Context) error {
				args, err := positionals(c, "NAME")
				if err != nil {
					return err
				}
				if c.Bool("verify") {
					return a.modelVerifyHistory(c.Context, args[0])
				}
				return a.modelHistory(c.Context, args[0])
			}},
		a.modelAliasCommand(),
	}
}

// promoted prints what the gate found, whether or not it let the version through, and passes on the error.
func (a *app) modelPromote(ctx context.Context, ref string, r api.PromoteRequest) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	once := client.NewOnce()
	stop := a.spin(ctx, "gathering evidence for", ref, progressOf(cl, once))
	out, err := cl.PromoteModel(ctx, ref, r, once)
	stop()
	var refused *forge.GateRefusal
	if errors.As(err, &refused) {
		out.Report = &refused.Report
	} else if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		if perr := p.json(out); perr != nil {
			return perr
		}
	} else if out.Report != nil {
		p.gateReport(*out.Report)
	}
	switch {
	case err != nil:
		return p.done(err)
	case !out.Promoted && out.Report.Verdict != forge.GatePass:
		return p.done(forge.Errorf(forge.KindPrecondition, "", "%s would not become %s: its gate says %s", out.Report.Model, out.Report.To, out.Report.Verdict))
	case p.mode == modeTable && !out.Promoted:
		p.line("nothing was changed: a dry run")
	case p.mode == modeTable:
		a.saidMoved(p, *out.Change)
	}
	return p.done(nil)
}

// gateReport shows each rule with its verdict, what it rests on, and what would make it pass.
func (p *printer) gateReport(r forge.GateReport) {
	if p.people() {
		p.line("%s: %s to %s, by %s", clean(r.Model), r.From, r.To, clean(r.Policy))
	}
	t := p.table("RULE", "ON", "VERDICT", "WHAT WAS FOUND")
	for _, x := range r.Rules {
		t.row(string(x.Rule), p.orDash(x.On), string(x.Verdict), clean(x.Words))
	}
	t.flush()
	if !p.people() {
		return
	}
	for _, x := range r.Rules {
		for _, s := range x.Scores {
			if s.Verdict != forge.GatePass {
				p.line("  %s %s %s: %.4g (%s %.4g), wants %.4g, n %d", clean(s.Task), clean(s.Filter), clean(s.Metric), s.Value, s.By, s.Bound, s.Threshold, s.N)
			}
		}
	}
	p.line("verdict: %s", r.Verdict)
	for _, x := range r.Rules {
		if x.Verdict != forge.GatePass && x.Hint != "" {
			p.line("next, %s: %s", strings.TrimSpace(string(x.Rule)+" "+clean(x.On)), clean(x.Hint))
		}
	}
}

func (a *app) saidMoved(p *printer, c forge.StageChange) {
	s := fmt.Sprintf("%s is in %s (line %d of its history, %s)", clean(c.Model), c.To, c.Seq, clean(short(c.SHA256)))
	if c.Forced {
		s += ", FORCED past its gate"
	}
	p.line("%s", s)
}

func (a *app) modelRollback(ctx context.Context, name string, r api.RollbackRequest) error {
	if r.Reason == "" {
		return forge.Invalidf("reason", "is missing: it says for ever why").WithHint("forgectl model rollback %s --reason WHY", name)
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	once := client.NewOnce()
	stop := a.spin(ctx, "hashing", name, progressOf(cl, once))
	c, err := cl.RollBackModel(ctx, name, r, once)
	stop()
	return a.moved(c, err)
}

func (a *app) modelArchive(ctx context.Context, ref, reason string) error {
	if reason == "" {
		return forge.Invalidf("reason", "is missing: it says for ever why").WithHint("forgectl model archive %s --reason WHY", ref)
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	c, err := cl.ArchiveModel(ctx, ref, api.ArchiveRequest{Reason: reason})
	return a.moved(c, err)
}

func (a *app) moved(c forge.StageChange, err error) error {
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(c))
	case modeTSV:
		p.table().row(c.Model, string(c.To), strconv.FormatInt(c.Seq, 10), c.SHA256)
	default:
		a.saidMoved(p, c)
	}
	return p.done(nil)
}

func (a *app) modelHistory(ctx context.Context, name string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	p := a.printer()
	all := client.Every(ctx, api.Listing{}, func(ctx context.Context, l api.Listing) (api.List[forge.StageChange], error) {
		return cl.ModelHistory(ctx, name, l)
	})
	if p.mode == modeJSON {
		return p.done(jsonList(p, all))
	}
	t := p.table(">LINE", "MODEL", "ACTION", "FROM", "TO", "WHEN", "BY", "GATE", "REASON", "SHA256:1")
	for c, err := range all {
		if err != nil {
			return p.done(err)
		}
		t.row(strconv.FormatInt(c.Seq, 10), c.Model, string(c.Action), p.orDash(string(c.From)), string(c.To), p.time(c.At), c.Actor, p.orDash(gateWord(c)), p.orDash(c.Reason), c.SHA256)
	}
	t.flush()
	return p.done(nil)
}

func gateWord(c forge.StageChange) string {
	switch {
	case c.Forced && c.Report != nil:
		return "FORCED: " + string(c.Report.Verdict)
	case c.Forced:
		return "FORCED"
	case c.Report != nil:
		return string(c.Report.Verdict)
	}
	return ""
}

// historyBroken is how history --verify says that a history does not hold.
type historyBroken struct{ forge.HistoryCheck }

func (e *historyBroken) Error() string {
	return fmt.Sprintf("the history of model %s does not hold, in %s", e.Model, plural(len(e.Breaks), "place"))
}

func (a *app) modelVerifyHistory(ctx context.Context, name string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	c, err := cl.VerifyModelHistory(ctx, name)
	if err != nil {
		return err
	}
	p := a.printer()
	var broken error
	if !c.Intact {
		broken = &historyBroken{c}
	}
	switch p.mode {
	case modeJSON:
		if err := p.json(c); err != nil {
			return err
		}
	default:
		if len(c.Breaks) > 0 {
			t := p.table(">LINE", "MODEL", "WHAT DOES NOT HOLD")
			for _, b := range c.Breaks {
				line := ""
				if b.Seq > 0 {
					line = strconv.FormatInt(b.Seq, 10)
				}
				t.row(p.orDash(line), p.orDash(b.Model), b.Why)
			}
			t.flush()
		}
		if p.people() && c.Intact {
			p.line("the history of %s holds: %s, head %s", clean(c.Model), plural(int(c.Lines), "line"), c.Head)
			p.line("keep the head elsewhere: it shows later that nothing before it has changed")
		}
	}
	return p.done(broken)
}

func (a *app) modelAliasCommand() *cli.Command {
	return &cli.Command{Name: "alias", Usage: "names for versions: NAME@ALIAS", Subcommands: []*cli.Command{
		{Name: "set", Usage: "let an alias point to a version, wherever it pointed before", ArgsUsage: "NAME[@VERSION] ALIAS", Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME[@VERSION]", "ALIAS")
			if err != nil {
				return err
			}
			return a.aliasDone(args[0], "points to", func(cl *client.Client) (forge.ModelAlias, error) {
				return cl.SetModelAlias(c.Context, args[0], args[1])
			})
		}},
		{Name: "rm", Usage: "take an alias away", ArgsUsage: "NAME ALIAS", Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME", "ALIAS")
			if err != nil {
				return err
			}
			return a.aliasDone(args[0], "is removed; it pointed to", func(cl *client.Client) (forge.ModelAlias, error) {
				return cl.RemoveModelAlias(c.Context, args[0], args[1])
			})
		}},
		{Name: "list", Usage: "list the aliases of a model; previous is what a rollback brings back", ArgsUsage: "NAME", Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME")
			if err != nil {
				return err
			}
			return a.aliasList(c.Context, args[0])
		}},
	}}
}

func (a *app) aliasDone(ref, what string, do func(*client.Client) (forge.ModelAlias, error)) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	out, err := do(cl)
	if err != nil {
		return err
	}
	p := a.printer()
	name, _, _ := strings.Cut(ref, "@")
	switch p.mode {
	case modeJSON:
		return p.done(p.json(out))
	case modeTSV:
		p.table().row(name, out.Alias, strconv.Itoa(out.Version))
	default:
		p.line("%s@%s %s version %d", clean(name), clean(out.Alias), what, out.Version)
	}
	return p.done(nil)
}

func (a *app) aliasList(ctx context.Context, name string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	all, err := cl.ModelAliases(ctx, name)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(jsonList(p, each(all)))
	}
	t := p.table("ALIAS", ">VERSION", "BY", "SINCE")
	for _, x := range all {
		t.row(x.Alias, strconv.Itoa(x.Version), x.SetBy, p.time(x.SetAt))
	}
	t.flush()
	a.nothing(p, len(all), "no aliases yet", "forgectl model alias set "+name+"@1 ALIAS")
	return p.done(nil)
}
