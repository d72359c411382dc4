package dataset

import (
	"errors"
	"io"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset/columnar"
)

// columns are the rows of a file that is stored by column.
type columns struct{ r *columnar.Reader }

// openParquet and openArrow read files that are looked at in several places; size is theirs in bytes.
func openParquet(f io.ReaderAt, size int64) (rowReader, error) {
	r, err := columnar.Parquet(f, size)
	return columns{r}, refusedColumns(err)
}

func openArrow(f io.ReaderAt, size int64) (rowReader, error) {
	r, err := columnar.Arrow(f, size)
	return columns{r}, refusedColumns(err)
}

func (c columns) next() ([]byte, int64, error) {
	row, number, err := c.r.Next()
	return row, number, refusedColumns(err)
}

// refusedColumns says in forge's way what is wrong with a file.
func refusedColumns(err error) error {
	var e *columnar.Error
	if !errors.As(err, &e) {
		return err
	}
	refused := forge.Invalidf("path", "%s", e.Why)
	refused.Hint = e.Hint
	return refused
}
