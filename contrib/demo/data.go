package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// A folder as people leave it: three formats, rows that are none, mail addresses, cards and keys in it. It is mended, registered, redacted and trained
// on; then somebody asks where one row of it went.
type dataStory struct {
	*demo
	dir, first string // the folder, and a row that is asked about in the end
	redacted   forge.DatasetVersion
}

func whatIsInIt(d *demo) []chapter {
	d.last = "\nNext: docs/datasets.md; docs/pii.md for what is found and what is not; docs/lineage.md for where things went.\n"
	s := &dataStory{demo: d}
	return []chapter{
		{"start forged on a state directory of its own", d.start},
		{"a folder of data as people leave it", s.messy},
		{"one pass lists every bad row", s.problems},
		{"mended: one pass, and you know what is in it", s.add},
		{"a job on the cluster finds the same", s.job},
		{"redacted: a child with placeholders", s.redact},
		{"a tiny model trained on the child", s.train},
		{"lineage", s.lineage},
		{"a changed file is refused", s.changed},
		{"overlap with data that an eval asks", s.overlap},
		{"where did this row go?", s.impact},
	}
}

const demoRows = 120

// chats are rows of a support desk. None of the people and numbers in them exists.
func chats(r *rand.Rand, n int, tag string) []map[string]any {
	topics := []string{"reset my password", "change the delivery address", "cancel the subscription", "download the invoice", "connect the printer", "update the firmware"}
	private := []string{"My address is %s.%d@example.org.", "The card is 4111 1111 1111 1111, %s %d.", "Use the key AKIA3XQ7RZ5TKWP2MVNB, %s, ticket %d.", "Ring me at +1 415 555 0132, %s, ticket %d."}
	var rows []map[string]any
	for i := range n {
		ask := fmt.Sprintf("How do I %s? (%s-%d)", topics[r.IntN(len(topics))], tag, i)
		if i%10 == 3 {
			ask += " " + fmt.Sprintf(private[i/10%len(private)], []string{"ann", "bob", "eve", "kim"}[r.IntN(4)], i)
		}
		rows = append(rows, map[string]any{"prompt": ask, "completion": fmt.Sprintf("Open Settings, step %d, and follow what it says there.", 1+r.IntN(9))})
	}
	return rows
}

func (s *dataStory) messy(ctx context.Context) error {
	s.dir = filepath.Join(s.site.Dir, "desk")
	r := rand.New(rand.NewPCG(8, 2026))
	var a, b, c strings.Builder
	for i, row := range chats(r, demoRows, "mail") {
		text, err := json.Marshal(row)
		if err != nil {
			return err
		}
		if i == 0 {
			s.first = string(text)
		}
		switch i {
		case 17:
			text = []byte(`{"prompt": "torn`)
		case 41:
			text = []byte(`{"prompt": "no answer"}`)
		case 77:
			text = []byte(`{"prompt": "caf` + "\xe9" + `", "completion": "latin 1"}`)
		}
		a.Write(append(text, '\n'))
	}
	for _, row := range chats(r, demoRows/2, "phone") {
		fmt.Fprintf(&b, "%s\n", must(json.Marshal(row)))
	}
	for _, row := range append(chats(r, demoRows/2, "web"), map[string]any{"prompt": "How do I reset my password? (dup)", "completion": "Open Settings."}, map[string]any{"prompt": "How do I reset my password? (dup)", "completion": "Open Settings."}) {
		fmt.Fprintf(&c, "%s\n", must(json.Marshal(row)))
	}
	for name, text := range map[string]string{"mail.jsonl": a.String(), "phone.jsonl": b.String(), "old/web.jsonl": c.String()} {
		path := filepath.Join(s.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return err
		}
	}
	if err := packed(filepath.Join(s.dir, "phone.jsonl")); err != nil {
		return err
	}
	fmt.Printf("  $ find desk -type f\n      desk/mail.jsonl\n      desk/phone.jsonl.gz\n      desk/old/web.jsonl\n")
	tiny, err := s.tinyModel(ctx)
	if err != nil {
		return err
	}
	return s.show(ctx, "model", "import", "tiny", tiny, "--license", "Apache-2.0")
}

