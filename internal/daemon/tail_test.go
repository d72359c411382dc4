package daemon

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"

	forge "github.com/forge-ml/forge-ml"
)

func TestTailGivesEveryEventOnceOrSaysThatItCannot(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		start := rapid.Int64Range(0, 20).Draw(rt, "start")
		var trail []forge.Event // all that was committed; seq s lies at s-1
		for s := int64(1); s <= start; s++ {
			trail = append(trail, forge.Event{Seq: s})
		}
		tail := newTail(start, rapid.IntRange(1, 8).Draw(rt, "length"))
		for range rapid.IntRange(0, 30).Draw(rt, "commits") {
			var deltas []forge.Delta
			for range rapid.IntRange(0, 10).Draw(rt, "events") {
				e := forge.Event{Seq: int64(len(trail)) + 1, Number: rapid.Int64Range(0, 2).Draw(rt, "number")}
				trail = append(trail, e)
				if rapid.IntRange(0, 40).Draw(rt, "untold") > 0 { // a hole, as a bug would make one
					deltas = append(deltas, forge.Delta{Event: &e}, forge.Delta{Run: &forge.Run{}})
				}
			}
			before, next := tail.next()
			tail.add(deltas)
			newest, _ := tail.next()
			if woken := isClosed(next); woken != (newest != before) {
				rt.Fatalf("woken: %v, newest %d after %d", woken, newest, before)
			}

			after := rapid.Int64Range(0, newest+2).Draw(rt, "after")
			limit := rapid.IntRange(1, 12).Draw(rt, "limit")
			odd := func(e *forge.Event) bool { return e.Number%2 == 1 }
			got, ok := tail.after(after, limit, odd)
			if !ok {
				continue
			}
			var want []forge.Event
			for _, e := range trail[min(after, int64(len(trail))):] {
				if odd(&e) && e.Seq <= newest && len(want) < limit {
					want = append(want, e)
				}
			}
			if !reflect.DeepEqual(got, want) {
				rt.Fatalf("after %d at most %d: got %v, want %v", after, limit, got, want)
			}
		}
	})
	t.Run("it reaches as far back as it is long, and to the end", func(t *testing.T) {
		tail := newTail(10, 4)
		everything := func(*forge.Event) bool { return true }
		if _, ok := tail.after(10, 1, everything); !ok {
			t.Error("an empty tail does not answer whoever has seen all")
		}
		if _, ok := tail.after(9, 1, everything); ok {
			t.Error("an empty tail answers for what it never saw")
		}
		for s := int64(11); s <= 20; s++ {
			tail.add([]forge.Delta{{Event: &forge.Event{Seq: s}}})
		}
		if got, ok := tail.after(16, 9, everything); !ok || len(got) != 4 {
			t.Errorf("got %v, %v", got, ok)
		}
		if _, ok := tail.after(15, 9, everything); ok {
			t.Error("it answers for what it has dropped")
		}
	})
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
