package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/contrib/pii-corpus/corpus"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

const (
	piiRows      = 20_000 // of the labelled corpus
	presidioRows = 2_000  // of which Presidio is given so many: it takes milliseconds a row
	grepBytes    = 48 << 20
	grepTries    = 7 // the best counts, of both: what else the machine does is neither's
	piiBound     = 10 * time.Minute
)

// piiSeed is that of the corpus: another than the tests', and whatever -seed says.
func piiSeed(e env) uint64 {
	if e.seed != 0 {
		return e.seed
	}
	return 20261126
}

// piiFound is what the scanner finds with medium confidence or more, both sets of rules at work.
func piiFound(rows []corpus.Row) [][]corpus.Label {
	s, out := pii.New(pii.Options{National: true}), make([][]corpus.Label, len(rows))
	var found []pii.Finding
	for i, r := range rows {
		found = s.Scan(found[:0], []byte(r.Text))
		for _, f := range found {
			if !pii.AtLeast(f.Confidence, forge.ConfidenceMedium) {
				continue
			}
			entity := string(f.Entity)
			if strings.HasPrefix(entity, "secret_") {
				entity = "secret"
			}
			out[i] = append(out[i], corpus.Label{Start: f.Start, End: f.End, Entity: entity})
		}
	}
	return out
}

// piiAccuracy judges the scanner on the labelled corpus.
func piiAccuracy(_ context.Context, e env) ([]figure, error) {
	rows := corpus.Generate(piiSeed(e), piiRows)
	by, _ := corpus.Judge(rows, piiFound(rows))
	hard := 0
	for _, r := range rows {
		hard += r.Hard
	}
	fmt.Printf("  corpus of seed %d: %d labels, %d hard negatives (%.0f %%)\n", piiSeed(e), by[""].Labels, hard, 100*float64(hard)/float64(hard+by[""].Labels))
	printScores("forge", by)
	return []figure{atLeast("pii_precision", by[""].Precision(), "of findings", "all", 1, 0.98), atLeast("pii_recall", by[""].Recall(), "of labels", "all", 1, 0.98)}, nil
}

func printScores(who string, by map[string]corpus.Score) {
	for _, entity := range slices.Sorted(maps.Keys(by)) {
		name := entity
		if name == "" {
			name = "all"
		}
		fmt.Printf("  %s %-16s %v\n", who, name, by[entity])
	}
}

// piiSpeed is how many times faster than Presidio's pattern recognizers the scanner reads the same text.
func piiSpeed(ctx context.Context, e env) ([]figure, error) {
	ctx, cancel := context.WithTimeout(ctx, piiBound)
	defer cancel()
	rows := corpus.Generate(piiSeed(e), presidioRows)
	seconds, theirs, err := presidio(ctx, rows)
	if err != nil {
		return nil, err
	}
	s, bytes := pii.New(pii.Options{National: true}), 0
	texts := make([][]byte, len(rows))
	for i, r := range rows {
		texts[i], bytes = []byte(r.Text), bytes+len(r.Text)
	}
	var found []pii.Finding
	passes := 0
	start := time.Now()
	for ; passes < 5 || time.Since(start) < time.Second; passes++ {
		for _, text := range texts {
			found = s.Scan(found[:0], text)
		}
	}
	ours := float64(bytes) * float64(passes) / time.Since(start).Seconds()
	// Both are judged by the sorts that both have.
	shared := map[string]bool{}
	for _, entity := range theirs.Entities {
		shared[entity] = true
	}
	only := func(all [][]corpus.Label) [][]corpus.Label {
		for i := range all {
			all[i] = slices.DeleteFunc(all[i], func(l corpus.Label) bool { return !shared[l.Entity] })
		}
		return all
	}
	for i := range rows {
		rows[i].Labels = slices.DeleteFunc(rows[i].Labels, func(l corpus.Label) bool { return !shared[l.Entity] })
	}
	by, _ := corpus.Judge(rows, only(theirs.Found))
	printScores("presidio", by)
	by, _ = corpus.Judge(rows, only(piiFound(rows)))
	printScores("forge, same rows and sorts,", by)
	return []figure{atLeast("pii_speed", ours/1e6, "MB/s", "presidio", float64(bytes)/seconds/1e6, 50)}, nil
}

// fromPresidio is what contrib/bench/presidio.py writes.
type fromPresidio struct {
	Seconds  float64          `json:"seconds"`
	Entities []string         `json:"entities"`
	Found    [][]corpus.Label `json:"found"`
}

