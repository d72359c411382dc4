package dataset_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
)

// TestEveryFormatMapAndPresetGivesTheSameRows: recipes/python/tests/test_formats.py reads the same files, and the digests are of rows
// that neither of the two made.
func TestEveryFormatMapAndPresetGivesTheSameRows(t *testing.T) {
	root, err := filepath.Abs("columnar/testdata/layouts")
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(root, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var files map[string]struct {
		Layout  forge.DatasetLayout
		Kind    forge.DatasetKind
		Digests []string
	}
	if err := json.Unmarshal(index, &files); err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		path := filepath.Join(root, name)
		got, err := dataset.Scan(context.Background(), []string{path}, dataset.Options{Map: want.Layout.Map, Preset: want.Layout.Preset})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Kind != want.Kind || got.Layout.Format != want.Layout.Format || got.Rows != int64(len(want.Digests)) {
			t.Errorf("%s: %d rows of kind %s in %+v", name, got.Rows, got.Kind, got.Layout)
		}
		var digests []string
		err = dataset.Read(context.Background(), got.Manifest, got.Layout, got.Kind, func(r dataset.Row) error {
			digests = append(digests, hex.EncodeToString(r.Digest[:]))
			return nil
		})
		if err != nil || !slices.Equal(digests, want.Digests) {
			t.Errorf("%s: %v, digests %v, want %v", name, err, digests, want.Digests)
		}
	}
}