// packed is gzip: the file goes, and one of the same name with .gz comes.
func packed(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f, err := os.Create(path + ".gz")
	if err != nil {
		return err
	}
	z := gzip.NewWriter(f)
	_, err = z.Write(b)
	return errors.Join(err, z.Close(), f.Close(), os.Remove(path))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (s *dataStory) problems(ctx context.Context) error {
	cmd := s.site.Command(ctx, "dataset", "add", "desk", s.dir)
	fmt.Printf("  $ forgectl dataset add desk desk\n")
	said, err := cmd.CombinedOutput()
	fmt.Print(indent(string(said)))
	all := err != nil && cmd.ProcessState.ExitCode() == 2
	for _, line := range []string{"mail.jsonl:18:", "mail.jsonl:42:", "mail.jsonl:78:"} {
		all = all && strings.Contains(string(said), line)
	}
	return s.claim(all, "forgectl dataset add", "all three bad rows are listed with file and line, and nothing was registered")
}

// mend takes the bad lines out.
func (s *dataStory) mend() error {
	path := filepath.Join(s.dir, "mail.jsonl")
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.SplitAfter(string(b), "\n")
	for _, i := range []int{77, 41, 17} {
		lines = slices.Delete(lines, i, i+1)
	}
	fmt.Println("  $ sed -i '18d;42d;78d' desk/mail.jsonl")
	return os.WriteFile(path, []byte(strings.Join(lines, "")), 0o644)
}

func (s *dataStory) version(ctx context.Context, name string) (forge.DatasetVersion, error) {
	var v forge.DatasetVersion
	err := s.site.CtlJSON(ctx, &v, "dataset", "show", name)
	return v, err
}

func (s *dataStory) add(ctx context.Context) error {
	if err := s.mend(); err != nil {
		return err
	}
	if err := s.show(ctx, "dataset", "add", "desk", s.dir, "--license", "CC-BY-4.0", "--description", "support desk, spring"); err != nil {
		return err
	}
	if err := s.show(ctx, "dataset", "show", "desk@1"); err != nil {
		return err
	}
	v, err := s.version(ctx, "desk@1")
	if err != nil {
		return err
	}
	if v.Scan == nil || v.Scan.PII == nil {
		return s.claim(false, "forgectl dataset show desk@1 -o json", "the report is there")
	}
	found := map[forge.PIIEntity]bool{}
	for _, c := range v.Scan.PII.Counts {
		found[c.Entity] = true
	}
	all, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return errors.Join(
		s.claim(v.Kind == forge.KindPromptCompletion && len(v.Manifest.Files) == 3 && v.Rows == 2*demoRows-1, "forgectl dataset show desk@1", "%d rows of kind %s in %d files, one of them compressed, one pass", v.Rows, v.Kind, len(v.Manifest.Files)),
		s.claim(v.Scan.Duplicates.Rows == 1, "forgectl dataset show desk@1", "one row says what an earlier one says"),
		s.claim(v.PII == forge.PIIFindings && found[forge.PIIEmail] && found[forge.PIICreditCard] && found[forge.PIIPhone] && found["secret_aws_access_key"], "forgectl dataset show desk@1", "mail addresses, cards, phone numbers and keys in %d rows: status %s", v.Scan.PII.RowsFound, v.PII),
		s.claim(!strings.Contains(string(all), "4111 1111") && !strings.Contains(string(all), "@example.org"), "forgectl dataset show desk@1 -o json", "what was found is stored nowhere: samples are masked"),
	)
}

func (s *dataStory) job(ctx context.Context) error {
	var sub api.Submitted
	fmt.Println("  $ forgectl dataset add desk-job desk --on-cluster")
	if err := s.site.CtlJSON(ctx, &sub, "dataset", "add", "desk-job", s.dir, "--on-cluster"); err != nil {
		return err
	}
	run := fmt.Sprint(sub.Run.Number)
	if err := s.until(ctx, run, "its end", func(r api.RunDetail) bool { return r.State == forge.RunCompleted }); err != nil {
		return err
	}
	a, aerr := s.version(ctx, "desk@1")
	b, berr := s.version(ctx, "desk-job@1")
	if err := errors.Join(aerr, berr); err != nil {
		return err
	}
	same := a.SHA256 == b.SHA256 && a.Rows == b.Rows && a.Scan.PII.RowsFound == b.Scan.PII.RowsFound && a.Scan.Duplicates.Rows == b.Scan.Duplicates.Rows
	return s.claim(same && b.Scan.By == forge.ScannedByJob, "forgectl dataset show desk-job@1", "run %s read it on a node and registered it when it completed: the same digest %.12s and the same report", run, b.SHA256)
}

func (s *dataStory) redact(ctx context.Context) error {
	if err := s.show(ctx, "dataset", "redact", "desk@1", "--out", filepath.Join(s.site.Dir, "desk-clean.jsonl"), "--as", "desk-clean"); err != nil {
		return err
	}
	v, err := s.version(ctx, "desk-clean@1")
	if err != nil {
		return err
	}
	s.redacted = v
	raw, placeholders := 0, 0
	for _, f := range v.Manifest.Files {
		b, err := os.ReadFile(filepath.Join(v.Manifest.Root, f.Path))
		if err != nil {
			return err
		}
		raw += strings.Count(string(b), "@example.org") + strings.Count(string(b), "4111 1111")
		placeholders += strings.Count(string(b), "[EMAIL]") + strings.Count(string(b), "[CREDIT_CARD]")
	}
	child := len(v.Parents) == 1 && v.Parents[0].Name == "desk" && v.PII == forge.PIIRedacted
	return s.claim(child && raw == 0 && placeholders > 0 && v.License == "CC-BY-4.0", "forgectl dataset show desk-clean@1", "a child of desk@1 with status %s and its licence, with %d placeholders and nothing left of what they stand for", v.PII, placeholders)
}

func (s *dataStory) train(ctx context.Context) error {
	if err := s.show(ctx, "run", "submit", "lora_sft", "--dataset", "desk-clean@1", "--base", "tiny", "--set", "train.max_steps=4", "--set", "train.batch_size=4", "--register", "desk-bot", "--wait"); err != nil {
		return err
	}
	var m forge.Model
	if err := s.site.CtlJSON(ctx, &m, "model", "show", "desk-bot"); err != nil {
		return err
	}
	ok := len(m.Versions) == 1 && m.Versions[0].Lineage != nil && m.Versions[0].Lineage.DatasetSHA256 == s.redacted.SHA256
	return s.claim(ok, "forgectl model show desk-bot", "desk-bot@1 was trained on these very bytes, %.12s", s.redacted.SHA256)
}

func (s *dataStory) lineage(ctx context.Context) error {
	if err := s.show(ctx, "dataset", "lineage", "desk@1", "--down"); err != nil {
		return err
	}
	var g forge.LineageGraph
	if err := s.site.CtlJSON(ctx, &g, "dataset", "lineage", "desk@1", "--down"); err != nil {
		return err
	}
	has := func(kind forge.LineageKind, name string) bool {
		return slices.ContainsFunc(g.Nodes, func(n forge.LineageNode) bool { return n.Kind == kind && strings.HasPrefix(n.Name, name) })
	}
	return s.claim(has(forge.LineageDataset, "desk-clean@1") && has(forge.LineageModel, "desk-bot@1"), "forgectl dataset lineage desk@1 --down", "from the folder over its redacted child and the run to the model")
}

func (s *dataStory) changed(ctx context.Context) error {
	path := filepath.Join(s.dir, "mail.jsonl")
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fmt.Println("  $ echo '{…}' >> desk/mail.jsonl")
	if err := os.WriteFile(path, append(old, []byte(`{"prompt":"new","completion":"row"}`+"\n")...), 0o644); err != nil {
		return err
	}
	_, refused := s.site.Ctl(ctx, "run", "submit", "lora_sft", "--dataset", "desk@1", "--base", "tiny")
	if refused != nil {
		fmt.Print(indent(lastLine(refused.Error())))
	}
	verify := s.site.Command(ctx, "dataset", "verify", "desk@1")
	said, verr := verify.CombinedOutput()
	return errors.Join(
		s.claim(refused != nil && forgedtest.ExitCode(refused) == 2 && strings.Contains(refused.Error(), "mail.jsonl"), "forgectl run submit lora_sft --dataset desk@1", "a run refuses data that is not what was registered, and names the file"),
		s.claim(verr != nil && strings.Contains(string(said), "mail.jsonl"), "forgectl dataset verify desk@1", "so does verify"),
		os.WriteFile(path, old, 0o644),
	)
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

func (s *dataStory) overlap(ctx context.Context) error {
	held := filepath.Join(s.site.Dir, "asked.jsonl")
	text := s.first + "\n" + `{"prompt":"Something else entirely?","completion":"Yes."}` + "\n"
	if err := os.WriteFile(held, []byte(text), 0o644); err != nil {
		return err
	}
	if err := s.show(ctx, "dataset", "add", "asked", held, "--license", "CC-BY-4.0"); err != nil {
		return err
	}
	cmd := s.site.Command(ctx, "dataset", "overlap", "desk-clean@1", "asked@1")
	fmt.Println("  $ forgectl dataset overlap desk-clean@1 asked@1")
	said, err := cmd.CombinedOutput()
	fmt.Print(indent(string(said)))
	if cmd.ProcessState == nil {
		return err
	}
	return s.claim(strings.Contains(string(said), "asked.jsonl"), "forgectl dataset overlap desk-clean@1 asked@1", "one of the two questions that the eval asks was trained on, and it says which")
}

func (s *dataStory) impact(ctx context.Context) error {
	if err := s.show(ctx, "dataset", "impact", "desk-clean@1", "--row", "1"); err != nil {
		return err
	}
	var im forge.Impact
	if err := s.site.CtlJSON(ctx, &im, "dataset", "impact", "desk-clean@1", "--row", "1"); err != nil {
		return err
	}
	return s.claim(slices.Contains(im.Models, "desk-bot@1"), "forgectl dataset impact desk-clean@1 --row 1", "one command: the models that were trained on that row are %s", strings.Join(im.Models, ", "))
}
