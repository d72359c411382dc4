package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

// TestMain lets scripts run this binary as forgectl.
func TestMain(m *testing.M) {
	if os.Getenv(nicedEnv) != "" {
		niced()
		return
	}
	testscript.Main(m, map[string]func(){"forgectl": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		os.Exit(run(ctx, os.Args, scriptStreams()))
	}})
}

// nicedEnv makes this binary show how it gives way, which it cannot take back.
const nicedEnv = "FORGE_TEST_NICED"

// scriptStreams is the world as a script wants it: TTY=80 makes a terminal of that width, and
// time stands still.
func scriptStreams() Streams {
	s := Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Width: 100, Height: 40, UID: os.Getuid(), Getenv: os.Getenv, Now: func() time.Time { return scriptNow }}
	if w, err := strconv.Atoi(os.Getenv("TTY")); err == nil {
		s.InTTY, s.OutTTY, s.ErrTTY, s.Width = true, true, true, w
	}
	return s
}

var scriptNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// TestScripts runs testdata/script against a server over the fake of apitest; UPDATE=1
// rewrites what the scripts compare with.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			f := apitest.New(scriptNow)
			seed(f)
			stop := make(chan struct{})
			drop := &dropper{Handler: server.New(f.Services(), server.Options{Version: "1.2.3", Stop: stop})}
			ts := httptest.NewServer(drop)
			env.Values["drop"] = drop
			env.Defer(func() { close(stop); ts.CloseClientConnections(); ts.Close() })
			env.Values["site"] = f
			other := httptest.NewServer(ts.Config.Handler) // the same site by another address: whatever listens there
			env.Defer(func() { other.CloseClientConnections(); other.Close() })
			env.Setenv("PROXY", other.URL)
			env.Setenv("TLSNAME", strings.Replace(ts.URL, "http:", "https:", 1))
			env.Setenv("FORGE_SERVER", ts.URL)
			env.Setenv("FORGE_API_KEY", apitest.MemberSecret)
			env.Setenv("OPERATOR", apitest.OperatorSecret)
			env.Setenv("NO_COLOR", "1")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else every command lingers for a second under -race
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "site": siteCommand},
	})
}

// dropper carries requests out and breaks the connection instead of answering.
type dropper struct {
	http.Handler
	left atomic.Int64
}

func (d *dropper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || d.left.Add(-1) < 0 {
		d.Handler.ServeHTTP(w, r)
		return
	}
	d.Handler.ServeHTTP(httptest.NewRecorder(), r)
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}

// exits N COMMAND…: the command ends with exactly this code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		got = ee.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%v exited %d, want %d", args[1:], got, want)
	}
}

