package dataset_test

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
)

func gz(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); errors.Join(err, w.Close()) != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zst(t *testing.T, s string) string {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(w.EncodeAll([]byte(s), nil))
}

func again(t *testing.T, r dataset.Result) (rows []string, digests []string) {
	t.Helper()
	err := dataset.Read(t.Context(), r.Manifest, r.Layout, r.Kind, func(row dataset.Row) error {
		rows = append(rows, fmt.Sprintf("%s:%d %s", row.File, row.Line, row.JSON))
		digests = append(digests, hex.EncodeToString(row.Digest[:]))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows, digests
}

func TestTheSameRowsAreTheSameInEveryFormat(t *testing.T) {
	jsonl := `{"prompt": "a, \"b\"", "completion": "first\nsecond"}` + "\n" + `{"completion": "caf\u00e9", "prompt": ""}` + "\n"
	contents := map[string]string{
		"d.jsonl":  jsonl,
		"d.json":   "\n[ " + strings.Replace(strings.TrimSpace(jsonl), "\n", " ,\n", 1) + "\n]\n",
		"e.json":   `[{"prompt":"a, \"b\"","completion":"first\nsecond","x":[1,{"y":"]"}]},{"completion":"café","prompt":""}]`,
		"d.csv":    "prompt,completion\n\"a, \"\"b\"\"\",\"first\nsecond\"\n\n,café\n",
		"e.csv":    "completion,prompt,n\r\n\"first\r\nsecond\",\"a, \"\"b\"\"\",1\r\ncafé,,2",
		"D.JSONL":  jsonl,
		"f.jsonl":  strings.ReplaceAll(jsonl, "\n", "\r\n\r\n"),
		"no.jsonl": strings.TrimSpace(jsonl),
	}
	for _, name := range []string{"d.jsonl", "d.json", "d.csv"} {
		contents[name+".gz"], contents[name+".zst"] = gz(t, contents[name]), zst(t, contents[name])
	}
	contents["two.jsonl.gz"] = gz(t, jsonl[:strings.IndexByte(jsonl, '\n')+1]) + gz(t, jsonl[strings.IndexByte(jsonl, '\n')+1:])
	var want []string
	for _, name := range append([]string{"d.jsonl"}, slices.Sorted(keys(contents))...) {
		path := write(t, filepath.Join(t.TempDir(), name), contents[name])
		r := scanned(t, dataset.Options{}, path)
		if r.Kind != forge.KindPromptCompletion || r.Rows != 2 || r.Manifest.Files[0].SHA256 != digest(contents[name]) || r.Manifest.Files[0].Size != int64(len(contents[name])) {
			t.Errorf("%s: %+v", name, r.Scanned)
		}
		_, got := again(t, r)
		if want == nil {
			want = got
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestFilesThatAreNotWhatTheirNamesSay(t *testing.T) {
	for _, c := range []struct{ name, content, says string }{
		{"a.jsonl", gz(t, chatRow), "a.jsonl is gzip-compressed"},
		{"a.jsonl", zst(t, chatRow), "a.jsonl is zstd-compressed"},
		{"a.csv", "PK\x03\x04", "a.csv is a zip archive"},
		{"a.json", "PAR1", "a.json is a Parquet file"},
		{"a.jsonl.gz", chatRow, "a.jsonl.gz is named .gz and not compressed like that"},
		{"a.jsonl.gz", gz(t, strings.Repeat(chatRow, 9999))[:2000], "a.jsonl.gz is cut off or damaged"},
		{"a.jsonl.zst", zst(t, strings.Repeat(chatRow, 9999))[:50], "a.jsonl.zst is cut off or damaged"},
		{"a.jsonl.gz", gz(t, chatRow+"{\n"), "a.jsonl.gz: line 2, column 2: malformed JSON"},
		{"a.json", chatRow, "a.json begins with an object"},
		{"a.json", "[" + chatRow, "a.json ends inside the array, after row 1: it is cut off"},
		{"a.json", "[" + chatRow + ",]", "after row 1 a comma is followed by ']'"},
		{"a.json", "[" + chatRow + chatRow + "]", "want , or ] after row 1"},
		{"a.json", "[" + chatRow + "] x", "goes on after the array has ended"},
		{"a.json", "[]", "a.json has no rows"},
		{"a.json", "[" + chatRow + ", 7]", "row 2, column 1: the row is a number"},
		{"a.json", "[" + chatRow + `, {"messages": [}, ` + chatRow + "]", "row 2, column 15: malformed JSON"},
		{"a.json", `["` + strings.Repeat("x", 17<<20) + `", {]`, "row 1 is longer than 16 MiB"},
		{"a.csv", "prompt,completion\na\nb,c\nd,e,f\n", "line 2 has 1 fields; the header has 2"},
		{"a.csv", "prompt,completion\na,b\"c\n", "line 2 is no CSV: bare \" in non-quoted"},
		{"a.csv", "prompt,completion\na,\"b\n", "line 2 is no CSV"},
		{"a.csv", "text\na\n\"" + strings.Repeat("x\n", 9<<20) + "\"", "longer than 16 MiB"},
		{"a.csv", "text,text\na,b\n", "column text stands twice"},
		{"a.csv", "text,\na,b\n", "the name of column 2 has 0 bytes"},
		{"a.csv", "\xef\xbb\xbftext\na\n", "line 1 starts with a byte order mark"},
		{"a.csv", "text\ncaf\xe9\n", "line 2 is not UTF-8: byte 0xe9"},
		{"a.csv", "text\na\x00\n", "line 2 holds a NUL byte"},
		{"a.csv", "text\n", "a.csv has no rows"},
		{"a.csv", "a,b\n1,2\n", "line 2, column 1: has {a, b}"},
	} {
		t.Run(c.says, func(t *testing.T) { refusedPath(t, write(t, filepath.Join(t.TempDir(), c.name), c.content), c.says) })
	}
}

func TestABombIsNotReadToItsEnd(t *testing.T) {
	defer dataset.Inflate(1 << 20)()
	for name, pack := range map[string]func(*testing.T, string) string{"a.jsonl.gz": gz, "a.jsonl.zst": zst} {
		path := write(t, filepath.Join(t.TempDir(), name), pack(t, strings.Repeat(chatRow, 400_000)))
		refusedPath(t, path, name+" holds more than 200 times its size")
	}
}

func TestWhichFilesAreTheDataset(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/x/a.jsonl", chatRow)
	write(t, dir+"/x/b.jsonl.gz", gz(t, chatRow+chatRow))
	write(t, dir+"/x/info.json", `{"rows": 3}`)
	write(t, dir+"/y/c.jsonl", chatRow)
	write(t, dir+"/y/d.csv", "text\na\n")
	names := func(r dataset.Result) (out []string) {
		for _, f := range r.Manifest.Files {
			out = append(out, f.Path)
		}
		return out
	}
	for _, c := range []struct {
		paths []string
		root  string
		files []string
		rows  int64
	}{
		{[]string{dir + "/x"}, dir + "/x", []string{"a.jsonl", "b.jsonl.gz"}, 3},
		{[]string{dir + "/x", dir + "/y/c.jsonl"}, dir, []string{"x/a.jsonl", "x/b.jsonl.gz", "y/c.jsonl"}, 4},
		{[]string{dir + "/*/*.jsonl"}, dir, []string{"x/a.jsonl", "y/c.jsonl"}, 2},
		{[]string{dir + "/x/a.jsonl", dir + "/x/./a.jsonl", dir + "/x/a.*"}, dir + "/x/a.jsonl", []string{"."}, 1},
		{[]string{dir + "/x/a.jsonl", dir + "/x"}, dir + "/x", []string{"a.jsonl", "b.jsonl.gz"}, 3},
	} {
		r := scanned(t, dataset.Options{}, c.paths...)
		if r.Manifest.Root != c.root || !slices.Equal(names(r), c.files) || r.Rows != c.rows {
			t.Errorf("%v: root %s, files %v, %d rows", c.paths, r.Manifest.Root, names(r), r.Rows)
		}
		if rows, _ := again(t, r); int64(len(rows)) != c.rows {
			t.Errorf("%v: %v", c.paths, rows)
		}
	}
	refusedPath(t, dir+"/y", "holds jsonl (c.jsonl) and csv (d.csv); all files of a dataset have one format", "hint:*.csv")
	refusedPath(t, dir+"/z*", "nothing matches "+dir+"/z*")
	if err := os.WriteFile(dir+"/what[?].jsonl", []byte(chatRow), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := scanned(t, dataset.Options{}, dir+"/what[?].jsonl"); r.Rows != 1 {
		t.Errorf("a name that looks like a pattern: %+v", r)
	}
}

func TestLayouts(t *testing.T) {
	for _, c := range []struct {
		name, row string
		o         dataset.Options
		same      string // as this row, plainly
	}{
		{"a map", `{"question": "q", "answer": "a", "n": 1}`, dataset.Options{Map: map[string]string{"prompt": "question", "completion": "answer"}}, `{"prompt": "q", "completion": "a"}`},
		{"a map that moves a column out of the way", `{"prompt": "not this", "q": "q", "completion": "a"}`, dataset.Options{Map: map[string]string{"prompt": "q"}}, `{"prompt": "q", "completion": "a"}`},
		{"a map that swaps", `{"chosen": "Q r", "rejected": "Q c"}`, dataset.Options{Map: map[string]string{"chosen": "rejected", "rejected": "chosen"}}, `{"chosen": "Q c", "rejected": "Q r"}`},
		{"a kind among several", `{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "text": "t"}`, dataset.Options{Kind: forge.KindText}, `{"text": "t"}`},
		{"prompts of pairs", `{"prompt": "p", "completion": "c"}`, dataset.Options{Kind: forge.KindPrompt}, `{"prompt": "p"}`},
		{"unpaired", `{"label": false, "prompt": "p", "completion": "c"}`, dataset.Options{}, `{"prompt": "p", "completion": "c", "label": false}`},
		{"a label that is a number", `{"label": 1, "prompt": "p", "completion": "c"}`, dataset.Options{}, `{"prompt": "p", "completion": "c"}`},
		{"a label of a text", `{"label": true, "text": "t"}`, dataset.Options{}, `{"text": "t"}`},
		{"alpaca", `{"instruction": "do", "input": "", "output": "done", "text": "all of it", "prompt": "x"}`, dataset.Options{Preset: "alpaca"}, `{"prompt": "do", "completion": "done"}`},
		{"alpaca with input", `{"instruction": "do \"it\"", "input": "to\u0020this", "output": "done"}`, dataset.Options{Preset: "alpaca"}, `{"prompt": "do \"it\"\nto this", "completion": "done"}`},
		{"alpaca with input alone", `{"instruction": "", "input": "this", "output": "done"}`, dataset.Options{Preset: "alpaca"}, `{"prompt": "this", "completion": "done"}`},
		{"alpaca with history", `{"instruction": "do", "input": null, "output": "done", "system": "be", "history": [["q", "a"]]}`, dataset.Options{Preset: "alpaca"},
			`{"prompt": [{"role": "system", "content": "be"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "do"}], "completion": [{"role": "assistant", "content": "done"}]}`},
		{"alpaca with nothing before", `{"instruction": "do", "output": "done", "history": null}`, dataset.Options{Preset: "alpaca"},
			`{"prompt": [{"role": "user", "content": "do"}], "completion": [{"role": "assistant", "content": "done"}]}`},
		{"sharegpt", `{"conversations": [{"from": "human", "value": "q", "weight": 1}, {"from": "gpt", "value": "a", "role": "x"}], "id": 7, "messages": 1}`, dataset.Options{Preset: "sharegpt"},
			`{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}`},
		{"sharegpt with a system column", `{"system": "be", "conversations": [{"from": "user", "value": "q"}, {"from": "model", "value": "a"}, {"from": "observation", "value": "t"}, {"from": "chatgpt", "value": "b"}]}`,
			dataset.Options{Preset: "sharegpt"}, `{"messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "tool", "content": "t"}, {"role": "assistant", "content": "b"}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, want := scanned(t, c.o, file(t, c.row)), scanned(t, dataset.Options{}, file(t, c.same))
			_, g := again(t, got)
			_, w := again(t, want)
			if got.Kind != want.Kind || !slices.Equal(g, w) || got.Seen.Messages != want.Seen.Messages || !reflect.DeepEqual(got.Report.Lengths, want.Report.Lengths) {
				t.Errorf("%+v %v\n%+v %v", got.Scanned, g, want.Scanned, w)
			}
		})
	}
	t.Run("columns are those of the row of the kind", func(t *testing.T) {
		r := scanned(t, dataset.Options{Map: map[string]string{"prompt": "q"}}, file(t, `{"prompt": 1, "q": "q", "completion": "a", "n": 1}`))
		if !slices.Equal(r.Columns, []string{"completion", "n", "prompt"}) {
			t.Errorf("%v", r.Columns)
		}
	})
	t.Run("in CSV labels are texts", func(t *testing.T) {
		r := scanned(t, dataset.Options{}, write(t, t.TempDir()+"/d.csv", "prompt,completion,label\np,c,True\np,d,false\n"))
		if r.Kind != forge.KindUnpaired {
			t.Errorf("%+v", r.Scanned)
		}
	})
	t.Run("files of one format after another, when they are named by it", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir+"/a.jsonl", `{"text": "a"}`)
		write(t, dir+"/b.csv", "text\nb\nc\n")
		if r := scanned(t, dataset.Options{Format: forge.FormatCSV}, dir); r.Rows != 2 || !slices.Equal(r.Ignored, []string{"a.jsonl"}) {
			t.Errorf("%+v", r)
		}
	})
	for _, c := range []struct {
		row  string
		o    dataset.Options
		says string
	}{
		{`{"text": "t"}`, dataset.Options{Kind: "chat"}, `kind: "chat" is no kind`},
		{`{"text": "t"}`, dataset.Options{Preset: "x"}, `preset: "x" is no preset; want alpaca or sharegpt`},
		{`{"text": "t"}`, dataset.Options{Map: map[string]string{"answer": "x"}}, `map: "answer" is no column of a kind`},
		{`{"text": "t"}`, dataset.Options{Map: map[string]string{"prompt": "x", "text": "x"}}, "map: column x is wanted as prompt and as text"},
		{`{"text": "t"}`, dataset.Options{Preset: "alpaca", Kind: forge.KindText}, "kind: preset alpaca makes prompt_completion, not text"},
		{`{"text": "t"}`, dataset.Options{Near: 2}, "near: 2 is no similarity"},
		{`{"text": "t"}`, dataset.Options{Kind: forge.KindMessages}, "has {text}; a row of kind messages has {messages}"},
		{`{"text": "t"}`, dataset.Options{Map: map[string]string{"prompt": "q"}, Kind: forge.KindPrompt}, "has {text}; a row of kind prompt has {prompt} under the map prompt=q"},
		{`{"prompt": "p", "completion": "c", "label": "yes"}`, dataset.Options{Kind: forge.KindUnpaired}, "label is a string; want true or false"},
		{`{"text": "t"}`, dataset.Options{Preset: "alpaca"}, "line 1, column 1: has no column instruction"},
		{`{"instruction": 1, "output": "x"}`, dataset.Options{Preset: "alpaca"}, "instruction is a number; want a string"},
		{`{"instruction": "i", "output": ""}`, dataset.Options{Preset: "alpaca"}, "completion is empty"},
		{`{"instruction": "i", "output": "o", "history": [["q"]]}`, dataset.Options{Preset: "alpaca"}, "history[0] is not two strings"},
		{`{"conversations": [{"from": "bot", "value": "s3cret"}]}`, dataset.Options{Preset: "sharegpt"}, `conversations[0]: from "bot" is not one of human`},
		{`{"conversations": [{"from": "gpt"}]}`, dataset.Options{Preset: "sharegpt"}, "conversations[0]: has no column value"},
		{`{"conversations": [{"from": "human", "value": "q"}]}`, dataset.Options{Preset: "sharegpt"}, "no assistant turn"},
		{`{"conversations": [], "conversations": []}`, dataset.Options{Preset: "sharegpt"}, "stands twice"},
		{`{"text": "t", "n": ` + strings.Repeat("9", 4301) + `}`, dataset.Options{}, "an integer of 4301 digits; Python reads at most 4300"},
	} {
		t.Run(c.says, func(t *testing.T) {
			_, err := dataset.Scan(t.Context(), []string{file(t, c.row)}, c.o)
			if forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%v", err)
			}
		})
	}
	scanned(t, dataset.Options{}, file(t, `{"text": "t", "n": `+strings.Repeat("9", 4300)+`, "f": 0.`+strings.Repeat("9", 5000)+`}`))
}

func TestReadGivesRowsAgain(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.jsonl", `  {"text": "caf\u00e9", "meta": {"by": ["x", "y"]}} `+"\r\n\n"+`{"text": "b"}`)
	write(t, dir+"/b.jsonl", `{"text": "c"}`+"\n")
	r := scanned(t, dataset.Options{}, dir)
	rows, _ := again(t, r)
	if want := []string{`a.jsonl:1 {"text": "caf\u00e9", "meta": {"by": ["x", "y"]}}`, `a.jsonl:3 {"text": "b"}`, `b.jsonl:1 {"text": "c"}`}; !slices.Equal(rows, want) {
		t.Errorf("%q", rows)
	}
	var seen []string
	stop := errors.New("enough")
	err := dataset.Read(t.Context(), r.Manifest, forge.DatasetLayout{}, "", func(row dataset.Row) error {
		for _, f := range row.Fields {
			seen = append(seen, f.Path+"="+string(f.Text))
		}
		if len(row.Texts) != 1 || string(row.Texts[0].Text) != "café" {
			t.Errorf("%+v", row.Texts)
		}
		return stop
	})
	if !errors.Is(err, stop) || !slices.Equal(seen, []string{"text=café", "meta.by[]=x", "meta.by[]=y"}) {
		t.Errorf("%v %q", err, seen)
	}
	write(t, dir+"/b.jsonl", `{"text": "changed"}`+"\n")
	err = dataset.Read(t.Context(), r.Manifest, r.Layout, r.Kind, func(dataset.Row) error { return nil })
	refused(t, err, forge.KindConflict, "b.jsonl has another size", "hint:next version")
}

func TestRewriteChangesTextsAndNothingElse(t *testing.T) {
	row := `{"te\u0078t" : "caf\u00e9 ann@x.org", "n": [1.50, "ann@x.org"], "k": "\/keep"}`
	got, err := dataset.Rewrite([]byte("> "), []byte(row), func(dst []byte, f dataset.Field) []byte {
		return append(dst, bytes.ReplaceAll(f.Text, []byte("ann@x.org"), []byte(`"X"`))...)
	})
	if want := `> {"te\u0078t" : "café \"X\"", "n": [1.50, "\"X\""], "k": "\/keep"}`; err != nil || string(got) != want {
		t.Errorf("%v\n%s\n%s", err, got, want)
	}
	if _, err := dataset.Rewrite(nil, []byte("[]"), nil); forge.KindOf(err) != forge.KindInvalid {
		t.Errorf("%v", err)
	}
}
