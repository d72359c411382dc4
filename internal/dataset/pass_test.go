package dataset_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

// messy is rows with everything in them: duplicates far apart, personal data, faults, other columns.
func messy(n int) string {
	var b strings.Builder
	for i := range n {
		text := fmt.Sprintf("row %d of many, which says something of its own about %d things and then some more", i, i*7)
		switch i % 13 {
		case 3:
			text = "write to ann" + fmt.Sprint(i%5) + "@example.org, please"
		case 5:
			text = "the same again"
		case 7:
			text = `schön \n \"and\" escaped \ud83d\ude00 ` + strings.Repeat("x", i%3000)
		case 8:
			text = " "
		}
		fmt.Fprintf(&b, `{"text": "%s", "id": %d, "more": {"k%d": ["bob@example.com"]}}`+"\n", text, i, i%3)
		if i%50 == 0 {
			b.WriteString("\r\n")
		}
	}
	return b.String()
}

func scanned(t *testing.T, o dataset.Options, paths ...string) dataset.Result {
	t.Helper()
	r, err := dataset.Scan(t.Context(), paths, o)
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	r.Report.At, r.Report.Elapsed = time.Time{}, 0
	return r
}

func TestWhatIsFoundDoesNotDependOnTheNumberOfThreads(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.jsonl", messy(9000))
	write(t, dir+"/b.jsonl", messy(3000))
	bad := t.TempDir()
	write(t, bad+"/a.jsonl", messy(9000))
	write(t, bad+"/b.jsonl", strings.Replace(messy(9000), `"text": "row 4000`, `"txt": "row 4000`, 1)+"{\n")
	write(t, bad+"/c.jsonl", strings.ReplaceAll(messy(3000), `"text":`, `"prompt":`))
	type outcome struct {
		good   dataset.Result
		prints string
		bad    []forge.RowProblem
		total  int64
	}
	var want outcome
	for _, threads := range []int{1, 2, 7, 5} {
		if threads == 5 {
			defer dataset.CutAt(100)() // rows across many blocks
		}
		var prints bytes.Buffer
		got := outcome{good: scanned(t, dataset.Options{Threads: threads, PII: &pii.Options{}, Near: 0.8, Fingerprints: &prints}, dir)}
		got.prints = prints.String()
		_, err := dataset.Scan(t.Context(), []string{bad}, dataset.Options{Threads: threads})
		var p *dataset.Problems
		if !errors.As(err, &p) {
			t.Fatalf("%v", err)
		}
		got.bad, got.total = p.Rows, p.Total
		if threads == 1 {
			want = got
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%d threads: %+v\n1 thread: %+v", threads, got.good.Scanned, want.good.Scanned)
		}
	}
	r := want.good.Report
	if want.good.Rows != 12_000 || r.Duplicates.Rows == 0 || len(r.Duplicates.First) != 3 || r.PII.RowsFound != 12_000 || len(r.Lengths) == 0 || len(want.good.Seen.Findings) != 1 {
		t.Errorf("%+v", want.good)
	}
	if want.total != 3002 || len(want.bad) != 1000 || !strings.Contains(want.bad[0].Why, "has {txt, id, more}") || !strings.Contains(want.bad[2].Why, "this row has {prompt}") {
		t.Errorf("%d problems, the first %+v", want.total, want.bad[:3])
	}
	if len(want.prints) != 12_000*8 || !slices.IsSorted(fingerprints(want.prints)) {
		t.Error("fingerprints are not sorted, or not one a row")
	}
}

func fingerprints(s string) (out []uint64) {
	for ; len(s) >= 8; s = s[8:] {
		out = append(out, binary.BigEndian.Uint64([]byte(s)))
	}
	return out
}

