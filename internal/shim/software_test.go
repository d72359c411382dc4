package shim

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// startedIn runs what the shim would run for a command.
func startedIn(t *testing.T, o rundir.LaunchOptions, words ...string) (out string, code int) {
	t.Helper()
	argv, err := command(rundir.LaunchFile{Options: o}, forge.Entry{Command: words})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	b, err := cmd.CombinedOutput()
	var x *exec.ExitError
	if err != nil && !errors.As(err, &x) {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

func TestASourcedRankHasWhatTheLinesLeftAndIsTheProgramItself(t *testing.T) {
	script := filepath.Join(t.TempDir(), "it's an env.sh")
	if err := os.WriteFile(script, []byte("export FROM_SCRIPT=yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := rundir.LaunchOptions{Source: []string{". " + bashWord(script), "export A=1 # a comment", "if true; then\n  B=2\n  export B\nfi"}, Wrap: []string{"/usr/bin/env", "WRAPPED=1"}}
	out, code := startedIn(t, o, "/bin/sh", "-c", `echo "$FROM_SCRIPT $A $B $WRAPPED $0"; tr '\0' ' ' </proc/$$/cmdline`, "a b'c $x")
	if code != 0 || !strings.HasPrefix(out, "yes 1 2 1 a b'c $x\n/bin/sh -c") {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestWhatFailsBeforeARankIsItsNodesEnvironment(t *testing.T) {
	for name, c := range map[string]struct {
		source []string
		words  []string
		says   string
	}{
		"a line":                       {[]string{"true", "false", "echo after"}, []string{"/bin/true"}, "before the rank: false"},
		"a file that is not there":     {[]string{". /no/such/activate"}, []string{"/bin/true"}, "before the rank: . /no/such/activate"},
		"a program that nobody knows":  {[]string{"true"}, []string{"no-such-program"}, "no-such-program is not in PATH"},
		"an interpreter that is gone":  {[]string{"true"}, []string{"/no/venv/bin/python3"}, "/no/venv/bin/python3 is not in PATH"},
		"a wrapper that nobody brings": {[]string{"true"}, []string{"apptainer-that-is-not-there", "exec"}, "is not in PATH"},
	} {
		t.Run(name, func(t *testing.T) {
			out, code := startedIn(t, rundir.LaunchOptions{Source: c.source}, c.words...)
			if code != forge.ExitNodeEnv || !strings.Contains(out, c.says) || strings.Contains(out, "after\n") {
				t.Errorf("exit %d: %s", code, out)
			}
		})
	}
	if out, code := startedIn(t, rundir.LaunchOptions{Source: []string{"true"}}, "/bin/sh", "-c", "exit 7"); code != 7 {
		t.Errorf("a program's own exit is %d: %s", code, out)
	}
}

func TestWithoutSoftwareARankIsStartedAsItIs(t *testing.T) {
	l := rundir.LaunchFile{Launch: forge.Launch{Spec: forge.RunSpec{Entry: forge.Entry{Module: "m"}}}, Options: rundir.LaunchOptions{Python: "/p", Wrap: []string{"apptainer", "exec", "i.sif"}}}
	if got, err := command(l, l.Spec.Entry); err != nil || !slices.Equal(got, []string{"apptainer", "exec", "i.sif", "/p", "-m", "m"}) {
		t.Errorf("%q, %v", got, err)
	}
	l.Options.Wrap = nil
	if got, err := command(l, l.Spec.Entry); err != nil || !slices.Equal(got, []string{"/p", "-m", "m"}) {
		t.Errorf("%q, %v", got, err)
	}
}
