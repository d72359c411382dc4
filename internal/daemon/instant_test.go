package daemon

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset/scanner"
	"github.com/forge-ml/forge-ml/nvml"
	"github.com/forge-ml/forge-ml/store"
)

// envInstant makes the test binary serve a state directory like forged, but for one thing: a
// submission is answered at once and stored nowhere. It is the peer of submit_rate.
const envInstant = "FORGE_BENCH_INSTANT"

// These processes leave by syscall.Exit: under -race os.Exit waits a second for reports that are on stderr already.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "nvml" { // the served daemon asks its own binary for GPUs
		syscall.Exit(nvml.ChildMain(os.Args[2:], os.Stdout))
	}
	if len(os.Args) > 1 && os.Args[1] == "scan" { // and to read datasets
		syscall.Exit(scanner.Main(os.Args[2:], "test", os.Stdin, os.Stdout, os.Stderr))
	}
	if dir := os.Getenv(envInstant); dir != "" {
		if err := serveInstant(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			syscall.Exit(1)
		}
		syscall.Exit(0)
	}
	code := m.Run()
	if codeDir != "" {
		_ = os.RemoveAll(codeDir)
	}
	os.Exit(code)
}

func serveInstant(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg, err := LoadConfig("", dir)
	if err != nil {
		return err
	}
	d, err := New(ctx, Options{Config: cfg, Log: zerolog.New(os.Stderr), Version: "instant"})
	if err != nil {
		return err
	}
	d.submitTo = func(p forge.Principal) submitter { return instant{p} }
	return d.Run(ctx)
}

type instant struct{ p forge.Principal }

func (i instant) SubmitRun(_ context.Context, n store.NewRun) (forge.Run, error) {
	return forge.Run{ID: "01J00000000000000000000000", Tenant: i.p.Tenant, Number: 1, User: i.p.User, Spec: n.Spec, State: forge.RunPending, SubmittedAt: time.Now(), Version: 1}, nil
}
