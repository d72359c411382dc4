package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/mattn/go-sqlite3" // to read the counters of forged's tables

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

const (
	clients      = 64
	submitWarm   = time.Second
	submitTime   = 5 * time.Second
	submitRounds = 3
	submitBody   = `{"recipe":"probe","set":["steps=2"]}`
)

// submitRate compares durable submissions with the same server over a store that answers at
// once: what is lost is the price of durability. Rounds alternate, so that a slow minute of the
// machine hits both.
func submitRate(ctx context.Context, e env) ([]figure, error) {
	s, err := site(ctx, e)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	if err := occupy(ctx, s); err != nil {
		return nil, err
	}
	addr, err := s.TCP()
	if err != nil {
		return nil, err
	}
	peer, err := instantSite(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("instant store: %w", err)
	}
	defer func() { _ = peer.Close() }()
	peerAddr, err := peer.TCP()
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(s.State(), "forge.db")+"?mode=ro&_busy_timeout=5000")
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	var real, at []float64
	var perCommit float64
	for range submitRounds {
		n, err := load(ctx, peerAddr, peer.Key)
		if err != nil {
			return nil, fmt.Errorf("instant store: %w", err)
		}
		at = append(at, n)
		before, err := commits(ctx, db)
		if err != nil {
			return nil, err
		}
		if n, err = load(ctx, addr, s.Key); err != nil {
			return nil, err
		}
		after, err := commits(ctx, db)
		if err != nil {
			return nil, err
		}
		real = append(real, n)
		perCommit = max(perCommit, (after[1]-before[1])/(after[0]-before[0]))
	}
	return []figure{
		atLeast("submit_rate", median(real), "runs/s", "instant-store", median(at), 0.5),
		atLeast("submit_group", perCommit, "submits/commit", "limit", 8, 1),
	}, nil
}

// occupy keeps the one slot busy.
func occupy(ctx context.Context, s *forgedtest.Site) error {
	addr, err := s.TCP()
	if err != nil {
		return err
	}
	return post(ctx, http.DefaultClient, addr, s.Key, `{"recipe":"probe","set":["steps=1000000","step_ms=1000"],"priority":100}`)
}

// load submits from all clients for a fixed time and counts what was acknowledged.
func load(ctx context.Context, addr, key string) (float64, error) {
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients, MaxConnsPerHost: clients}, Timeout: 30 * time.Second}
	defer hc.CloseIdleConnections()
	var done atomic.Int64
	var failed atomic.Pointer[error]
	began := time.Now()
	end := began.Add(submitWarm + submitTime)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for time.Now().Before(end) && failed.Load() == nil {
				if err := post(ctx, hc, addr, key, submitBody); err != nil {
					failed.Store(&err)
					return
				}
				if time.Since(began) > submitWarm {
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(done.Load()) / submitTime.Seconds(), nil
}

func post(ctx context.Context, hc *http.Client, addr, key, body string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, addr+"/v1/runs", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-API-Key", key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := hc.Do(req)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, b)
	}
	return nil
}

// commits reads how many transactions changed something, and how many runs there are.
func commits(ctx context.Context, db *sql.DB) ([2]float64, error) {
	var out [2]float64
	err := db.QueryRowContext(ctx, `SELECT (SELECT revision FROM site), (SELECT count(*) FROM runs)`).Scan(&out[0], &out[1])
	return out, err
}

// instantSite starts the same server over a store that answers at once: the daemon's own test
// binary in that mode.
func instantSite(ctx context.Context, e env) (*forgedtest.Site, error) {
	dir, err := os.MkdirTemp("", "forge")
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(dir, "instant.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-trimpath", "-tags", "urfave_cli_no_docs", "-o", binary, "./internal/daemon")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	o := options(e)
	o.Dir = dir
	s, err := forgedtest.New(ctx, o)
	if err != nil {
		return nil, err
	}
	return s, s.StartAs(ctx, binary, "FORGE_BENCH_INSTANT="+s.State())
}
