//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/forge-ml/forge-ml/internal/api"
)

// The exit codes of forgectl that these tests expect.
const (
	exitInvalid      = 2
	exitUnauthorized = 3
	exitNotFound     = 5
	exitPrecondition = 7
)

const goodRow = `{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]}` + "\n"

func TestBadInputIsRefusedWithFieldValueAndHelp(t *testing.T) {
	ctx, s := open(t)
	f := func(name, text string) string { return write(t, filepath.Join(s.Dir, "data", name), text) }
	good := f("good.jsonl", strings.Repeat(goodRow, 3))
	_, err := s.Ctl(ctx, "dataset", "add", "chat", good)
	must(t, err)
	for _, tc := range []struct {
		name  string
		args  []string
		code  int
		words []string
	}{
		{"dataset path missing", []string{"dataset", "add", "x", "/nowhere/x.jsonl"}, exitInvalid, []string{"path", "/nowhere/x.jsonl"}},
		{"dataset empty", []string{"dataset", "add", "x", f("empty.jsonl", "")}, exitInvalid, []string{"empty"}},
		{"dataset not UTF-8", []string{"dataset", "add", "x", f("latin.jsonl", goodRow+"{\"text\":\"caf\xe9\"}\n")}, exitInvalid, []string{"UTF-8", "latin.jsonl:2:"}},
		{"malformed JSON at line 3", []string{"dataset", "add", "x", f("bad.jsonl", goodRow+goodRow+`{"messages": [`+"\n")}, exitInvalid, []string{"bad.jsonl:3:"}},
		{"columns that no recipe knows", []string{"dataset", "add", "x", f("cols.jsonl", `{"question":"a","answer":"b"}`+"\n")}, exitInvalid, []string{"question", "messages"}},
		{"dataset name with a slash", []string{"dataset", "add", "../x", good}, exitInvalid, []string{"name", "../x"}},
		{"base model path missing", []string{"model", "import", "m", "/nowhere/m"}, exitInvalid, []string{"/nowhere/m"}},
		{"parameter unknown", []string{"run", "submit", "probe", "--set", "stepz=3"}, exitInvalid, []string{"stepz", "steps"}},
		{"parameter of the wrong type", []string{"run", "submit", "probe", "--set", "steps=many"}, exitInvalid, []string{"steps", "many", "whole number"}},
		{"parameter out of range", []string{"run", "submit", "probe", "--set", "fail_code=256"}, exitInvalid, []string{"fail_code", "256", "255"}},
		{"recipe unknown", []string{"run", "submit", "prob"}, exitInvalid, []string{"prob", "probe", "lora_sft"}},
		{"priority out of range", []string{"run", "submit", "probe", "--priority", "101"}, exitInvalid, []string{"priority", "101", "100"}},
		{"gang larger than the cluster can ever hold", []string{"run", "submit", "probe", "--gpus-per-node", "3"}, exitInvalid, []string{"3 GPUs", "2"}},
		{"GPUs that do not divide by nodes", []string{"run", "submit", "probe", "--gpus", "3", "--nodes", "2"}, exitInvalid, []string{"gpus", "3", "2"}},
		{"time that nobody understands", []string{"run", "submit", "probe", "--time", "soon"}, exitInvalid, []string{"soon"}},
		{"dataset that does not exist", []string{"run", "submit", "probe", "--dataset", "none@1"}, exitInvalid, []string{"dataset", "none"}},
		{"run that does not exist", []string{"run", "show", "77"}, exitNotFound, []string{"77"}},
		{"dependency that does not exist", []string{"run", "submit", "probe", "--after", "77"}, exitInvalid, []string{"after", "77"}},
		{"module recipe without a training environment", []string{"run", "submit", "lora_sft", "--dataset", "chat@1", "--base", "tiny"}, exitInvalid, []string{"base", "tiny"}},
		{"flag after the positional that does not exist", []string{"run", "submit", "probe", "--colour", "red"}, exitInvalid, []string{"colour"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := s.Ctl(ctx, tc.args...)
			refused(t, err, tc.code, tc.words...)
		})
	}
	var q api.Queue
	must(t, s.CtlJSON(ctx, &q, "queue"))
	if len(q.Entries) > 0 {
		t.Errorf("a refused submission left %+v in the queue", q.Entries)
	}
}

