package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/forge-ml/forge-ml/internal/gate"
)

// statsBound is for installing scipy and statsmodels, and for what they compute.
const statsBound = 10 * time.Minute

// fromScipy is what contrib/bench/gate.py writes.
type fromScipy struct {
	By      string               `json:"by"`
	Special [][3]json.RawMessage `json:"special"`
	Holm    []struct {
		P        []float64 `json:"p"`
		Adjusted []float64 `json:"adjusted"`
	} `json:"holm"`
	Boot []struct {
		Name string    `json:"name"`
		D    []float64 `json:"d"`
		Low  float64   `json:"low"`
		High float64   `json:"high"`
		SD   float64   `json:"sd"`
		P    float64   `json:"p"`
	} `json:"bootstrap"`
}

// scipy runs contrib/bench/gate.py in an environment of its own.
func scipy(ctx context.Context) (found fromScipy, err error) {
	find := exec.CommandContext(ctx, "contrib/python-env/install", "--stats")
	find.Stderr = os.Stderr
	home, err := find.Output()
	if err != nil {
		return found, fmt.Errorf("contrib/python-env/install --stats: %w", err)
	}
	dir, err := os.MkdirTemp("", "forge-stats-")
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out := filepath.Join(dir, "reference.json")
	cmd := exec.CommandContext(ctx, filepath.Join(strings.TrimSpace(string(home)), "bin", "python"), "contrib/bench/gate.py", out)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return found, fmt.Errorf("gate.py: %w", err)
	}
	data, err := os.ReadFile(out)
	if err == nil {
		err = json.Unmarshal(data, &found)
	}
	return found, err
}

// statsError is how far our statistics are from scipy's and statsmodels': relative to theirs, absolute below a thousandth. What is drawn by chance on both
// sides, the bootstrap and the test by signs, is held against what chance allows.
func statsError(ctx context.Context, e env) ([]figure, error) {
	ctx, cancel := context.WithTimeout(ctx, statsBound)
	defer cancel()
	ref, err := scipy(ctx)
	if err != nil {
		return nil, err
	}
	worst, by, count := 0., "", 0
	hold := func(what string, got, want float64) {
		count++
		if off := math.Abs(got-want) / max(math.Abs(want), 1e-3); !(off <= worst) {
			worst, by = off, what
		}
	}
	for _, row := range ref.Special {
		var name string
		var args []float64
		var want float64
		if err := errors.Join(json.Unmarshal(row[0], &name), json.Unmarshal(row[1], &args), json.Unmarshal(row[2], &want)); err != nil {
			return nil, err
		}
		got, known := gate.Statistic(name, args)
		if !known {
			return nil, fmt.Errorf("gate.Statistic knows no %q", name)
		}
		hold(fmt.Sprint(name, args), got, want)
	}
	for _, h := range ref.Holm {
		for i, got := range gate.Holm(h.P) {
			hold(fmt.Sprint("holm", h.P), got, h.Adjusted[i])
		}
	}
	fmt.Printf("  %d numbers of %s; the furthest off is %s\n", count, ref.By, by)
	for _, b := range ref.Boot {
		got, err := heldAgainst(make([]float64, len(b.D)), b.D, nil, 0.02, gate.Options{Resamples: 200_000, Seed: int64(gateSeed(e))})
		if err != nil {
			return nil, err
		}
		low, high := (got.Low-b.Low)/b.SD, (got.High-b.High)/b.SD
		fmt.Printf("  bootstrap, %s: ends off by %.3f and %.3f standard errors, p %.4f, scipy %.4f\n", b.Name, low, high, got.P, b.P)
		if math.Abs(low) > 0.04 || math.Abs(high) > 0.04 || math.Abs(got.P-b.P) > 0.008 {
			return nil, fmt.Errorf("bootstrap, %s: %g to %g, p %g; scipy says %g to %g, p %g", b.Name, got.Low, got.High, got.P, b.Low, b.High, b.P)
		}
	}
	return []figure{atMost("stats_error", worst, "relative", "limit", 1e-9, 1)}, nil
}
