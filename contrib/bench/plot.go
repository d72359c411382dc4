package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/forge-ml/forge-ml/internal/api"
)

const (
	plotSteps  = 1_000_000
	plotKeys   = 10
	plotPoints = 1000
	plotAsks   = 300
	plotLimit  = 50 // ms
)

// plotMS is how long GET metrics of one key takes for a run of 1,000,000 steps with 10 keys, at up to 1,000 points: whole curves and windows of them in turn, over HTTP, the answer
// decoded. The steps come in through the API first. The figure is the median; p99 is printed, as are all keys at once, forgectl's plot, and forged's memory.
func plotMS(ctx context.Context, e env) (_ []figure, err error) {
	s, addr, runs, err := running(ctx, options(e), 1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	path := addr + "/v1/runs/" + runs[0] + "/metrics"
	began := time.Now()
	if err := fillCurves(ctx, path, s.Key); err != nil {
		return nil, err
	}
	filled := time.Since(began)
	held, err := rssMiB(s.Pid())
	if err != nil {
		return nil, err
	}
	var took, wide []float64
	for i := range plotAsks {
		q := fmt.Sprintf("?keys=loss&points=%d", plotPoints)
		switch i % 3 {
		case 1:
			q += fmt.Sprintf("&from=%d&to=%d", 1000*i, 1000*i+500_000)
		case 2:
			q += fmt.Sprintf("&from=%d&to=%d", 3000*i, 3000*i+12_000)
		}
		ms, m, err := ask(ctx, path+q, s.Key)
		if err != nil {
			return nil, err
		}
		if n := len(m.Curves["loss"]); n < plotPoints/16 || n > plotPoints || len(m.Keys) < plotKeys {
			return nil, fmt.Errorf("%s: %d buckets of %d keys", q, n, len(m.Keys))
		}
		took = append(took, ms)
	}
	for range 20 {
		ms, _, err := ask(ctx, fmt.Sprintf("%s?points=%d", path, plotPoints), s.Key)
		if err != nil {
			return nil, err
		}
		wide = append(wide, ms)
	}
	after, err := rssMiB(s.Pid())
	if err != nil {
		return nil, err
	}
	began = time.Now()
	plot := exec.CommandContext(ctx, filepath.Join(e.bin, "forgectl"), "run", "metrics", runs[0], "--plot")
	plot.Env = append(os.Environ(), "FORGE_SERVER="+s.Server(), "FORGE_API_KEY="+s.Key, "HOME="+s.Dir)
	if out, err := plot.CombinedOutput(); err != nil || strings.Count(string(out), "\n") < 5 {
		return nil, fmt.Errorf("forgectl run metrics --plot: %w: %s", err, out)
	}
	drawn := time.Since(began)
	fmt.Printf("  one key: p50 %.1f ms, p99 %.1f, first %.1f; all %d keys: p50 %.1f ms; forgectl draws it in %.0f ms; %d values came in at %.0f/s; forged held %.0f MiB before and %.0f MiB after\n",
		percentile(took, 50), percentile(took, 99), took[0], plotKeys, percentile(wide, 50), float64(drawn.Milliseconds()), plotSteps*plotKeys, plotSteps*plotKeys/filled.Seconds(), held, after)
	return []figure{atMost("plot_ms", percentile(took, 50), "ms", "budget", plotLimit, 1)}, nil
}

func ask(ctx context.Context, url, key string) (ms float64, m api.Metrics, err error) {
	began := time.Now()
	err = get(ctx, http.DefaultClient, url, key, &m)
	return float64(time.Since(began).Microseconds()) / 1000, m, err
}

// fillCurves sends the steps, a thousand at a time.
func fillCurves(ctx context.Context, path, key string) error {
	var next atomic.Int64
	_, err := together(ctx, 2, 0, time.Hour, func(ctx context.Context, hc *http.Client, _ int) func() (int, error) {
		return func() (int, error) {
			const batch = 1000
			from := next.Add(batch) - batch
			if from >= plotSteps {
				return 0, errFilled
			}
			return batch, send(ctx, hc, path, key, appendBatch(nil, from, batch, plotKeys), nil)
		}
	})
	if errors.Is(err, errFilled) {
		err = nil
	}
	return err
}

var errFilled = errors.New("all steps are there")
