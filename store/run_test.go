package store_test

import (
	"fmt"
	"reflect"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func TestSubmit(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	t.Run("what is read back is what was submitted, by number and by id", func(t *testing.T) {
		spec := storetest.Spec(storetest.Register("bot"), func(s *forge.RunSpec) {
			s.Name, s.MaxRetries, s.Cluster = "it's a \"name\" ?", 2, "local"
			s.Dataset = &forge.InputRef{Name: "chat@1", ID: "01D", SHA256: "aa", Path: "/d"}
			s.Base = &forge.InputRef{Name: "tiny@1", ID: "01B", SHA256: "bb", Path: "/b"}
			s.Params = map[string]any{"a.b": 1.5, "list": []any{"x", true, nil}, "?": "'"}
		})
		run := storetest.Submit(t, acme, spec)
		byNumber, err := acme.Run(ctx, "1")
		must(t, err)
		byID, err := acme.Run(ctx, string(run.ID))
		must(t, err)
		if !reflect.DeepEqual(run.Spec, spec) || !reflect.DeepEqual(run, byNumber) || !reflect.DeepEqual(run, byID) {
			t.Fatalf("submitted %+v\nanswered %+v\nread %+v", spec, run, byNumber)
		}
		if run.State != forge.RunPending || run.User != "ana" || run.SubmittedAt.IsZero() {
			t.Fatalf("got %+v", run)
		}
	})
	t.Run("a run that goes on is not retried", func(t *testing.T) {
		parent, err := acme.Run(ctx, "1")
		must(t, err)
		_, err = acme.SubmitRun(ctx, store.NewRun{Spec: parent.Spec, Parent: parent.ID})
		wantKind(t, err, forge.KindPrecondition)
	})
	t.Run("a retry names its parent, which ends in the same write when it was on hold", func(t *testing.T) {
		parent, err := acme.HoldRun(ctx, "1", "later")
		must(t, err)
		run, err := acme.SubmitRun(ctx, store.NewRun{Spec: parent.Spec, Parent: parent.ID})
		must(t, err)
		parent, err = acme.Run(ctx, "1")
		must(t, err)
		if run.Parent != parent.ID || parent.State != forge.RunCancelled {
			t.Fatalf("got parent %q, which is %s", run.Parent, parent.State)
		}
	})
	for _, name := range []string{"0", "-1", "99", "99999999999999999999999", "", "01ABSENT", "1 OR 1=1", "a\x00b"} {
		t.Run(fmt.Sprintf("no run is called %q", name), func(t *testing.T) {
			_, err := acme.Run(ctx, name)
			wantKind(t, err, forge.KindNotFound)
		})
	}
}

func TestRuns(t *testing.T) {
	db := storetest.Open(t)
	p := storetest.Principal(t, db, "acme")
	acme := db.For(p)
	other := p
	other.User = "bo"
	for i := range 6 {
		who := acme
		if i%3 == 2 {
			who = db.For(other)
		}
		storetest.Submit(t, who, storetest.Spec(storetest.Priority(i)))
	}
	_, err := acme.RequestCancel(ctx, "4", forge.CancelTerm)
	must(t, err)
	for _, c := range []struct {
		name   string
		filter store.RunFilter
		want   string
	}{
		{"newest first", store.RunFilter{}, "[6 5 4 3 2 1]"},
		{"of one user", store.RunFilter{User: "bo"}, "[6 3]"},
		{"in one state", store.RunFilter{States: []forge.RunState{forge.RunCancelled}}, "[4]"},
		{"in one of several states", store.RunFilter{States: []forge.RunState{forge.RunCancelled, forge.RunPending}, Limit: 3}, "[6 5 4]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			runs, _, err := acme.Runs(ctx, c.filter)
			must(t, err)
			numbers := []int64{}
			for _, r := range runs {
				numbers = append(numbers, r.Number)
			}
			if got := fmt.Sprint(numbers); got != c.want {
				t.Fatalf("got %s, want %s", got, c.want)
			}
		})
	}
	t.Run("a listed run equals the run but for what listings leave out of the spec", func(t *testing.T) {
		runs, _, err := acme.Runs(ctx, store.RunFilter{Limit: 1})
		must(t, err)
		want, err := acme.Run(ctx, "6")
		must(t, err)
		s := want.Spec
		want.Spec = forge.RunSpec{Recipe: s.Recipe, Gang: s.Gang, Priority: s.Priority}
		if !reflect.DeepEqual(runs[0], want) {
			t.Fatalf("got %+v\nwant %+v", runs[0], want)
		}
	})
}
