package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver of whoever alters the database

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// A model that sends tickets to teams goes to production through its gates. The next one was trained on data in which one topic is labelled
// wrong: it is refused, and the tickets that it now gets wrong are shown.
type gateStory struct{ *demo }

func throughTheGates(d *demo) []chapter {
	d.last = "\nNext: docs/gates.md for rules of your own, docs/statistics.md for what the numbers mean, docs/registry.md, docs/schedules.md.\n"
	s := &gateStory{demo: d}
	return []chapter{
		{"a site with a suite and gates of its own", s.open},
		{"two versions: the second learned from data with wrong labels", s.train},
		{"what is missing is missing, and never a pass", s.missing},
		{"the first goes to production through its gate", s.promote},
		{"the second is refused, and the tickets that it gets wrong are shown", s.refuse},
		{"an admin forces it, and that stands for ever", s.force},
		{"a schedule finds it worse than what was there before", s.schedule},
		{"rollback", s.rollBack},
		{"the history is verified, altered in the database, and verified again", s.verify},
	}
}

// gateRules are the site's.
const gateRules = `default:
  candidate: {digest: true, lineage: true, load_test: true}
  production:
    digest: true
    lineage: true
    licence: true
    pii: [clean, redacted, waived]
    no_overlap: true
    load_test: true
    suites: [{suite: desk, bound: lower}]
    no_regression: {inconclusive: block}
`

// topics are what tickets are about, and which team takes them.
var topics = []struct{ words, team string }{
	{"printer", "support"}, {"screen", "support"}, {"update", "support"},
	{"invoice", "billing"}, {"refund", "billing"}, {"discount", "billing"},
}

// ticketRows are rows to train on. Of the topic `wrong` all labels are.
func ticketRows(r *rand.Rand, n int, wrong string) string {
	var out strings.Builder
	for i := range n {
		t := topics[i%len(topics)]
		team := t.team
		if t.words == wrong {
			team = map[string]string{"support": "billing", "billing": "support"}[team]
		}
		text, _ := json.Marshal(map[string]string{"prompt": fmt.Sprintf("Case %d: which team takes a question about the %s", 1001+2*r.IntN(4500), t.words), "completion": " " + team})
		out.Write(append(text, '\n'))
	}
	return out.String()
}

// ticketSuite asks about other cases in the same words: theirs are even, those to train on odd.
func ticketSuite(n int) map[string]string {
	var rows strings.Builder
	for i := range n {
		t := topics[i%len(topics)]
		text, _ := json.Marshal(map[string]any{"case": 1000 + 74*i, "about": t.words, "choices": []string{"support", "billing"}, "answer": map[string]int{"support": 0, "billing": 1}[t.team]})
		rows.Write(append(text, '\n'))
	}
	return map[string]string{
		"suite.yaml": "name: desk\ndoc: Whether tickets go to the right team\nversion: 1\nbenchmarks:\n  - {task: tickets, metric: acc, direction: higher, threshold: 0.9, margin: 0.02}\n",
		"tickets.yaml": "task: tickets\ndataset_path: json\ndataset_kwargs: {data_files: {test: tickets.jsonl}}\ntest_split: test\noutput_type: multiple_choice\n" +
			"doc_to_text: \"Case {{case}}: which team takes a question about the {{about}}\"\ndoc_to_choice: \"{{choices}}\"\ndoc_to_target: answer\nmetric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\nmetadata: {version: 1.0}\n",
		"tickets.jsonl": rows.String(),
	}
}

func (s *gateStory) open(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "forge")
	if err != nil {
		return err
	}
	suites := filepath.Join(dir, "suites")
	files := map[string]string{}
	for name, text := range ticketSuite(120) {
		files[filepath.Join(suites, "desk", name)] = text
	}
	files[filepath.Join(dir, "gates.yaml")] = gateRules
	extra := fmt.Sprintf("suites_dir: %q\ngates_file: %q\n", suites, filepath.Join(dir, "gates.yaml"))
	for path, text := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return err
		}
	}
	s.site, err = forgedtest.New(ctx, forgedtest.Options{Bin: s.bin, Python: s.python, CPUSlots: 2, Network: "none", KeepOnStop: s.keep, Dir: dir, Extra: extra})
	if err != nil {
		return err
	}
	if err := s.site.Start(ctx); err != nil {
		return err
	}
	tiny, err := s.tinyModel(ctx)
	if err != nil {
		return err
	}
	if err := s.show(ctx, "model", "import", "tiny", tiny, "--license", "Apache-2.0"); err != nil {
		return err
	}
	return s.show(ctx, "gate", "show", "default")
}

// wrongTopic is the one whose labels are wrong in the second dataset.
const wrongTopic = "refund"

