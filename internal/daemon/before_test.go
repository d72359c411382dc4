package daemon

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// baseModel is the least that import takes, with what is changed in it.
func baseModel(t *testing.T, change map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	header := `{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	files := map[string]string{"config.json": `{"architectures": ["LlamaForCausalLM"]}`, "tokenizer.json": `{}`,
		"model.safetensors": string(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))) + header + "\x00\x00\x00\x00"}
	for name, content := range change {
		files[name] = content
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// inputsOf registers a dataset of these rows and a base model, and asks for a run of lora_sft, dpo or another recipe on them.
func (r *rig) inputsOf(t *testing.T, rows string, model map[string]string) api.SubmitRunRequest {
	t.Helper()
	comesTrue(t, "the node is known", func() bool { return len(r.world.nodeList()) > 0 })
	path := filepath.Join(t.TempDir(), "d.jsonl")
	if err := os.WriteFile(path, []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	name := strings.ToLower(fmt.Sprintf("x%d", time.Now().UnixNano()))
	if _, err := (datasets{r.Daemon}).AddDataset(t.Context(), r.op, api.AddDatasetRequest{Name: name, Paths: []string{path}}); err != nil {
		t.Fatal(err)
	}
	if _, err := (models{r.Daemon}).ImportModel(t.Context(), r.op, api.ImportModelRequest{Name: name, Path: baseModel(t, model)}); err != nil {
		t.Fatal(err)
	}
	return api.SubmitRunRequest{Recipe: "lora_sft", Dataset: name, Base: name, DryRun: true}
}

func (r *rig) ask(t *testing.T, q api.SubmitRunRequest) ([]string, error) {
	t.Helper()
	s, err := runs{r.Daemon}.SubmitRun(t.Context(), r.op, q)
	return s.Warnings, err
}

// saysNo holds an error to its field, its words, and the words of its hint after "hint:".
func saysNo(t *testing.T, err error, field string, words ...string) {
	t.Helper()
	var e *forge.Error
	if !errors.As(err, &e) || e.Kind != forge.KindInvalid || e.Field != field {
		t.Fatalf("got %v, want a refusal of %s", err, field)
	}
	for _, w := range words {
		in := err.Error()
		if h, ok := strings.CutPrefix(w, "hint:"); ok {
			in, w = forge.HintOf(err), h
		}
		if !strings.Contains(in, w) {
			t.Errorf("%q does not say %q", in, w)
		}
	}
}

func hasNote(t *testing.T, notes []string, want string) {
	t.Helper()
	for _, n := range notes {
		if strings.Contains(n, want) {
			return
		}
	}
	t.Errorf("no warning says %q: %q", want, notes)
}

const (
	chat     = `{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}` + "\n"
	openChat = `{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}]}` + "\n"
	mute     = `{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": " "}]}` + "\n"
	tools    = `{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": null, "tool_calls": [{"x": 1}]}]}` + "\n"
)

var template = map[string]string{"chat_template.jinja": "{{ messages }}"}

func TestRowsAreHeldAgainstTheRecipeBeforeARunIsAccepted(t *testing.T) {
	r := start(t, 1)
	t.Run("what is only odd is a warning", func(t *testing.T) {
		notes, err := r.ask(t, r.inputsOf(t, chat+openChat, template))
		if err != nil {
			t.Fatal(err)
		}
		hasNote(t, notes, "1 of 2 rows end with another turn than the assistant's")
		hasNote(t, notes, "d.jsonl:2")
	})
	t.Run("what says nothing is refused, unless it is wanted", func(t *testing.T) {
		q := r.inputsOf(t, chat+mute, template)
		_, err := r.ask(t, q)
		saysNo(t, err, "dataset", "1 of 2 rows have an answer of white space only", "d.jsonl:2", "hint:jq", "hint:--no-check")
		q.NoCheck = true
		notes, err := r.ask(t, q)
		if err != nil {
			t.Fatal(err)
		}
		hasNote(t, notes, "white space")
	})
	t.Run("what the ranks would end at is refused whatever is wanted", func(t *testing.T) {
		q := r.inputsOf(t, tools, template)
		q.NoCheck = true
		_, err := r.ask(t, q)
		saysNo(t, err, "dataset", "have a turn without text", "hint:forgectl dataset add")
	})
	t.Run("pairs that say nothing are refused by recipes that learn from pairs", func(t *testing.T) {
		q := r.inputsOf(t, `{"prompt": "p", "chosen": "a", "rejected": "a"}`+"\n", template)
		for _, recipe := range []string{"dpo", "reward"} {
			q.Recipe = recipe
			_, err := r.ask(t, q)
			saysNo(t, err, "dataset", "have the same text as chosen and as rejected", "hint:select(.chosen != .rejected)")
		}
	})
}

