package daemon

import (
	"fmt"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func wroteLine(step int, completion string) string {
	return fmt.Sprintf(`{"step": %d, "prompt": "q", "completion": %q, "reward": 0.5, "rewards": {"len": 0.5, "style": null}, "length": 3}`+"\n", step, completion)
}

func (r *rig) wrote(t *testing.T, run forge.Run, q api.SamplesQuery) (texts []string, s api.RunSamples) {
	t.Helper()
	s, err := samples{r.Daemon}.Samples(t.Context(), r.op, fmt.Sprint(run.Number), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range s.Items {
		texts = append(texts, fmt.Sprintf("%d.%d %s", x.Attempt, x.Step, x.Completion))
	}
	return texts, s
}

func TestSamplesAreThoseOfTheNewestAttemptForEachStep(t *testing.T) {
	r := start(t, 1)
	run := r.submit(t, script(1))
	if got, _ := r.wrote(t, run, api.SamplesQuery{Step: -1, Last: 5}); len(got) != 0 {
		t.Errorf("before it has started: %q", got)
	}
	first := r.launched(t, run.ID, 1)
	r.fake.Start(first)
	for step := 10; step <= 40; step += 10 {
		r.fake.Leave(first, forge.StreamSamples, wroteLine(step, "a")+wroteLine(step, "b"))
	}
	r.fake.Lose(first)
	second := r.launched(t, run.ID, 2)
	r.fake.Start(second)
	r.await(t, run.ID, "running again", func(x forge.Run) bool { return x.Attempt == 2 && x.State == forge.RunRunning })
	r.fake.Leave(second, forge.StreamSamples, "not a sample\n"+wroteLine(30, "c")+`{"step": 40, "prompt": "tor`)
	for _, c := range []struct {
		q    api.SamplesQuery
		want string
		more bool
	}{
		{api.SamplesQuery{Step: -1, Last: 4}, "[1.20 b 1.40 a 1.40 b 2.30 c]", true},
		{api.SamplesQuery{Step: -1, Last: 100}, "[1.10 a 1.10 b 1.20 a 1.20 b 1.40 a 1.40 b 2.30 c]", false},
		{api.SamplesQuery{Step: 30, Last: 5}, "[2.30 c]", false},
		{api.SamplesQuery{Step: 10, Last: 5}, "[1.10 a 1.10 b]", false},
		{api.SamplesQuery{Step: 25, Last: 5}, "[]", false},
	} {
		got, s := r.wrote(t, run, c.q)
		if fmt.Sprint(got) != c.want || s.More != c.more {
			t.Errorf("%+v: %v (more %v), want %v (more %v)", c.q, got, s.More, c.want, c.more)
		}
	}
	_, s := r.wrote(t, run, api.SamplesQuery{Step: 30, Last: 1})
	if x := s.Items[0]; x.Prompt != "q" || *x.Reward != 0.5 || x.Rewards["len"] != 0.5 || x.Tokens != 3 {
		t.Errorf("%+v", x)
	}
}

func TestLongSamplesAreReadFromTheEndAndNotWithoutBound(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: seconds of load")
	}
	r := start(t, 1)
	run := r.submit(t, script(1))
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	r.await(t, run.ID, "running", inState(forge.RunRunning))
	long := strings.Repeat("x", samplesRead/3)
	for step := range 80 { // some 27 MB: lines lie across the pieces that are read
		r.fake.Leave(key, forge.StreamSamples, wroteLine(step, fmt.Sprint(step)+long))
	}
	got, s := r.wrote(t, run, api.SamplesQuery{Step: -1, Last: 3})
	if len(got) != 3 || !strings.HasPrefix(got[0], "1.77 77x") || !strings.HasPrefix(got[2], "1.79 79x") || !s.More || s.Bad != 0 {
		t.Errorf("%d samples, bad %d", len(got), s.Bad)
	}
	if got, s := r.wrote(t, run, api.SamplesQuery{Step: 0, Last: 3}); len(got) != 0 || !s.More {
		t.Errorf("of a step further back than is read: %d, more %v", len(got), s.More)
	}
}
