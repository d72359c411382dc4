package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"
)

const completeRounds = 50

// completionMS is the time of what a shell runs when somebody presses TAB behind "forgectl run show": the
// hidden command __complete with the words so far, which asks forged for names and prints them one a
// line. There are 10,000 runs to choose from.
func completionMS(ctx context.Context, e env) ([]figure, error) {
	s, err := crowded(ctx, e)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	var took []float64
	for range completeRounds {
		cmd := s.Command(ctx, "__complete", "run", "show", "")
		began := time.Now()
		out, err := cmd.CombinedOutput()
		took = append(took, float64(time.Since(began).Microseconds())/1000)
		if err != nil {
			return nil, fmt.Errorf("forgectl __complete run show '': %w: %s", err, bytes.TrimSpace(out))
		}
		first, _, _ := bytes.Cut(out, []byte("\n"))
		word, _, _ := bytes.Cut(first, []byte("\t")) // a description may follow
		if _, err := strconv.Atoi(string(bytes.TrimSpace(word))); err != nil {
			return nil, fmt.Errorf("forgectl __complete run show '' offers %q first, want the number of a run", first)
		}
	}
	return []figure{atMost("completion_ms", median(took), "ms", "limit", 50, 1)}, nil
}
