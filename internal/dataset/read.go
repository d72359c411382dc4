package dataset

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// Row is one row as it is read again. Nothing of it may be kept after the call that it is given to.
type Row struct {
	File   string   // as the manifest names it
	Line   int64    // from 1; the number of the row in formats without lines
	JSON   []byte   // one object with the columns of the files: as it stands there, or as the same value in JSON
	Fields []Field  // all texts in it, in order
	Texts  []Field  // what Digest is of: the texts of the columns of the kind, after map or preset
	Digest [32]byte // SHA-256 of Texts, the same in every format (docs/dataset-formats.md)
}

// Field is one text of a row.
type Field struct {
	Path string // as columns nest: messages[].content
	Text []byte // UTF-8, without the escapes of JSON
}

// Read reads the rows of a version again, in their order, and stops at the first error that fn returns. Memory is bounded by one row.
// It does not check digests: KindConflict says that a file has another size than the manifest says, *Problems that a row is none.
func Read(ctx context.Context, man forge.Manifest, layout forge.DatasetLayout, kind forge.DatasetKind, fn func(Row) error) error {
	return forge.Errorf(forge.KindUnavailable, "dataset.read", "rows are not read yet")
}

// Rewrite appends row, a JSON object, to dst, with each of its texts replaced by what fn appends for it; keys stay as they are.
func Rewrite(dst, row []byte, fn func(dst []byte, f Field) []byte) ([]byte, error) {
	return nil, forge.Errorf(forge.KindUnavailable, "dataset.rewrite", "rows are not rewritten yet")
}
