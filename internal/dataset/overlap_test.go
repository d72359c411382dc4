package dataset_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
)

// side scans rows and gives them as a side.
func side(t *testing.T, name string, rows ...string) dataset.Side {
	t.Helper()
	r := scan(t, write(t, filepath.Join(t.TempDir(), name+".jsonl"), strings.Join(rows, "\n")+"\n"))
	return dataset.SideOf(name, r.Rows, r.Manifest, r.Layout, r.Kind)
}

func overlap(t *testing.T, a, b dataset.Side) forge.Overlap {
	t.Helper()
	o, err := dataset.Overlap(t.Context(), a, b, dataset.OverlapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// hits writes what was found: rows of what can be looked for, at the three grains, exact/normalised.
func hits(o forge.Overlap) string {
	var parts []string
	for i := 0; i < len(o.Found); i += 2 {
		parts = append(parts, fmt.Sprintf("%s %d/%d of %d", o.Found[i].Grain, o.Found[i].Rows, o.Found[i+1].Rows, o.Found[i].Of))
	}
	return strings.Join(parts, ", ")
}

func pair(q, a string) string { return fmt.Sprintf(`{"prompt": %q, "completion": %q}`, q, a) }

func TestOverlapCountsRowsOfBByGrainExactlyAndNormalised(t *testing.T) {
	chat := func(q, a string) string {
		return `{"messages": ` + `[{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "` + q + `"}, {"role": "assistant", "content": "` + a + `"}]}`
	}
	a := side(t, "train", pair("What is the capital of France?", "It is Paris, of course, as ever."), pair("How many eggs are in a dozen?", "twelve"), pair("filler number one", "x"), pair("filler number two", "y"), pair("filler number three", "z"))
	for name, c := range map[string]struct {
		rows []string
		want string
	}{
		"the same row":                              {[]string{pair("How many eggs are in a dozen?", "twelve")}, "row 1/1 of 1, prompt 1/1 of 1, text 1/1 of 1"},
		"the same question, another answer":         {[]string{pair("How many eggs are in a dozen?", "a dozen dozens")}, "row 0/0 of 1, prompt 1/1 of 1, text 1/1 of 1"},
		"the same answer only":                      {[]string{pair("Where is the tower?", "It is Paris, of course, as ever.")}, "row 0/0 of 1, prompt 0/0 of 1, text 1/1 of 1"},
		"another case and other punctuation":        {[]string{pair("what is the  CAPITAL of france", "Lyon")}, "row 0/0 of 1, prompt 0/1 of 1, text 0/1 of 1"},
		"letters of another width":                  {[]string{pair("Ｗｈａｔ is the capital of France？", "Lyon")}, "row 0/0 of 1, prompt 0/1 of 1, text 0/1 of 1"},
		"an answer that stands everywhere":          {[]string{pair("Is it so that nobody knows?", "twelve")}, "row 0/0 of 1, prompt 0/0 of 1, text 0/0 of 1"},
		"a question put in a conversation":          {[]string{chat("How many eggs are in a dozen?", "12")}, "row 0/0 of 1, prompt 1/1 of 1, text 1/1 of 1"},
		"nothing":                                   {[]string{pair("Who wrote the song of songs?", "Nobody is sure of that.")}, "row 0/0 of 1, prompt 0/0 of 1, text 0/0 of 1"},
		"one of two, and a punctuation-only prompt": {[]string{pair("filler, number: one", "x"), pair("?!", "who knows that?")}, "row 0/1 of 2, prompt 0/1 of 1, text 0/1 of 1"},
		"several rows of b":                         {[]string{pair("filler number one", "q"), pair("filler number one", "r"), pair("filler number one", "s"), pair("filler number one", "t"), pair("u", "v"), pair("w", "x")}, "row 0/0 of 6, prompt 4/4 of 6, text 4/4 of 4"},
	} {
		t.Run(name, func(t *testing.T) {
			o := overlap(t, a, side(t, "eval", c.rows...))
			if got := hits(o); got != c.want || o.RowsA != 5 || o.RowsB != int64(len(c.rows)) {
				t.Errorf("%s; want %s (%+v)", got, c.want, o)
			}
		})
	}
	t.Run("what the system says is no overlap", func(t *testing.T) {
		if o := overlap(t, side(t, "x", chat("one question is asked", "and it is answered")), side(t, "y", chat("another one is asked here", "and answered otherwise"))); o.Any() {
			t.Errorf("%s", hits(o))
		}
	})
}

func TestOverlapSaysWhereAndDoesNotDependOnWhichSideIsSmaller(t *testing.T) {
	few := []string{pair("the one question here", "a"), pair("a second question", "b")}
	many := append([]string{pair("something else entirely", "a"), pair("The one question, here!", "c")}, strings.Split(strings.Repeat(pair("filler question text", "d")+"\n", 50), "\n")[:50]...)
	small, large := side(t, "small", few...), side(t, "large", many...)
	o := overlap(t, large, small)
	if got := hits(o); got != "row 0/0 of 2, prompt 0/1 of 2, text 0/1 of 2" {
		t.Errorf("%s", got)
	}
	if f := o.Found[3]; f.Share != 0.5 || len(f.First) != 1 || !strings.HasSuffix(f.First[0].B, "small.jsonl:1") || !strings.HasSuffix(f.First[0].A, "large.jsonl:2") {
		t.Errorf("%+v", f)
	}
	if o = overlap(t, small, large); hits(o) != "row 0/0 of 52, prompt 0/1 of 52, text 0/1 of 52" || !strings.HasSuffix(o.Found[3].First[0].A, "small.jsonl:1") {
		t.Errorf("%s %+v", hits(o), o.Found[3])
	}
	// told wrongly which is smaller, it counts the same
	small.Rows = 1 << 40
	if o = overlap(t, small, large); hits(o) != "row 0/0 of 52, prompt 0/1 of 52, text 0/1 of 52" {
		t.Errorf("%s", hits(o))
	}
}

func TestOverlapEndsWithItsContextAndTellsOfDataThatIsGone(t *testing.T) {
	a := side(t, "a", pair("a question of some length", "b"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dataset.Overlap(ctx, a, a, dataset.OverlapOptions{}); err == nil {
		t.Error("it goes on")
	}
	man := forge.Manifest{Root: filepath.Join(t.TempDir(), "gone.jsonl"), Files: []forge.File{{Path: ".", Size: 1}}}
	if _, err := dataset.Overlap(t.Context(), a, dataset.SideOf("gone", 1, man, forge.DatasetLayout{}, forge.KindText), dataset.OverlapOptions{}); err == nil {
		t.Error("data that is gone overlaps with nothing")
	}
}
