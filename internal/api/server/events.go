package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
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
	// eventGap is the least time between two writes to one follower. The first event after a
	// silence goes out at once; what comes in a crowd goes out together: hundreds of followers would
	// otherwise cost a system call each for every event.
	eventGap = 20 * time.Millisecond
)

// EventQuery is what a stream and a listing of events take. It is exported because huma looks into
// embedded fields only then.
type EventQuery struct {
	Run   string    `query:"run" maxLength:"64" doc:"Only this run's: number or id"`
	Type  []string  `query:"type" maxItems:"64" doc:"Only events of these types, comma-separated" example:"run.ended,run.held"`
	Actor string    `query:"actor" maxLength:"64" doc:"Only what this user did, or forged"`
	Since time.Time `query:"since" doc:"Only events of this time or later, RFC 3339"`
}

func (q EventQuery) filter(after int64) (api.EventFilter, error) {
	f := api.EventFilter{Run: q.Run, Actor: q.Actor, Since: q.Since, After: after}
	for _, name := range q.Type {
		t := forge.EventType(name)
		if !slices.Contains(forge.EventTypes, t) {
			return f, forge.Invalidf("type", "%q is no type of event; want any of %v", name, forge.EventTypes)
		}
		f.Types = append(f.Types, t)
	}
	return f, nil
}

type eventsInput struct {
	EventQuery
	After       int64  `query:"after" minimum:"0" doc:"Only events with a greater seq"`
	LastEventID string `header:"Last-Event-ID" maxLength:"20" doc:"Seq of the last event seen; outranks after"`
}

type eventListInput struct {
	EventQuery
	Limit  int   `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Events at most"`
	Cursor int64 `query:"cursor" minimum:"0" doc:"next of the page before: the seq of its last event"`
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
		return s.eventList(ctx, p, api.EventFilter{Run: in.Run, After: in.After}, in.Limit)
	})
	operation(s, spec{
		id: "list-events", method: http.MethodGet, path: "/v1/events/list", tag: "events", role: forge.RoleViewer,
		summary: "List events",
		doc:     "Oldest first, a page at a time, for those who want the trail and no stream of it. What is committed meanwhile comes after the pages that were read.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *eventListInput) (api.List[forge.Event], error) {
		f, err := in.filter(in.Cursor)
		if err != nil {
			return api.List[forge.Event]{}, err
		}
		return s.eventList(ctx, p, f, in.Limit)
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

func (s *server) eventList(ctx context.Context, p forge.Principal, f api.EventFilter, limit int) (api.List[forge.Event], error) {
	items, err := s.Events.EventsAfter(ctx, p, f, limit)
	l := whole(items)
	if n := len(items); n >= limit {
		l.Next = strconv.FormatInt(items[n-1].Seq, 10)
	}
	return l, err
}

var eventType = reflect.TypeFor[forge.Event]()

// stream answers GET /v1/events. The first page is read before the answer begins, so that an
// unknown run is a problem and not an empty stream.
func (s *server) stream(ctx context.Context, p forge.Principal, in *eventsInput) (func(huma.Context), error) {
	field, after := "after", in.After
	if in.LastEventID != "" {
		n, err := strconv.ParseInt(in.LastEventID, 10, 64)
		if err != nil || n < 0 {
			return nil, forge.Invalidf(api.HeaderLastEventID, "%q is not the seq of an event; want a whole number", in.LastEventID)
		}
		field, after = api.HeaderLastEventID, n
	}
	f, err := in.filter(after)
	if err != nil {
		return nil, err
	}
	st := &eventStream{server: s, principal: p, filter: f}
	newest, next := s.Events.Changed()
	if after > newest {
		// Waiting for it would say nothing for as long as it takes, and leave out what happened since.
		return nil, forge.Invalidf(field, "event %d has not happened: the newest is %d", after, newest).
			WithHint("if the daemon's database was restored from a backup, follow from the start again")
	}
	first, err := s.Events.EventsAfter(ctx, p, st.filter, eventPage)
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
		if err := st.serve(ctx, first, newest, next); err != nil && ctx.Err() == nil {
			requestOf(ctx).log(s.opts.Log).Debug().Err(err).Msg("event stream ended")
		}
	}, nil
}

// eventStream is one client's place in the trail. It holds one page at most: what a slow client
// has not read lies in the tables, and costs the daemon nothing.
type eventStream struct {
	*server
	principal forge.Principal
	filter    api.EventFilter // After is the client's place
	w         http.ResponseWriter
	rc        *http.ResponseController
}

// serve writes events until the client goes or the daemon stops. The channel that tells of
// news is always taken before the read that it follows: an event committed between the two
// closes the channel that is already held. The other way round it would be missed until the
// next one.
func (st *eventStream) serve(ctx context.Context, page []forge.Event, newest int64, next <-chan struct{}) error {
	beat := time.NewTicker(st.opts.Heartbeat)
	defer beat.Stop()
	gap := time.NewTimer(0)
	defer gap.Stop()
	if err := st.write([]byte(": events\nretry: 1000\n\n")); err != nil {
		return err
	}
	for {
		if err := st.send(page); err != nil {
			return err
		}
		if len(page) < eventPage {
			// Also past what others did: who sees little must not be looked for far back each time.
			st.filter.After = max(st.filter.After, newest)
			if more, err := st.wait(ctx, next, beat.C, gap.C); err != nil || !more {
				return err
			}
			gap.Reset(eventGap)
		} else if err := ctx.Err(); err != nil {
			return err
		}
		newest, next = st.Events.Changed()
		var err error
		if page, err = st.Events.EventsAfter(ctx, st.principal, st.filter, eventPage); err != nil {
			return err
		}
	}
}

// wait returns when there may be news, and no sooner than the gap after the last. On every beat it
// is looked again who asks: a stream may live for weeks, and must not outlive its key.
func (st *eventStream) wait(ctx context.Context, next <-chan struct{}, beat, gap <-chan time.Time) (bool, error) {
	for news, rested := false, false; !news || !rested; {
		select {
		case <-next:
			news, next = true, nil
		case <-gap:
			rested = true
		case <-ctx.Done():
			return false, ctx.Err()
		case <-st.opts.Stop:
			return false, nil
		case <-beat:
			p, err := st.identify(ctx, requestOf(ctx).caller)
			if err != nil && forge.KindOf(err) == forge.KindUnauthorized {
				return false, err
			}
			if err == nil {
				st.principal = p // an operator who is one no more sees less from now on
			}
			if err := st.write([]byte(": beat\n\n")); err != nil {
				return false, err
			}
		}
	}
	return true, nil
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
	st.filter.After = page[len(page)-1].Seq
	return nil
}

func (st *eventStream) write(b []byte) error {
	_ = st.rc.SetWriteDeadline(time.Now().Add(eventWrite)) // not supported by test recorders
	if _, err := st.w.Write(b); err != nil {
		return err
	}
	return st.rc.Flush()
}
