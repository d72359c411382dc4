package daemon

import (
	"errors"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

func TestWhyARunIsNotHandedOverIsKnownForAsLongAsItIsTried(t *testing.T) {
	var u unhanded
	row := store.OutboxRow{ID: 7, Kind: store.OutboxLaunch, Run: "R", Attempt: 2}
	here := forge.Attempt{Run: "R", Number: 2}
	say := func(want string, a forge.Attempt) {
		t.Helper()
		if got := u.about(a); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	say("", here)
	u.failed(row, forge.Errorf(forge.KindUnavailable, "launch", "open /scratch/R: permission denied"))
	say("open /scratch/R: permission denied", here)
	say("", forge.Attempt{Run: "R", Number: 3})
	say("", forge.Attempt{Run: "R", Number: 2, ExternalID: "slurm::/scratch/R#2"})
	u.failed(store.OutboxRow{ID: 8, Kind: store.OutboxSignal, Run: "R", Attempt: 2}, errors.New("no answer"))
	u.failed(row, forge.Errorf(forge.KindConflict, "outbox", "it moved on"))
	say("open /scratch/R: permission denied", here)
	u.keep([]store.OutboxRow{{ID: 6}, row})
	say("open /scratch/R: permission denied", here)
	u.failed(row, errors.New("sql: a table of forged's own"))
	say("forged's log has the reason", here)
	u.keep([]store.OutboxRow{{ID: 6}})
	say("", here)
}