func TestABaseModelIsHeldAgainstTheRowsAndThePolicy(t *testing.T) {
	r := start(t, 1)
	t.Run("messages need a chat template, and there is a built-in one", func(t *testing.T) {
		q := r.inputsOf(t, chat, nil)
		_, err := r.ask(t, q)
		saysNo(t, err, "base", "has no chat template", "is of messages", "hint:--set train.chat_template=chatml")
		q.Set = []string{"train.chat_template=chatml"}
		if _, err := r.ask(t, q); err != nil {
			t.Error(err)
		}
		marks := r.inputsOf(t, chat, map[string]string{"tokenizer.json": `{"added_tokens": [{"content": "<|im_start|>"}, {"content": "<|im_end|>"}]}`})
		if _, err := r.ask(t, marks); err != nil {
			t.Error(err)
		}
		marks.Set = []string{"train.chat_template=tokenizer"}
		_, err = r.ask(t, marks)
		saysNo(t, err, "base", "has no chat template")
		if _, err := r.ask(t, r.inputsOf(t, `{"text": "t"}`+"\n", nil)); err != nil {
			t.Errorf("text needs none: %v", err)
		}
	})
	t.Run("code that comes with a model is the operator's decision, at import and at submit", func(t *testing.T) {
		code := map[string]string{"config.json": `{"auto_map": {"AutoModelForCausalLM": "modeling.X"}}`, "chat_template.jinja": "x"}
		imported := func() error {
			_, err := models{r.Daemon}.ImportModel(t.Context(), r.op, api.ImportModelRequest{Name: "own", Path: baseModel(t, code)})
			return err
		}
		saysNo(t, imported(), "path", "Python code of its own", "policy.trust_remote_code is false", "hint:config.yaml")
		r.configure(func(c *Config) { c.Policy.TrustRemoteCode = true })
		q := r.inputsOf(t, chat, code)
		notes, err := r.ask(t, q)
		if err != nil {
			t.Fatal(err)
		}
		r.configure(func(c *Config) { c.Policy.TrustRemoteCode = false })
		_, err = r.ask(t, q)
		saysNo(t, err, "base", "policy.trust_remote_code is false")
		hasNote(t, notes, "not looked at by the tokenizer")
	})
}

func TestTrustReachesTheRanks(t *testing.T) {
	for _, on := range []bool{true, false} {
		r := start(t, 1, func(o *Options) { o.Config.Policy.TrustRemoteCode = on })
		r.launched(t, r.submit(t, script(1)).ID, 1)
		if got := r.fake.Launches()[0].Config.TrustRemote; got != on {
			t.Errorf("policy %v, and ranks are told %v", on, got)
		}
	}
}

func TestOnlyThePathOfASecretsFileIsTaken(t *testing.T) {
	r := start(t, 1)
	q := r.inputsOf(t, chat, template)
	for path, says := range map[string]string{
		"secrets.env":                             "is not a plain absolute path",
		"/home/a/../b/secrets.env":                "is not a plain absolute path",
		filepath.Join(r.live().cfg.StateDir, "x"): "in a directory of forged itself",
		"/home/" + strings.Repeat("x", maxPath+1): "",
		"/home/a/\x00b":                           "",
	} {
		q.SecretsFile = path
		_, err := r.ask(t, q)
		saysNo(t, err, "secrets_file", says)
	}
	q.SecretsFile, q.DryRun = "/home/ada/secrets.env", false
	s, err := runs{r.Daemon}.SubmitRun(t.Context(), r.op, q)
	if err != nil || s.Run.Spec.SecretsFile != q.SecretsFile {
		t.Errorf("%v, %+v", err, s.Run.Spec)
	}
}
