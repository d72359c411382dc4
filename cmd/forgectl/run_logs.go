package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

const (
	logPoll = 500 * time.Millisecond
	logRead = 256 << 10
)

type logsOptions struct {
	run     string
	follow  bool
	rank    int
	attempt int
	stream  string
}

func (a *app) runLogsCommand() *cli.Command {
	return &cli.Command{Name: "logs", Usage: "print what a rank wrote", ArgsUsage: "RUN",
		Description: "Without --attempt: the newest. With -f the attempts after it follow, until the run ends.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on until the run ends, across attempts"},
			&cli.IntFlag{Name: "rank", Usage: "global rank"},
			&cli.IntFlag{Name: "attempt", Usage: "attempt number; 0 is the newest"},
			&cli.BoolFlag{Name: "stderr", Usage: "standard error instead of standard output"},
		},
		Action: func(c *cli.Context) error {
			o, err := parseLogs(c)
			if err != nil {
				return err
			}
			return a.runLogs(c.Context, o)
		}}
}

func parseLogs(c *cli.Context) (logsOptions, error) {
	args, err := positionals(c, "RUN")
	if err != nil {
		return logsOptions{}, err
	}
	o := logsOptions{run: args[0], follow: c.Bool("follow"), rank: c.Int("rank"), attempt: c.Int("attempt"), stream: "stdout"}
	if c.Bool("stderr") {
		o.stream = "stderr"
	}
	if o.rank < 0 {
		return o, forge.Invalidf("rank", "%d is negative; ranks count from 0", o.rank)
	}
	if o.attempt < 0 {
		return o, forge.Invalidf("attempt", "%d is negative; attempts count from 1, and 0 is the newest", o.attempt)
	}
	return o, nil
}

// runLogs prints a log as it is in a pipe, and made safe on a terminal. Banners name the
// attempt: between the lines on a terminal, on standard error when the log goes elsewhere.
func (a *app) runLogs(ctx context.Context, o logsOptions) error {
	if a.output == "json" {
		return a.logsJSON(ctx, o)
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	q := api.LogQuery{Rank: o.rank, Attempt: o.attempt, Stream: o.stream, Max: logRead}
	shown, calm := 0, patience{app: a}
	for {
		c, err := cl.Log(ctx, o.run, q)
		if forgiven := o.follow && shown > 0 && calm.forgive(err); err != nil && !forgiven {
			return err
		} else if err != nil {
			if err := pause(ctx, logPoll); err != nil {
				return err
			}
			continue
		}
		if c.Attempt > 0 && c.Attempt != shown {
			a.banner(o, c)
			shown = c.Attempt
		}
		if err := a.writeLog(c.Data); err != nil {
			return err
		}
		if c.Attempt > 0 {
			q.Attempt, q.Offset = c.Attempt, c.Next
		}
		switch next := nextLog(c, o.follow); next {
		case logDone:
			if shown == 0 {
				fmt.Fprintf(a.Err, "run %s is %s and has not started: there is no log\nhint: forgectl run why %s\n", clean(o.run), c.State, clean(o.run))
			}
			return nil
		case logNewer:
			q.Attempt, q.Offset = c.Newer, 0
		case logWait:
			if err := pause(ctx, logPoll); err != nil {
				return err
			}
		}
	}
}

type logStep int

const (
	logMore  logStep = iota // ask again at once
	logNewer                // go on with the next attempt
	logWait
	logDone
)

// nextLog decides what follows a chunk. An attempt that was replaced and says nothing more is
// left for its successor even when nobody has seen it end: its host may be lost.
func nextLog(c api.LogChunk, follow bool) logStep {
	switch {
	case c.Data != "" && !c.End:
		return logMore
	case !follow:
		return logDone
	case c.Attempt == 0 && c.State.Terminal():
		return logDone
	case c.Attempt > 0 && c.Newer > c.Attempt:
		return logNewer
	case c.End && c.State.Terminal():
		return logDone
	}
	return logWait
}

func (a *app) banner(o logsOptions, c api.LogChunk) {
	w := a.Err
	if a.OutTTY {
		w = a.Out
	}
	fmt.Fprintf(w, "==> run %s, attempt %d, rank %d, %s <==\n", clean(o.run), c.Attempt, c.Rank, clean(c.Stream))
}

func (a *app) writeLog(data string) error {
	if a.OutTTY {
		data = cleanLines(data)
	}
	if _, err := io.WriteString(a.Out, data); err != nil && !isClosedPipe(err) {
		return fmt.Errorf("output: %w", err)
	} else if err != nil {
		return context.Canceled // whoever read has gone
	}
	return nil
}

// logsJSON prints one chunk as the API has it; a program asks for the next itself.
func (a *app) logsJSON(ctx context.Context, o logsOptions) error {
	if o.follow {
		return forge.Invalidf("output", "json and --follow do not go together").WithHint("without -o json the log comes as it is")
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	c, err := cl.Log(ctx, o.run, api.LogQuery{Rank: o.rank, Attempt: o.attempt, Stream: o.stream, Max: api.MaxLogRead})
	if err != nil {
		return err
	}
	p := a.printer()
	return p.done(p.json(c))
}

// pause waits, unless the context ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// patience bears with a server that goes away while somebody follows: the run goes on
// without it, and a restarted forged takes it up again.
type patience struct {
	app   *app
	since time.Time
}

func (p *patience) forgive(err error) bool {
	switch {
	case err == nil:
		if !p.since.IsZero() {
			fmt.Fprintln(p.app.Err, "forged answers again")
		}
		p.since = time.Time{}
		return true
	case forge.KindOf(err) != forge.KindUnavailable:
		return false
	case p.since.IsZero():
		p.since = time.Now()
		fmt.Fprintf(p.app.Err, "forged does not answer (%s); runs go on without it; trying again\n", clean(err.Error()))
	}
	return time.Since(p.since) < client.DefaultPatience
}
