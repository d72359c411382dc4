package dataset_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

// FuzzLine holds the scanner's verdict on one line equal to encoding/json's.
func FuzzLine(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"a":1}`, `[1,2.5e-3,-0,"x",true,false,null,{"b":[]}]`, `{"a":"\u00e9\n\ud83d\ude00"}`, `"\ud800"`, ` [ ] `, `{"a":1,}`, `[1,]`, `01`, `1.`, `-`, `1e`, `"\x"`,
		`{"a" 1}`, `tru`, `nul`, `NaN`, "\"\t\"", `{"a":{"a":{"a":[[[]]]}}}`, `{,}`, `[,]`, `{"a":1 "b":2}`, `""""`, `{"":0}`, `1 2`, `[1 2]`, "", " ",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if !utf8.Valid(line) || bytes.ContainsAny(line, "\x00\n") {
			return // refused before the scanner
		}
		malformed, known, why := dataset.Malformed(line)
		if valid := json.Valid(line); known && valid == malformed {
			t.Errorf("%q: encoding/json says valid=%v, we say malformed=%v (%s)", line, valid, malformed, why)
		}
	})
}

// FuzzScan: whatever the file, Scan does not panic; what it accepts is what encoding/json
// accepts, with the digest that crypto/sha256 gives; what it calls malformed is.
func FuzzScan(f *testing.F) {
	for _, s := range []string{
		chatRow, chatRow + chatRow, `{"text":"a"}`, "{\"text\":\"a\"}\r\n\n{\"text\":\"b\"}", `{"prompt":"p","completion":"c"}`,
		`{"prompt":[{"role":"user","content":"q"}],"chosen":"a","rejected":"b"}`, "\xef\xbb\xbf{}", "\xff", "\x00", `{"text":"a","text":"b"}`,
		`{"messages":[{"role":"assistant","content":null,"tool_calls":[{}]}]}`, `{"messages":[]}`, `[`, "{\"text\":\"a\"}\n{", strings.Repeat("[", 1000),
	} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(dir, "f.jsonl")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := dataset.Scan(t.Context(), []string{path}, dataset.Options{})
		lines := bytes.Split(content, []byte("\n"))
		if err != nil {
			if forge.KindOf(err) != forge.KindInvalid {
				t.Fatalf("%v", err)
			}
			var all *dataset.Problems
			if !errors.As(err, &all) {
				t.Fatalf("%v", err)
			}
			for _, p := range all.Rows {
				if strings.Contains(p.Why, "malformed JSON") && json.Valid(lines[p.Line-1]) {
					t.Errorf("line %d: %v, and encoding/json takes it", p.Line, p)
				}
			}
			return
		}
		var rows int64
		for i, l := range lines {
			if len(bytes.TrimSpace(l)) == 0 {
				continue
			}
			rows++
			var row map[string]any
			if err := json.Unmarshal(l, &row); err != nil {
				t.Errorf("line %d was accepted: %v", i+1, err)
			}
			for c := range row {
				if !strings.Contains("\x00"+strings.Join(r.Columns, "\x00")+"\x00", "\x00"+c+"\x00") {
					t.Errorf("line %d: column %q is not among %q", i+1, c, r.Columns)
				}
			}
		}
		if r.Rows != rows || r.Manifest.Bytes() != int64(len(content)) || r.Manifest.Files[0].SHA256 != digest(string(content)) {
			t.Errorf("got %+v for %d rows, %d bytes, digest %s", r, rows, len(content), digest(string(content)))
		}
	})
}

// FuzzFormats: whatever is in a file of whatever format, a pass does not panic, ends, and finds the same with three threads and other
// blocks; what it accepts can be read again, row by row.
func FuzzFormats(f *testing.F) {
	for i, s := range []string{
		chatRow, `[{"text":"a"},{"text":"b"}]`, "text,x\na,\"b\nc\"\n", "[{\"text\":\"a\\\"]\"} , ]", "a,b\n1\n\"", "[[", "{}\n\n{\"text\":1}", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\xab\x56\x2a", "\x28\xb5\x2f\xfd\x00",
		`{"instruction":"i","output":"o","history":[["a","b"]]}`, `{"conversations":[{"from":"human","value":"v"},{"from":"gpt","value":"v"}]}`, "prompt,completion,label\na,b,TRUE\n",
	} {
		f.Add([]byte(s), uint8(i))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte, as uint8) {
		names := []string{"f.jsonl", "f.json", "f.csv", "f.jsonl.gz", "f.csv.zst"}
		path := filepath.Join(dir, names[int(as)%len(names)])
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		o := dataset.Options{PII: &pii.Options{}, Near: 0.5, Preset: []string{"", "alpaca", "sharegpt"}[int(as)/len(names)%3]}
		one, err1 := dataset.Scan(t.Context(), []string{path}, o)
		back := dataset.CutAt(16)
		o.Threads = 3
		three, err3 := dataset.Scan(t.Context(), []string{path}, o)
		back()
		if fmt.Sprint(err1) != fmt.Sprint(err3) {
			t.Fatalf("one thread: %v\nthree: %v", err1, err3)
		}
		if err1 != nil {
			if k := forge.KindOf(err1); k != forge.KindInvalid {
				t.Fatalf("%s: %v", k, err1)
			}
			return
		}
		one.Report.At, one.Report.Elapsed, three.Report.At, three.Report.Elapsed = time.Time{}, 0, time.Time{}, 0
		if !reflect.DeepEqual(one, three) {
			t.Fatalf("%+v\n%+v", one, three)
		}
		var rows int64
		if err := dataset.Read(t.Context(), one.Manifest, one.Layout, one.Kind, func(r dataset.Row) error {
			if rows++; !json.Valid(r.JSON) {
				t.Errorf("%q is no JSON", r.JSON)
			}
			same, err := dataset.Rewrite(nil, r.JSON, func(dst []byte, f dataset.Field) []byte { return append(dst, f.Text...) })
			if err != nil || !bytes.Equal(same, r.JSON) {
				t.Errorf("%q became %q (%v)", r.JSON, same, err)
			}
			return nil
		}); err != nil || rows != one.Rows {
			t.Fatalf("%d rows again, %d before: %v", rows, one.Rows, err)
		}
	})
}