func TestADatasetThatChangedSinceRegistrationIsRefused(t *testing.T) {
	ctx, s := open(t)
	path := write(t, filepath.Join(s.Dir, "d.jsonl"), goodRow)
	write(t, filepath.Join(s.RecipesDir(), "probe.yaml"), strings.Replace(read(t, filepath.Join(s.RecipesDir(), "probe.yaml")), "datasets: []", "datasets: [messages]", 1))
	must(t, s.Stop(ctx))
	must(t, s.Start(ctx))
	_, err := s.Ctl(ctx, "dataset", "add", "d", path)
	must(t, err)
	submit(t, ctx, s, "--dataset", "d@1")
	write(t, path, goodRow+goodRow)
	_, err = s.Ctl(ctx, "run", "submit", "probe", "--dataset", "d@1")
	refused(t, err, exitInvalid, "dataset", "d@1", "changed", "dataset add d")
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

func TestARevokedKeyAndAnUnknownKeyAreRefusedAlike(t *testing.T) {
	ctx, s := open(t)
	var k api.CreatedKey
	must(t, s.CtlJSON(ctx, &k, "key", "create", "kim"))
	_, err := s.Ctl(ctx, "run", "list", "--key", k.Secret)
	must(t, err)
	_, err = s.Ctl(ctx, "key", "revoke", string(k.ID))
	must(t, err)
	_, revoked := s.Ctl(ctx, "run", "list", "--key", k.Secret)
	refused(t, revoked, exitUnauthorized)
	_, unknown := s.Ctl(ctx, "run", "list", "--key", "forge_"+strings.Repeat("0", 64))
	refused(t, unknown, exitUnauthorized)
	if a, b := lastLines(revoked), lastLines(unknown); a != b {
		t.Errorf("they can be told apart:\n%s\n%s", a, b)
	}
}

// lastLines is what forgectl said, without the command line that carries the key.
func lastLines(err error) string {
	_, said, _ := strings.Cut(err.Error(), "\n")
	return said
}

func TestABodyOverTheLimitIsRefused(t *testing.T) {
	ctx, s := open(t)
	addr, err := s.TCP()
	must(t, err)
	body, err := json.Marshal(map[string]string{"recipe": "probe", "name": strings.Repeat("x", 2<<20)})
	must(t, err)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, addr+"/v1/runs", bytes.NewReader(body))
	must(t, err)
	req.Header.Set("X-API-Key", s.Key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(resp.Header.Get("Content-Type"), "problem+json") {
		t.Errorf("%s %s: %s", resp.Status, resp.Header.Get("Content-Type"), b)
	}
}

func TestASecondDaemonOnOneStateDirectoryIsRefused(t *testing.T) {
	ctx, s := open(t)
	second := s.Daemon(ctx, "serve", "--state-dir", s.State())
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another forged") || second.ProcessState.ExitCode() != 6 {
		t.Fatalf("%v: %s", err, out)
	}
	_, err = s.Ctl(ctx, "run", "list")
	must(t, err)
}

func TestAStateDirectoryThatCannotBeWrittenIsRefused(t *testing.T) {
	ctx, s := open(t)
	must(t, os.Chmod(s.Dir, 0o755))
	locked := filepath.Join(s.Dir, "locked")
	must(t, os.Mkdir(locked, 0o555))
	cmd := s.Daemon(ctx, "init", "--state-dir", filepath.Join(locked, "state"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "state_dir") || !strings.Contains(string(out), "uid 65534") {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestConfigurationIsStrict(t *testing.T) {
	ctx, s := open(t)
	for name, tc := range map[string]struct{ text, word string }{
		"unknown key":          {"listen: {tpc: 127.0.0.1:1}\n", "tpc"},
		"public address":       {"listen: {tcp: 0.0.0.0:80}\n", "loopback"},
		"key twice":            {"log: {level: info}\nlog: {level: debug}\n", "log"},
		"bad duration":         {"retry: {backoff_min: soon}\n", "soon"},
		"bad port range":       {"clusters: [{name: a, kind: direct, ports: 5-1}]\n", "ports"},
		"negative CPU slots":   {"clusters: [{name: a, kind: direct, cpu_slots: -1}]\n", "cpu_slots"},
		"kind that is not":     {"clusters: [{name: a, kind: k8s}]\n", "k8s"},
		"two clusters, a name": {"clusters: [{name: a}, {name: a}]\n", "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, filepath.Join(t.TempDir(), "c.yaml"), tc.text)
			out, err := s.Daemon(ctx, "config", "check", "--state-dir", s.State(), "--config", file).CombinedOutput()
			if err == nil || !strings.Contains(string(out), tc.word) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	out, err := s.Daemon(ctx, "config", "show", "--state-dir", s.State()).Output()
	must(t, err)
	again := write(t, filepath.Join(t.TempDir(), "c.yaml"), string(out))
	if out, err := s.Daemon(ctx, "config", "check", "--state-dir", s.State(), "--config", again).CombinedOutput(); err != nil {
		t.Errorf("what config show prints does not pass config check: %s", out)
	}
}
