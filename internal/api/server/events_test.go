package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

// stream is one connection to /v1/events.
type stream struct {
	resp   *http.Response
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

func (s *site) stream(t *testing.T, query string, headers ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	r, err := http.NewRequestWithContext(ctx, "GET", s.url+"/v1/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(api.HeaderKey, apitest.MemberSecret)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	st := &stream{resp: resp, lines: bufio.NewScanner(resp.Body), cancel: cancel}
	t.Cleanup(st.close)
	return st
}

func (st *stream) close() {
	st.cancel()
	st.resp.Body.Close()
}

// next gives the next line that starts with prefix, or "" at the end of the stream.
func (st *stream) next(prefix string) string {
	for st.lines.Scan() {
		if rest, ok := strings.CutPrefix(st.lines.Text(), prefix); ok {
			return rest
		}
	}
	return ""
}

// lateEvent commits an event right after each of the first two reads: nobody has seen it, and
// nothing happens afterwards that could bring it along.
type lateEvent struct {
	api.Events
	site *site
	n    int
}

func (l *lateEvent) EventsAfter(ctx context.Context, p forge.Principal, f api.EventFilter, limit int) ([]forge.Event, error) {
	page, err := l.Events.EventsAfter(ctx, p, f, limit)
	if l.n++; l.n <= 2 {
		l.site.AddEvent(forge.Event{Type: forge.EventNodeChanged})
	}
	return page, err
}

func TestEventStream(t *testing.T) {
	t.Run("what was, what is and what comes, in order, across reconnects, while many write", func(t *testing.T) {
		const total = 3000 // several pages
		s := start(t)
		var writers sync.WaitGroup
		for w := range 4 {
			writers.Go(func() {
				for i := range total / 4 {
					s.AddEvent(forge.Event{Type: forge.EventNodeChanged, Message: fmt.Sprint(w, i)})
				}
			})
		}
		var got []int64
		last := ""
		for len(got) < total {
			st := s.stream(t, "?after=0", api.HeaderLastEventID, last)
			for range 700 { // then the connection is cut in the middle
				id := st.next("id: ")
				if id == "" {
					t.Fatalf("the stream ended after %d events", len(got))
				}
				n, err := strconv.ParseInt(id, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				got, last = append(got, n), id
				if len(got) == total {
					break
				}
			}
			st.close()
		}
		writers.Wait()
		for i, n := range got {
			if n != int64(i)+1 {
				t.Fatalf("event %d came as number %d", n, i+1)
			}
		}
	})
	t.Run("an event between the read and the wait is not missed", func(t *testing.T) {
		late := &lateEvent{}
		s := start(t, func(o *server.Options) { o.Heartbeat = time.Hour })
		late.Events, late.site = s.Fake, s
		services := s.Services()
		services.Events = late
		ts := httptest.NewServer(server.New(services, server.Options{Heartbeat: time.Hour}))
		defer ts.Close()
		s.url = ts.URL
		st := s.stream(t, "")
		defer st.close()
		if ids := []string{st.next("id: "), st.next("id: ")}; !slices.Equal(ids, []string{"1", "2"}) {
			t.Errorf("got %v", ids)
		}
	})
	t.Run("only one run's, from after", func(t *testing.T) {
		s := start(t)
		a, b := s.addRun(1, forge.RunPending), s.addRun(2, forge.RunPending)
		for range 3 {
			s.AddEvent(forge.Event{Run: a, Number: 1})
			s.AddEvent(forge.Event{Run: b, Number: 2})
		}
		st := s.stream(t, "?run=2&after=2")
		if ids := []string{st.next("id: "), st.next("id: ")}; !slices.Equal(ids, []string{"4", "6"}) {
			t.Errorf("got %v", ids)
		}
	})
	t.Run("only some types, of one actor, since a time", func(t *testing.T) {
		s := start(t)
		then := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
		for i := range 12 {
			s.AddEvent(forge.Event{Type: []forge.EventType{forge.EventRunHeld, forge.EventRunEnded}[i%2], Actor: []string{"kim", "lee", "max"}[i%3], Time: then.Add(time.Duration(i) * time.Hour)})
		}
		const query = "type=run.held,run.released&actor=kim&since=2026-11-25T13:00:00Z"
		if id := s.stream(t, "?"+query).next("id: "); id != "7" {
			t.Errorf("the first is %q", id)
		}
		_, _, body := s.call(t, "GET", "/v1/events/list?"+query, "")
		var page api.List[forge.Event]
		if err := json.Unmarshal([]byte(body), &page); err != nil || len(page.Items) != 1 || page.Items[0].Seq != 7 || page.Next != "" {
			t.Errorf("%s, %v", body, err)
		}
	})
	t.Run("a type that there is not is refused with those that there are", func(t *testing.T) {
		s := start(t)
		for _, path := range []string{"/v1/events?type=run.hold", "/v1/events/list?type=run.held,run.hold"} {
			if p, _ := s.problem(t, "GET", path, ""); p.Status != 422 || !strings.Contains(p.Detail, "run.held") {
				t.Errorf("%s: %+v", path, p)
			}
		}
	})
	t.Run("a page at a time, without a stream", func(t *testing.T) {
		s := start(t)
		for range 7 {
			s.AddEvent(forge.Event{Type: forge.EventNodeChanged})
		}
		var got []int64
		for cursor, pages := "", 0; pages < 9; pages++ {
			_, _, body := s.call(t, "GET", "/v1/events/list?limit=3&cursor="+cursor, "")
			var page api.List[forge.Event]
			if err := json.Unmarshal([]byte(body), &page); err != nil {
				t.Fatalf("%s: %v", body, err)
			}
			for _, e := range page.Items {
				got = append(got, e.Seq)
			}
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if !slices.Equal(got, []int64{1, 2, 3, 4, 5, 6, 7}) {
			t.Errorf("got %v", got)
		}
	})
	t.Run("a place that the trail has not reached is refused: nothing would be heard for long", func(t *testing.T) {
		s := start(t)
		s.AddEvent(forge.Event{Type: forge.EventNodeChanged})
		if p, _ := s.problem(t, "GET", "/v1/events?after=2", ""); p.Status != 422 || !strings.Contains(p.Detail, "the newest is 1") {
			t.Errorf("%+v", p)
		}
	})
	t.Run("another tenant's are not in it", func(t *testing.T) {
		s := start(t)
		s.AddEvent(forge.Event{Tenant: "T2", Message: "secret"})
		s.AddEvent(forge.Event{Message: "ours"})
		if data := s.stream(t, "").next("data: "); !strings.Contains(data, "ours") {
			t.Errorf("got %s", data)
		}
	})
	t.Run("an unknown run is a problem and no empty stream", func(t *testing.T) {
		s := start(t)
		if p, _ := s.problem(t, "GET", "/v1/events?run=9", ""); p.Status != 404 {
			t.Errorf("got %d", p.Status)
		}
	})
	t.Run("it beats while nothing happens", func(t *testing.T) {
		s := start(t, func(o *server.Options) { o.Heartbeat = 20 * time.Millisecond })
		st := s.stream(t, "")
		if st.next(": beat") != "" || st.lines.Err() != nil || st.lines.Text() != ": beat" {
			t.Errorf("got %q, %v", st.lines.Text(), st.lines.Err())
		}
	})
	t.Run("it ends with its key", func(t *testing.T) {
		s := start(t, func(o *server.Options) { o.Heartbeat = 20 * time.Millisecond })
		st := s.stream(t, "")
		st.next(": beat")
		if _, err := s.RevokeKey(t.Context(), forge.Principal{Tenant: "T1", Role: forge.RoleAdmin}, "K1", forge.WhyRequested); err != nil {
			t.Fatal(err)
		}
		for st.lines.Scan() {
		}
		if err := st.lines.Err(); err != nil {
			t.Errorf("it did not end by itself: %v", err)
		}
	})
	t.Run("it ends when the daemon stops", func(t *testing.T) {
		stop := make(chan struct{})
		s := start(t, func(o *server.Options) { o.Stop = stop })
		st := s.stream(t, "")
		st.next("retry:")
		close(stop)
		for st.lines.Scan() {
		}
		if err := st.lines.Err(); err != nil {
			t.Errorf("it did not end by itself: %v", err)
		}
	})
	t.Run("it outlives no client", func(t *testing.T) {
		s := start(t)
		st := s.stream(t, "")
		st.next("retry:")
		st.close()
		deadline := time.Now().Add(10 * time.Second)
		for !strings.Contains(s.log.String(), `"path":"/v1/events"`) { // written when the handler returns
			if time.Now().After(deadline) {
				t.Fatal("the handler is still there")
			}
			<-time.After(5 * time.Millisecond)
		}
	})
}
