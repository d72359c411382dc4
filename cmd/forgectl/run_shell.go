package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (a *app) runShellCommand() *cli.Command {
	return &cli.Command{Name: "shell", Usage: "open a shell beside a rank, in its allocation (Slurm)", ArgsUsage: "RUN",
		Flags: []cli.Flag{&cli.IntFlag{Name: "rank", Usage: "the rank whose node and environment it is about"}},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "RUN")
			if err != nil {
				return err
			}
			return a.runShell(c.Context, args[0], c.Int("rank"))
		}}
}

// runShell becomes srun, so that the terminal, its size and its signals are srun's own business.
func (a *app) runShell(ctx context.Context, run string, rank int) error {
	if rank < 0 {
		return forge.Invalidf("rank", "%d: ranks start at 0", rank)
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	seat, err := cl.RunSeat(ctx, run, rank)
	if err != nil {
		return err
	}
	if err := mayEnter(seat); err != nil {
		return err
	}
	srun, err := exec.LookPath("srun")
	if err != nil {
		return forge.Errorf(forge.KindPrecondition, "run.shell", "srun is not in PATH: job %s of cluster %s is entered from a machine with Slurm's programs", seat.Job, seat.Cluster).
			WithHint("on a login node of the cluster: %s", strings.Join(shellCommand(seat), " "))
	}
	fmt.Fprintf(a.Err, "node %s, job %s; for the environment of rank %d: . %s\n", clean(string(seat.Node)), clean(seat.Job), seat.Rank, clean(shellWord(seat.Env)))
	if err := syscall.Exec(srun, shellCommand(seat), shellEnv(os.Environ())); err != nil {
		return fmt.Errorf("%s: %w", srun, err)
	}
	return nil
}

func shellCommand(seat api.RunSeat) []string {
	return []string{"srun", "--jobid=" + seat.Job, "--overlap", "--pty", "--nodes=1", "--ntasks=1", "--nodelist=" + string(seat.Node), "--export=ALL", "bash"}
}

// mayEnter says beforehand what Slurm would only say as "Access/permission denied".
func mayEnter(seat api.RunSeat) error {
	me, err := user.Current()
	if err != nil || seat.Owner == "" || me.Username == seat.Owner || me.Uid == "0" {
		return nil
	}
	return forge.Errorf(forge.KindPrecondition, "run.shell", "job %s belongs to %s, and you are %s: Slurm lets nobody else in", seat.Job, seat.Owner, me.Username).
		WithHint("as %s, or where jobs are people's own (identity: as_user): %s", seat.Owner, strings.Join(shellCommand(seat), " "))
}

// shellEnv drops what a shell inside of another allocation has of that one: srun takes it for options.
func shellEnv(own []string) []string {
	var out []string
	for _, kv := range own {
		if !strings.HasPrefix(kv, "SLURM_") || strings.HasPrefix(kv, "SLURM_CONF=") {
			out = append(out, kv)
		}
	}
	return out
}

// shellWord quotes for a person to paste.
func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
