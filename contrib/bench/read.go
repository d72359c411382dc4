package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

const (
	pollers     = 200
	pollEvery   = 2 * time.Second // what --watch does
	readWarm    = 4 * time.Second
	readTime    = 16 * time.Second
	readSubmits = 100
)

// polls is what the pollers ask, in turn: what `run list`, `run show`, `queue` and `run why` send
// with --watch, which show what fits a terminal, and what a dashboard sends.
var polls = []func() string{
	func() string { return "/v1/runs/rows?limit=100" },
	func() string { return fmt.Sprintf("/v1/runs/%d", 1+rand.IntN(pendingRuns)) },
	func() string { return "/v1/queue?limit=100" },
	func() string { return fmt.Sprintf("/v1/runs/%d/why", 1+rand.IntN(pendingRuns)) },
}

// readP99 is the time of an answer, whole, as 200 pollers see it: each asks every 2 s from a random
// moment on and waits for the answer, a quarter of them each for the listing, a run, the queue
// and why a run waits. There are 10,000 runs, all waiting, of the tenant that they ask for, and 100 more a second come in
// meanwhile. It is an open load, not a saturated machine: 100 reads and 100 submissions a second.
func readP99(ctx context.Context, e env) ([]figure, error) {
	s, err := crowded(ctx, e)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	addr, err := s.TCP()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hc := &http.Client{Transport: &http.Transport{MaxConnsPerHost: pollers + clients, MaxIdleConnsPerHost: pollers + clients}, Timeout: 30 * time.Second}
	defer hc.CloseIdleConnections()

	before, err := cpuTicks(s.Pid())
	if err != nil {
		return nil, err
	}
	from := time.Now().Add(readWarm)
	end := from.Add(readTime)
	took := make([][]float64, pollers)
	errs := make(chan error, pollers+1)
	var polling sync.WaitGroup
	for i := range pollers {
		polling.Go(func() {
			errs <- func() error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(rand.N(pollEvery)):
				}
				tick := time.NewTicker(pollEvery)
				defer tick.Stop()
				for time.Now().Before(end) {
					ms, err := read(ctx, hc, addr+polls[i%len(polls)](), s.Key)
					if err != nil {
						return err
					}
					if time.Now().After(from) {
						took[i] = append(took[i], ms)
					}
					select {
					case <-ctx.Done():
						return ctx.Err()
					case <-tick.C:
					}
				}
				return nil
			}()
		})
	}
	polling.Go(func() {
		_, err := steadily(ctx, hc, addr, s.Key, readSubmits, readWarm+readTime)
		errs <- err
	})
	for range pollers + 1 {
		if err := <-errs; err != nil {
			return nil, err
		}
	}
	polling.Wait()
	var all []float64
	for _, ms := range took {
		all = append(all, ms...)
	}
	if e.verbose {
		after, err := cpuTicks(s.Pid())
		fmt.Printf("  the daemon took %.1f %% of a core (%v)\n", float64(after-before)/clockTicks/(readWarm+readTime).Seconds()*100, err)
		for k := range polls {
			var kind []float64
			for i := k; i < pollers; i += len(polls) {
				kind = append(kind, took[i]...)
			}
			fmt.Printf("  %s: p50 %.2f p99 %.2f ms over %d\n", polls[k](), percentile(kind, 50), percentile(kind, 99), len(kind))
		}
	}
	return []figure{atMost("read_p99", percentile(all, 99), "ms", "limit", 50, 1)}, nil
}

func read(ctx context.Context, hc *http.Client, url, key string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("X-API-Key", key)
	began := time.Now()
	resp, err := hc.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return float64(time.Since(began).Microseconds()) / 1000, err
}
