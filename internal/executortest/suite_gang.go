package executortest

import (
	"strconv"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func testGangEnds(t *testing.T, s *session) {
	id := s.submit(s.launch(all(Act{Hold: true}, Act{Exit: 3}, Act{Hold: true}), 3))
	o := s.released(id)
	if x := exit(t, o, 1); x.Code != 3 || x.ByShim {
		t.Errorf("the rank that failed: %+v", x)
	}
	if x := exit(t, o, 0); x.Code == 0 || !x.ByShim {
		t.Errorf("the rank that was ended because of it: %+v", x)
	}
	if o.Cause != forge.StopRankExit || len(o.Exits) != 3 {
		t.Errorf("cause %q, %d exits", o.Cause, len(o.Exits))
	}
	if reason, why := forge.Judge(forge.Evidence{State: o.State, Cause: o.Cause, Exits: o.Exits, Ranks: 3, ByUID: o.ByUID}); reason != forge.EndUserExit {
		t.Errorf("judged %s (%s), want %s", reason, why, forge.EndUserExit)
	}
}

func testDoneEarly(t *testing.T, s *session) {
	l := s.launch(all(Act{Hold: true, OnTerm: TermSaves}, Act{Exit: 0}), 2)
	l.Spec.Grace = forge.Duration(50 * time.Millisecond)
	id := s.submit(l)
	s.started(id, 2)
	deadline := time.Now().Add(600 * time.Millisecond)
	s.until(id, "still going", func(o forge.Observation) bool {
		if o.Released || o.Cause != "" {
			t.Fatalf("one rank was done and the gang was ended: %+v", o)
		}
		return time.Now().After(deadline)
	})
	s.signal(id, forge.SignalCheckpoint)
	s.released(id)
}

func testLeftovers(t *testing.T, s *session) {
	id := s.submit(s.launch(all(Act{Exit: 0, Child: true}), 1))
	pid, err := strconv.Atoi(strings.TrimPrefix(s.line(id, 0, "child "), "child "))
	if err != nil {
		t.Fatal(err)
	}
	s.until(id, "released", func(o forge.Observation) bool {
		alive := s.Alive(pid)
		if o.Released && alive && s.Alive(pid) {
			t.Fatalf("released while process %d of the attempt is alive", pid)
		}
		return o.Released
	})
	if s.Alive(pid) {
		t.Errorf("process %d outlived its attempt", pid)
	}
}

func testRead(t *testing.T, s *session) {
	id := s.submit(s.launch(all(Act{Lines: 5}), 1))
	s.released(id)
	whole := s.text(id, forge.StreamMetrics)
	if strings.Count(whole, "\n") != 5 || !strings.Contains(whole, `"step": 5`) {
		t.Fatalf("metrics: %q, want 5 lines", whole)
	}
	var got strings.Builder
	for offset := int64(0); ; {
		c, err := s.Read(t.Context(), id, forge.StreamMetrics, offset, 17)
		if err != nil {
			t.Fatal(err)
		}
		if c.Next != offset+int64(len(c.Data)) || len(c.Data) > 17 || c.Size != int64(len(whole)) {
			t.Fatalf("at %d: %d bytes, next %d, size %d", offset, len(c.Data), c.Next, c.Size)
		}
		if len(c.Data) == 0 {
			break
		}
		got.Write(c.Data)
		offset = c.Next
	}
	if got.String() != whole {
		t.Errorf("in pieces %q, whole %q", got.String(), whole)
	}
	if c, err := s.Read(t.Context(), id, "stdout.9", 0, 100); err != nil || len(c.Data) != 0 || c.Next != 0 {
		t.Errorf("a stream that does not exist yet: %+v, %v; want empty", c, err)
	}
	if c, err := s.Read(t.Context(), id, forge.StreamMetrics, 1<<40, 100); err != nil || len(c.Data) != 0 || c.Next != 1<<40 {
		t.Errorf("beyond the end: %+v, %v; want empty, at the same offset", c, err)
	}
	for _, bad := range []string{"", "stdout", "stdout.-1", "stdout.0/../../../fence", "../fence", "config"} {
		if _, err := s.Read(t.Context(), id, bad, 0, 100); forge.KindOf(err) != forge.KindInvalid {
			t.Errorf("stream %q: %v, want %s", bad, err, forge.KindInvalid)
		}
	}
}

func testUnknownID(t *testing.T, s *session) {
	id := s.submit(s.launch(all(Act{Exit: 0}), 1))
	s.released(id)
	ids := []forge.ExternalID{"nonsense", id, forge.ExternalID(strings.ReplaceAll(string(id), "0001", "9999")), id}
	o, err := s.Poll(t.Context(), ids)
	if err != nil || len(o) != len(ids) {
		t.Fatalf("Poll: %d observations, %v; want %d", len(o), err, len(ids))
	}
	for i, want := range []bool{false, true, false, true} {
		if o[i].ID != ids[i] {
			t.Errorf("observation %d is of %q, want %q", i, o[i].ID, ids[i])
		}
		if known := o[i].State == forge.ObservExited; known != want {
			t.Errorf("%q: state %s", ids[i], o[i].State)
		}
		if !want && o[i].State != forge.ObservUnknown && o[i].State != forge.ObservAbsent {
			t.Errorf("%q: state %s, want unknown or absent", ids[i], o[i].State)
		}
		if o[i].State == forge.ObservUnknown && o[i].Released {
			t.Errorf("%q: unknown and yet released", ids[i])
		}
	}
	if err := s.Signal(t.Context(), "nonsense", forge.SignalKill); err == nil {
		t.Error("a signal to an unknown id was accepted")
	}
}

func testTimeLimit(t *testing.T, s *session) {
	saving := s.launch(all(Act{Hold: true, OnTerm: TermSaves, Lines: 3}), 1)
	saving.Spec.TimeLimit = forge.Duration(1500 * time.Millisecond)
	deaf := s.launch(all(Act{Hold: true, OnTerm: TermIgnored}), 1)
	deaf.Spec.TimeLimit = forge.Duration(700 * time.Millisecond)
	deaf.Spec.Grace = forge.Duration(300 * time.Millisecond)
	savingID, deafID := s.submit(saving), s.submit(deaf)

	o := s.released(savingID)
	if x := exit(t, o, 0); o.Cause != forge.StopTimeLimit || x.Code != forge.ExitCheckpointed {
		t.Errorf("a rank that saves: cause %q, %+v", o.Cause, x)
	}
	o = s.released(deafID)
	if x := exit(t, o, 0); o.Cause != forge.StopTimeLimit || x.Code != 137 || !x.ByShim {
		t.Errorf("a rank that does not: cause %q, %+v", o.Cause, x)
	}
	if o.Detail == "" {
		t.Error("the limit is not named")
	}
}

func testStall(t *testing.T, s *session) {
	l := s.launch(all(Act{Hold: true, OnTerm: TermIgnored, Lines: 2}), 1)
	l.Spec.StallTimeout = forge.Duration(600 * time.Millisecond)
	l.Spec.StartTimeout = forge.Duration(time.Minute)
	l.Spec.Grace = forge.Duration(200 * time.Millisecond)
	o := s.released(s.submit(l))
	if x := exit(t, o, 0); o.Cause != forge.StopStall || x.Code != 137 {
		t.Errorf("cause %q, %+v", o.Cause, x)
	}
}

func testStartTimeout(t *testing.T, s *session) {
	l := s.launch(all(Act{Hold: true}), 1)
	l.Spec.StartTimeout = forge.Duration(700 * time.Millisecond)
	o := s.released(s.submit(l))
	if o.Cause != forge.StopStartTimeout {
		t.Errorf("cause %q, want %q", o.Cause, forge.StopStartTimeout)
	}
}

func testNoMetrics(t *testing.T, s *session) {
	l := s.launch(all(Act{Hold: true}), 1)
	l.Spec.StallTimeout = forge.Duration(100 * time.Millisecond)
	id := s.submit(l)
	s.started(id, 1)
	deadline := time.Now().Add(800 * time.Millisecond)
	s.until(id, "still going", func(o forge.Observation) bool {
		if o.State != forge.ObservRunning {
			t.Fatalf("ended although it reports no steps: %+v", o)
		}
		return time.Now().After(deadline)
	})
}

func testOutput(t *testing.T, s *session) {
	o := s.released(s.submit(s.launch(all(Act{Exit: 0, Output: true}), 1)))
	if o.Output == nil || len(o.Output.Files) != 1 || o.Output.Files[0].Size != 7 || o.Output.Files[0].SHA256 == "" {
		t.Errorf("output: %+v", o.Output)
	}
	o = s.released(s.submit(s.launch(all(Act{Exit: 5, Output: true}), 1)))
	if o.Output != nil {
		t.Errorf("a failed attempt has the output %+v", o.Output)
	}
}

func testNodes(t *testing.T, s *session) {
	nodes, err := s.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Name == s.Node {
			if n.Cluster != s.Cluster || n.CPUs < 1 || n.MemoryMiB < 1 || n.State != forge.NodeReady || n.SeenAt.IsZero() {
				t.Errorf("node %+v", n)
			}
			return
		}
	}
	t.Errorf("nodes %+v do not name %q", nodes, s.Node)
}
