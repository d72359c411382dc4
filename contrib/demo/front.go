package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// A site's first day: two tenants on one machine with two slots. Physics trains; biology needs the
// machine at once; then the machine's disk dies.
const (
	daySteps   = 60
	daySave    = 15
	dayPreempt = 20 // biology comes once this step was reported
)

type day struct {
	*demo
	ada, bob *forgedtest.Site // the same site, by their keys
	backup   string
}

func firstDay(d *demo) []chapter {
	t := &day{demo: d}
	return []chapter{
		{"init, serve", t.start},
		{"two tenants, their people, their keys", t.people},
		{"physics trains; biology cannot see it", t.apart},
		{"biology preempts it, physics resumes and ends with the same result", t.preempt},
		{"backup, wipe, restore", t.disaster},
		{"the doctor", t.doctor},
	}
}

func (t *day) start(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "forge")
	if err != nil {
		return err
	}
	s, err := forgedtest.New(ctx, forgedtest.Options{Bin: t.bin, Python: t.python, CPUSlots: 2, Network: "none", KeepOnStop: t.keep, Dir: dir,
		RunRoot: filepath.Join(dir, "scratch"), WithProbe: true, PollEvery: 200 * time.Millisecond})
	if err != nil {
		return err
	}
	t.site = s
	if err := s.Start(ctx); err != nil {
		return err
	}
	t.net = watchNet(s.Dir)
	if err := t.show(ctx, "whoami"); err != nil {
		return err
	}
	var me api.WhoAmI
	if err := s.CtlJSON(ctx, &me, "whoami"); err != nil {
		return err
	}
	return t.claim(me.Role == forge.RoleOperator && me.Tenant.Name == forge.DefaultTenant, "forgectl whoami", "%s runs the site, as %s", me.User, me.Role)
}

// people makes two tenants with a person each. What they hold are keys; forged keeps hashes.
func (t *day) people(ctx context.Context) error {
	for _, args := range [][]string{
		{"tenant", "create", "physics"}, {"tenant", "create", "biology"},
		{"--tenant", "physics", "user", "create", "ada"},
		{"--tenant", "biology", "user", "create", "bob", "--max-priority", "80"},
	} {
		if err := t.show(ctx, args...); err != nil {
			return err
		}
	}
	var secrets []string
	for _, p := range []struct {
		tenant, user string
		site         **forgedtest.Site
	}{{"physics", "ada", &t.ada}, {"biology", "bob", &t.bob}} {
		fmt.Printf("  $ forgectl --tenant %s key create %s --expires 30d\n", p.tenant, p.user)
		secret, err := t.site.Ctl(ctx, "--tenant", p.tenant, "key", "create", p.user, "--expires", "30d")
		if err != nil {
			return err
		}
		secrets = append(secrets, strings.TrimSpace(secret))
		*p.site = t.site.As(strings.TrimSpace(secret))
	}
	var me api.WhoAmI
	if err := t.ada.CtlJSON(ctx, &me, "whoami"); err != nil {
		return err
	}
	if err := t.claim(me.User == "ada" && me.Tenant.Name == "physics" && me.Role == forge.RoleMember, "forgectl whoami, with ada's key", "ada is a %s of %s, up to priority %d", me.Role, me.Tenant.Name, me.MaxPriority); err != nil {
		return err
	}
	found, err := inFiles(t.site.State(), secrets)
	if err != nil {
		return err
	}
	if err := t.claim(!found, "grep -r of both secrets through the state directory", "forged keeps no key, only hashes"); err != nil {
		return err
	}
	return t.login(ctx, secrets[0])
}

// login is what ada does on her login node.
func (t *day) login(ctx context.Context, secret string) error {
	fmt.Printf("  $ forgectl login %s < key\n", t.site.Server())
	home := filepath.Join(t.site.Dir, "home-ada")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	ctl := func(stdin string, args ...string) (string, error) {
		cmd := t.ada.Command(ctx, args...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8"}
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("forgectl %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return string(out), nil
	}
	if _, err := ctl(secret+"\n", "login", t.site.Server()); err != nil {
		return err
	}
	out, err := ctl("", "whoami", "-o", "json")
	if err != nil {
		return err
	}
	st, err := os.Stat(filepath.Join(home, ".config", "forge", "config.yaml"))
	if err != nil {
		return err
	}
	return t.claim(st.Mode().Perm() == 0o600 && strings.Contains(out, `"ada"`), "forgectl login; forgectl whoami; stat ~/.config/forge/config.yaml",
		"ada is logged in; her configuration has mode %04o", st.Mode().Perm())
}

// inFiles says whether any of the texts stands in any file below dir.
func inFiles(dir string, texts []string) (bool, error) {
	found := false
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		found = found || slices.ContainsFunc(texts, func(s string) bool { return bytes.Contains(b, []byte(s)) })
		return err
	})
	return found, err
}

func daySubmit(priority string, more ...string) []string {
	return append([]string{"run", "submit", "lora_sft", "--dataset", "chat@1", "--base", "tiny", "--gpus-per-node", "2", "--cpus-per-gpu", "1", "--time", "30m", "--priority", priority,
		"--set", "train.max_steps=" + fmt.Sprint(daySteps), "--set", "checkpoint.every_steps=" + fmt.Sprint(daySave), "--set", "train.learning_rate=5e-3", "--set", "train.batch_size=4"}, more...)
}