func TestAllProblemsAreListed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		write(t, fmt.Sprintf("%s/%03d.jsonl", dir, i), chatRow)
	}
	write(t, dir+"/007.jsonl", chatRow+"{\n"+chatRow+`{"messages": []}`)
	write(t, dir+"/011.jsonl", "caf\xe9\n\n\xef\xbb\xbf{}\n\x00")
	write(t, dir+"/012.jsonl", "\xff\xfe{\x00}\x00")
	write(t, dir+"/020.jsonl", "")
	write(t, dir+"/021.jsonl", "\n")
	write(t, dir+"/sub/x.jsonl", chatRow)
	if err := errors.Join(os.Chmod(dir+"/100.jsonl", 0), os.Chmod(dir+"/sub", 0), os.Symlink("gone", dir+"/200.jsonl.gz"), os.Symlink("x.jsonl", dir+"/x.jsonl")); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Chmod(dir+"/sub", 0o755) }()
	asNobody(t, func() {
		_, err := dataset.Scan(t.Context(), []string{dir}, dataset.Options{}) // one thread: the right to read is the thread's
		var p *dataset.Problems
		if !errors.As(err, &p) {
			t.Fatalf("%v", err)
		}
		var got []string
		for _, r := range p.Rows {
			got = append(got, strings.TrimPrefix(p.Words(r), dir+"/"))
		}
		all := strings.Join(got, "\n")
		for _, want := range []string{"007.jsonl: line 2, column 2: malformed", "007.jsonl: line 4, column 14: messages is an empty", "011.jsonl: line 1 is not UTF-8", "011.jsonl: line 4 holds a NUL",
			"012.jsonl: line 1 starts with the byte order mark of UTF-16", "020.jsonl is empty", "021.jsonl has no rows", "sub cannot be read", "100.jsonl cannot be read", "200.jsonl.gz is a symbolic link to", "x.jsonl"} {
			if !strings.Contains(all, want) {
				t.Errorf("nothing of %q in\n%s", want, all)
			}
		}
		if p.Total != int64(len(got)) || forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), fmt.Sprintf("%d problems", p.Total)) || !strings.Contains(err.Error(), "and ") {
			t.Errorf("%d of %d: %v", len(got), p.Total, err)
		}
	})
}

func TestDuplicatesAreCountedAndNamed(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.jsonl", `{"text": "é", "id": 1}`+"\n"+`{"text": "b"}`+"\n\n"+`{"id": 2, "text": "\u00e9"}`+"\n")
	write(t, dir+"/b.jsonl", `{"text": "b", "source": "x"}`+"\n"+`{"text": "c"}`+"\n"+`{"text": "b"}`)
	d := scanned(t, dataset.Options{}, dir).Report.Duplicates
	want := []string{dir + "/a.jsonl:4 = " + dir + "/a.jsonl:1", dir + "/b.jsonl:1 = " + dir + "/a.jsonl:2", dir + "/b.jsonl:3 = " + dir + "/a.jsonl:2"}
	if d.Rows != 3 || !slices.Equal(d.First, want) || d.Near != 0 {
		t.Errorf("%+v", d)
	}
	t.Run("also when they do not fit into memory", func(t *testing.T) {
		defer dataset.HoldMarks(100)()
		var prints bytes.Buffer
		path := file(t, messy(2000))
		spilled := scanned(t, dataset.Options{Fingerprints: &prints}, path)
		dataset.HoldMarks(1 << 20)
		var held bytes.Buffer
		if all := scanned(t, dataset.Options{Fingerprints: &held}, path); !reflect.DeepEqual(all, spilled) || !bytes.Equal(prints.Bytes(), held.Bytes()) {
			t.Errorf("%+v\n%+v", spilled.Report, all.Report)
		}
	})
	t.Run("near ones", func(t *testing.T) {
		long := strings.Fields(strings.Repeat("the quick brown fox jumps over the lazy dog and runs far away from here ", 1) + "to a place where nobody has ever been before and nobody will ever be again, says the story that is told to children in the evening")
		text := strings.Join(long, " ")
		rows := []string{text, strings.ToUpper(text) + "!", strings.Replace(text, "evening", "morning", 1), text, "something else entirely that is said once", strings.Replace(text, "evening", "morning", 1)}
		var b strings.Builder
		for _, r := range rows {
			fmt.Fprintf(&b, `{"text": %q}`+"\n", r)
		}
		path := file(t, b.String())
		d := scanned(t, dataset.Options{Near: 0.8}, path).Report.Duplicates
		if d.Rows != 2 || d.Near != 2 || d.Threshold != 0.8 || d.NearAmong != 0 || !slices.Equal(d.NearFirst, []string{path + ":2 ≈ " + path + ":1", path + ":3 ≈ " + path + ":1"}) {
			t.Errorf("%+v", d)
		}
	})
}

