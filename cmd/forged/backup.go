package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/daemon"
)

// backupCommands are `forged backup`, `forged backup verify` and `forged restore`.
func backupCommands(out, errOut io.Writer, stateDir, config cli.Flag) []*cli.Command {
	to := &cli.StringFlag{Name: "out", Usage: "file to make, or - for standard output (default: forge-backup-TIME.tar.gz in the current directory)"}
	limit := &cli.DurationFlag{Name: "timeout", Usage: "give up after this time", Value: time.Hour}
	verbose := &cli.BoolFlag{Name: "verbose", Usage: "show progress also where standard error is no terminal"}
	return []*cli.Command{
		{Name: "backup", Usage: "write one file with the database and the configuration, also while forged serves", Flags: []cli.Flag{stateDir, config, to, limit, verbose},
			Action: func(c *cli.Context) error { return backup(c, out, errOut) },
			Subcommands: []*cli.Command{
				{Name: "verify", Usage: "check every digest of a backup and the database in it", ArgsUsage: "FILE", Flags: []cli.Flag{limit},
					Action: func(c *cli.Context) error { return verifyBackup(c, out) }},
			}},
		{Name: "restore", Usage: "put a backup into an empty state directory", ArgsUsage: "FILE", Flags: []cli.Flag{stateDir, limit},
			Action: func(c *cli.Context) error { return restore(c, out, errOut) }},
	}
}

func backup(c *cli.Context, out, errOut io.Writer) error {
	if err := noLeftovers(c); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	dir, err := filepath.Abs(c.String("state-dir"))
	if err != nil {
		return err
	}
	o := daemon.BackupOptions{StateDir: dir, Config: c.String("config"), Out: c.String("out"), Stdout: out, Version: version, Now: time.Now()}
	if f, ok := errOut.(*os.File); c.Bool("verbose") || ok && term.IsTerminal(int(f.Fd())) {
		o.Progress = func(done, total int64) {
			_, _ = fmt.Fprintf(errOut, "\rcopying the database: %3d %% of %d KiB ", 100*done/max(total, 1), total>>10)
			if done >= total {
				_, _ = fmt.Fprintln(errOut)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.Duration("timeout"))
	defer cancel()
	made, err := daemon.Backup(ctx, o)
	if err != nil {
		return err
	}
	// To a pipe goes the backup and nothing else.
	w := out
	if made.File == "-" {
		w = errOut
	}
	_, err = fmt.Fprintf(w, "backup       %s\ntaken at     %s\nsize         %d bytes\nlast event   %d\nnot in it    run directories, datasets, base models: they stay where they are (docs/backup.md)\n",
		made.File, made.TakenAt.Format(time.RFC3339), made.Bytes, made.LastEventSeq)
	for _, what := range made.Without {
		_, err = fmt.Fprintf(errOut, "warning: not in it, and needed: %s\n", what)
	}
	return err
}

func verifyBackup(c *cli.Context, out io.Writer) error {
	file, err := oneFile(c)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, c.Duration("timeout"))
	defer cancel()
	m, err := daemon.VerifyBackup(ctx, file)
	if err != nil {
		return err
	}
	return printManifest(out, m)
}

func printManifest(out io.Writer, m daemon.BackupManifest) error {
	var b strings.Builder
	fmt.Fprintf(&b, "taken at     %s on %s, of %s\nforged       %s, schema version %d (%s)\nlast event   %d\n",
		m.TakenAt.Format(time.RFC3339), m.Host, m.StateDir, m.Forged, m.Database.SchemaVersion, m.Database.SchemaName, m.Database.LastEventSeq)
	for _, table := range slices.Sorted(maps.Keys(m.Database.Counts)) {
		fmt.Fprintf(&b, "%-12s %d\n", strings.ReplaceAll(table, "_", " "), m.Database.Counts[table])
	}
	for _, f := range m.Files {
		fmt.Fprintf(&b, "file         %s (%d bytes, sha256 %.12s)\n", f.Path, f.Size, f.SHA256)
	}
	for _, n := range m.NotIncluded {
		fmt.Fprintf(&b, "not in it    %s", n.What)
		if n.Root != "" {
			fmt.Fprintf(&b, " (%s)", n.Root)
		}
		fmt.Fprintf(&b, ": %s\n", n.Why)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func restore(c *cli.Context, out, errOut io.Writer) error {
	file, err := oneFile(c)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, c.Duration("timeout"))
	defer cancel()
	dir, err := filepath.Abs(c.String("state-dir"))
	if err != nil {
		return err
	}
	done, err := daemon.Restore(ctx, daemon.RestoreOptions{File: file, StateDir: dir, Now: time.Now()})
	if err != nil {
		return err
	}
	if err := printManifest(out, done.Manifest); err != nil {
		return err
	}
	first := ""
	for _, f := range done.Manifest.Files {
		if strings.HasPrefix(f.Path, "recipes/") {
			first = fmt.Sprintf("  the site's recipes are in %s/recipes; recipes_dir in the configuration may name another place\n", dir)
			break
		}
	}
	for _, n := range done.Manifest.NotIncluded {
		if n.Root != "" && strings.HasPrefix(n.Root, done.Manifest.StateDir+"/") {
			first += fmt.Sprintf("  the %s belong at %s: if you still have them, move them there before you serve\n", n.What, n.Root)
		}
	}
	_, err = fmt.Fprintf(out, `
restored into %s; %d runs that had not ended are on hold. Next:
  forged config check --state-dir %[1]s
%[3]s  forged serve --state-dir %[1]s     it compares the run directories first; /readyz says what it waits for
  forgectl run release RUN           each run, once it is clear that nothing of it is wanted elsewhere
API keys go on working. A lost operator key is replaced by: forged key --state-dir %[1]s
`, dir, done.Held, first)
	return err
}

func oneFile(c *cli.Context) (string, error) {
	if c.Args().Len() != 1 {
		return "", &forge.Error{Kind: forge.KindInvalid, Field: "file", Err: errors.New("want the name of one backup file, after the options"),
			Hint: "forged " + c.Command.FullName() + " --help"}
	}
	return c.Args().First(), nil
}
