package forge_test

import (
	"slices"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

func TestATerminalRunStateIsFinal(t *testing.T) {
	terminal := []forge.RunState{forge.RunCompleted, forge.RunFailed, forge.RunCancelled}
	for _, from := range forge.RunStates {
		if got, want := from.Terminal(), slices.Contains(terminal, from); got != want {
			t.Errorf("%s.Terminal() = %v", from, got)
		}
		for _, to := range forge.RunStates {
			if from.Terminal() && forge.CanMoveRun(from, to) {
				t.Errorf("%s may become %s", from, to)
			}
		}
	}
}

func TestAnAttemptOnlyMovesForward(t *testing.T) {
	for i, from := range forge.AttemptStates {
		for j, to := range forge.AttemptStates {
			if got := forge.CanMoveAttempt(from, to); got != (j > i) {
				t.Errorf("CanMoveAttempt(%s, %s) = %v", from, to, got)
			}
		}
	}
	if forge.CanMoveAttempt("nonsense", forge.AttemptEnded) {
		t.Error("an unknown state may move")
	}
}

func TestAnAttemptHoldsItsGPUsUntilItHasExited(t *testing.T) {
	for s, want := range map[forge.AttemptState]bool{forge.AttemptPlaced: true, forge.AttemptStopping: true, forge.AttemptExited: false, forge.AttemptEnded: false} {
		if s.Open() != want {
			t.Errorf("%s.Open() = %v", s, !want)
		}
	}
}
