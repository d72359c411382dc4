package dataset

import (
	"io"

	forge "github.com/forge-ml/forge-ml"
)

// rowReader gives the rows of one file, whatever its format, as JSON objects.
type rowReader interface {
	// next returns the next row and its number from 1; row is valid until the call after. io.EOF ends the file. A *rowError says
	// that this row is none and that the next one can be read; after any other error the file cannot be read on.
	next() (row []byte, number int64, err error)
}

// rowError is what is wrong with one row of a file that can be read on.
type rowError struct {
	number int64
	why    string // after "FILE: line N "; never quotes content
	hint   string
}

func (e *rowError) Error() string { return e.why }

// openParquet and openArrow read files that are looked at in several places; size is theirs in bytes.
func openParquet(f io.ReaderAt, size int64) (rowReader, error) {
	return nil, notYet(forge.FormatParquet)
}

func openArrow(f io.ReaderAt, size int64) (rowReader, error) { return nil, notYet(forge.FormatArrow) }

func notYet(format forge.DatasetFormat) error {
	return forge.Invalidf("path", "%s is not read yet", format)
}
