package main

import (
	"bytes"
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

// serveSeed is the site of the scripts, for tests that run forgectl in this process.
func serveSeed(t *testing.T) (*apitest.Fake, string) {
	t.Helper()
	f := apitest.New(scriptNow)
	seed(f)
	stop := make(chan struct{})
	ts := httptest.NewServer(server.New(f.Services(), server.Options{Version: "1.2.3", Stop: stop}))
	t.Cleanup(func() { close(stop); ts.CloseClientConnections(); ts.Close() })
	return f, ts.URL
}

// completed is what pressing Tab at the end of a line offers; a line that ends in a space begins a word.
func completed(t *testing.T, url, line string) []string {
	t.Helper()
	var out, errOut bytes.Buffer
	env := map[string]string{"FORGE_SERVER": url, "FORGE_API_KEY": apitest.OperatorSecret}
	s := Streams{In: strings.NewReader(""), Out: &out, Err: &errOut, Width: 80, Now: func() time.Time { return scriptNow }, Getenv: func(k string) string { return env[k] }}
	if code := run(t.Context(), append([]string{"forgectl", completeWord}, strings.Split(line, " ")...), s); code != 0 || errOut.Len() > 0 {
		t.Errorf("%q: exit %d, says %q", line, code, errOut.String())
	}
	var words []string
	for l := range strings.Lines(out.String()) {
		w, _, _ := strings.Cut(strings.TrimSuffix(l, "\n"), "\t")
		words = append(words, w)
	}
	return words
}

func TestCandidates(t *testing.T) {
	_, url := serveSeed(t)
	for _, c := range []struct{ line, want string }{
		{"ru", "run"},
		{"run ca", "cancel"},
		{"run cancel --n", "--now"},
		{"run cancel ", "4 3 2 1"},
		{"run cancel --now ", "4 3 2 1"},
		{"-o json run show 3", "3"},
		{"-o js", "json"},
		{"--output=js", "--output=json"},
		{"run list --state ru", "running"},
		{"run list --state=ru", "--state=running"},
		{"run submit lora", "lora_sft"}, {"recipe show scr", "script"}, {"recipe lint ", filesMark},
		{"run submit lora_sft --dataset ch", "chat"},
		{"run submit lora_sft --dataset chat@", "chat@1"},
		{"run submit lora_sft --base ", "tiny"},
		{"run submit lora_sft -f ", filesMark},
		{"run submit lora_sft --after ", "4 3 2 1"},
		{"model show t", "tiny"},
		{"dataset add ", ""},
		{"dataset add new ", filesMark},
		{"dataset add new /a /b ", filesMark},
		{"dataset add new --kind pref", "preference"},
		{"dataset add new --preset al", "alpaca"},
		{"dataset add new --pii-policy b", "block"},
		{"dataset redact chat --least h", "high"},
		{"dataset diff chat@1 cha", "chat"},
		{"dataset lineage chat@", "chat@1"},
		{"dataset lineage chat@1 -o d", "dot"},
		{"dataset list -o d", ""},
		{"user show a", "ada"},
		{"user create ", ""},
		{"user disable ada --reason l", "leaked left"},
		{"key revoke ", "K1 K2"},
		{"hook rm ", "chat"},
		{"tenant show ", "default other"},
		{"run list --tenant o", "other"},
		{"cluster resume lo", "local"},
		{"events --type run.end", "run.ended"},
		{"completion ", "bash zsh fish"},
		{"run show 3 ", ""},
		{"nonsense ", ""},
		{"run show -- ", "4 3 2 1"},
	} {
		if got := strings.Join(completed(t, url, c.line), " "); got != c.want {
			t.Errorf("%q offers %q, want %q", c.line, got, c.want)
		}
	}
}

func TestCompletionSaysNothingWhereItKnowsNothing(t *testing.T) {
	f, url := serveSeed(t)
	if got := completed(t, "unix:///nonexistent/x.sock", "run show "); got != nil {
		t.Errorf("without a server it offers %q", got)
	}
	f.Fail("Runs", forge.Errorf(forge.KindInternal, "", "broken"))
	if got := completed(t, url, "run show "); got != nil {
		t.Errorf("with a broken one it offers %q", got)
	}
	hang := make(chan struct{})
	f.Hook(func(string) { <-hang })
	defer close(hang)
	began := time.Now()
	if got := completed(t, url, "run show "); got != nil || time.Since(began) > 5*completeTimeout {
		t.Errorf("with one that hangs it offers %q after %s", got, time.Since(began))
	}
}

// shellHome is a directory in which forgectl is this test binary, and the environment for it.
func shellHome(t *testing.T) (dir string, env []string) {
	t.Helper()
	_, url := serveSeed(t)
	dir = t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "forgectl")); err != nil { // testscript.Main goes by the name
		t.Fatal(err)
	}
	return dir, []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "HOME=" + dir, "TERM=dumb", "LANG=C.UTF-8", "FORGE_SERVER=" + url, "FORGE_API_KEY=" + apitest.OperatorSecret,
		"XDG_CONFIG_HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CACHE_HOME=" + dir, "GORACE=atexit_sleep_ms=0"}
}