func (t *day) apart(ctx context.Context) error {
	tiny, err := t.tinyModel(ctx)
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"model", "import", "tiny", tiny, "--license", "Apache-2.0"}, {"dataset", "add", "chat", t.data, "--license", "Apache-2.0"},
		daySubmit("10", "--register", "physics-bot"),
	} {
		if err := t.showOn(ctx, t.ada, args...); err != nil {
			return err
		}
	}
	if err := t.untilOn(ctx, t.ada, "1", fmt.Sprintf("step %d", dayPreempt), func(r api.RunDetail) bool { return r.Step >= dayPreempt }); err != nil {
		return err
	}
	var theirs api.RunDetail
	if err := t.ada.CtlJSON(ctx, &theirs, "run", "show", "1"); err != nil {
		return err
	}
	var runs []api.RunRow
	if err := t.bob.CtlJSON(ctx, &runs, "run", "list"); err != nil {
		return err
	}
	_, byID := t.bob.Ctl(ctx, "run", "show", string(theirs.ID))
	absent := strings.Repeat("0", len(theirs.ID))
	_, never := t.bob.Ctl(ctx, "run", "show", absent)
	if byID == nil || never == nil {
		return errors.New("bob was shown a run")
	}
	same := strings.ReplaceAll(byID.Error(), string(theirs.ID), absent) == never.Error()
	if err := t.claim(len(runs) == 0 && forgedtest.ExitCode(byID) == 5 && same, "forgectl run list; forgectl run show "+string(theirs.ID)+", with bob's key",
		"to biology, ada's run answers exactly like one that never was"); err != nil {
		return err
	}
	if err := t.showOn(ctx, t.bob, "queue"); err != nil {
		return err
	}
	var q api.Queue
	if err := t.bob.CtlJSON(ctx, &q, "queue"); err != nil {
		return err
	}
	b, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return t.claim(len(q.Entries) == 0 && q.Others.Running == 1 && q.Others.GPUs == 2 && !bytes.Contains(b, []byte("ada")), "forgectl queue, with bob's key",
		"he sees that %d run of others holds %d slots, and not whose", q.Others.Running, q.Others.GPUs)
}

// preempt lets bob's run take the slots of ada's, which saves, waits, and goes on.
func (t *day) preempt(ctx context.Context) error {
	if err := t.showOn(ctx, t.bob, "run", "submit", "probe", "--gpus-per-node", "2", "--time", "10m", "--priority", "80", "--set", "steps=20", "--set", "step_ms=100"); err != nil {
		return err
	}
	why, err := t.whySaving(ctx)
	if err != nil {
		return err
	}
	if err := t.claim(strings.Contains(why, "waits for 1 of 1 run"), "forgectl run why 1, with bob's key", "bob's run %s", strings.TrimSuffix(why, ".")); err != nil {
		return err
	}
	if err := t.untilOn(ctx, t.bob, "1", "the end", func(r api.RunDetail) bool { return r.State.Terminal() }); err != nil {
		return err
	}
	if err := t.untilOn(ctx, t.ada, "1", "the end", func(r api.RunDetail) bool { return r.State.Terminal() }); err != nil {
		return err
	}
	if err := t.showOn(ctx, t.ada, "run", "events", "1"); err != nil {
		return err
	}
	var r api.RunDetail
	if err := t.ada.CtlJSON(ctx, &r, "run", "show", "1"); err != nil {
		return err
	}
	if len(r.Attempts) != 2 {
		return fmt.Errorf("ada's run has %d attempts, want 2: %+v", len(r.Attempts), r.Attempts)
	}
	a1, a2 := r.Attempts[0], r.Attempts[1]
	saved := slices.ContainsFunc(a1.Exits, func(x forge.RankExit) bool { return x.Code == forge.ExitCheckpointed })
	if err := t.claim(a1.Reason == forge.EndCheckpointedPreempt && saved, "forgectl run show 1, with ada's key", "attempt 1 saved at step %d and exited %d: %s", a2.ResumeStep, forge.ExitCheckpointed, a1.Reason); err != nil {
		return err
	}
	if err := t.claim(a2.ResumeStep >= dayPreempt && r.State == forge.RunCompleted && r.Model == "physics-bot@1", "forgectl run show 1, with ada's key",
		"attempt 2 went on from step %d; the run is %s and registered as %s", a2.ResumeStep, r.State, r.Model); err != nil {
		return err
	}
	return t.sameResult(ctx)
}

// whySaving asks why bob's run waits until the answer is about the saving.
func (t *day) whySaving(ctx context.Context) (string, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var w api.Why
		if err := t.bob.CtlJSON(ctx, &w, "run", "why", "1"); err != nil {
			return "", err
		}
		if w.Code == forge.HoldPreempting {
			return w.Sentence, nil
		}
		if w.State != forge.RunPending {
			return "", fmt.Errorf("bob's run is %s and never said that it waits for one to save: %s", w.State, w.Sentence)
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-tick.C:
		}
	}
}

func (t *day) sameResult(ctx context.Context) error {
	if err := t.showOn(ctx, t.ada, daySubmit("50")...); err != nil {
		return err
	}
	if err := t.untilOn(ctx, t.ada, "2", "the end", func(r api.RunDetail) bool { return r.State.Terminal() }); err != nil {
		return err
	}
	var loss [2]float64
	for i, run := range []string{"1", "2"} {
		var m api.Metrics
		if err := t.ada.CtlJSON(ctx, &m, "run", "metrics", run, "--key", "loss"); err != nil {
			return err
		}
		curve := m.Curves["loss"]
		if len(curve) == 0 || m.Step != daySteps {
			return fmt.Errorf("run %s has %d points of loss up to step %d, want all %d steps", run, len(curve), m.Step, daySteps)
		}
		loss[i] = curve[len(curve)-1].Last
	}
	diff := math.Abs(loss[0] - loss[1])
	return t.claim(diff <= tolerance, "forgectl run metrics 1 --key loss; forgectl run metrics 2 --key loss",
		"last loss: %.9f preempted, %.9f undisturbed, difference %.1e ≤ %.0e", loss[0], loss[1], diff, tolerance)
}
