package daemon

import (
	"context"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// eventually asks until the forecast has times: on a busy machine the first answer may come without.
func eventually(t *testing.T, ask func() *api.Start) *api.Start {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for {
		s := ask()
		if s != nil && !s.At.IsZero() {
			return s
		}
		if time.Now().After(end) {
			t.Fatalf("no start is known: %+v", s)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestWhoWaitsIsToldWhenItStartsAndByWhatItIsOrdered(t *testing.T) {
	r, waiting := fullOf(t, 3)
	var w api.Why
	ask := func() *api.Start {
		var err error
		if w, err = (rundata{r.Daemon}).Why(t.Context(), r.op, string(waiting[1].ID)); err != nil {
			t.Fatal(err)
		}
		return w.Start
	}
	s := eventually(t, ask)
	if !strings.Contains(w.Sentence, "; starts about ") || !s.At.After(time.Now()) || s.Low.After(s.At) || s.High.Before(s.At) {
		t.Errorf("%q with %+v", w.Sentence, s)
	}
	if w.Terms == nil || w.Terms.Position != w.Position || w.Terms.Waiting != 3 || w.Terms.Class != forge.DefaultPriority || len(w.Terms.Filters) == 0 {
		t.Errorf("%+v", w.Terms)
	}
	q, err := rundata{r.Daemon}.Queue(t.Context(), r.op, 100)
	if err != nil {
		t.Fatal(err)
	}
	last := time.Time{}
	for _, e := range q.Entries {
		if (e.Start == nil) != (e.Position == 0) {
			t.Errorf("entry %+v", e)
		}
		if e.Start == nil {
			continue
		}
		if e.Start.At.Before(last) {
			t.Errorf("place %d starts at %s, before the one ahead of it (%s)", e.Position, e.Start.At, last)
		}
		last = e.Start.At
	}
}

func TestAForecastThatTakesLongKeepsNobodyWaiting(t *testing.T) {
	r, waiting := fullOf(t, 1)
	o := r.outlooks.of(r.world, r.policy(), time.Now())
	r.forecasts.making = make(chan struct{}) // one is being made, and is never done
	began := time.Now()
	got := r.forecasts.of(t.Context(), o, waiting[0].ID)
	if got.start(waiting[0].ID).Note != "not known yet" || time.Since(began) > 10*forecastWait {
		t.Errorf("%+v after %s", got, time.Since(began))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r.forecasts.of(ctx, o) != nil {
		t.Error("a forecast came from nowhere")
	}
}

func TestALookAheadIsMadeOnceForManyWhoAsk(t *testing.T) {
	r, waiting := fullOf(t, 2)
	ask := func() *api.Start {
		o := r.outlooks.of(r.world, r.policy(), time.Now())
		return r.forecasts.of(t.Context(), o, waiting[0].ID).start(waiting[0].ID)
	}
	eventually(t, ask)
	last := func() *forecast {
		r.forecasts.mu.Lock()
		defer r.forecasts.mu.Unlock()
		return r.forecasts.last
	}
	first := last()
	for range 50 {
		ask()
	}
	if last() != first && time.Since(first.made) < forecastAge {
		t.Error("each question plays the queue on anew")
	}
}

func TestWhyNamesOthersOnlyAsAmounts(t *testing.T) {
	now := time.Date(2026, 11, 26, 14, 0, 0, 0, time.UTC)
	h := forge.Holders{Others: 2, OthersGPUs: 8, FirstEnd: now.Add(20 * time.Minute)}
	if got := holdersText(h, now); got != "2 runs of others (8 GPUs) have GPUs that it could use; the first is expected to end about 14:20 UTC" {
		t.Errorf("%q", got)
	}
	if got := holdersText(forge.Holders{Own: 1, OwnGPUs: 2}, now); got != "1 run of your tenant (2 GPUs) has GPUs that it could use" {
		t.Errorf("%q", got)
	}
	if got := startText(&api.Start{At: now.Add(20 * time.Minute)}, h, now); got != "; starts about 14:20 UTC when work of others ends" {
		t.Errorf("%q", got)
	}
	if got := startText(&api.Start{Note: "not known yet"}, h, now); got != "" {
		t.Errorf("%q", got)
	}
	if got := startText(&api.Start{At: now.Add(30 * time.Hour)}, forge.Holders{Own: 1}, now); got != "; starts about 2026-11-27 20:00 UTC when work of your tenant ends" {
		t.Errorf("%q", got)
	}
}