// presidio runs Presidio over the rows, in an environment of its own.
func presidio(ctx context.Context, rows []corpus.Row) (seconds float64, found fromPresidio, err error) {
	find := exec.CommandContext(ctx, "contrib/python-env/install", "--presidio")
	find.Stderr = os.Stderr
	home, err := find.Output()
	if err != nil {
		return 0, found, fmt.Errorf("contrib/python-env/install --presidio: %w", err)
	}
	dir, err := os.MkdirTemp("", "forge-presidio-")
	if err != nil {
		return 0, found, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var text bytes.Buffer
	to := json.NewEncoder(&text)
	for _, r := range rows {
		if err := to.Encode(r); err != nil {
			return 0, found, err
		}
	}
	in, out := filepath.Join(dir, "corpus.jsonl"), filepath.Join(dir, "found.json")
	if err := os.WriteFile(in, text.Bytes(), 0o600); err != nil {
		return 0, found, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(strings.TrimSpace(string(home)), "bin", "python"), "contrib/bench/presidio.py", in, out)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return 0, found, fmt.Errorf("presidio.py: %w", err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		return 0, found, err
	}
	if err := json.Unmarshal(data, &found); err != nil {
		return 0, found, err
	}
	if len(found.Found) != len(rows) {
		return 0, found, fmt.Errorf("Presidio looked at %d of %d rows", len(found.Found), len(rows))
	}
	for i, r := range rows { // Python counts characters
		for k, l := range found.Found[i] {
			found.Found[i][k].Start, found.Found[i][k].End = byteOffset(r.Text, l.Start), byteOffset(r.Text, l.End)
		}
	}
	return found.Seconds, found, nil
}

func byteOffset(s string, chars int) (at int) {
	for ; chars > 0 && at < len(s); chars-- {
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
	}
	return at
}

// grepped are the scanner's sorts as one would look for them with grep: no checksums, no context.
var grepped = strings.Join([]string{
	`[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}`,
	`\+?[0-9]{0,3}[ .-]?\(?[0-9]{2,4}\)?[ .-][0-9]{3,4}[ .-][0-9]{3,4}`,
	`[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{1,4}`, `3[47][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{5}`,
	`[A-Z]{2}[0-9]{2}( ?[A-Z0-9]{4}){3,7}( ?[A-Z0-9]{1,3})?`, `[0-9]{3}-[0-9]{2}-[0-9]{4}`,
	`([0-9]{1,3}\.){3}[0-9]{1,3}`, `([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|([0-9a-fA-F]{1,4}:){1,6}:[0-9a-fA-F]{1,4}`,
	`eyJ[A-Za-z0-9_-]{13,}\.ey[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+`, strings.Join(pii.Forms(), "|"),
	`-----BEGIN [A-Z ]*PRIVATE KEY-----`, `[a-z]+://[^ /:@]+:[^ /@]+@`, `(password|passwd|pwd|secret|token|api_?key)["']? ?[:=] ?["']?[^ "']{6,}`,
}, "|")

// scanVsGrep is how many times faster than grep the scanner goes through the same lines: most without anything to find, one in a hundred of the labelled corpus.
func scanVsGrep(ctx context.Context, e env) (_ []figure, err error) {
	ctx, cancel := context.WithTimeout(ctx, piiBound)
	defer cancel()
	dir, err := os.MkdirTemp("", "forge-grep-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "chat.txt")
	if err := writeChat(path, piiSeed(e)); err != nil {
		return nil, err
	}
	var ours, theirs []float64
	for range grepTries {
		start := time.Now()
		lines, err := scanLines(path)
		if err != nil {
			return nil, err
		}
		ours = append(ours, grepBytes/1e6/time.Since(start).Seconds())
		start = time.Now()
		cmd := exec.CommandContext(ctx, "grep", "-E", "-c", grepped, path)
		cmd.Env = append(os.Environ(), "LC_ALL=C") // in which grep is fastest
		count, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("grep: %w", err)
		}
		theirs = append(theirs, grepBytes/1e6/time.Since(start).Seconds())
		if e.verbose {
			fmt.Printf("  %.0f MB/s, lines with findings: %d; grep %.0f MB/s, %s", ours[len(ours)-1], lines, theirs[len(theirs)-1], count)
		}
	}
	return []figure{atLeast("scan_vs_grep", slices.Max(ours), "MB/s", "grep -E -c", slices.Max(theirs), 5)}, nil
}

// writeChat writes lines of ordinary text with a line of the corpus now and then.
func writeChat(path string, seed uint64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out, n := bufio.NewWriter(f), 0
	rows := corpus.Generate(seed, 500)
	for i := 0; n < grepBytes; i++ {
		line := corpus.Chat(i)
		if i%100 == 0 {
			line = strings.ReplaceAll(strings.TrimSpace(rows[i/100%len(rows)].Text), "\n", " ")
		}
		n += len(line) + 1
		if _, err := out.WriteString(line + "\n"); err != nil {
			return err
		}
	}
	return out.Flush()
}

// scanLines counts the lines with a finding, on one core: as many lines at a time as a buffer holds.
func scanLines(path string) (lines int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s := pii.New(pii.Options{})
	var found []pii.Finding
	buf, kept := make([]byte, 128<<10), 0
	for {
		n, err := f.Read(buf[kept:])
		if err == io.EOF {
			return lines, nil // the last line ends
		}
		if err != nil {
			return 0, err
		}
		text := buf[:kept+n]
		whole := bytes.LastIndexByte(text, '\n') + 1
		found = s.Scan(found[:0], text[:whole])
		for i, last := 0, -1; i < len(found); i++ {
			if line := bytes.LastIndexByte(text[:found[i].Start], '\n'); line != last || i == 0 {
				lines, last = lines+1, line
			}
		}
		kept = copy(buf, text[whole:])
	}
}
