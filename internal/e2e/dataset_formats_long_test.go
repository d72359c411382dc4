//go:build e2e && long

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// sameRows writes the same rows in four ways, by the libraries that people write them with.
const sameRows = `
import csv, gzip, json, sys
import pyarrow as pa, pyarrow.parquet as pq
out = sys.argv[1]
rows = [{"prompt": f"Question {i}: \"Größe\",\n wie groß?", "completion": f"Antwort {i}; 日本, 🙂 and a comma, too."} for i in range(12)]
lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
open(out + "/plain.jsonl", "w", encoding="utf-8").write(lines)
with pa.output_stream(out + "/zstd.jsonl.zst", compression="zstd") as f: f.write(lines.encode())
with gzip.open(out + "/alpaca.csv.gz", "wt", encoding="utf-8", newline="") as f:
    w = csv.writer(f)
    w.writerow(["instruction", "input", "output"])
    for r in rows: w.writerow([*r["prompt"].split("\n", 1), r["completion"]])
pq.write_table(pa.table({"answer": [r["completion"] for r in rows], "id": list(range(12)), "question": [r["prompt"] for r in rows]}), out + "/mapped.parquet", row_group_size=5)
`

// Each run reads its dataset itself, in Python, by what forgectl found in Go: the same losses and weights say that it was the same text, in the same order.
func TestWhatIsTrainedOnIsTheSameTextInEveryFormat(t *testing.T) {
	ctx, s, _ := openForTraining(t)
	dir := filepath.Join(s.Dir, "formats")
	must(t, os.Mkdir(dir, 0o755))
	if out, err := exec.CommandContext(ctx, os.Getenv("FORGE_PYTHON"), "-c", sameRows, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	all := []struct {
		name, file string
		how        []string
	}{
		{"plain", "plain.jsonl", nil},
		{"zstd", "zstd.jsonl.zst", nil},
		{"alpaca", "alpaca.csv.gz", []string{"--preset", "alpaca"}},
		{"mapped", "mapped.parquet", []string{"--map", "prompt=question,completion=answer"}},
	}
	var loss float64
	var weights string
	runs := make([]api.Submitted, len(all))
	for i, f := range all {
		_, err := s.Ctl(ctx, append([]string{"dataset", "add", f.name, filepath.Join(dir, f.file), "--license", "MIT"}, f.how...)...)
		must(t, err)
		if v := versionOf(t, ctx, s, f.name+"@1"); v.Kind != forge.KindPromptCompletion || v.Rows != 12 {
			t.Errorf("%s: %s, %d rows", f.name, v.Kind, v.Rows)
		}
		must(t, s.CtlJSON(ctx, &runs[i], "run", "submit", "lora_sft", "--dataset", f.name+"@1", "--base", "tiny", "--register", "on-"+f.name,
			"--set", "train.batch_size=2", "--set", "train.max_steps=3", "--set", "train.learning_rate=5e-3"))
	}
	for i, f := range all {
		id := string(runs[i].Run.ID)
		r := until(t, ctx, s, id, "ended", ended)
		if r.State != forge.RunCompleted || r.Loss == nil {
			log, _ := s.Ctl(ctx, "run", "logs", id, "--stderr")
			t.Fatalf("%s: %s %s %+v\n%s", f.name, r.State, r.Reason, r.Attempts, log)
		}
		w := adapter(t, s, r)
		t.Logf("%s: loss %v, adapter %.12s…", f.name, *r.Loss, w)
		if i == 0 {
			loss, weights = *r.Loss, w
		}
		if *r.Loss != loss || w != weights {
			t.Errorf("%s: loss %v and adapter %s; the plain twin's are %v and %s", f.name, *r.Loss, w, loss, weights)
		}
	}
	var im forge.Impact
	must(t, s.CtlJSON(ctx, &im, "dataset", "impact", "mapped@1", "--row", "1"))
	for _, f := range all {
		if !slices.Contains(im.Models, "on-"+f.name+"@1") {
			t.Errorf("the row is not known to be in %s: %v", f.name, im.Models)
		}
	}
}
