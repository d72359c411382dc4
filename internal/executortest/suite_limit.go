package executortest

import (
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

// testLimitAsked: forged may take the time limit for come, and the record says so as if it had.
func testLimitAsked(t *testing.T, s *session) {
	id := s.submit(s.launch(all(Act{Hold: true, OnTerm: TermSaves, Lines: 3}), 2))
	s.started(id, 2)
	s.signal(id, forge.SignalLimit)
	o := s.released(id)
	if o.Cause != forge.StopTimeLimit {
		t.Errorf("cause %s, want time_limit", o.Cause)
	}
	for r := range 2 {
		if x := exit(t, o, r); x.Code != forge.ExitCheckpointed {
			t.Errorf("rank %d: %+v, want exit 85", r, x)
		}
	}
}
