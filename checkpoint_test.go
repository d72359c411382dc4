package forge_test

import (
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func TestTheBestCheckpointIsTheNewestOfTheLowestLossThatIsThereAndGood(t *testing.T) {
	at := func(step int64, attempt int, loss float64, v forge.Verdict) forge.Checkpoint {
		return forge.Checkpoint{Step: step, Attempt: attempt, Loss: &loss, Verdict: v}
	}
	gone := at(70, 2, 0.1, forge.VerdictVerified)
	gone.Removed = time.Now()
	saves := []forge.Checkpoint{
		gone,
		at(60, 2, 0.2, forge.VerdictTorn),
		{Step: 50, Attempt: 2, Verdict: forge.VerdictVerified}, // its writer did not say
		at(40, 2, 0.5, forge.VerdictVerified),
		at(30, 1, 0, forge.VerdictWritten), // what no loss is lower than
		at(20, 2, 0, forge.VerdictVerified),
		at(30, 2, 0, forge.VerdictVerified),
		at(10, 1, 0.3, forge.VerdictVerified),
	}
	forge.MarkBest(saves)
	for i, c := range saves {
		if c.Best != (i == 6) {
			t.Errorf("step %d of attempt %d: best is %v", c.Step, c.Attempt, c.Best)
		}
	}
	none := saves[:3]
	forge.MarkBest(none)
	for _, c := range none {
		if c.Best {
			t.Errorf("step %d is best where none can be", c.Step)
		}
	}
}