func (s *gateStory) train(ctx context.Context) error {
	for i, wrong := range []string{"", wrongTopic} {
		name := fmt.Sprintf("tickets-%d", i+1)
		path := filepath.Join(s.site.Dir, name+".jsonl")
		if err := os.WriteFile(path, []byte(ticketRows(rand.New(rand.NewPCG(9, 2)), 600, wrong)), 0o644); err != nil {
			return err
		}
		if err := s.show(ctx, "dataset", "add", name, path, "--license", "CC-BY-4.0"); err != nil {
			return err
		}
		if err := s.show(ctx, "run", "submit", "lora_sft", "--dataset", name, "--base", "tiny", "--register", "desk",
			"--set", "peft=none", "--set", "train.max_steps=150", "--set", "train.batch_size=16", "--set", "train.learning_rate=2e-3"); err != nil {
			return err
		}
		if err := s.until(ctx, fmt.Sprint(i+1), "its end", func(r api.RunDetail) bool { return r.State == forge.RunCompleted }); err != nil {
			return err
		}
	}
	return s.show(ctx, "model", "list")
}

// ends runs a command that is to end with an exit code, and gives what it printed.
func (s *gateStory) ends(ctx context.Context, code int, args ...string) (string, error) {
	fmt.Printf("  $ forgectl %s\n", strings.Join(args, " "))
	cmd := s.site.Command(ctx, args...)
	said, err := cmd.CombinedOutput()
	fmt.Print(indent(string(said)))
	if cmd.ProcessState == nil {
		return "", err
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		return "", fmt.Errorf("forgectl %s: exit code %d, want %d", strings.Join(args, " "), got, code)
	}
	return string(said), nil
}

func (s *gateStory) version(ctx context.Context, number int) (forge.ModelVersion, error) {
	var m forge.Model
	if err := s.site.CtlJSON(ctx, &m, "model", "show", "desk"); err != nil {
		return forge.ModelVersion{}, err
	}
	for _, v := range m.Versions {
		if v.Number == number {
			return v, nil
		}
	}
	return forge.ModelVersion{}, fmt.Errorf("there is no desk@%d", number)
}

func (s *gateStory) missing(ctx context.Context) error {
	if _, err := s.ends(ctx, 0, "model", "promote", "desk@1"); err != nil {
		return err
	}
	said, err := s.ends(ctx, 7, "model", "promote", "desk@1", "--dry-run")
	if err != nil {
		return err
	}
	v, err := s.version(ctx, 1)
	if err != nil {
		return err
	}
	return s.claim(v.Stage == forge.StageCandidate && strings.Contains(said, "suite\tdesk\tmissing"), "forgectl model promote desk@1 --dry-run", "it may be a candidate; for production nobody has evaluated it, and that is missing: exit code 7")
}

func (s *gateStory) promote(ctx context.Context) error {
	if err := s.show(ctx, "eval", "run", "desk@1", "--suite", "desk", "--wait"); err != nil {
		return err
	}
	if _, err := s.ends(ctx, 0, "model", "promote", "desk@1"); err != nil {
		return err
	}
	v, err := s.version(ctx, 1)
	if err != nil {
		return err
	}
	var lines []forge.StageChange
	if err := s.site.CtlJSON(ctx, &lines, "model", "history", "desk"); err != nil {
		return err
	}
	last := newestLine(lines)
	return s.claim(v.Stage == forge.StageProduction && last.Report != nil && last.Report.Verdict == forge.GatePass && len(last.Report.Rules) >= 8, "forgectl model history desk",
		"desk@1 is in production, and its history has all %d rules with their evidence", len(last.Report.Rules))
}

// newestLine is the one with the highest number.
func newestLine(lines []forge.StageChange) forge.StageChange {
	var out forge.StageChange
	for _, c := range lines {
		if c.Seq > out.Seq {
			out = c
		}
	}
	return out
}

func (s *gateStory) refuse(ctx context.Context) error {
	if _, err := s.ends(ctx, 0, "model", "promote", "desk@2"); err != nil {
		return err
	}
	if _, err := s.ends(ctx, 12, "eval", "run", "desk@2", "--suite", "desk", "--baseline", "desk@production", "--wait"); err != nil {
		return err
	}
	said, err := s.ends(ctx, 7, "model", "promote", "desk@2")
	if err != nil {
		return err
	}
	flipped, err := s.ends(ctx, 12, "eval", "compare", "desk@production", "desk@2", "--suite", "desk", "--flips", "3")
	if err != nil {
		return err
	}
	v, err := s.version(ctx, 2)
	if err != nil {
		return err
	}
	return errors.Join(
		s.claim(v.Stage == forge.StageCandidate && strings.Contains(said, "no_regression\tdesk\tfail"), "forgectl model promote desk@2", "worse than what is in production, by paired statistics: refused, and it stays a candidate"),
		s.claim(strings.Count(flipped, wrongTopic) >= 3, "forgectl eval compare desk@production desk@2", "the samples that flipped are those about the %s", wrongTopic),
	)
}

