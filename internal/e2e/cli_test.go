//go:build e2e

package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// TestCommandLine runs the scripts of testdata/cli: the real forgectl against a real forged, each on
// a site of its own. $SOCKET and $TCP are its addresses, $OPERATOR is the key file of forged init.
func TestCommandLine(t *testing.T) {
	bin := binDir(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/cli",
		Setup: func(env *testscript.Env) error {
			ctx, cancel := context.WithTimeout(context.Background(), caseTimeout)
			env.Defer(cancel)
			s, err := forgedtest.New(ctx, forgedtest.Options{Bin: bin, CPUSlots: 2, WithProbe: true, Network: "none", PollEvery: 50 * time.Millisecond,
				Extra: "retry: {backoff_min: 50ms, backoff_max: 1s}\n"})
			if err != nil {
				return err
			}
			env.Defer(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			if err := s.Start(ctx); err != nil {
				return err
			}
			tcp, err := s.TCP()
			if err != nil {
				return err
			}
			env.Values["site"] = s
			for k, v := range map[string]string{"PATH": bin + ":" + os.Getenv("PATH"), "HOME": env.WorkDir, "LANG": "C.UTF-8", "SOCKET": s.Server(), "TCP": tcp,
				"STATE": s.State(), "OPERATOR": filepath.Join(s.Dir, "operator.key")} {
				env.Setenv(k, v)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "until": untilExits, "daemon": daemon},
	})
}

func exitCode(ts *testscript.TestScript, args []string) int {
	err := ts.Exec(args[0], args[1:]...)
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		return ee.ExitCode()
	}
	ts.Check(err)
	return 0
}

// exits N COMMAND…: the command ends with exactly this code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := exitCode(ts, args[1:]); got != want {
		ts.Fatalf("%v exited %d, want %d", args[1:], got, want)
	}
}

// until N COMMAND…: the command is run again until it ends with this code.
func untilExits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	for deadline := time.Now().Add(30 * time.Second); exitCode(ts, args[1:]) != want; <-time.After(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("%v never exited %d", args[1:], want)
		}
	}
}

// daemon kill|stop|start: of the site.
func daemon(ts *testscript.TestScript, _ bool, args []string) {
	s := ts.Value("site").(*forgedtest.Site)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	switch args[0] {
	case "kill":
		s.Kill()
	case "stop":
		ts.Check(s.Stop(ctx))
	case "start":
		ts.Check(s.Start(ctx))
	default:
		ts.Fatalf("daemon %s: unknown", args[0])
	}
}
