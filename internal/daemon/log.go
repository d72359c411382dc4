package daemon

import (
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
)

// Log is forged's own log. Its level and its form may change while it is written to: each logger that
// was derived from it follows.
type Log struct {
	level   atomic.Int32
	console atomic.Bool
	plain   io.Writer
	pretty  zerolog.ConsoleWriter
}

// NewLog writes to w, one line for each message, in one write each.
func NewLog(w io.Writer, c LogConfig) *Log {
	l := &Log{plain: w, pretty: zerolog.ConsoleWriter{Out: w, NoColor: os.Getenv("NO_COLOR") != "", FormatMessage: printable}}
	l.Set(c)
	return l
}

// Set changes level and form.
func (l *Log) Set(c LogConfig) {
	level, err := zerolog.ParseLevel(c.Level)
	if err != nil {
		level = zerolog.InfoLevel
	}
	l.level.Store(int32(level))
	l.console.Store(c.Format == "console")
}

// Logger is for all who log.
func (l *Log) Logger() zerolog.Logger {
	return zerolog.New(l).Sample(l).With().Timestamp().Logger()
}

// Sample implements zerolog.Sampler: what is below the level is not even built.
func (l *Log) Sample(level zerolog.Level) bool { return int32(level) >= l.level.Load() }

func (l *Log) Write(p []byte) (int, error) {
	if l.console.Load() {
		return l.pretty.Write(p)
	}
	return l.plain.Write(p)
}

// printable keeps what came from outside from steering a terminal or forging a line. The console form
// quotes fields by itself, and messages not.
func printable(v any) string {
	s, _ := v.(string)
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	return strconv.Quote(s)
}

// runLog is for a line about a run.
func (d *Daemon) runLog(id forge.RunID) zerolog.Context {
	r, ok := d.world.run(id)
	if !ok { // ended: it has left the world
		r, _ = d.runByID(id)
	}
	return d.log.With().Str("run", string(id)).Int64("run_number", r.Number)
}

// attemptLog is for a line about an attempt: all lines of a run can be found by its id or its number.
func (d *Daemon) attemptLog(a forge.Attempt) *zerolog.Logger {
	l := d.runLog(a.Run).Int("attempt", a.Number).Str("cluster", string(a.Cluster)).Logger()
	return &l
}
