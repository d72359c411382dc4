package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

const (
	followers     = 200
	quiet         = 10 // followers of a tenant in which nothing happens
	streamSubmits = 100
	streamTime    = 10 * time.Second
	streamDrain   = 5 * time.Second
)

// sseLag is the time from an event to its arrival at each of 200 followers, all of the one tenant in
// which it happens, each on a connection of its own, while 100 runs a second are submitted. It
// is counted from the time that the store gave the event inside its transaction, so that the commit and its
// sync are in it; both ends are on this host and read one clock. Ten followers of another
// tenant must hear nothing, and everyone must get every event once: else there is no figure.
func sseLag(ctx context.Context, e env) ([]figure, error) {
	s, err := forgedtest.New(ctx, options(e))
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	var busy, other string
	if err := seed(ctx, s, func(db *sql.DB) (err error) {
		if busy, err = addTenant(ctx, db, "busy"); err == nil {
			other, err = addTenant(ctx, db, "quiet")
		}
		return err
	}); err != nil {
		return nil, err
	}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	if err := occupy(ctx, s); err != nil {
		return nil, err
	}
	addr, err := s.TCP()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hc := &http.Client{Transport: &http.Transport{MaxConnsPerHost: followers + quiet + clients, MaxIdleConnsPerHost: clients}}
	defer hc.CloseIdleConnections()

	var ears []*ear
	for i := range followers + quiet {
		a := &ear{key: busy}
		if i >= followers {
			a.key = other
		}
		if err := a.connect(ctx, hc, addr); err != nil {
			return nil, err
		}
		ears = append(ears, a)
	}
	var listening sync.WaitGroup
	for _, a := range ears {
		listening.Go(a.listen)
	}
	before, err := cpuTicks(s.Pid())
	if err != nil {
		return nil, err
	}
	submitted, err := steadily(ctx, hc, addr, busy, streamSubmits, streamTime)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(streamDrain)
	for time.Now().Before(deadline) && slices.ContainsFunc(ears[:followers], func(a *ear) bool { return a.heard.Load() < submitted }) {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	listening.Wait()
	var lags []float64
	for i, a := range ears {
		want := submitted
		if i >= followers {
			want = 0
		}
		if a.err != nil || a.heard.Load() != want {
			return nil, fmt.Errorf("follower %d heard %d events of %d: %w", i, a.heard.Load(), want, a.err)
		}
		lags = append(lags, a.lags...)
	}
	if e.verbose {
		after, err := cpuTicks(s.Pid())
		fmt.Printf("  p50 %.2f ms, worst %.2f ms over %d; the daemon took %.1f %% of a core (%v)\n", percentile(lags, 50), slices.Max(lags), len(lags),
			float64(after-before)/clockTicks/streamTime.Seconds()*100, err)
	}
	return []figure{atMost("sse_lag_p99", percentile(lags, 99), "ms", "limit", 100, 1)}, nil
}

// ear is one follower.
type ear struct {
	key   string
	resp  *http.Response
	heard atomic.Int64
	lags  []float64 // ms
	err   error
}

func (a *ear) connect(ctx context.Context, hc *http.Client, addr string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, addr+"/v1/events", nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-API-Key", a.key)
	if a.resp, err = hc.Do(req); err != nil {
		return err
	}
	if a.resp.StatusCode != http.StatusOK {
		return fmt.Errorf("events: %s", a.resp.Status)
	}
	return nil
}

func (a *ear) listen() {
	defer func() { _ = a.resp.Body.Close() }()
	last := int64(0)
	for lines := bufio.NewScanner(a.resp.Body); lines.Scan(); {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		now := time.Now()
		var e struct {
			Seq  int64
			Time time.Time
		}
		if err := json.Unmarshal(data, &e); err != nil {
			a.err = err
			return
		}
		if e.Seq <= last {
			a.err = fmt.Errorf("event %d came after %d", e.Seq, last)
			return
		}
		last = e.Seq
		a.lags = append(a.lags, float64(now.Sub(e.Time).Microseconds())/1000)
		a.heard.Add(1)
	}
}

// steadily submits so many runs a second for a time, whether or not the ones before are
// answered, and returns how many were acknowledged.
func steadily(ctx context.Context, hc *http.Client, addr, key string, perSecond int, d time.Duration) (int64, error) {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	var sending sync.WaitGroup
	var n atomic.Int64
	var failed atomic.Pointer[error]
	for range int(d.Seconds() * float64(perSecond)) {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
		sending.Go(func() {
			if err := post(ctx, hc, addr, key, submitBody); err != nil {
				failed.Store(&err)
				return
			}
			n.Add(1)
		})
	}
	sending.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return n.Load(), nil
}

func percentile(v []float64, p int) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[min(len(v)-1, len(v)*p/100)]
}