// site changes what the server knows, while a command looks on:
//
//	site log RUN ATTEMPT RANK TEXT | site attempt RUN N STATE | site state RUN STATE [REASON]
//	site event RUN TYPE MESSAGE | site step RUN STEP LOSS | site fail METHOD KIND TEXT | site runs N
//	site drop N (carry out the next N requests that change something, and answer none)
//	site stale SOCKET (left by a server that is gone) | site lock FILE (held by this process)
//	site await RUN | site called METHOD N | site ends RUN STATE REASON (once it is there)
//	site spoil (what forge keeps of datasets has other content of the same size)
func siteCommand(ts *testscript.TestScript, _ bool, args []string) {
	f := ts.Value("site").(*apitest.Fake)
	num := func(i int) int64 {
		n, err := strconv.ParseInt(args[i], 10, 64)
		ts.Check(err)
		return n
	}
	switch args[0] {
	case "log":
		f.WriteLog(runID(num(1)), int(num(2)), int(num(3)), "stdout", strings.ReplaceAll(args[4], `\n`, "\n"))
	case "attempt":
		f.ChangeRun(num(1), func(d *api.RunDetail) { setAttempt(d, int(num(2)), forge.AttemptState(args[3])) })
	case "state":
		f.ChangeRun(num(1), func(d *api.RunDetail) {
			d.State = forge.RunState(args[2])
			if len(args) > 3 {
				d.Reason = forge.EndReason(args[3])
			}
		})
	case "step":
		loss, err := strconv.ParseFloat(args[3], 64)
		ts.Check(err)
		f.ChangeRun(num(1), func(d *api.RunDetail) { d.Step, d.TotalSteps, d.Loss = num(2), 60, &loss })
	case "event":
		f.AddEvent(forge.Event{Number: num(1), Actor: "forged", Type: forge.EventType(args[2]), Message: args[3]})
	case "fail":
		var err error
		if args[2] != "none" {
			err = forge.Errorf(forge.Kind(args[2]), "", "%s", args[3])
		}
		f.Fail(args[1], err)
	case "await":
		ts.Check(await(f, num(1)))
	case "called":
		from, deadline := f.Calls(args[1]), time.Now().Add(20*time.Second)
		for f.Calls(args[1]) < from+int(num(2)) {
			if time.Now().After(deadline) {
				ts.Fatalf("%s was not called", args[1])
			}
			<-time.After(5 * time.Millisecond)
		}
	case "ends":
		go func() {
			if await(f, num(1)) == nil {
				f.ChangeRun(num(1), func(d *api.RunDetail) { d.State, d.Reason = forge.RunState(args[2]), forge.EndReason(args[3]) })
			}
		}()
	case "drop":
		ts.Value("drop").(*dropper).left.Store(num(1))
	case "stale":
		l, err := net.Listen("unix", args[1])
		ts.Check(err)
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		ts.Check(l.Close())
	case "lock":
		file, err := os.OpenFile(args[1], os.O_RDWR, 0)
		ts.Check(err)
		ts.Defer(func() { _ = file.Close() })
		ts.Check(syscall.Flock(int(file.Fd()), syscall.LOCK_EX))
	case "queued": // RUN JOB: in a batch system's queue
		f.ChangeRun(num(1), func(d *api.RunDetail) {
			setAttempt(d, 1, forge.AttemptLaunching)
			d.Attempts[0].Batch = &forge.BatchJob{ID: args[2], Name: "forge-hpc-4.1", State: "PENDING", Reason: "Resources", Partition: "gpu",
				EstimatedStart: scriptNow.Add(2 * time.Hour)}
		})
	case "spoil":
		f.ChangeOwned(func(b []byte) []byte { return append([]byte(" "), b[:len(b)-1]...) })
	case "runs":
		for n := range num(1) {
			addPlainRun(f, 100+n)
		}
	default:
		ts.Fatalf("site %s: unknown", args[0])
	}
}

// await waits until a run is there.
func await(f *apitest.Fake, n int64) error {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-time.After(2 * time.Millisecond) {
		there := false
		f.ChangeRun(n, func(*api.RunDetail) { there = true })
		if there {
			return nil
		}
	}
	return fmt.Errorf("run %d did not come", n)
}

func runID(n int64) forge.RunID { return forge.RunID(fmt.Sprintf("01RUN%021d", n)) }

func setAttempt(d *api.RunDetail, n int, st forge.AttemptState) {
	attempts := append([]forge.Attempt(nil), d.Attempts...)
	for len(attempts) < n {
		attempts = append(attempts, forge.Attempt{Number: len(attempts) + 1, PlacedAt: scriptNow})
	}
	attempts[n-1].State = st
	d.Attempts, d.Attempt = attempts, max(d.Attempt, n)
}

func addPlainRun(f *apitest.Fake, n int64) {
	f.AddRun(api.RunDetail{Run: forge.Run{ID: runID(n), Number: n, User: "ada", State: forge.RunPending, SubmittedAt: scriptNow.Add(-time.Minute),
		Spec: forge.RunSpec{Recipe: "lora_sft", Gang: forge.Gang{Nodes: 1, GPUsPerNode: 1}, Priority: 50}}})
}
