package sim

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

const head = "job_id,submit_s,num_gpu,duration_s,model\n"

func TestATraceIsReadWhateverItsLineEndsAndColumnOrder(t *testing.T) {
	want := []Job{{ID: "a", Submit: 1500, GPUs: 2, Duration: 3250, Model: "m"}, {ID: "b", Submit: 0, GPUs: 1, Duration: 1, Model: ""}}
	for name, text := range map[string]string{
		"plain":              head + "a,1.5,2,3.25,m\nb,0,1,0,\n",
		"Windows":            "\ufeff" + strings.ReplaceAll(head+"a,1.5,2,3.25,m\nb,0,1,0,\n", "\n", "\r\n"),
		"no newline at last": head + "a,1.5,2,3.25,m\n\n  \nb,0,1,0,",
		"other order":        "model,duration_s,num_gpu,submit_s,job_id\nm,3.25,2,1.5,a\n,0,1,0,b\n",
		"quoted, spaced":     `"job_id", submit_s,num_gpu,duration_s,model` + "\n" + `"a", 1.5 , 2,3.25,"m"` + "\nb,0,1,0.0001,\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadTrace(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				got[i].Line = 0
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
		})
	}
	if jobs, err := ReadTrace(strings.NewReader("job_id,submit_s,num_gpu,duration_s\na,0,1,1\n")); err != nil || len(jobs) != 1 {
		t.Errorf("a trace without models: %v %v", jobs, err)
	}
}

func TestWhatIsWrongWithATraceIsSaidWithItsLine(t *testing.T) {
	for name, c := range map[string]struct{ text, field, says string }{
		"empty":             {"", "trace", "the file is empty"},
		"only a head":       {head, "trace", "no jobs"},
		"unknown column":    {"job_id,submit_s,num_gpu,duration_s,colour\na,0,1,1,x\n", "trace line 1", `column 5 is "colour"`},
		"missing column":    {"job_id,submit_s,num_gpu\na,0,1\n", "trace line 1", "the column duration_s is missing"},
		"column twice":      {"job_id,submit_s,num_gpu,duration_s,submit_s\n", "trace line 1", "there already"},
		"no head":           {"0,0.0,1,2911318.298,dqn\n", "trace line 1", `column 1 is "0"`},
		"too few fields":    {head + "a,0,1,1,m\nb,0,1\n", "trace line 3", "has 3 columns and the head has 5"},
		"too many fields":   {head + "a,0,1,1,m,x\n", "trace line 2", "has 6 columns"},
		"negative submit":   {head + "a,-1,1,1,m\n", "trace line 2, column submit_s", `"-1" is no time; want seconds, 0 to`},
		"negative duration": {head + "a,0,1,-0.5,m\n", "trace line 2, column duration_s", `"-0.5"`},
		"NaN":               {head + "a,0,1,NaN,m\n", "trace line 2, column duration_s", `"NaN"`},
		"Inf":               {head + "a,+Inf,1,1,m\n", "trace line 2, column submit_s", `"+Inf"`},
		"too large":         {head + "a,1e300,1,1,m\n", "trace line 2, column submit_s", `"1e300"`},
		"overflow":          {head + "a,1e999,1,1,m\n", "trace line 2, column submit_s", `"1e999"`},
		"no number":         {head + "a,soon,1,1,m\n", "trace line 2, column submit_s", `"soon"`},
		"nothing":           {head + "a,,1,1,m\n", "trace line 2, column submit_s", `"" is no time`},
		"zero GPUs":         {head + "a,0,0,1,m\n", "trace line 2, column num_gpu", `"0" is no number of GPUs; want a whole number from 1`},
		"half a GPU":        {head + "a,0,0.5,1,m\n", "trace line 2, column num_gpu", `"0.5"`},
		"negative GPUs":     {head + "a,0,-8,1,m\n", "trace line 2, column num_gpu", `"-8"`},
		"too many GPUs":     {head + "a,0,99999999999999999999,1,m\n", "trace line 2, column num_gpu", "want a whole number"},
		"id twice":          {head + "a,0,1,1,m\nb,0,1,1,m\na,0,1,1,m\n", "trace line 4, column job_id", `"a" is the id of line 2 as well`},
		"no id":             {head + ",0,1,1,m\n", "trace line 2, column job_id", "empty"},
		"not text":          {head + "a,0,1,1,\xff\xfe\n", "trace line 2", "not UTF-8"},
		"binary":            {"\x00\x01\x02", "trace line 1", "column 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadTrace(strings.NewReader(c.text))
			wantField(t, err, c.field)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
		})
	}
}

