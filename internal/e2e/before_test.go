//go:build e2e

package e2e

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// TestWhatWouldEndOnAGPUIsRefusedWhenItIsSubmitted: by what registration saw, and by the real tokenizer.
func TestWhatWouldEndOnAGPUIsRefusedWhenItIsSubmitted(t *testing.T) {
	python := os.Getenv("FORGE_PYTHON")
	if python == "" {
		t.Fatal("FORGE_PYTHON is not set; run these tests through make test")
	}
	ctx, s := openFor(t, 5*time.Minute, func(o *forgedtest.Options) { o.Python = python })
	paths, err := filepath.Glob(filepath.Join(s.State(), "python", "forge_train-*"))
	must(t, err)
	tiny, strict := filepath.Join(s.Dir, "tiny"), filepath.Join(s.Dir, "strict")
	made := exec.CommandContext(ctx, python, "-m", "forge_train.tiny", tiny)
	made.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir, "PYTHONPATH=" + paths[0], "HF_HUB_OFFLINE=1", "OMP_NUM_THREADS=1"}
	if out, err := made.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	must(t, os.CopyFS(strict, os.DirFS(tiny)))
	must(t, os.WriteFile(filepath.Join(strict, "chat_template.jinja"), []byte("{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role here') }}"+
		"{% endif %}{{ m.content }}{% endfor %}"), 0o644))
	data, err := filepath.Abs("../../recipes/python/data/support_chat.jsonl")
	must(t, err)
	pairs := write(t, filepath.Join(s.Dir, "pairs.jsonl"), `{"prompt":"p","chosen":"a","rejected":"b"}`+"\n"+`{"prompt":"p","chosen":"a","rejected":"a"}`+"\n")
	for _, args := range [][]string{{"model", "import", "tiny", tiny}, {"model", "import", "strict", strict}, {"dataset", "add", "chat", data}, {"dataset", "add", "pairs", pairs}} {
		_, err := s.Ctl(ctx, args...)
		must(t, err)
	}

	_, err = s.Ctl(ctx, "run", "submit", "dpo", "--dataset", "pairs", "--base", "tiny")
	refused(t, err, exitInvalid, "dataset", "1 of 2 rows have the same text as chosen and as rejected", "pairs.jsonl:2", "select(.chosen != .rejected)")
	_, err = s.Ctl(ctx, "run", "submit", "lora_sft", "--dataset", "chat", "--base", "strict")
	refused(t, err, exitInvalid, "dataset", "refuses", "no system role here", "support_chat.jsonl line", "train.chat_template=chatml")
	_, err = s.Ctl(ctx, "run", "submit", "lora_sft", "--dataset", "chat", "--base", "tiny", "--set", "peft=qlora")
	refused(t, err, exitInvalid, "params.peft", "qlora", "needs a GPU", "want lora or none")
	began := time.Now()
	_, err = s.Ctl(ctx, "run", "submit", "lora_sft", "--dataset", "chat", "--base", "strict", "--set", "lora.r=4")
	refused(t, err, exitInvalid, "no system role here")
	t.Logf("the second answer took %s", time.Since(began))
	var out api.Submitted
	must(t, s.CtlJSON(ctx, &out, "run", "submit", "lora_sft", "--dataset", "chat", "--base", "strict", "--set", "train.chat_template=chatml", "--set", "train.max_length=64", "--dry-run"))
	if said := strings.Join(out.Warnings, "\n"); !strings.Contains(said, "174 of 180 rows") || !strings.Contains(said, "train.max_length = 64") {
		t.Errorf("warned of %q", said)
	}
	var q api.Queue
	must(t, s.CtlJSON(ctx, &q, "queue"))
	if len(q.Entries) > 0 {
		t.Errorf("a refused submission left %+v in the queue", q.Entries)
	}
}

// TestSecretsReachRanksAndNothingElse looks for the value in everything that a site writes.
func TestSecretsReachRanksAndNothingElse(t *testing.T) {
	const token = "hf_NobodyMayReadThis0123456789"
	ctx, s := open(t)
	write(t, filepath.Join(s.RecipesDir(), "hash.yaml"), "name: hash\ndoc: Says the digest of a secret\nentry:\n  command: [/bin/sh, -c, 'printf %s \"$HF_TOKEN\" | sha256sum']\n")
	must(t, s.Stop(ctx))
	must(t, s.Start(ctx))
	secrets := filepath.Join(t.TempDir(), "secrets.env")
	must(t, os.WriteFile(secrets, []byte("HF_TOKEN="+token+"\n"), 0o600))

	var out api.Submitted
	must(t, s.CtlJSON(ctx, &out, "run", "submit", "hash", "--secrets-file", secrets))
	r := until(t, ctx, s, string(out.Run.ID), "ended", ended)
	number := fmt.Sprint(r.Number)
	if said, err := s.Ctl(ctx, "run", "logs", number); err != nil || !strings.Contains(said, fmt.Sprintf("%x", sha256.Sum256([]byte(token)))) || r.State != forge.RunCompleted {
		t.Fatalf("%s %s: the rank has another secret: %q, %v", r.State, r.Reason, said, err)
	}
	for _, args := range [][]string{{"run", "show", number, "-o", "json"}, {"run", "events", number, "-o", "json"}, {"run", "why", number}} {
		said, err := s.Ctl(ctx, args...)
		if must(t, err); strings.Contains(said, token) {
			t.Errorf("forgectl %v says the secret", args)
		}
	}

	must(t, os.Chmod(secrets, 0o644))
	_, err := s.Ctl(ctx, "run", "submit", "hash", "--secrets-file", secrets)
	refused(t, err, exitInvalid, "secrets-file", "can be read by others (mode 0644)", "chmod 600")
	must(t, s.Stop(ctx))

	files := 0
	must(t, filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), token) {
			t.Errorf("%s holds the secret", path)
		}
		files++
		return err
	}))
	if files < 15 {
		t.Errorf("only %d files were looked at", files)
	}
	must(t, s.Start(ctx))
}
