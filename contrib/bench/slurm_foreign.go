package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

const (
	foreignSlots = 16
	foreignLoad  = 1.2
	foreignMean  = 4 * time.Second // of a job
	foreignTime  = 90 * time.Second
	foreignEvery = 1500 * time.Millisecond // one of ours and one plain job
)

// slurmForeign is the median wait of runs handed to a cluster that others load to 120 %, against that of the same jobs by
// sbatch, each submitted at the same moment as its pair, now the one first and now the other.
func slurmForeign(ctx context.Context, e env) ([]figure, error) {
	h, err := openHPC(ctx, e, slurmtest.Options{Nodes: 4, GPUs: foreignSlots / 4}, nil, "max_pending: 10000")
	if err != nil {
		return nil, err
	}
	defer func() { _ = h.close() }()
	p, err := h.plain()
	if err != nil {
		return nil, err
	}
	load, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	var foreignErr error
	wg.Go(func() { foreignErr = p.foreign(load) })

	var mu sync.Mutex
	var ours, theirs []float64
	errs := make(chan error, 1000)
	rnd := rand.New(rand.NewPCG(7, 7))
	for i := range int(foreignTime / foreignEvery) {
		took := 500 + rnd.IntN(3000)
		pair := []func() (string, error){
			func() (string, error) {
				return p.sbatch(ctx, fmt.Sprintf("pair-%d", i), fmt.Sprintf(`"steps": 1, "step_ms": %d, "save_every": 0`, took))
			},
			func() (string, error) {
				out, err := h.submit(ctx, "steps=1", fmt.Sprint("step_ms=", took), "save_every=0")
				return filepath.Join(h.RunDir(string(out.Run.ID)), "starts"), err
			},
		}
		waits := []*[]float64{&theirs, &ours}
		for k := range pair {
			k := (k + i) % 2
			began := time.Now()
			starts, err := pair[k]()
			if err != nil {
				return nil, err
			}
			wg.Go(func() {
				at, err := firstStart(ctx, starts)
				mu.Lock()
				*waits[k] = append(*waits[k], ms(at.Sub(began)))
				mu.Unlock()
				errs <- err
			})
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(foreignEvery):
		}
	}
	stop()
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return nil, err
		}
	}
	if foreignErr != nil {
		return nil, foreignErr
	}
	if e.verbose {
		fmt.Printf("  %d pairs: forge waits %.0f ms, plain sbatch %.0f ms\n", len(ours), median(ours), median(theirs))
	}
	return []figure{atMost("slurm_foreign", median(ours), "ms", "sbatch", median(theirs), 1.05)}, nil
}

// foreign submits jobs of others at random times, so many that with ours the cluster is asked for 120 % of what it has.
func (p plain) foreign(ctx context.Context) error {
	rnd := rand.New(rand.NewPCG(3, 3))
	pairs := 2 * 2.0 / foreignEvery.Seconds() // slots that the pairs take, two seconds each
	rate := (foreignLoad*foreignSlots - pairs) / foreignMean.Seconds()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(rnd.ExpFloat64() / rate * float64(time.Second))):
		}
		took := min(rnd.ExpFloat64()*foreignMean.Seconds(), 20)
		// The submission outlives the load: a cut-off sbatch is no answer.
		if _, err := p.sbatch(context.WithoutCancel(ctx), fmt.Sprintf("foreign-%d", i), fmt.Sprintf(`"steps": 1, "step_ms": %d, "save_every": 0`, int(took*1000))); err != nil {
			return err
		}
	}
}