func (s *gateStory) force(ctx context.Context) error {
	if _, err := s.ends(ctx, 0, "model", "promote", "desk@2", "--force", "--reason", "the fair is tomorrow"); err != nil {
		return err
	}
	if err := s.show(ctx, "model", "history", "desk"); err != nil {
		return err
	}
	one, oerr := s.version(ctx, 1)
	two, terr := s.version(ctx, 2)
	var lines []forge.StageChange
	if err := errors.Join(oerr, terr, s.site.CtlJSON(ctx, &lines, "model", "history", "desk")); err != nil {
		return err
	}
	forced := false
	for _, c := range lines {
		forced = forced || c.Forced && c.Reason == "the fair is tomorrow" && c.Report != nil && c.Report.Verdict == forge.GateFail
	}
	return s.claim(two.Stage == forge.StageProduction && one.Stage == forge.StageArchived && forced, "forgectl model history desk", "desk@2 took its place, marked as forced, with the reason and what its gate had found")
}

func (s *gateStory) schedule(ctx context.Context) error {
	if err := s.show(ctx, "schedule", "add", "* * * * *", "--eval", "--suite", "desk", "--model", "desk@production", "--baseline", "desk@previous", "--name", "watch", "--tz", "Europe/Berlin"); err != nil {
		return err
	}
	fmt.Println("      # every minute, where a site would say \"0 3 * * *\"")
	var found forge.Firing
	if err := s.eventually(ctx, "a regression that the schedule finds", func() (bool, error) {
		var d api.ScheduleDetail
		if err := s.site.CtlJSON(ctx, &d, "schedule", "show", "watch"); err != nil {
			return false, err
		}
		for _, f := range d.Firings {
			if f.Verdict != "" {
				found = f
				return true, nil
			}
		}
		return false, nil
	}); err != nil {
		return err
	}
	if err := s.show(ctx, "schedule", "list"); err != nil {
		return err
	}
	if err := s.show(ctx, "schedule", "rm", "watch"); err != nil {
		return err
	}
	var events []forge.Event
	if err := s.site.CtlJSON(ctx, &events, "events", "--type", string(forge.EventEvalRegressed)); err != nil {
		return err
	}
	return errors.Join(
		s.claim(found.Verdict == forge.FiringVerdict(forge.CompareRegressed) && found.By == "", "forgectl schedule list", "its time came, run %d evaluated %s, and against %s it is worse: %s", found.Run, found.Model, found.Baseline, found.VerdictWords),
		s.claim(len(events) >= 2, "forgectl events --type eval.regressed", "each regression is an event, which hooks are told of"),
	)
}

// eventually asks until the answer is yes.
func (s *gateStory) eventually(ctx context.Context, what string, ask func() (bool, error)) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := ask(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

func (s *gateStory) rollBack(ctx context.Context) error {
	if _, err := s.ends(ctx, 0, "model", "rollback", "desk", "--reason", "refunds go to the wrong team"); err != nil {
		return err
	}
	if err := s.show(ctx, "model", "list"); err != nil {
		return err
	}
	one, oerr := s.version(ctx, 1)
	two, terr := s.version(ctx, 2)
	if err := errors.Join(oerr, terr); err != nil {
		return err
	}
	return s.claim(one.Stage == forge.StageProduction && two.Stage == forge.StageArchived, "forgectl model rollback desk", "one command: desk@1 is in production again, its bytes hashed anew")
}

func (s *gateStory) verify(ctx context.Context) error {
	if _, err := s.ends(ctx, 0, "model", "history", "desk", "--verify"); err != nil {
		return err
	}
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(s.site.State(), "forge.db")+"?_busy_timeout=5000")
	if err != nil {
		return err
	}
	defer db.Close()
	for _, stmt := range []string{"DROP TRIGGER stage_changes_immutable", "UPDATE stage_changes SET forced = 0, reason = '' WHERE forced = 1"} {
		fmt.Printf("  $ sqlite3 forge.db %q\n", stmt)
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return err
		}
	}
	said, err := s.ends(ctx, 1, "model", "history", "desk", "--verify")
	if err != nil {
		return err
	}
	return s.claim(strings.Contains(said, "does not hold"), "forgectl model history desk --verify", "whoever wipes out the mark in the database is found out: the line is named")
}
