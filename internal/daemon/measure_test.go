package daemon

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func at(step int64, values map[string]*float64) api.MetricPoint {
	return api.MetricPoint{Step: step, Values: values}
}

func TestMetricsComeThroughTheAPIBesideTheStream(t *testing.T) {
	r := start(t, 1)
	run := r.submit(t, script(1))
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	r.await(t, run.ID, "running", inState(forge.RunRunning))
	r.fake.Emit(key, 60, forge.MetricRow{Step: 2, Values: map[string]float64{"loss": 4}})
	r.await(t, run.ID, "at step 2", func(x forge.Run) bool { return x.Step == 2 })

	add := func(p forge.Principal, q api.AddMetricsRequest) (api.MetricsAdded, error) {
		return measures{r.Daemon}.AddMetrics(t.Context(), p, "1", q)
	}
	got, err := add(r.op, api.AddMetricsRequest{Attempt: 1, Points: []api.MetricPoint{
		at(5, map[string]*float64{"eval": new(0.5), "loss": new(3.0)}), at(2, map[string]*float64{"eval": new(0.25), "norm": nil}), at(3, map[string]*float64{"norm": nil})}})
	if want := (api.MetricsAdded{Run: 1, Attempt: 1, Points: 2, Values: 3, Dropped: 2}); err != nil || got != want {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
	m, err := rundata{r.Daemon}.Metrics(t.Context(), r.op, "1", api.MetricsQuery{})
	if err != nil || fmt.Sprint(m.Curves) != "map[eval:[{2 1 0.25 0.25 0.25} {5 1 0.5 0.5 0.5}] loss:[{2 1 4 4 4} {5 1 3 3 3}]]" || m.Step != 5 || m.TotalSteps != 60 {
		t.Fatalf("got %+v, %v", m, err)
	}
	r.sameWorld(t)

	t.Run("members bring them for their own runs only", func(t *testing.T) {
		made, err := keys{r.Daemon}.CreateKey(t.Context(), r.op, api.CreateKeyRequest{User: "kim"})
		if err != nil {
			t.Fatal(err)
		}
		kim, err := r.Authenticate(t.Context(), made.Secret)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := add(kim, api.AddMetricsRequest{Attempt: 1, Points: []api.MetricPoint{at(6, map[string]*float64{"loss": new(1.0)})}}); forge.KindOf(err) != forge.KindForbidden {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("an attempt that is superseded is refused", func(t *testing.T) {
		r.fake.Lose(key)
		r.fake.Start(r.launched(t, run.ID, 2))
		if _, err := add(r.op, api.AddMetricsRequest{Attempt: 1, Points: []api.MetricPoint{at(6, map[string]*float64{"loss": new(1.0)})}}); forge.KindOf(err) != forge.KindConflict {
			t.Fatalf("got %v", err)
		}
	})
}

func TestABatchOfMetricsHasBounds(t *testing.T) {
	one := map[string]*float64{"loss": new(1.0)}
	many := map[string]*float64{}
	for i := range api.MaxMetricKeys + 1 {
		many[fmt.Sprint("k", i)] = new(1.0)
	}
	wide := map[string]*float64{}
	for i := range 200 {
		wide[fmt.Sprint("k", i)] = new(1.0)
	}
	points := func(n int, values map[string]*float64) (all []api.MetricPoint) {
		for i := range n {
			all = append(all, at(int64(i), values))
		}
		return all
	}
	for name, c := range map[string]struct {
		q     api.AddMetricsRequest
		field string
	}{
		"no attempt":      {api.AddMetricsRequest{Points: points(1, one)}, "attempt"},
		"no points":       {api.AddMetricsRequest{Attempt: 1}, "points"},
		"too many points": {api.AddMetricsRequest{Attempt: 1, Points: points(api.MaxMetricPoints+1, one)}, "points"},
		"too many values": {api.AddMetricsRequest{Attempt: 1, Points: points(101, wide)}, "points"},
		"a negative step": {api.AddMetricsRequest{Attempt: 1, Points: []api.MetricPoint{at(0, one), at(-1, one)}}, "points[1].step"},
		"too many keys":   {api.AddMetricsRequest{Attempt: 1, Points: points(1, many)}, "points[0].values"},
		"a long key":      {api.AddMetricsRequest{Attempt: 1, Points: points(1, map[string]*float64{strings.Repeat("k", 65): new(1.0)})}, "points[0].values"},
		"an empty key":    {api.AddMetricsRequest{Attempt: 1, Points: points(1, map[string]*float64{"": new(1.0)})}, "points[0].values"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := metricRows(c.q, time.Now())
			var refused *forge.Error
			if !errors.As(err, &refused) || refused.Kind != forge.KindInvalid || refused.Field != c.field {
				t.Errorf("got %#v, want one of %s", err, c.field)
			}
		})
	}
	t.Run("rows are ascending, and a clock that is wrong by years is not believed", func(t *testing.T) {
		now := time.Now()
		rows, _, err := metricRows(api.AddMetricsRequest{Attempt: 1, Points: []api.MetricPoint{{Step: 9, Time: now.AddDate(300, 0, 0), Values: one}, {Step: 4, Time: now.Add(-time.Hour), Values: one}}}, now)
		if err != nil || rows[0].Step != 4 || !rows[0].Time.Equal(now.Add(-time.Hour)) || !rows[1].Time.Equal(now) {
			t.Fatalf("got %+v, %v", rows, err)
		}
	})
}
