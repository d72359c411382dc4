package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

const (
	// silence is how long a stream may say nothing before it is taken for dead: several of the
	// server's heartbeats. A host that vanished sends no reset.
	silence      = 60 * time.Second
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 2 * time.Second
	maxEvent     = 1 << 20
)

// Events yields events after a seq, oldest first, of one run when run is not empty.
func (c *Client) Events(ctx context.Context, run string, after int64) iter.Seq2[forge.Event, error] {
	return c.EventsWhere(ctx, api.EventFilter{Run: run, After: after})
}

// EventsWhere yields the events that a filter lets through, oldest first, and goes on until the
// context ends. A lost connection is made again with Last-Event-ID: nothing is missed and nothing
// comes twice. It ends with an error when the server refuses, or cannot be reached for
// Options.Patience.
func (c *Client) EventsWhere(ctx context.Context, f api.EventFilter) iter.Seq2[forge.Event, error] {
	return func(yield func(forge.Event, error) bool) {
		backoff := firstBackoff
		lastGood := time.Now()
		for {
			heard := false
			err := c.streamOnce(ctx, f, func(e *forge.Event) bool {
				heard, lastGood, backoff = true, time.Now(), firstBackoff
				if e == nil {
					return true
				}
				if e.Seq <= f.After { // a server that repeats itself must not repeat us
					return true
				}
				f.After = e.Seq
				return yield(*e, nil)
			})
			switch {
			case errors.Is(err, errEnough):
				return
			case ctx.Err() != nil:
				return
			case err != nil && forge.KindOf(err) != forge.KindUnavailable,
				err != nil && !heard && time.Since(lastGood) > c.opts.Patience:
				yield(forge.Event{}, err)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(backoff):
			}
			backoff = min(2*backoff, lastBackoff)
		}
	}
}

func eventQuery(f api.EventFilter) url.Values {
	q := url.Values{}
	setText(q, "run", f.Run)
	setText(q, "actor", f.Actor)
	setTime(q, "since", f.Since)
	types := make([]string, len(f.Types))
	for i, t := range f.Types {
		types[i] = string(t)
	}
	setText(q, "type", strings.Join(types, ","))
	return q
}

// EventList lists the events that a filter lets through, oldest first: one page of at most limit.
func (c *Client) EventList(ctx context.Context, f api.EventFilter, limit int) ([]forge.Event, error) {
	q := eventQuery(f)
	setInt(q, "cursor", f.After)
	setInt(q, "limit", int64(limit))
	var out api.List[forge.Event]
	err := c.ask(ctx, http.MethodGet, "/v1/events/list", q, nil, &out)
	return out.Items, err
}

// errEnough says that whoever consumes the events wants no more.
var errEnough = errors.New("enough")

// streamOnce reads one connection to its end. each is called with every event, and with nil
// for a heartbeat.
func (c *Client) streamOnce(ctx context.Context, f api.EventFilter, each func(*forge.Event) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	r, err := c.request(ctx, http.MethodGet, "/v1/events", eventQuery(f), nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set(api.HeaderLastEventID, strconv.FormatInt(f.After, 10))
	resp, err := c.http.Do(r)
	if err != nil {
		return forge.Errorf(forge.KindUnavailable, "", "%w", c.unreachable(context.WithoutCancel(ctx), err)).WithHint(startHint)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c.refusal(resp, resp.Body)
	}
	if ct, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); ct != "text/event-stream" {
		return c.foreign(resp)
	}
	err = readStream(resp.Body, func(data []byte) error {
		watchdog.Reset(silence)
		if data == nil {
			each(nil)
			return nil
		}
		var e forge.Event
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("event: %w", err)
		}
		if !each(&e) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return err
	}
	return forge.Errorf(forge.KindUnavailable, "", "the event stream of %s ended: %w", c.shown, orEOF(err)).WithHint(startHint)
}

func orEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

// readStream calls each with the data of every event, and with nil for every comment.
func readStream(r io.Reader, each func(data []byte) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxEvent)
	var data []byte
	for lines.Scan() {
		line := lines.Bytes()
		switch {
		case len(line) == 0:
			if data != nil {
				if err := each(data); err != nil {
					return err
				}
			}
			data = nil
		case line[0] == ':':
			if err := each(nil); err != nil {
				return err
			}
		default:
			if v, ok := bytes.CutPrefix(line, []byte("data:")); ok {
				if data != nil {
					data = append(data, '\n')
				}
				data = append(data, bytes.TrimPrefix(v, []byte(" "))...)
			}
		}
	}
	return lines.Err()
}
