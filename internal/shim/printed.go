package shim

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forge-ml/forge-ml/internal/rundir"
)

// printedEvery is how often it is looked at what ranks have printed: so long one may print beyond the limit.
const printedEvery = 250 * time.Millisecond

// printed bounds what the ranks of this node print. Ranks write into files themselves and never wait for it; it works beside the loop, so that
// a slow filesystem keeps nobody from enforcing limits.
type printed struct {
	streams []stream
	limit   int64
	said    []string // of which something is not kept, in words
	failed  map[string]bool
	stop    chan struct{}
	done    sync.WaitGroup
}

type stream struct {
	name string
	p    *rundir.Printed
}

// add takes over the files that a rank writes to: stdin, stdout, stderr. It leaves what is still to be closed.
func (w *printed) add(rank int, at rundir.Attempt, files []*os.File) []*os.File {
	if w.limit <= 0 {
		return files
	}
	w.streams = append(w.streams,
		stream{fmt.Sprintf("stdout of rank %d", rank), rundir.OpenPrinted(files[1], at.StdoutPath(rank), w.limit)},
		stream{fmt.Sprintf("stderr of rank %d", rank), rundir.OpenPrinted(files[2], at.StderrPath(rank), w.limit)})
	return files[:1]
}

// boundPrinted looks until endPrinted.
func (s *shim) boundPrinted() {
	w := &s.printed
	if len(w.streams) == 0 {
		return
	}
	w.stop, w.failed = make(chan struct{}), map[string]bool{}
	w.done.Go(func() {
		tick := time.NewTicker(printedEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.lookPrinted()
			case <-w.stop:
				return
			}
		}
	})
}

func (s *shim) lookPrinted() {
	w := &s.printed
	for _, x := range w.streams {
		first, err := x.p.Bound()
		switch {
		case err != nil && !w.failed[x.name]:
			w.failed[x.name] = true
			s.log.Error().Err(err).Str("stream", x.name).Msg("what a rank prints is more than log_limit allows and cannot be bounded")
		case first:
			w.said = append(w.said, x.name)
			s.log.Warn().Str("stream", x.name).Int64("log_limit", w.limit).Msg("a rank prints more than log_limit allows: the beginning and the newest are kept")
		}
	}
}

// endPrinted looks a last time, once nothing is left that could print, and says what is not kept.
func (s *shim) endPrinted() string {
	w := &s.printed
	if w.stop == nil {
		return ""
	}
	close(w.stop)
	w.done.Wait()
	s.lookPrinted()
	for _, x := range w.streams {
		_ = x.p.Close()
	}
	if len(w.said) == 0 {
		return ""
	}
	names := w.said
	if slices.Sort(names); len(names) > 4 {
		names = append(names[:4:4], "…")
	}
	return fmt.Sprintf("of what ranks printed only the beginning and the newest are kept, log_limit is %d MiB: %s", w.limit>>20, strings.Join(names, ", "))
}
