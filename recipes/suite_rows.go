package recipes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	forge "github.com/forge-ml/forge-ml"
)

// SuiteRow is one question of a suite, as far as its data says it.
type SuiteRow struct {
	Task   string
	File   string // below the suite
	Number int64  // of the row in the file, from 1
	Prompt []string
	Texts  []string // all texts of the row: what is asked, the choices, the answer
}

// named finds the fields that a template of the harness writes into the prompt.
var named = regexp.MustCompile(`\{\{\s*([A-Za-z_][A-Za-z0-9_]*)`)

// Rows are the questions of the tasks that have their data in the suite. KindPrecondition says that there are none, or that a site's suite
// is not on this host.
func (l Suites) Rows(name string) ([]SuiteRow, error) {
	s, err := l.Get(name)
	if err != nil {
		return nil, err
	}
	dir, err := fs.Sub(pythonTree, suitesRoot+"/"+s.Name)
	if s.Path != "" {
		dir = os.DirFS(s.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("suite %s: %w", name, err)
	}
	return RowsOf(s, dir)
}

// RowsOf reads the questions of a suite from its directory.
func RowsOf(s Suite, dir fs.FS) ([]SuiteRow, error) {
	const op = "suite.rows"
	files, err := suiteFiles("suite "+s.Name, dir)
	if err != nil {
		return nil, err
	}
	if digestOf(files) != s.SHA256 {
		return nil, forge.Errorf(forge.KindConflict, op, "suite %s is not as it was read: its files have changed", s.Name).WithHint("forged reload reads it again")
	}
	bodies := map[string][]byte{}
	for _, f := range files {
		bodies[f.path] = f.body
	}
	tasks := s.Tasks()
	var out []SuiteRow
	for _, f := range files {
		if path.Ext(f.path) != ".yaml" || f.path == SuiteFile {
			continue
		}
		var in taskDoc
		var prompt struct {
			Text any `yaml:"doc_to_text"`
		}
		if err := errors.Join(yaml.Unmarshal(f.body, &in), yaml.Unmarshal(f.body, &prompt)); err != nil {
			return nil, fmt.Errorf("suite %s: %s: %w", s.Name, f.path, err)
		}
		if !slices.Contains(tasks, in.Task) {
			continue
		}
		file := in.DatasetKwargs.DataFiles[in.TestSplit]
		rows, err := rowsIn(bodies[file], asked(prompt.Text))
		if err != nil {
			return nil, forge.Invalidf("suite", "%s: %s: %v", s.Name, file, err)
		}
		for i := range rows {
			rows[i].Task, rows[i].File = in.Task, file
		}
		out = append(out, rows...)
	}
	if len(out) == 0 {
		return nil, forge.Errorf(forge.KindPrecondition, op, "the data of suite %s is not its own: its tasks bring theirs from elsewhere", s.Name).
			WithHint("register what a task is made of as a dataset, and compare with that")
	}
	return out, nil
}

// asked are the fields that the prompt is made of: a template names them, and a plain word is one.
func asked(text any) (fields []string) {
	s, _ := text.(string)
	for _, m := range named.FindAllStringSubmatch(s, -1) {
		if !slices.Contains(fields, m[1]) {
			fields = append(fields, m[1])
		}
	}
	if fields == nil && s != "" && !strings.ContainsAny(s, " {\n") {
		fields = []string{s}
	}
	return fields
}

// rowsIn reads objects, one after the other or in an array.
func rowsIn(body []byte, fields []string) (out []SuiteRow, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	if first := bytes.TrimLeft(body, " \t\r\n"); len(first) > 0 && first[0] == '[' {
		if _, err := d.Token(); err != nil {
			return nil, err
		}
	}
	for d.More() {
		var row map[string]any
		if err := d.Decode(&row); err != nil {
			if errors.Is(err, io.EOF) {
				break
			}
			return nil, fmt.Errorf("row %d: %w", len(out)+1, err)
		}
		r := SuiteRow{Number: int64(len(out)) + 1}
		for _, f := range fields {
			r.Prompt = textsIn(r.Prompt, row[f])
		}
		for _, k := range slices.Sorted(maps.Keys(row)) {
			r.Texts = textsIn(r.Texts, row[k])
		}
		out = append(out, r)
	}
	return out, nil
}

func textsIn(out []string, v any) []string {
	switch v := v.(type) {
	case string:
		return append(out, v)
	case []any:
		for _, x := range v {
			out = textsIn(out, x)
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out = textsIn(out, v[k])
		}
	}
	return out
}