func TestLengthsAreCountedInCharacters(t *testing.T) {
	r := scanned(t, dataset.Options{}, file(t, `{"prompt": "", "completion": "é"}`+"\n"+`{"prompt": "日本", "completion": "語"}`+"\n"+`{"prompt": "abcd", "completion": "efgh", "x": "not this"}`))
	if want := []forge.LengthBin{{Below: 2, Rows: 1}, {Below: 4, Rows: 1}, {Below: 16, Rows: 1}}; !slices.Equal(r.Report.Lengths, want) {
		t.Errorf("%+v", r.Report.Lengths)
	}
}

func TestPersonalDataIsFoundInAllTextsAndNeverQuoted(t *testing.T) {
	path := file(t, `{"text": "caf\u00e9 ann@example.org", "meta": {"by": ["bob@example.com", "carl@example.com"]}}`+"\n"+`{"text": "nothing"}`+"\n")
	p := scanned(t, dataset.Options{PII: &pii.Options{}}, path).Report.PII
	if p == nil || p.Rows != 2 || p.RowsFound != 1 || len(p.Counts) != 2 || p.Status() != forge.PIIFindings {
		t.Fatalf("%+v", p)
	}
	if c := p.Counts[0]; c.Field != "meta.by[]" || c.Findings != 2 || c.Rows != 1 || c.Entity != forge.PIIEmail {
		t.Errorf("%+v", c)
	}
	if s := p.Samples[0]; s.Place != path+":1" || s.Offset != len("café ") || strings.Contains(fmt.Sprint(p.Samples), "ann@") {
		t.Errorf("%+v", p.Samples)
	}
	if r := scanned(t, dataset.Options{}, path).Report; r.PII != nil || r.PII.Status() != forge.PIINotScanned {
		t.Errorf("%+v", r.PII)
	}
}

func TestAScanThatIsCancelledEndsAndLeavesNobodyBehind(t *testing.T) {
	path := file(t, messy(40_000))
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := dataset.Scan(ctx, []string{path}, dataset.Options{Threads: 3, Progress: func(done, total, rows int64) {
		if cancel(); rows == 0 || done > total {
			t.Errorf("%d of %d bytes, %d rows", done, total, rows)
		}
	}})
	// Who has said that he is done is counted until he has left.
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if !errors.Is(err, context.Canceled) || runtime.NumGoroutine() > before {
		t.Errorf("%v, %d goroutines after %d", err, runtime.NumGoroutine(), before)
	}
}

func TestTheDigestOfARowIsTheDocumentedOne(t *testing.T) {
	for row, want := range map[string]string{
		`{"text": "caf\u00e9"}`: "7fe9ee19d8738adb",
		`{"completion": "c", "label": true, "x": 1, "prompt": "p"}`:                                                                             "cd659c9435bcdc4a",
		`{"messages": [{"role": "user", "content": "q"}, {"content": null, "role": "assistant", "tool_calls": [{"f": "a", "n": {"k": "b"}}]}]}`: "d4087cedbca0af10",
	} {
		path := file(t, row)
		r := scanned(t, dataset.Options{}, path)
		var got string
		if err := dataset.Read(t.Context(), r.Manifest, r.Layout, r.Kind, func(r dataset.Row) error { got = hex.EncodeToString(r.Digest[:]); return nil }); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", row, got)
		}
	}
}
