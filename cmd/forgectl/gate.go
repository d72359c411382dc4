package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (a *app) gateCommand() *cli.Command {
	return &cli.Command{Name: "gate", Usage: "show what is asked of a model before it enters a stage", Subcommands: []*cli.Command{
		{Name: "list", Usage: "list the default gates, and your models that have others", Action: func(c *cli.Context) error {
			if _, err := positionals(c); err != nil {
				return err
			}
			return a.gateList(c.Context)
		}},
		{Name: "show", Usage: "show what is asked of a model; default: of all without gates of their own", ArgsUsage: "NAME|default", Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME")
			if err != nil {
				return err
			}
			return a.gateShow(c.Context, args[0])
		}},
	}}
}

// asked is a policy, a rule a line.
func asked(r api.GateRow, stage forge.Stage) (rules [][2]string, sha string) {
	p := r.Candidate
	if stage == forge.StageProduction {
		p = r.Production
	}
	add := func(rule forge.RuleName, format string, args ...any) {
		rules = append(rules, [2]string{string(rule), fmt.Sprintf(format, args...)})
	}
	for _, x := range []struct {
		on   bool
		rule forge.RuleName
		says string
	}{{p.Digest, forge.RuleDigest, "its bytes are those that were registered"}, {p.Lineage, forge.RuleLineage, "all that it is made of is known"},
		{p.Licence, forge.RuleLicence, "the tenant may use all that it is made of"}, {p.NoOverlap, forge.RuleOverlap, "no question of a suite was trained on"},
		{p.LoadTest, forge.RuleLoadTest, "it was loaded and used once"}} {
		if x.on {
			add(x.rule, "%s", x.says)
		}
	}
	if len(p.PII) > 0 {
		words := make([]string, len(p.PII))
		for i, s := range p.PII {
			words[i] = string(s)
		}
		add(forge.RulePII, "all data is %s", strings.Join(words, " or "))
	}
	if p.Soak > 0 {
		add(forge.RuleSoak, "%s in the stage before", p.Soak)
	}
	for _, s := range p.Suites {
		add(forge.RuleSuite, "%s reaches its thresholds, by the %s", s.Suite, map[string]string{"point": "value itself", "lower": "bound of its interval"}[s.Bound])
	}
	if n := p.NoRegression; n != nil {
		add(forge.RuleRegression, "no worse than production in %s; what is inconclusive: %s", strings.Join(n.Suites, ", "), n.Inconclusive)
	}
	return rules, p.SHA256
}

func (a *app) gateList(ctx context.Context) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	rows, err := cl.Gates(ctx)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(jsonList(p, each(rows)))
	}
	t := p.table("GATE", "STAGE", "RULES", "SHA256:1")
	for _, r := range rows {
		for _, stage := range []forge.Stage{forge.StageCandidate, forge.StageProduction} {
			rules, sha := asked(r, stage)
			var names []string
			for _, x := range rules {
				names = append(names, x[0])
			}
			t.row(r.Name, string(stage), p.orDash(strings.Join(names, ", ")), sha)
		}
	}
	t.flush()
	return p.done(nil)
}

func (a *app) gateShow(ctx context.Context, name string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	r, err := cl.Gate(ctx, name)
	if err != nil {
		return err
	}
	p := a.printer()
	if p.mode == modeJSON {
		return p.done(p.json(r))
	}
	t := p.table("STAGE", "RULE", "WHAT IT ASKS")
	for _, stage := range []forge.Stage{forge.StageCandidate, forge.StageProduction} {
		rules, _ := asked(r, stage)
		for _, x := range rules {
			t.row(string(stage), x[0], x[1])
		}
	}
	t.flush()
	return p.done(nil)
}