func shell(t *testing.T, dir string, env []string, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", args[0], err, out)
	}
	return strings.Fields(string(out))
}

func script(t *testing.T, dir, shell string) string {
	t.Helper()
	b, err := completionScripts.ReadFile(shells[shell])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, filepath.Base(shells[shell]))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBashCompletes(t *testing.T) {
	dir, env := shellHome(t)
	path := script(t, dir, "bash")
	for _, c := range []struct{ line, words, want string }{
		{"forgectl run ca", "forgectl run ca", "cancel"},
		{"forgectl run show ", "forgectl run show ''", "1 2 3 4"},
		{"forgectl run submit lora_sft --dataset=ch", "forgectl run submit lora_sft --dataset = ch", "chat"},
		{"forgectl run submit lora_sft --dataset=", "forgectl run submit lora_sft --dataset =", "chat"},
		{"forgectl model show tiny@", "forgectl model show tiny @", "1"},
		{"forgectl login --ca forgectl.b", "forgectl login --ca forgectl.b", "forgectl.bash"},
	} {
		got := shell(t, dir, env, "bash", "--norc", "-c", "source "+path+`
			COMP_LINE="$1" COMP_POINT=${#1}; eval "COMP_WORDS=($2)"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
			_forgectl 2>/dev/null; printf '%s\n' "${COMPREPLY[@]}"; complete -p forgectl >/dev/null`, "bash", c.line, c.words)
		slices.Sort(got)
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q offers %q, want %q", c.line, got, c.want)
		}
	}
}

func TestFishCompletes(t *testing.T) {
	dir, env := shellHome(t)
	path := script(t, dir, "fish")
	for line, want := range map[string]string{
		"forgectl run ca": "cancel", "forgectl run show ": "1", "forgectl run submit lora_sft --dataset ch": "chat", "forgectl login --ca forgectl.f": "forgectl.fish",
	} {
		got := shell(t, dir, env, "fish", "--no-config", "-c", "source "+path+"; complete -C "+`"`+line+`"`)
		if !slices.Contains(got, want) {
			t.Errorf("%q offers %q, want %q", line, got, want)
		}
	}
}

// zsh completes only at its line editor: a pseudo terminal of zsh's own types the line and Tab.
const zshHarness = `
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PS1=; fpath=('"$1"' $fpath); autoload -Uz compinit; compinit -u -d '"$1"'/dump; zstyle ":completion:*" list-colors ""; LISTMAX=0; echo rea"dy"'
zpty -r -m z out '*ready*'
zpty -n -w z "$2"$'\t'
zpty -n -w z $'\n'
zpty -r -m z out "*${3}*"
print -r -- "$out"
zpty -d z
`

func TestZshCompletes(t *testing.T) {
	dir, env := shellHome(t)
	script(t, dir, "zsh")
	for line, want := range map[string]string{
		// One candidate is put into the line, which echo then prints; of more than one a list is shown.
		": ; forgectl run ca": "run cancel", ": ; forgectl run submit lora_sft --dataset ch": "--dataset chat", ": ; forgectl run show ": "pending lora_sft",
	} {
		got := strings.Join(shell(t, dir, env, "timeout", "20", "zsh", "-f", "-c", zshHarness, "zsh", dir, line, want), " ")
		if !strings.Contains(got, want) {
			t.Errorf("%q: the terminal shows %q, want %q", line, got, want)
		}
	}
}
