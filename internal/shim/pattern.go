package shim

import (
	"bytes"
	"regexp"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/health"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

const (
	// patternTail is how much of the end of a stream is looked at for the line that explains a failure.
	patternTail = 64 << 10
	// patternLine is how much of one line is.
	patternLine = 4 << 10
)

// pattern is the line that explains why a rank failed by itself: of the first one that did, since the others followed. What programs say of
// errors is on stderr; some print all on stdout.
func (s *shim) pattern() *forge.PatternHit {
	m := s.gang.failed()
	if m == nil {
		return nil
	}
	var rules forge.HealthRules
	if o := s.launch.Options.GPU; o != nil {
		rules = o.Rules
	}
	table, err := health.New(rules)
	if err != nil {
		table, _ = health.New(forge.HealthRules{})
	}
	for _, path := range []string{s.at.StderrPath(m.rank), s.at.StdoutPath(m.rank)} {
		data, err := rundir.Tail(path, patternTail)
		if err != nil {
			s.log.Warn().Err(err).Int("rank", m.rank).Msg("what the rank printed is not read for why it failed")
			continue
		}
		if hit := table.Match(m.rank, printedLines(data, len(data) == patternTail)); hit != nil {
			return hit
		}
	}
	return nil
}

// colours are what terminals are told in between.
var colours = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)

// printedLines are the lines as people would read them: a progress bar writes over its line with carriage returns, and of what is no text,
// or is not kept and reads as zeros, nothing is left. cut: the first line may be half of one.
func printedLines(data []byte, cut bool) []string {
	if cut {
		if i := bytes.IndexAny(data, "\r\n"); i >= 0 {
			data = data[i+1:]
		}
	}
	var out []string
	for _, line := range bytes.FieldsFunc(data, func(r rune) bool { return r == '\n' || r == '\r' }) {
		text := strings.ToValidUTF8(string(colours.ReplaceAll(line[:min(len(line), patternLine)], nil)), "\uFFFD")
		text = strings.TrimSpace(strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' || r == 0x7f {
				return -1
			}
			return r
		}, text))
		if text != "" {
			out = append(out, text)
		}
	}
	return out
}
