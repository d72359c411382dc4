package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// follow shows the run live, as `forgectl run show --watch` draws it. The returned function
// ends it; calling it twice is allowed.
func (d *demo) follow(ctx context.Context, run string) func() {
	ctx, cancel := context.WithCancel(ctx)
	cmd := d.site.Command(ctx, "run", "show", run, "--watch")
	fmt.Printf("  $ forgectl run show %s --watch\n", run)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		cancel()
		return func() {}
	}
	return sync.OnceFunc(func() {
		cancel()
		_ = cmd.Wait()
	})
}

// rankPid reads the pid of a rank from what its shim recorded (docs/run-directory.md).
func rankPid(runDir string, attempt, rank int) (int, error) {
	b, err := os.ReadFile(filepath.Join(runDir, "attempts", fmt.Sprintf("%04d", attempt), "nodes", "0000", "live.json"))
	if err != nil {
		return 0, err
	}
	var live struct {
		Ranks []struct{ Rank, Pid int }
	}
	if err := json.Unmarshal(b, &live); err != nil {
		return 0, err
	}
	for _, r := range live.Ranks {
		if r.Rank == rank && r.Pid > 1 {
			return r.Pid, nil
		}
	}
	return 0, fmt.Errorf("live.json names no rank %d", rank)
}

// leave stops forged and looks for anything that it left.
func (d *demo) leave(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	fmt.Printf("\n\033[1m== leave nothing running\033[0m\n")
	stopErr := d.site.Stop(ctx)
	var foreign []string
	if d.net != nil {
		foreign = d.net.stop()
	}
	left, err := forgedtest.Survivors(d.site.Dir)
	for _, p := range left {
		fmt.Printf("  survivor: pid %d  %s\n", p.Pid, p.Command)
	}
	err = errors.Join(stopErr, err)
	if err == nil {
		err = d.claim(len(left) == 0, "scan of /proc for the state directory", "nothing of it runs any more")
	}
	if err == nil && d.net != nil {
		err = d.claim(len(foreign) == 0, "sampled /proc/PID/net/tcp of every process", "it talked to loopback only%s", strings.Join(append([]string{""}, foreign...), ", "))
	}
	return errors.Join(err, d.site.Close())
}

func (d *demo) closing() {
	fmt.Printf("\n\033[1m== %d claims shown\033[0m\n", d.claims)
	for _, p := range d.phases {
		fmt.Println(" ", p)
	}
	fmt.Printf("  %6.1f s  altogether\n", time.Since(d.began).Seconds())
	fmt.Print(d.last)
}

const nextOnYourOwn = `
Next, on a machine of your own:
  bin/forged init --state-dir ~/forge          # prints the first operator key
  bin/forged serve --state-dir ~/forge &
  export FORGE_SERVER=unix://$HOME/forge/forged.sock FORGE_API_KEY=...
  bin/forgectl dataset add my-chat /path/to/chat.jsonl
  bin/forgectl model import my-base /path/to/model
  bin/forgectl run submit lora_sft --dataset my-chat --base my-base --register my-bot --wait
`
