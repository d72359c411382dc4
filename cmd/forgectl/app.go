package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
)

// app is what the commands of one call share.
type app struct {
	Streams
	server  string
	key     string
	tenant  string
	context string
	output  string
	wide    bool
	timeout time.Duration // of one request; 0 is the client's own
	cfg     *config       // once it was read
	behind  []string      // arguments that stood behind --

	fetched map[forge.DatasetVersionID]forge.Manifest // forge's own copies of data, for as long as the command runs
	dirs    []string                                  // where they are
}

// run is forgectl without the process around it.
func run(ctx context.Context, args []string, io Streams) int {
	a := &app{Streams: io}
	defer a.drop()
	if len(args) == 2 && args[1] == "version" { // scripts ask this often: without making the tree
		err := a.printVersion()
		complain(io, "version", err)
		return exitCode(err)
	}
	if len(args) > 1 && args[1] == completeWord {
		a.complete(ctx, args[2:])
		return 0
	}
	tree := a.tree()
	line, err := arrange(tree, args)
	a.behind = line.behind
	if err == nil {
		err = tree.RunContext(ctx, line.args)
	}
	if err != nil && ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	complain(io, line.command, err)
	return exitCode(err)
}

func (a *app) tree() *cli.App {
	t := &cli.App{
		Name: "forgectl", HelpName: "forgectl", Usage: "drive forge-ml: datasets, models, runs",
		UsageText:       "forgectl NOUN VERB [ARGUMENTS] [FLAGS]",
		HideHelpCommand: true, HideVersion: true,
		Writer: a.Out, ErrWriter: a.Err, Reader: a.In,
		// A comma is part of a value: --set lora.target_modules=q_proj,v_proj is one parameter.
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {}, // exit codes come from exit.go alone
		OnUsageError:              usageError,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "server", Usage: "address of forged: unix:///path/forged.sock or https://host:port (FORGE_SERVER)", Destination: &a.server},
			&cli.StringFlag{Name: "context", Usage: "a server that you logged in to (FORGE_CONTEXT)", Destination: &a.context},
			&cli.StringFlag{Name: "key", Usage: "API key (FORGE_API_KEY); better: forgectl login", Destination: &a.key},
			&cli.StringFlag{Name: "tenant", Usage: "act in this tenant (FORGE_TENANT); for operators", Destination: &a.tenant},
			&cli.BoolFlag{Name: "wide", Usage: "leave out and cut nothing that a terminal is too narrow for", Destination: &a.wide},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "table, tsv or json; default table on a terminal, else tsv", Destination: &a.output},
		},
		Before: func(c *cli.Context) error { return a.checkOutput(c.Args().Slice()) },
		Commands: []*cli.Command{
			a.runCommand(), a.datasetCommand(), a.modelCommand(), a.gateCommand(), a.queueCommand(), a.topCommand(), a.nodeCommand(), a.clusterCommand(), a.recipeCommand(), a.suiteCommand(), a.evalCommand(), a.costCommand(), a.scheduleCommand(),
			a.eventsCommand(), a.tenantCommand(), a.userCommand(), a.keyCommand(), a.hookCommand(), a.loginCommand(), a.logoutCommand(), a.whoamiCommand(), a.contextCommand(),
			a.simulateCommand(), a.gcCommand(), a.doctorCommand(), a.completionCommand(), a.versionCommand(),
		},
	}
	prepare(t.Commands)
	return t
}

// prepare gives every command what urfave/cli does not inherit.
func prepare(commands []*cli.Command) {
	for _, c := range commands {
		c.HideHelpCommand = true
		c.OnUsageError = usageError
		prepare(c.Subcommands)
	}
}

func usageError(_ *cli.Context, err error, _ bool) error {
	text := err.Error()
	if i := strings.Index(text, ": parse error"); i > 0 {
		text = text[:i] + ": want a whole number"
	}
	return forge.Invalidf("", "%s", text)
}

func (a *app) checkOutput(args []string) error {
	switch a.output {
	case "", "json", "table", "tsv":
		return nil
	}
	if lineageForm(a.output, args) {
		return nil
	}
	return forge.Invalidf("output", "%q is no form of output; want table, tsv or json%s", a.output, didYouMean(a.output, []string{"table", "tsv", "json"}))
}