// endless is a line that never ends, and counts how much of it was asked for.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	e.read += len(p)
	if e.read > 100<<20 {
		return 0, io.EOF
	}
	return len(p), nil
}

func TestALineOf100MBIsRefusedBeforeItIsRead(t *testing.T) {
	line := &endless{}
	_, err := ReadTrace(io.MultiReader(strings.NewReader(head+"a,0,1,1,m\n"), line))
	wantField(t, err, "trace line 3")
	if !strings.Contains(err.Error(), "longer than 65536 bytes") || line.read > 1<<20 {
		t.Errorf("%v after %d bytes", err, line.read)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the disk is gone") }

func TestAReaderThatFailsIsNoEndOfTheTrace(t *testing.T) {
	_, err := ReadTrace(io.MultiReader(strings.NewReader(head+"a,0,1,1,m\n"), broken{}))
	if err == nil || !strings.Contains(err.Error(), "the disk is gone") {
		t.Error(err)
	}
}

func TestAGangLargerThanTheClusterNamesItsLine(t *testing.T) {
	jobs, err := ReadTrace(strings.NewReader(head + "a,0,1,1,m\nwide,0,65,1,m\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Replay(t.Context(), jobs, options(t, "fifo", Cluster{8, 8}))
	wantField(t, err, "trace line 3, column num_gpu")
	if !strings.Contains(err.Error(), `"wide" asks for 65 GPUs, and 8x8 has 64`) {
		t.Error(err)
	}
}

func TestWideGangsGoToAsFewNodesAsHoldThem(t *testing.T) {
	c := Cluster{8, 8}
	for gpus, want := range map[int]forge.Gang{1: {Nodes: 1, GPUsPerNode: 1}, 7: {Nodes: 1, GPUsPerNode: 7}, 8: {Nodes: 1, GPUsPerNode: 8}, 9: {Nodes: 2, GPUsPerNode: 5},
		12: {Nodes: 2, GPUsPerNode: 6}, 16: {Nodes: 2, GPUsPerNode: 8}, 20: {Nodes: 3, GPUsPerNode: 7}, 64: {Nodes: 8, GPUsPerNode: 8}} {
		if got, ok := c.gang(gpus); !ok || got != want {
			t.Errorf("%d GPUs become %+v, want %+v", gpus, got, want)
		}
	}
}

func TestClustersAreReadStrictly(t *testing.T) {
	if c, err := ParseCluster("64x8"); err != nil || c != (Cluster{64, 8}) {
		t.Error(c, err)
	}
	for _, bad := range []string{"", "8", "8x", "x8", "0x8", "8x0", "-1x8", "8x8x8", "8x8 ", " 8x8", "08x8", "8X8", "1000000x8", "8x2000", "99999999999999999999x8"} {
		_, err := ParseCluster(bad)
		wantField(t, err, "cluster")
	}
}

func TestAMadeTraceIsWhatWasAskedFor(t *testing.T) {
	o := GenerateOptions{Jobs: 16_000, Seed: 1, Cluster: Cluster{64, 8}, Load: 0.9}
	jobs, err := Generate(o)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := Generate(o)
	if !slices.Equal(jobs, again) {
		t.Error("the same seed gives another trace")
	}
	o.Seed = 2
	if other, _ := Generate(o); slices.Equal(jobs, other) {
		t.Error("another seed gives the same trace")
	}
	var work, long float64
	odd, durations := 0, []float64{}
	for i, j := range jobs {
		w := seconds(j.Duration) * float64(j.GPUs)
		work += w
		durations = append(durations, seconds(j.Duration))
		if j.GPUs&(j.GPUs-1) != 0 {
			odd++
		}
		if i > 0 && j.Submit < jobs[i-1].Submit {
			t.Fatal("not in order of submit")
		}
	}
	load := work / (512 * seconds(jobs[len(jobs)-1].Submit))
	slices.Sort(durations)
	for _, d := range durations[len(durations)*9/10:] {
		long += d
	}
	sum := 0.0
	for _, d := range durations {
		sum += d
	}
	if len(jobs) != o.Jobs || math.Abs(load-0.9) > 0.03 || odd < 100 || odd > 1000 || long < sum/2 {
		t.Errorf("%d jobs, load %.3f, %d of odd sizes, the longest tenth has %.2f of all time", len(jobs), load, odd, long/sum)
	}
	var b bytes.Buffer
	if err := WriteTrace(&b, jobs); err != nil {
		t.Fatal(err)
	}
	back, err := ReadTrace(&b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range back {
		back[i].Line = 0
	}
	if !slices.Equal(back, jobs) {
		t.Error("what is written is not what is read")
	}
}

func TestATraceIsMadeForAnyCluster(t *testing.T) {
	for _, c := range []Cluster{{1, 1}, {1, 3}, {2, 8}, {3, 5}, {1000, 4}} {
		jobs, err := Generate(GenerateOptions{Jobs: 50, Seed: 3, Cluster: c, Load: 2})
		if err != nil {
			t.Fatal(err)
		}
		if r := replay(t, options(t, "fifo", c), jobs...); r.Jobs != 50 {
			t.Errorf("%s: %+v", c, r.Figures)
		}
	}
	for field, o := range map[string]GenerateOptions{"generate": {Cluster: Cluster{1, 1}, Load: 1}, "load": {Jobs: 1, Cluster: Cluster{1, 1}, Load: math.NaN()}, "cluster": {Jobs: 1, Load: 1}} {
		_, err := Generate(o)
		wantField(t, err, field)
	}
}

func TestTheDrawingIsXMLWithLabelledAxes(t *testing.T) {
	c := Cluster{2, 8}
	r := replay(t, options(t, "fair", c), drawn(4, 50, c)...)
	var b bytes.Buffer
	if err := r.SVG(&b, "a<b & \"c\""); err != nil {
		t.Fatal(err)
	}
	var words []string
	d := xml.NewDecoder(bytes.NewReader(b.Bytes()))
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := tok.(xml.CharData); ok {
			words = append(words, strings.TrimSpace(string(text)))
		}
	}
	for _, want := range []string{"a<b & \"c\"", "GPUs in use, % of 16", "runs that wait", "time since the trace began (minutes)", "100"} {
		if !slices.Contains(words, want) {
			t.Errorf("%q is not in %q", want, words)
		}
	}
	if strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
		t.Error("a coordinate is no number")
	}
}

func TestASeriesOfYearsTakesNoMoreRoomThanOneOfHours(t *testing.T) {
	s := newSeries(10)
	const hour = 3600_000
	for h := int64(0); h < 5*365*24; h++ {
		s.add(h*hour, (h+1)*hour, h%2*10, 3, 6)
	}
	s.end(5 * 365 * 24 * hour)
	if len(s.Points) > maxPoints {
		t.Fatalf("%d points", len(s.Points))
	}
	for _, p := range s.Points[:len(s.Points)-1] {
		if math.Abs(p.Busy-5) > 0.5 || p.Queued != 3 || p.Wanted != 6 {
			t.Fatalf("%+v", p)
		}
	}
}
