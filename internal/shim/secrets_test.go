package shim_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

const token = "hf_NobodyMayReadThis0123456789"

func secretsFile(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secrets.env")
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// holding lists the files below dir that have the word in them.
func holding(t *testing.T, dir, word string) (found []string, files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), word) || strings.Contains(path, word) {
			found = append(found, path)
		}
		files++
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, files
}

// hashed is a rank that shows that it knows its secrets without saying them.
var hashed = []string{"/bin/sh", "-c", `printf %s "$HF_TOKEN|$WANDB_API_KEY|$QUOTED|$LINKS" | sha256sum`}

func TestRanksGetTheSecretsAndNoFileOfTheRunHasThem(t *testing.T) {
	path := secretsFile(t, "# mine\n\nHF_TOKEN="+token+"\r\nexport WANDB_API_KEY="+token+"-w\nQUOTED=\"a b = 'c'\"\nLINKS=$HOME\n", 0o600)
	want := fmt.Sprintf("%x", sha256.Sum256([]byte(token+"|"+token+"-w|a b = 'c'|$HOME")))
	use := func(l *rundir.LaunchFile) { l.Spec.SecretsFile = path }
	for name, run := range map[string]func() (rundir.Attempt, string){
		"on this host": func() (rundir.Attempt, string) {
			a := prepared(t, hashed, use, 1)
			_, x := runShim(t, a)
			return a, fmt.Sprint(x)
		},
		"on Slurm, where the environment is left for shells": func() (rundir.Attempt, string) {
			a := handedOver(t, 1, 1, hashed, use)
			code, log := ranIn(t, a, planted(0, 1, "1"), nil)
			if _, err := os.Stat(a.RankEnvPath(0)); code != 0 || err != nil {
				t.Errorf("exit %d, %v\n%s", code, err, log)
			}
			return a, log
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, log := run()
			if got := stdout(t, a, 0); !strings.HasPrefix(got, want) {
				t.Errorf("the rank has other secrets: %q, want %s", got, want)
			}
			if found, files := holding(t, a.RunDir, token); len(found) > 0 || files < 5 {
				t.Errorf("the secret is in %v of %d files", found, files)
			}
			if strings.Contains(log, token) {
				t.Errorf("the shim said it:\n%s", log)
			}
		})
	}
}

func TestASecretsFileThatIsNoSecretIsRefused(t *testing.T) {
	good := "HF_TOKEN=" + token + "\n"
	link := func(t *testing.T, how func(from, to string) error) string {
		path := secretsFile(t, good, 0o600)
		if err := how(path, path+".2"); err != nil {
			t.Fatal(err)
		}
		return path + ".2"
	}
	for name, c := range map[string]struct {
		path func(t *testing.T) string
		says string
	}{
		"others can read it":   {func(t *testing.T) string { return secretsFile(t, good, 0o640) }, "can be read by others (mode 0640)"},
		"it is a link":         {func(t *testing.T) string { return link(t, os.Symlink) }, "is a link"},
		"it has a second name": {func(t *testing.T) string { return link(t, os.Link) }, "has 2 names"},
		"it is not there":      {func(t *testing.T) string { return "/nowhere/secrets.env" }, "does not exist on this node"},
		"it is a directory":    {func(t *testing.T) string { return t.TempDir() }, "is not a regular file"},
		"it is a pipe": {func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "pipe")
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}, "is not a regular file"},
		"it is somebody else's": {func(t *testing.T) string {
			if os.Getuid() != 0 {
				return "/etc/hostname" // root's
			}
			path := secretsFile(t, good, 0o600)
			if err := os.Chown(path, 65534, 65534); err != nil {
				t.Fatal(err)
			}
			return path
		}, "belongs to uid"},
		"it is long":              {func(t *testing.T) string { return secretsFile(t, "A="+strings.Repeat("x", 64<<10), 0o600) }, "at most 65536 are read"},
		"a line is no assignment": {func(t *testing.T) string { return secretsFile(t, "A=1\n"+token+"\n", 0o600) }, "line 2 is not KEY=VALUE"},
		"a name is none":          {func(t *testing.T) string { return secretsFile(t, "hf-token="+token, 0o600) }, "line 1 is not KEY=VALUE"},
		"a key stands twice":      {func(t *testing.T) string { return secretsFile(t, good+good, 0o600) }, "line 2: HF_TOKEN stands twice"},
		"it holds binary":         {func(t *testing.T) string { return secretsFile(t, "A=\x00"+token, 0o600) }, "NUL byte"},
		"it says what rank it is": {func(t *testing.T) string { return secretsFile(t, "RANK=7\n", 0o600) }, "sets RANK, which forge or the cluster sets"},
	} {
		t.Run(name, func(t *testing.T) {
			path := c.path(t)
			a := prepared(t, hashed, func(l *rundir.LaunchFile) { l.Spec.SecretsFile = path }, 1)
			_, x := runShim(t, a)
			if x.Cause != forge.StopInputs || !strings.Contains(x.Detail, c.says) || strings.Contains(x.Detail, token) {
				t.Errorf("%+v; want it to say %q", x, c.says)
			}
			if out := stdout(t, a, 0); out != "" {
				t.Errorf("a rank started: %q", out)
			}
		})
	}
}
