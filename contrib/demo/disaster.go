package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// fading is what a tenant's use shows that moves with time, whoever looks.
var fading = regexp.MustCompile(`"(gpu_hours|share)": ?[-+.0-9e]+`)

func still(text string) string { return fading.ReplaceAllString(text, "") }

// disaster backs up while forged serves, loses the state directory, and gets everything back.
func (t *day) disaster(ctx context.Context) error {
	t.backup = filepath.Join(t.site.Dir, "backup.tar.gz")
	if err := t.forged(ctx, "backup", "--state-dir", t.site.State(), "--out", t.backup); err != nil {
		return err
	}
	if err := t.forged(ctx, "backup", "verify", t.backup); err != nil {
		return err
	}
	before, err := t.inventory(ctx)
	if err != nil {
		return err
	}
	if err := t.site.Stop(ctx); err != nil {
		return err
	}
	fmt.Printf("  $ rm -rf %s\n", t.site.State())
	if err := os.RemoveAll(t.site.State()); err != nil {
		return err
	}
	if err := t.forged(ctx, "restore", "--state-dir", t.site.State(), t.backup); err != nil {
		return err
	}
	if err := t.site.Start(ctx); err != nil {
		return err
	}
	after, err := t.inventory(ctx)
	if err != nil {
		return err
	}
	for _, what := range []string{"tenant list", "user list", "key list", "run list", "dataset list", "model show physics-bot"} {
		if err := t.claim(still(before[what]) == still(after[what]) && before[what] != "", "forgectl "+what+" -o json, before and after",
			"%s: the same after the restore, %d bytes", what, len(after[what])); err != nil {
			return err
		}
	}
	if err := t.showOn(ctx, t.bob, "run", "submit", "probe", "--gpus-per-node", "1", "--time", "10m", "--set", "steps=3"); err != nil {
		return err
	}
	if err := t.untilOn(ctx, t.bob, "2", "the end", func(r api.RunDetail) bool { return r.State.Terminal() }); err != nil {
		return err
	}
	var r api.RunDetail
	if err := t.bob.CtlJSON(ctx, &r, "run", "show", "2"); err != nil {
		return err
	}
	return t.claim(r.State == forge.RunCompleted, "forgectl run show 2, with bob's key of before", "his key still works, and his next run is %s", r.State)
}

// forged runs one of the daemon's own commands for the reader's eyes.
func (t *day) forged(ctx context.Context, args ...string) error {
	fmt.Printf("  $ forged %s\n", strings.Join(args, " "))
	cmd := t.site.Daemon(ctx, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("forged %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// inventory is what each tenant has, as JSON.
func (t *day) inventory(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	for _, q := range []struct {
		what string
		args []string
	}{
		{"tenant list", []string{"tenant", "list"}},
		{"user list", []string{"--tenant", "physics", "user", "list"}},
		{"user list", []string{"--tenant", "biology", "user", "list"}},
		{"run list", []string{"--tenant", "physics", "run", "list"}},
		{"run list", []string{"--tenant", "biology", "run", "list"}},
		{"dataset list", []string{"--tenant", "physics", "dataset", "list"}},
		{"model show physics-bot", []string{"--tenant", "physics", "model", "show", "physics-bot"}},
	} {
		text, err := t.site.Ctl(ctx, append(q.args, "-o", "json")...)
		if err != nil {
			return nil, err
		}
		out[q.what] += text
	}
	// Keys without when they were used last: asking for them uses one.
	var keys []forge.Key
	for _, tenant := range []string{"physics", "biology"} {
		if err := t.site.CtlJSON(ctx, &keys, "--tenant", tenant, "key", "list"); err != nil {
			return nil, err
		}
		for _, k := range keys {
			out["key list"] += fmt.Sprintln(k.ID, k.User, k.Role, k.Prefix, k.CreatedAt, k.ExpiresAt)
		}
	}
	return out, nil
}

func (t *day) doctor(ctx context.Context) error {
	if err := t.show(ctx, "doctor"); err != nil {
		return err
	}
	var checks []api.Check
	if err := t.site.CtlJSON(ctx, &checks, "doctor"); err != nil {
		return err
	}
	bad := 0
	for _, c := range checks {
		if c.Status == api.CheckFail {
			bad++
		}
	}
	return t.claim(len(checks) >= 8 && bad == 0, "forgectl doctor", "%d checks, nothing is broken", len(checks))
}
