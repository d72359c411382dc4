package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

const (
	followPoll     = time.Second
	followProgress = 10 * time.Second // between two progress lines where there is no terminal
	followPlot     = 12               // lines of the live curve
)

// follow shows a run live on standard error until it ends, and returns how it ended. Events
// wake it; polling brings steps and loss, and carries it over a stream that was cut. It bears
// with a forged that is restarted meanwhile.
func (a *app) follow(ctx context.Context, cl *client.Client, d api.RunDetail, every time.Duration) (api.RunDetail, error) {
	f := &follower{app: a, every: every, client: cl, run: strconv.FormatInt(d.Number, 10), detail: d, calm: patience{app: a},
		screen: screen{w: a.Err, live: a.ErrTTY, width: a.Width}}
	err := f.watch(ctx)
	return f.detail, err
}

type follower struct {
	*app
	client *client.Client
	every  time.Duration
	run    string
	detail api.RunDetail
	why    string
	curve  []forge.MetricBucket
	seen   int64 // seq of the last event shown
	calm   patience
	screen screen

	said    string // the last progress line, its state, and when: for where there is no terminal
	saidKey string
	saidAt  time.Time
}

func (f *follower) watch(ctx context.Context) error {
	streaming, stop := context.WithCancel(ctx)
	defer stop()
	events := make(chan forge.Event)
	go func() {
		defer close(events)
		for e, err := range f.client.Events(streaming, f.run, f.seen) {
			if err != nil {
				return // polling goes on, and says what is wrong
			}
			select {
			case events <- e:
			case <-streaming.Done():
				return
			}
		}
	}()
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for {
		if err := f.poll(ctx); err != nil {
			return err
		}
		f.show()
		if f.detail.State.Terminal() {
			stop()
			return f.finish(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			f.event(e)
		case <-tick.C:
		}
	}
}

// poll asks how the run stands. A server that is away is borne with.
func (f *follower) poll(ctx context.Context) error {
	d, err := f.client.Run(ctx, f.run)
	if !f.calm.forgive(err) {
		return err
	}
	if err != nil {
		return nil
	}
	stepped := d.Step != f.detail.Step || f.curve == nil
	f.detail = d
	f.why = ""
	if d.State == forge.RunPending {
		if w, err := f.client.Why(ctx, f.run); err == nil {
			f.why = w.Sentence
		}
	}
	if f.screen.live && stepped && d.Step > 0 {
		q := api.MetricsQuery{Keys: []string{plotKey}, Points: min(2*f.screen.width, api.MaxPoints)}
		if m, err := f.client.Metrics(ctx, f.run, q); err == nil {
			f.curve = m.Curves[plotKey]
		}
	}
	return nil
}

// finish shows the events that the stream had not brought yet when the end was polled.
func (f *follower) finish(ctx context.Context) error {
	if rest, err := allEvents(ctx, f.client, f.run, f.seen); err == nil {
		for _, e := range rest {
			f.event(e)
		}
	}
	f.show()
	return nil
}

func (f *follower) event(e forge.Event) {
	if e.Seq <= f.seen {
		return
	}
	f.seen = e.Seq
	if f.screen.live {
		f.screen.above(eventLine(e))
		return
	}
	f.screen.above(e.Time.UTC().Format(time.RFC3339) + " " + strings.TrimPrefix(eventLine(e), e.Time.UTC().Format(time.TimeOnly)+"  "))
}

// show draws the live view, or writes a line where there is something new to say.
func (f *follower) show() {
	now := f.Now()
	if f.screen.live {
		f.screen.draw(liveView(f.detail, f.why, f.curve, now, f.screen.width))
		return
	}
	key := fmt.Sprint(f.detail.State, f.detail.Attempt, f.why)
	line := progress(f.detail, f.why, now)
	if line == f.said || key == f.saidKey && now.Sub(f.saidAt) < followProgress {
		return
	}
	f.screen.above(now.UTC().Format(time.RFC3339) + " " + line)
	f.said, f.saidKey, f.saidAt = line, key, now
}

// progress is a run's standing in one line.
func progress(d api.RunDetail, why string, now time.Time) string {
	parts := []string{fmt.Sprintf("run %d %s", d.Number, clean(string(d.State)))}
	if why != "" {
		parts = append(parts, clean(why))
	}
	if d.Reason != "" && string(d.Reason) != string(d.State) && (d.State.Terminal() || d.State == forge.RunPending) {
		parts = append(parts, "last attempt: "+clean(string(d.Reason)))
	}
	if d.TotalSteps > 0 {
		parts = append(parts, fmt.Sprintf("step %s (%d%%)", steps(d.Step, d.TotalSteps), 100*d.Step/d.TotalSteps))
	}
	if d.Loss != nil {
		parts = append(parts, "loss "+number(*d.Loss))
	}
	if !d.ETA.IsZero() && !d.State.Terminal() {
		parts = append(parts, "done "+ago(now, d.ETA))
	}
	if d.SavedStep > 0 {
		parts = append(parts, fmt.Sprintf("saved at %d", d.SavedStep))
	}
	if d.Attempt > 1 {
		parts = append(parts, fmt.Sprintf("attempt %d", d.Attempt))
	}
	return strings.Join(parts, ", ")
}

// liveView is what a terminal shows of a run: its standing and its curve.
func liveView(d api.RunDetail, why string, curve []forge.MetricBucket, now time.Time, width int) []string {
	lines := []string{cut(progress(d, why, now), width)}
	if len(curve) > 1 {
		lines = append(lines, plot(plotKey, "", curve, plotSize{width: width, height: followPlot})...)
	}
	return lines
}

// cut keeps a line on one row: a wrapped one would break the redraw.
func cut(s string, width int) string {
	return fitWidth(s, width)
}

// screen is a place at the bottom of a terminal that is drawn again, with lines scrolling
// away above it. Without a terminal it is only the lines.
type screen struct {
	w     io.Writer
	live  bool
	width int
	drawn int
	last  string
}

func (s *screen) clear() string {
	if s.drawn == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", s.drawn)
}

func (s *screen) draw(lines []string) {
	text := strings.Join(lines, "\n") + "\n"
	if text == s.last && s.drawn > 0 {
		return
	}
	io.WriteString(s.w, s.clear()+text)
	s.drawn, s.last = len(lines), text
}

func (s *screen) above(line string) {
	if !s.live {
		io.WriteString(s.w, line+"\n")
		return
	}
	io.WriteString(s.w, s.clear()+cut(line, s.width)+"\n"+s.last)
}
