package dataset_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
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
			if n := lineOf(err); strings.Contains(err.Error(), "malformed JSON") && json.Valid(lines[n-1]) {
				t.Errorf("line %d: %v, and encoding/json takes it", n, err)
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

func lineOf(err error) (n int) {
	_, after, _ := strings.Cut(err.Error(), ": line ")
	for _, c := range after {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}
