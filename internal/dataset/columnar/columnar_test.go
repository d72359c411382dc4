package columnar_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/forge-ml/forge-ml/internal/dataset/columnar"
)

func open(name string, data []byte) (*columnar.Reader, error) {
	if strings.HasSuffix(name, ".arrow") {
		return columnar.Arrow(bytes.NewReader(data), int64(len(data)))
	}
	return columnar.Parquet(bytes.NewReader(data), int64(len(data)))
}

// all reads a file to its end.
func all(name string, data []byte) (rows [][]byte, err error) {
	r, err := open(name, data)
	if err != nil {
		return nil, err
	}
	for {
		row, number, err := r.Next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		if rows = append(rows, bytes.Clone(row)); int64(len(rows)) != number {
			return rows, errors.New("rows are not counted from 1")
		}
	}
}

// object keeps numbers as they are written, and the order of columns.
func object(t *testing.T, row []byte) (map[string]any, []string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(row))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%v: %s", err, row)
	}
	var order []string
	d = json.NewDecoder(bytes.NewReader(row))
	_, _ = d.Token()
	for d.More() {
		key, _ := d.Token()
		order = append(order, key.(string))
		var skip json.RawMessage
		_ = d.Decode(&skip)
	}
	return m, order
}

// same holds values together: 1e+30 and 1e30 are one number.
func same(a, b any) bool {
	x, isNumber := a.(json.Number)
	y, too := b.(json.Number)
	switch {
	case isNumber && too:
		f, _ := x.Float64()
		g, _ := y.Float64()
		return x == y || f == g && strings.ContainsAny(string(x), ".e") && strings.ContainsAny(string(y), ".e")
	case isNumber != too:
		return false
	}
	switch a := a.(type) {
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !same(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k := range a {
			if v, there := b[k]; !there || !same(a[k], v) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

// TestFilesHoldTheRowsThatWereWritten is over files that pyarrow, Polars, DuckDB and fastparquet wrote; recipes/python/tests/test_formats.py reads the same ones.
func TestFilesHoldTheRowsThatWereWritten(t *testing.T) {
	f, err := os.Open("testdata/rows.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var want [][]byte
	for s := bufio.NewScanner(f); s.Scan(); {
		want = append(want, bytes.Clone(s.Bytes()))
	}
	for name, data := range files(t) {
		rows, err := all(name, data)
		if err != nil || len(rows) != len(want) {
			t.Errorf("%s: %d rows of %d: %v", name, len(rows), len(want), err)
			continue
		}
		for i := range rows {
			have, order := object(t, rows[i])
			wanted, _ := object(t, want[i])
			if i == 0 && name == "snappy.parquet" && (len(order) != len(wanted) || order[0] != "text") {
				t.Errorf("%s: columns are %v", name, order)
			}
			for c, v := range have {
				if w, there := wanted[c]; !there || !same(v, w) {
					t.Errorf("%s row %d: %s is %#v, want %#v", name, i+1, c, v, w)
				}
			}
		}
	}
}

func files(t *testing.T) map[string][]byte {
	t.Helper()
	paths, _ := filepath.Glob("testdata/*.[pa]*[tw]")
	found := map[string][]byte{}
	for _, p := range paths {
		if ext := filepath.Ext(p); ext != ".parquet" && ext != ".arrow" {
			continue
		}
		data, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(p)] = data
	}
	if len(found) != 14 {
		t.Fatalf("testdata has %d files", len(found))
	}
	return found
}

// TestTornFilesAreRefused: a file cut anywhere has no rows that were not written, and an end that says what is wrong.
func TestTornFilesAreRefused(t *testing.T) {
	for name, data := range files(t) {
		for cut := 0; cut < len(data); cut += 1 + len(data)/40 {
			_, err := all(name, data[:cut])
			var e *columnar.Error
			if !errors.As(err, &e) {
				t.Errorf("%s cut to %d of %d bytes: %v", name, cut, len(data), err)
			}
		}
	}
}

// TestDamagedFilesEnd: whatever stands in a file, reading it ends, without a panic and within bounds.
func TestDamagedFilesEnd(t *testing.T) {
	for name, data := range files(t) {
		for i := range 25 {
			hurt := bytes.Clone(data)
			for k := range 1 + i%4 {
				hurt[(i*7919+k*104729)%len(hurt)] ^= byte(1 << (i % 8))
			}
			if _, err := all(name, hurt); err != nil {
				if e := (*columnar.Error)(nil); !errors.As(err, &e) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}

func TestWhatIsNoSuchFileIsRefused(t *testing.T) {
	for _, c := range []struct{ name, data, why string }{
		{"a.parquet", "", "no Parquet file"},
		{"a.parquet", "PK\x03\x04aaaaaaaaaaaaaaaa", "does not begin with PAR1"},
		{"a.parquet", "PAR1aaaaaaaaaaaaaaaa", "does not end with PAR1"},
		{"a.parquet", "PAR1aaaaaaaa\xff\xff\xff\x7fPAR1", "claims 2147483647 bytes"},
		{"a.parquet", "PAR1aaaaaaaa\x04\x00\x00\x00PARE", "encrypted"},
		{"a.parquet", "PAR1\x19\xfc\xff\xff\xff\xff\x0f\x00\x09\x00\x00\x00PAR1", "damaged"}, // a billion columns
		{"a.arrow", "", "no Arrow file"},
		{"a.arrow", "{\"text\": \"a\"}", "no Arrow file"},
		{"a.arrow", "FEA1aaaaaaaaaaaa", "Feather"},
		{"a.arrow", "ARROW1\x00\x00aaaaaaaaaaaaaaaaa", "does not end with ARROW1"},
		{"a.arrow", "\xff\xff\xff\xff\xf0\xff\xff\x7faaaaaaaaaa", "claims"},
	} {
		_, err := all(c.name, []byte(c.data))
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s %.20q: %v, want %q", c.name, c.data, err, c.why)
		}
	}
}

// TestHostileFilesAreRefusedInBoundedMemory is over files of a few kilobytes that unpack to what nobody has room for, and over such
// as hold no rows of text.
func TestHostileFilesAreRefusedInBoundedMemory(t *testing.T) {
	index, err := os.ReadFile("testdata/hostile/index.json")
	if err != nil {
		t.Fatal(err)
	}
	var why map[string]string
	if err := json.Unmarshal(index, &why); err != nil {
		t.Fatal(err)
	}
	for name, want := range why {
		data, err := os.ReadFile("testdata/hostile/" + name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := open(name, data)
		for err == nil {
			_, _, err = r.Next()
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.Sys > 200<<20 {
		t.Errorf("it took %d MiB from the system", m.Sys>>20)
	}
}

func BenchmarkRows(b *testing.B) {
	for _, name := range []string{"snappy.parquet", "plain.parquet", "stream.arrow"} {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			var size int64
			for b.Loop() {
				r, err := open(name, data)
				for size = 0; err == nil; {
					var row []byte
					row, _, err = r.Next()
					size += int64(len(row))
				}
			}
			b.SetBytes(size)
		})
	}
}
