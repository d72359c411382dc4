package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

func TestABodyIsLookedAtBeforeItIsDecoded(t *testing.T) {
	many := make([]string, 40)
	for i := range many {
		many[i] = fmt.Sprintf(`"k%d":%d`, i, i)
	}
	for name, text := range map[string]string{
		"an object":                   `{"a":1,"b":[1,2.5e3,-0],"c":{"a":null,"b":true,"c":false}}`,
		"the same key in two objects": `{"a":{"x":1},"b":{"x":1}}`,
		"white space":                 " \n\t{ \"a\" : [ ] , \"b\" : { } } \r\n",
		"lines and tabs in a text":    `{"a":"one\n\ttwo"}`,
		"text beyond ASCII":           `{"a":"Grüße, 你好 🙂 \ud83d\ude42 �"}`,
		"32 levels":                   strings.Repeat("[", 32) + strings.Repeat("]", 32),
		"many keys":                   "{" + strings.Join(many, ",") + "}",
	} {
		if err := server.CheckJSON([]byte(text)); err != nil {
			t.Errorf("%s is refused: %v", name, err)
		}
	}
	for _, c := range []struct{ name, text, field, says string }{
		{"33 levels", strings.Repeat("[", 33) + strings.Repeat("]", 33), "", "32 levels"},
		{"a million levels", strings.Repeat("[", 1<<20), "", "32 levels"},
		{"a key twice", `{"params":{"lora":1,"lora":2}}`, "params.lora", `"lora" is given twice`},
		{"a key twice, once escaped", `{"a":1,"\u0061":2}`, "a", "twice"},
		{"a key twice among many", "{" + strings.Join(append(many, many[0]), ",") + "}", "k0", "twice"},
		{"NUL in a text", `{"name":"a\u0000b"}`, "name", "U+0000"},
		{"an escape sequence in a text", `{"name":"\u001b[2J"}`, "name", "U+001B"},
		{"DEL", "{\"name\":\"\x7f\"}", "name", "U+007F"},
		{"a C1 control character", "{\"name\":\"\u009b2J\"}", "name", "U+009B"},
		{"text that turns around", "{\"name\":\"\u202egnp.exe\"}", "name", "U+202E"},
		{"a raw control character", "{\"name\":\"\x1b[2J\"}", "", "control character"},
		{"a control character in a key", `{"a\u0007":1}`, "", "U+0007"},
		{"bytes that are no UTF-8", "{\"name\":\"\xff\xfe\"}", "name", "not UTF-8"},
		{"half a surrogate pair", `{"name":"\ud800"}`, "name", "surrogate"},
		{"a number beyond float64", `{"a":[1,1e999999]}`, "a.1", "1e999999"},
		{"a number of a page", `{"a":` + strings.Repeat("9", 5000) + `}`, "a", "5000 characters"},
		{"a number that is none", `{"a":01}`, "", "01"},
		{"nothing", ``, "", "unexpected end"},
		{"an open string", `{"a":"b`, "", "unexpected end"},
		{"a string that ends in a backslash", `"\`, "", "unexpected end"},
		{"two values", `{} {}`, "", "after the end"},
		{"a trailing comma", `[1,]`, "", "unexpected ']'"},
		{"a key without quotes", `{a:1}`, "", "key in quotes"},
		{"NaN", `NaN`, "", "unexpected 'N'"},
		{"a byte order mark", "\ufeff{}", "", "unexpected"},
	} {
		err := server.CheckJSON([]byte(c.text))
		var e *forge.Error
		if !errors.As(err, &e) || e.Kind != forge.KindInvalid || e.Field != c.field || !strings.Contains(e.Err.Error(), c.says) {
			t.Errorf("%s: got field %q, %.200v", c.name, fieldOf(e), err)
		}
		if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x9b || r == 0x202e }) {
			t.Errorf("%s: the refusal carries the control character on: %q", c.name, err)
		}
	}
}

func fieldOf(e *forge.Error) string {
	if e == nil {
		return "no forge.Error"
	}
	return e.Field
}

// What passes is JSON that every decoder reads alike, and what encoding/json refuses never passes.
func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,2,{"b":"c"}]}`, `{"a":1,"\u0061":2}`, `"\ud83d\ude42"`, `[1e308,-0.0,1E+2]`, `{"":{"":[]}}`, "\"\x7f\"", `"\ufffd�"`, `"\\ud800"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := server.CheckJSON(b)
		var v any
		if uerr := json.Unmarshal(b, &v); uerr != nil {
			if err == nil {
				t.Fatalf("%q passes and is not JSON: %v", b, uerr)
			}
			return
		}
		if err != nil {
			var e *forge.Error
			if !errors.As(err, &e) || e.Kind != forge.KindInvalid {
				t.Fatalf("%q: %v", b, err)
			}
			return
		}
		if n := countKeys(v); n != strings.Count(string(stripStrings(b)), ":") {
			t.Fatalf("%q has %d keys once decoded: one was given twice", b, n)
		}
	})
}

func countKeys(v any) int {
	n := 0
	switch v := v.(type) {
	case map[string]any:
		n = len(v)
		for _, x := range v {
			n += countKeys(x)
		}
	case []any:
		for _, x := range v {
			n += countKeys(x)
		}
	}
	return n
}

// stripStrings leaves the structure of a JSON text.
func stripStrings(b []byte) []byte {
	var out []byte
	in := false
	for i := 0; i < len(b); i++ {
		switch {
		case in && b[i] == '\\':
			i++
		case b[i] == '"':
			in = !in
		case !in:
			out = append(out, b[i])
		}
	}
	return out
}
