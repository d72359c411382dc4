package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

const (
	restartRounds   = 5
	busySlots       = 16 // runs that go on through the restarts
	restartPatience = time.Minute
)

// restartReady is the time from the exec of `forged serve` to its first decision: a placement out of a
// plan that it made from 100,000 waiting runs, committed so that another process reads it. A million ended
// runs lie beside them in the database, and 16 runs go on through the restarts. Before each round forged is
// killed with -9 and the node gets one more slot, so that there is something to decide. The database's pages
// are in the system's cache, as they are after a restart of a daemon and not of a machine.
func restartReady(ctx context.Context, e env) ([]figure, error) {
	s, err := forgedtest.New(ctx, forgedtest.Options{Bin: e.bin, CPUSlots: busySlots, PollEvery: time.Second})
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	if err := historyOf(ctx, s); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(s.State(), "forge.db")+"?mode=ro&_busy_timeout=5000")
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	if err := until(ctx, func() (bool, error) {
		var n int
		err := db.QueryRowContext(ctx, `SELECT count(*) FROM attempts WHERE state = 'running'`).Scan(&n)
		return n == busySlots, err
	}); err != nil {
		return nil, err
	}
	var took []float64
	for round := range restartRounds {
		s.Kill()
		if err := setSlots(s, busySlots+1+round); err != nil {
			return nil, err
		}
		var last int64
		if err := db.QueryRowContext(ctx, `SELECT max(seq) FROM events`).Scan(&last); err != nil {
			return nil, err
		}
		decided := make(chan error, 1)
		var at time.Time
		began := time.Now()
		go func() {
			decided <- until(ctx, func() (bool, error) {
				var n int
				err := db.QueryRowContext(ctx, `SELECT count(*) FROM events WHERE seq > ? AND type = 'run.placed'`, last).Scan(&n)
				at = time.Now()
				return n > 0, err
			})
		}()
		err := s.Start(ctx)
		ready := time.Since(began)
		if err = errors.Join(err, <-decided); err != nil {
			return nil, err
		}
		took = append(took, at.Sub(began).Seconds())
		if e.verbose {
			rss, err := rssMiB(s.Pid())
			fmt.Printf("  decided after %.2f s, ready after %.2f s, %.0f MiB resident (%v)\n", at.Sub(began).Seconds(), ready.Seconds(), rss, err)
		}
	}
	return []figure{atMost("restart_ready", median(took), "s", "limit", 3, 1)}, nil
}

func until(ctx context.Context, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, restartPatience)
	defer cancel()
	for {
		if done, err := ok(); err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited too long: %w", ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

var slotsLine = regexp.MustCompile(`(?m)^(\s+cpu_slots:) .*$\n^(\s+cpus:) .*$`)

func setSlots(s *forgedtest.Site, n int) error {
	path := filepath.Join(s.State(), "config.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, slotsLine.ReplaceAll(text, fmt.Appendf(nil, "$1 %d\n$2 %d", n, n)), 0o600)
}
