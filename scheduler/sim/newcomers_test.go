package sim

import (
	"fmt"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func TestAnIntervalSpansWhetherOthersComeAsTheyCameLately(t *testing.T) {
	s := live(1)
	runs(s, "a", "n1", []int{0, 1, 2, 3}, leftAsOf(time.Hour, noon))
	waits(s, "b", 4, left(10*time.Hour))
	for i := range 48 { // one an hour, short: each overtakes b where the shortest goes first
		s.Arrived = append(s.Arrived, forge.Arrival{Run: forge.RunID(fmt.Sprintf("x%02d", i)), At: noon.Add(time.Duration(i-48)*time.Hour + time.Minute), Service: forge.GPUTimeOf(70*time.Minute, 4), GPUs: 4})
	}
	few := *s
	few.Arrived = s.Arrived[:fewArrivals-1]
	o := ForecastOptions{Samples: 20, Seed: 1, Horizon: 40 * time.Hour}
	quiet, busy := forecast(t, &few, "srsf", o)["b"], forecast(t, s, "srsf", o)["b"]
	if quiet.High.IsZero() || quiet.High.After(noon.Add(2*time.Hour)) {
		t.Errorf("nobody comes, and it starts from %s to %s", quiet.Low, quiet.High)
	}
	if busy.Low.After(noon.Add(2*time.Hour)) || !busy.High.IsZero() && busy.High.Before(noon.Add(4*time.Hour)) {
		t.Errorf("it may start soon, or wait long behind those who come: from %s to %s", busy.Low, busy.High)
	}
}

func TestABudgetEndsAForecastWithWhatIsKnown(t *testing.T) {
	s := live(1)
	runs(s, "a", "n1", []int{0, 1, 2, 3}, leftAsOf(time.Hour, noon))
	for i := range 200 {
		waits(s, forge.RunID(fmt.Sprintf("b%03d", i)), 4, left(time.Hour))
	}
	for _, x := range forecast(t, s, "fifo", ForecastOptions{Samples: 1000, Budget: time.Nanosecond}) {
		if !x.Low.IsZero() || !x.High.IsZero() {
			t.Fatalf("an interval of no samples: %+v", x)
		}
	}
}
