package dataset

import (
	"path/filepath"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Compressions of a file, by the end of its name.
const (
	asIs    = ""
	gzipped = ".gz"
	zstded  = ".zst"
)

// formats is in the order in which errors name them.
var formats = []struct {
	ext    string
	format forge.DatasetFormat
}{
	{".jsonl", forge.FormatJSONL}, {".json", forge.FormatJSON}, {".csv", forge.FormatCSV}, {".parquet", forge.FormatParquet}, {".arrow", forge.FormatArrow},
}

const allFormats = "*.jsonl, *.json and *.csv (also with .gz or .zst behind it), *.parquet, *.arrow"

// compressionOf is told by the end of the name; what a file begins with is held against it when it is read.
func compressionOf(name string) string {
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case gzipped, zstded:
		return ext
	}
	return asIs
}

// formatOf is told by the name, as the trainer does; empty: it is no data.
func formatOf(name string) forge.DatasetFormat {
	compressed := compressionOf(name)
	ext := strings.ToLower(filepath.Ext(name[:len(name)-len(compressed)]))
	for _, f := range formats {
		if f.ext == ext && (compressed == asIs || f.format == forge.FormatJSONL || f.format == forge.FormatJSON || f.format == forge.FormatCSV) {
			return f.format
		}
	}
	return ""
}

// noData says why a file that was named is none.
func noData(path string) error {
	e := forge.Invalidf("path", "%s is not a file of data; those are %s", path, allFormats)
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".zip", ".tar", ".tgz", ".7z", ".rar", ".xz", ".bz2":
		return forge.Invalidf("path", "%s is an archive (%s), which is not read", path, ext).WithHint("Unpack it first, then name the files in it")
	case gzipped, zstded:
		return e.WithHint("What stands before %s says the format: data.jsonl%s", ext, ext)
	}
	return e.WithHint("A dataset is JSON Lines, one JSON object a line, or one of the others; name the file after what it is, or convert it")
}

// onlyFormat is that of all files that are data; the rest goes to the ignored ones. JSON files beside data of another format describe it
// and are not it: dataset_info.json beside *.arrow.
func onlyFormat(root string, names []string, wanted forge.DatasetFormat) (format forge.DatasetFormat, data, rest []string, err error) {
	first := map[forge.DatasetFormat]string{}
	for _, n := range names {
		if f := formatOf(n); f != "" && first[f] == "" {
			first[f] = n
		}
	}
	if wanted != "" {
		first = map[forge.DatasetFormat]string{wanted: first[wanted]}
	} else if len(first) > 1 {
		delete(first, forge.FormatJSON)
	}
	if len(first) > 1 {
		var have []string
		ext := ""
		for _, f := range formats {
			if n := first[f.format]; n != "" {
				ext = f.ext
				have = append(have, string(f.format)+" ("+n+")")
			}
		}
		return "", nil, nil, forge.Invalidf("path", "%s holds %s; all files of a dataset have one format", root, strings.Join(have, " and ")).
			WithHint("Name the files that are meant, in quotes where the shell should not look: '%s'", filepath.Join(root, "*"+ext))
	}
	for f := range first {
		format = f
	}
	for _, n := range names {
		if format != "" && formatOf(n) == format {
			data = append(data, n)
		} else {
			rest = append(rest, n)
		}
	}
	return format, data, rest, nil
}
