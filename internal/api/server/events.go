package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

const (
	eventsPath = "/v1/events"
	eventPage  = 500
	// eventWrite bounds one write to a client that does not read. It is dropped then, and
	// resumes where it was.
	eventWrite = 20 * time.Second
)

type eventsInput struct {
	Run         string `query:"run" maxLength:"64" doc:"Only this run's: number or id"`
	After       int64  `query:"after" minimum:"0" doc:"Only events with a greater seq"`
	LastEventID string `header:"Last-Event-ID" maxLength:"20" doc:"Seq of the last event seen; outranks after"`
}

type runEventsInput struct {
	RunInput
	After int64 `query:"after" minimum:"0" doc:"Only events with a greater seq"`
	Limit int   `query:"limit" minimum:"1" maximum:"1000" default:"1000" doc:"Events at most"`
}

func (s *server) events() {
	operation(s, spec{
		id: "list-run-events", method: http.MethodGet, path: "/v1/runs/{run}/events", tag: "events", role: forge.RoleViewer,
		summary: "List a run's events", doc: "Oldest first; next is the seq to ask after.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *runEventsInput) (api.List[forge.Event], error) {
		items, err := s.Events.EventsAfter(ctx, p, api.EventFilter{Run: in.Run, After: in.After}, in.Limit)
		l := whole(items)
		if n := len(items); n >= in.Limit {
			l.Next = strconv.FormatInt(items[n-1].Seq, 10)
		}
		return l, err
	})
	event := s.huma.OpenAPI().Components.Schemas.Schema(eventType, true, "Event")
	streaming(s, spec{
		id: "stream-events", method: http.MethodGet, path: eventsPath, tag: "events", role: forge.RoleViewer,
		summary: "Follow events",
		doc: "Server-sent events, oldest first, from the start or after the one named; id is the event's seq, data the event as JSON. " +
			"A comment comes every few seconds when there is nothing to say. Reconnect with Last-Event-ID and nothing is missed.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound},
		responses: map[string]*huma.Response{"200": {Description: "Events until the client goes",
			Content: map[string]*huma.MediaType{"text/event-stream": {Schema: event}}}},
	}, s.stream)
}

var eventType = reflect.TypeFor[forge.Event]()

// stream answers GET /v1/events. The first page is read before the answer begins, so that an
// unknown run is a problem and not an empty stream.
func (s *server) stream(ctx context.Context, p forge.Principal, in *eventsInput) (func(huma.Context), error) {
	st := &eventStream{server: s, principal: p, run: in.Run, after: in.After}
	if in.LastEventID != "" {
		n, err := strconv.ParseInt(in.LastEventID, 10, 64)
		if err != nil || n < 0 {
			return nil, forge.Invalidf(api.HeaderLastEventID, "%q is not the seq of an event; want a whole number", in.LastEventID)
		}
		st.after = n
	}
	changed := s.Events.Changed()
	first, err := s.Events.EventsAfter(ctx, p, api.EventFilter{Run: st.run, After: st.after}, eventPage)
	if err != nil {
		return nil, err
	}
	return func(c huma.Context) {
		_, w := humago.Unwrap(c)
		st.w, st.rc = w, http.NewResponseController(w)
		h := w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no") // proxies that buffer would hold events back
		w.WriteHeader(http.StatusOK)
		if err := st.serve(ctx, first, changed); err != nil && ctx.Err() == nil {
			s.opts.Log.Debug().Err(err).Str("request_id", requestID(ctx)).Msg("event stream ended")
		}
	}, nil
}

// eventStream is one client's place in the trail.
type eventStream struct {
	*server
	principal forge.Principal
	run       string
	after     int64
	w         http.ResponseWriter
	rc        *http.ResponseController
}

// serve writes events until the client goes or the daemon stops. The channel that tells of
// news is always taken before the read that it follows: an event committed between the two
// closes the channel that is already held. The other way round it would be missed until the
// next one.
func (st *eventStream) serve(ctx context.Context, page []forge.Event, changed <-chan struct{}) error {
	beat := time.NewTicker(st.opts.Heartbeat)
	defer beat.Stop()
	if err := st.write([]byte(": events\nretry: 1000\n\n")); err != nil {
		return err
	}
	for {
		if err := st.send(page); err != nil {
			return err
		}
		if len(page) < eventPage {
			if more, err := st.wait(ctx, changed, beat.C); err != nil || !more {
				return err
			}
		} else if err := ctx.Err(); err != nil {
			return err
		}
		changed = st.Events.Changed()
		var err error
		if page, err = st.Events.EventsAfter(ctx, st.principal, api.EventFilter{Run: st.run, After: st.after}, eventPage); err != nil {
			return err
		}
	}
}

// wait returns when there may be news. On every beat the key is looked at again: a stream may
// live for weeks, and must not outlive its key.
func (st *eventStream) wait(ctx context.Context, changed <-chan struct{}, beat <-chan time.Time) (bool, error) {
	for {
		select {
		case <-changed:
			return true, nil
		case <-ctx.Done():
			return false, ctx.Err()
		case <-st.opts.Stop:
			return false, nil
		case <-beat:
			if _, err := st.identify(ctx, requestOf(ctx).caller); forge.KindOf(err) == forge.KindUnauthorized && err != nil {
				return false, err
			}
			if err := st.write([]byte(": beat\n\n")); err != nil {
				return false, err
			}
		}
	}
}

// send writes a page and remembers how far the client is.
func (st *eventStream) send(page []forge.Event) error {
	if len(page) == 0 {
		return nil
	}
	var b bytes.Buffer
	for i := range page {
		data, err := json.Marshal(&page[i])
		if err != nil {
			return fmt.Errorf("event %d: %w", page[i].Seq, err)
		}
		fmt.Fprintf(&b, "id: %d\ndata: %s\n\n", page[i].Seq, data) // JSON has no raw line breaks
	}
	if err := st.write(b.Bytes()); err != nil {
		return err
	}
	st.after = page[len(page)-1].Seq
	return nil
}

func (st *eventStream) write(b []byte) error {
	_ = st.rc.SetWriteDeadline(time.Now().Add(eventWrite)) // not supported by test recorders
	if _, err := st.w.Write(b); err != nil {
		return err
	}
	return st.rc.Flush()
}
