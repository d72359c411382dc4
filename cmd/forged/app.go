package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"
	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/daemon"
	"github.com/forge-ml/forge-ml/nvml"
)

// Exit codes of forged: what a unit file or a script can tell apart.
const (
	exitOK      = 0
	exitFailed  = 1
	exitInvalid = 2 // configuration or arguments
	exitDamaged = 3 // the database is not whole: restore a backup (docs/backup.md)
	exitBusy    = 6 // another forged serves this state directory
)

func run(args []string, out, errOut io.Writer) int {
	app := newApp(out, errOut)
	err := app.Run(args)
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintf(errOut, "forged: %v\n", err)
	if h := forge.HintOf(err); h != "" {
		_, _ = fmt.Fprintf(errOut, "hint: %s\n", h)
	}
	if daemon.Damaged(err) {
		return exitDamaged
	}
	switch forge.KindOf(err) {
	case forge.KindInvalid, forge.KindPrecondition:
		return exitInvalid
	case forge.KindConflict:
		return exitBusy
	}
	return exitFailed
}

func newApp(out, errOut io.Writer) *cli.App {
	stateDir := &cli.StringFlag{Name: "state-dir", Usage: "directory of the database, keys and sockets", Value: daemon.DefaultStateDir(), EnvVars: []string{"FORGE_STATE"}}
	config := &cli.StringFlag{Name: "config", Usage: "configuration file (default: STATE_DIR/config.yaml)"}
	user := &cli.StringFlag{Name: "user", Usage: "name of the operator", Value: "admin"}
	uid := &cli.Int64Flag{Name: "unix-uid", Usage: "uid that is the operator on the unix socket; -1 for none", Value: int64(os.Getuid())}
	keyFile := &cli.StringFlag{Name: "key-file", Usage: "also write the key to this new file, mode 0600"}
	return &cli.App{
		Name: "forged", Usage: "the forge-ml daemon: queue, placement, resume and registry of training runs", Version: version + " (" + commit + ")",
		Writer: out, ErrWriter: errOut, HideHelpCommand: true,
		ExitErrHandler: func(*cli.Context, error) {}, // run alone decides the exit code
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return &forge.Error{Kind: forge.KindInvalid, Err: err, Hint: "forged --help"}
		},
		Commands: append(backupCommands(out, errOut, stateDir, config), []*cli.Command{
			{Name: "init", Usage: "make a state directory and print the first operator key, this once", Flags: []cli.Flag{stateDir, user, uid, keyFile},
				Action: func(c *cli.Context) error { return initState(c, out) }},
			{Name: "key", Usage: "make a new operator key for a stopped daemon (a lost one cannot be shown again)", Flags: []cli.Flag{stateDir, user, keyFile},
				Action: func(c *cli.Context) error { return newKey(c, out) }},
			{Name: "serve", Usage: "serve until SIGTERM (a second one hurries); SIGHUP reads the configuration again; attempts go on without the daemon", Flags: []cli.Flag{stateDir, config},
				Action: func(c *cli.Context) error { return serve(c, errOut) }},
			{Name: "reload", Usage: "let the daemon read its configuration again, and say what became of it", Flags: []cli.Flag{stateDir},
				Action: func(c *cli.Context) error { return reload(c, out) }},
			{Name: "tls", Usage: "look at the certificate", Subcommands: []*cli.Command{
				{Name: "fingerprint", Usage: "print the SHA-256 of the certificate, for clients to pin", Flags: []cli.Flag{stateDir, config},
					Action: func(c *cli.Context) error { return tlsFingerprint(c, out) }},
			}},
			{Name: "config", Usage: "look at the configuration", Subcommands: []*cli.Command{
				{Name: "check", Usage: "say what is wrong with it", Flags: []cli.Flag{stateDir, config}, Action: func(c *cli.Context) error {
					cfg, err := load(c)
					if err != nil {
						return err
					}
					if err := daemon.CheckSite(c.Context, cfg); err != nil {
						return err
					}
					_, err = fmt.Fprintln(out, "configuration is valid")
					return err
				}},
				{Name: "show", Usage: "print it with every default filled in", Flags: []cli.Flag{stateDir, config}, Action: func(c *cli.Context) error {
					cfg, err := load(c)
					if err != nil {
						return err
					}
					b, err := yaml.Marshal(cfg)
					if err != nil {
						return fmt.Errorf("print configuration: %w", err)
					}
					_, err = out.Write(b)
					return err
				}},
			}},
			{Name: "nvml", Usage: "read the GPUs (the daemon starts this as a child)", Hidden: true, SkipFlagParsing: true,
				Action: func(c *cli.Context) error {
					if code := nvml.ChildMain(c.Args().Slice(), out); code != 0 {
						return fmt.Errorf("nvml child ended with %d", code)
					}
					return nil
				}},
		}...),
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return &forge.Error{Kind: forge.KindInvalid, Err: fmt.Errorf("unknown command %q", c.Args().First()), Hint: "forged --help"}
			}
			return cli.ShowAppHelp(c)
		},
	}
}

func load(c *cli.Context) (daemon.Config, error) {
	if err := noLeftovers(c); err != nil {
		return daemon.Config{}, err
	}
	return daemon.LoadConfig(c.String("config"), c.String("state-dir"))
}

func tlsFingerprint(c *cli.Context, out io.Writer) error {
	cfg, err := load(c)
	if err != nil {
		return err
	}
	print, _, err := daemon.TLSFingerprint(cfg)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, print)
	return err
}

func noLeftovers(c *cli.Context) error {
	if c.Args().Present() {
		return &forge.Error{Kind: forge.KindInvalid, Err: fmt.Errorf("%s takes no argument, got %q", c.Command.FullName(), c.Args().First())}
	}
	return nil
}

func initState(c *cli.Context, out io.Writer) error {
	if err := noLeftovers(c); err != nil {
		return err
	}
	dir, err := filepath.Abs(c.String("state-dir"))
	if err != nil {
		return err
	}
	made, err := daemon.Init(c.Context, dir, c.String("user"), c.Int64("unix-uid"))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "state directory  %s\nconfiguration    %s\noperator key     %s\n\nThe key is shown this once. Next:\n  forged serve --state-dir %s\n  export FORGE_SERVER=unix://%s/forged.sock FORGE_API_KEY=…\n  forgectl node list\n",
		made.StateDir, made.Config, made.Secret, dir, dir)
	return errors.Join(err, writeKey(c.String("key-file"), made.Secret))
}

func newKey(c *cli.Context, out io.Writer) error {
	if err := noLeftovers(c); err != nil {
		return err
	}
	_, secret, err := daemon.NewOperatorKey(c.Context, c.String("state-dir"), c.String("user"))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, secret)
	return errors.Join(err, writeKey(c.String("key-file"), secret))
}

func writeKey(path, secret string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return forge.Invalidf("key-file", "%v", err)
	}
	_, err = f.WriteString(secret + "\n")
	return errors.Join(err, f.Close())
}
