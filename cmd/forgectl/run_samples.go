package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

const defaultSamples = 5

func (a *app) runSamplesCommand() *cli.Command {
	return &cli.Command{Name: "samples", Usage: "print what the policy of a run wrote, and how it was scored", ArgsUsage: "RUN",
		Description: "Of runs that learn from what they write (recipe rlhf). Without --step the newest, oldest of them first.",
		Flags: []cli.Flag{
			&cli.Int64Flag{Name: "step", Usage: "only those of this step", Value: -1, DefaultText: "any"},
			&cli.IntFlag{Name: "last", Usage: "at most so many, the newest", Value: defaultSamples},
		},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "RUN")
			if err != nil {
				return err
			}
			q := api.SamplesQuery{Step: c.Int64("step"), Last: c.Int("last")}
			if c.IsSet("step") && q.Step < 0 {
				return forge.Invalidf("step", "%d is negative; steps count from 0", q.Step)
			}
			if q.Last < 1 || q.Last > api.MaxSamples {
				return forge.Invalidf("last", "%d: want 1 to %d", q.Last, api.MaxSamples)
			}
			return a.runSamples(c.Context, args[0], q)
		}}
}

func (a *app) runSamples(ctx context.Context, run string, q api.SamplesQuery) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	s, err := cl.Samples(ctx, run, q)
	if err != nil {
		return err
	}
	p := a.printer()
	switch {
	case p.mode == modeJSON:
		return p.done(p.json(s))
	case p.people():
		for i, x := range s.Items {
			if i > 0 {
				p.line("")
			}
			p.sample(x)
		}
	default:
		t := p.table("STEP", "ATTEMPT", "REWARD", "PROMPT", "COMPLETION", "REWARDS")
		for _, x := range s.Items {
			t.row(strconv.FormatInt(x.Step, 10), strconv.Itoa(x.Attempt), lossText(x.Reward), x.Prompt, x.Completion, rewardsText(x.Rewards))
		}
		t.flush()
	}
	err = p.done(nil)
	switch {
	case len(s.Items) == 0 && q.Step >= 0:
		fmt.Fprintf(a.Err, "run %s has no samples of step %d\nhint: forgectl run samples %s\n", clean(run), q.Step, clean(run))
	case len(s.Items) == 0 && !s.State.Terminal():
		fmt.Fprintf(a.Err, "run %s is %s and has left no samples so far\n", clean(run), s.State)
	case len(s.Items) == 0:
		fmt.Fprintf(a.Err, "run %s left no samples: runs of recipe rlhf do\n", clean(run))
	case s.More:
		fmt.Fprintf(a.Err, "there are older ones: --last %d, or --step S\n", min(api.MaxSamples, 4*q.Last))
	}
	return err
}

// sample prints what was written as it would be read, and nothing of it as a terminal would obey it.
func (p *printer) sample(x api.Sample) {
	head := fmt.Sprintf("step %d", x.Step)
	if x.Reward != nil {
		head += ", reward " + number(*x.Reward)
	}
	if len(x.Rewards) > 1 {
		head += " (" + rewardsText(x.Rewards) + ")"
	}
	if x.Tokens > 0 {
		head += ", " + plural(x.Tokens, "token")
	}
	p.line("%s, attempt %d", clean(head), x.Attempt)
	for _, part := range []struct{ name, text string }{{"prompt", x.Prompt}, {"completion", x.Completion}} {
		p.line("  %s", part.name)
		for line := range strings.SplitSeq(strings.TrimRight(cleanLines(part.text), "\n"), "\n") {
			p.line("    %s", line)
		}
	}
}

func rewardsText(by map[string]float64) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(by)) {
		out = append(out, k+" "+number(by[k]))
	}
	return strings.Join(out, ", ")
}
