package sim

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
)

// Job is one run of a trace.
type Job struct {
	ID       string
	Submit   int64 // ms since the trace began
	GPUs     int
	Duration int64 // ms of work on all of its GPUs
	Model    string
	Priority int // its class; a file has none
	Line     int // of its file; 0 for one that was made
}

// The columns of a trace. Their order is free; model may be missing.
const (
	colID       = "job_id"
	colSubmit   = "submit_s"
	colGPUs     = "num_gpu"
	colDuration = "duration_s"
	colModel    = "model"
)

var columns = []string{colID, colSubmit, colGPUs, colDuration, colModel}

// The bounds of a trace: whatever is beyond them is a mistake in the file, and some would overflow.
const (
	maxLine    = 64 << 10
	maxJobs    = 5_000_000
	maxGPUs    = 10_000_000
	maxSeconds = 4e9 // 126 years: Unix times are fine
)

// ReadTrace reads jobs as they come, line by line. Whatever it does not understand is a forge.Error that names
// the line, the column, the value and what is allowed.
func ReadTrace(r io.Reader) ([]Job, error) {
	t := traceReader{in: bufio.NewReaderSize(r, maxLine), seen: map[string]int{}}
	if err := t.head(); err != nil {
		return nil, err
	}
	var jobs []Job
	for {
		line, err := t.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		j, err := t.job(string(line))
		if err != nil {
			return nil, err
		}
		if len(jobs) >= maxJobs {
			return nil, t.wrong("", "the trace has more than %d jobs", maxJobs)
		}
		jobs = append(jobs, j)
	}
	if len(jobs) == 0 {
		return nil, forge.Invalidf("trace", "it has a head and no jobs; want at least one line after %q", strings.Join(columns, ","))
	}
	return jobs, nil
}

type traceReader struct {
	in   *bufio.Reader
	line int
	at   map[string]int // column by name
	cols int
	seen map[string]int // id to line
}

// next is a line without its end. One that is too long is refused before it is held.
func (t *traceReader) next() ([]byte, error) {
	t.line++
	b, err := t.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, t.wrong("", "the line is longer than %d bytes; it begins %s", maxLine, quote(string(b[:64])))
	case err != nil && !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("trace: %w", err)
	case err != nil && len(b) == 0:
		return nil, io.EOF
	}
	return bytes.TrimRight(b, "\r\n"), nil
}

func (t *traceReader) head() error {
	b, err := t.next()
	if errors.Is(err, io.EOF) {
		return forge.Invalidf("trace", "the file is empty; want a first line %q and a line for each job", strings.Join(columns, ","))
	}
	if err != nil {
		return err
	}
	t.at = map[string]int{}
	names := strings.Split(strings.TrimPrefix(string(b), "\ufeff"), ",")
	for i, n := range names {
		n = strings.Trim(strings.TrimSpace(n), `"`)
		if !slices.Contains(columns, n) {
			return t.wrong("", "column %d is %s, which a trace does not have; want %s", i+1, quote(n), strings.Join(columns, ","))
		}
		if _, twice := t.at[n]; twice {
			return t.wrong("", "column %d is %s, which is there already", i+1, quote(n))
		}
		t.at[n] = i
	}
	for _, n := range columns {
		if _, ok := t.at[n]; !ok && n != colModel {
			return t.wrong("", "the column %s is missing; want %s", n, strings.Join(columns, ","))
		}
	}
	t.cols = len(names)
	return nil
}

func (t *traceReader) job(line string) (Job, error) {
	if !utf8.ValidString(line) {
		return Job{}, t.wrong("", "the line is not UTF-8: %s", quote(line))
	}
	fields := strings.Split(line, ",")
	if len(fields) != t.cols {
		return Job{}, t.wrong("", "the line has %d columns and the head has %d: %s", len(fields), t.cols, quote(line))
	}
	field := func(col string) string {
		i, ok := t.at[col]
		if !ok {
			return ""
		}
		f := strings.TrimSpace(fields[i])
		if len(f) > 1 && f[0] == '"' && f[len(f)-1] == '"' {
			f = f[1 : len(f)-1]
		}
		return f
	}
	j := Job{ID: field(colID), Model: field(colModel), Line: t.line}
	if j.ID == "" {
		return j, t.wrong(colID, "it is empty; want a name that no other job has")
	}
	if before, twice := t.seen[j.ID]; twice {
		return j, t.wrong(colID, "%s is the id of line %d as well; want one that no other job has", quote(j.ID), before)
	}
	t.seen[j.ID] = t.line
	var err error
	if j.Submit, err = t.seconds(colSubmit, field(colSubmit)); err != nil {
		return j, err
	}
	if j.Duration, err = t.seconds(colDuration, field(colDuration)); err != nil {
		return j, err
	}
	j.Duration = max(1, j.Duration)
	j.GPUs, err = strconv.Atoi(field(colGPUs))
	if err != nil || j.GPUs < 1 || j.GPUs > maxGPUs {
		return j, t.wrong(colGPUs, "%s is no number of GPUs; want a whole number from 1 to %d", quote(field(colGPUs)), maxGPUs)
	}
	return j, nil
}

// seconds reads a time to the millisecond.
func (t *traceReader) seconds(col, text string) (int64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(v) || v < 0 || v > maxSeconds || strings.ContainsAny(text, "xX_") {
		return 0, t.wrong(col, "%s is no time; want seconds, 0 to %.0f", quote(text), float64(maxSeconds))
	}
	return int64(math.Round(v * 1000)), nil
}

func (t *traceReader) wrong(col, format string, args ...any) error {
	if col == "" {
		return forge.Invalidf(fmt.Sprintf("trace line %d", t.line), format, args...)
	}
	return forge.Invalidf(where(t.line, col), format, args...)
}

// where names a value of the file.
func where(line int, column string) string {
	return fmt.Sprintf("trace line %d, column %s", line, column)
}

// quote shows a value that may be anything, and not all of one that is long.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strconv.Quote(s)
}
