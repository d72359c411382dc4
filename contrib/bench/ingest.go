package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

const (
	ingestRuns  = 4 // each with a client of its own
	ingestSteps = 100
	ingestKeys  = 20
	ingestWarm  = time.Second
	ingestTime  = 8 * time.Second
	ingestSmall = 3 * time.Second // single values
	ingestMany  = 16              // connections that send single values
)

// ingestRate is how many metric values a second come in through the API and are on the disk: four clients, each with a run of its own, send batches of 100 steps with 20 keys one after
// the other, over HTTP on loopback. The clients write their JSON themselves and share the machine's cores with forged. In the end the table must have a row for each
// step that was acknowledged. What clients reach that send one value at a time is printed beside it: there HTTP and one write a value are all the work.
func ingestRate(ctx context.Context, e env) (_ []figure, err error) {
	o := options(e)
	o.CPUSlots = ingestRuns
	s, addr, runs, err := running(ctx, o, ingestRuns)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(s.State(), "forge.db")+"?mode=ro&_busy_timeout=5000")
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	var before [2]float64
	var took []float64
	var sent atomic.Int64
	started := time.Now()
	before, err = commits(ctx, db)
	if err != nil {
		return nil, err
	}
	cpu, err := cpuTicks(s.Pid())
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	rate, err := together(ctx, ingestRuns, ingestWarm, ingestTime, func(ctx context.Context, hc *http.Client, client int) func() (int, error) {
		step, body := int64(1_000_000), []byte(nil)
		return func() (int, error) {
			body = appendBatch(body[:0], step, ingestSteps, ingestKeys)
			step += ingestSteps
			began := time.Now()
			if err := send(ctx, hc, addr+"/v1/runs/"+runs[client]+"/metrics", s.Key, body, nil); err != nil {
				return 0, err
			}
			mu.Lock()
			took = append(took, float64(time.Since(began).Microseconds())/1000)
			mu.Unlock()
			sent.Add(ingestSteps)
			return ingestSteps * ingestKeys, nil
		}
	})
	if err != nil {
		return nil, err
	}
	spent, err := cpuTicks(s.Pid())
	if err != nil {
		return nil, err
	}
	after, err := commits(ctx, db)
	if err != nil {
		return nil, err
	}
	var rows int64
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM run_metrics WHERE step >= 1000000`).Scan(&rows); err != nil {
		return nil, err
	}
	if rows != sent.Load() {
		return nil, fmt.Errorf("%d steps were acknowledged, %d are in the table", sent.Load(), rows)
	}
	var last atomic.Int64
	last.Store(2_000_000_000)
	single, err := together(ctx, ingestMany, ingestWarm/2, ingestSmall, func(ctx context.Context, hc *http.Client, client int) func() (int, error) {
		return func() (int, error) {
			body := appendBatch(nil, last.Add(1), 1, 1)
			return 1, send(ctx, hc, addr+"/v1/runs/"+runs[client%ingestRuns]+"/metrics", s.Key, body, nil)
		}
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(took)
	fmt.Printf("  %d steps of %d keys in %d batches: p50 %.1f ms, p99 %.1f ms a batch, %.0f commits/s; forged took %.0f %% of a core; single values, %d connections: %.0f/s\n", rows, ingestKeys, len(took),
		percentile(took, 50), percentile(took, 99), (after[0]-before[0])/time.Since(started).Seconds(), float64(spent-cpu)/clockTicks/(ingestWarm+ingestTime).Seconds()*100, ingestMany, single)
	return []figure{atLeast("ingest_rate", rate, "values/s", "target", 100_000, 1)}, nil
}

// running starts a forged with so many runs that go on, and gives their numbers.
func running(ctx context.Context, o forgedtest.Options, n int) (s *forgedtest.Site, addr string, runs []string, err error) {
	if s, err = forgedtest.New(ctx, o); err != nil {
		return nil, "", nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.Start(ctx); err != nil {
		return nil, "", nil, err
	}
	if addr, err = s.TCP(); err != nil {
		return nil, "", nil, err
	}
	for range n {
		var out api.Submitted
		if err := send(ctx, http.DefaultClient, addr+"/v1/runs", s.Key, []byte(`{"recipe":"probe","set":["steps=1000000","step_ms=1000"],"time_limit":"2h"}`), &out); err != nil {
			return nil, "", nil, err
		}
		runs = append(runs, strconv.FormatInt(out.Run.Number, 10))
	}
	for _, run := range runs {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			var d api.RunDetail
			if err := get(ctx, http.DefaultClient, addr+"/v1/runs/"+run, s.Key, &d); err != nil {
				return nil, "", nil, err
			}
			if d.State == "running" {
				break
			}
			if time.Now().After(deadline) {
				return nil, "", nil, fmt.Errorf("run %s is still %s", run, d.State)
			}
		}
	}
	return s, addr, runs, nil
}

// together has clients at work at the same time, each on a connection of its own, and gives what they get done a second after warming up.
func together(ctx context.Context, n int, warm, d time.Duration, work func(ctx context.Context, hc *http.Client, client int) func() (int, error)) (float64, error) {
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n, MaxConnsPerHost: n}, Timeout: 30 * time.Second}
	defer hc.CloseIdleConnections()
	var done atomic.Int64
	var failed atomic.Pointer[error]
	began := time.Now()
	var wg sync.WaitGroup
	for client := range n {
		one := work(ctx, hc, client)
		wg.Go(func() {
			for failed.Load() == nil && time.Since(began) < warm+d {
				n, err := one()
				if err != nil {
					failed.Store(&err)
					return
				}
				if at := time.Since(began); at > warm && at < warm+d {
					done.Add(int64(n))
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(done.Load()) / d.Seconds(), nil
}

// appendBatch writes the body of a batch: curves that fall and rise a little, with digits as losses have them.
func appendBatch(b []byte, from int64, steps, keys int) []byte {
	b = append(b, `{"attempt":1,"points":[`...)
	for i := range int64(steps) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendInt(append(b, `{"step":`...), from+i, 10), `,"values":{`...)
		for k := range keys {
			if k > 0 {
				b = append(b, ',')
			}
			b = append(append(append(b, '"'), metricName(k)...), `":`...)
			b = strconv.AppendFloat(b, value(from+i, k), 'g', -1, 64)
		}
		b = append(b, "}}"...)
	}
	return append(b, "]}"...)
}

func metricName(k int) string {
	if k == 0 {
		return "loss"
	}
	return "layer_" + strconv.Itoa(k) + "/grad_norm"
}

func value(step int64, key int) float64 {
	return 2.5/(1+float64(step)/1e5) + float64((step*7919+int64(key)*104729)%1000)/12345
}

func send(ctx context.Context, hc *http.Client, url, key string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	return answered(hc, req, key, out)
}

func get(ctx context.Context, hc *http.Client, url, key string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	return answered(hc, req, key, out)
}

// answered reads the whole answer, which must be good; out may be nil.
func answered(hc *http.Client, req *http.Request, key string, out any) error {
	if key != "" {
		req.Header.Set(api.HeaderKey, key)
	}
	resp, err := hc.Do(req)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s: %.500s", req.URL.Path, resp.Status, b)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}
