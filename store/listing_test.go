package store_test

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

var runSorts = []string{"", "number", "-number", "priority", "-priority", "submitted_at", "-submitted_at", "ended_at", "-ended_at", "loss", "-loss"}

// later says whether b comes after a by the definition of a sort: runs without the value last, ties by number in the same direction.
func later(sort string, a, b forge.Run) bool {
	field, desc := strings.CutPrefix(sort, "-")
	if sort == "" {
		field, desc = "number", true
	}
	missing, value := func(forge.Run) bool { return false }, func(forge.Run) float64 { return 0 }
	switch field {
	case "priority":
		value = func(r forge.Run) float64 { return float64(r.Spec.Priority) }
	case "submitted_at":
		value = func(r forge.Run) float64 { return float64(r.SubmittedAt.UnixNano() / 1000) }
	case "ended_at":
		missing = func(r forge.Run) bool { return r.EndedAt.IsZero() }
		value = func(r forge.Run) float64 { return float64(r.EndedAt.UnixNano() / 1000) }
	case "loss":
		missing = func(r forge.Run) bool { return r.EndedAt.IsZero() || r.Loss == nil }
		value = func(r forge.Run) float64 { return *r.Loss }
	}
	if missing(a) != missing(b) {
		return missing(b)
	}
	sign := 1
	if desc {
		sign = -1
	}
	if !missing(a) {
		if c := sign * cmp.Compare(value(a), value(b)); c != 0 {
			return c < 0
		}
	}
	return sign*cmp.Compare(a.Number, b.Number) < 0
}

// change does something to the runs that people and programs do while somebody turns pages.
func change(t *testing.T, db *store.DB, acme *store.Tenant, rnd *rand.Rand) {
	t.Helper()
	storetest.Submit(t, acme, storetest.Spec(storetest.Priority(rnd.IntN(4))))
	for range 3 {
		n, err := db.Int(ctx, fmt.Sprintf(`SELECT coalesce(max(number), 0) FROM (SELECT number FROM runs WHERE state = 'pending' ORDER BY (number * %d) %% 17 LIMIT 1)`, 1+rnd.IntN(16)))
		must(t, err)
		if n == 0 {
			return
		}
		loss := "NULL"
		if rnd.IntN(4) > 0 {
			loss = fmt.Sprint(float64(rnd.IntN(6))/10 + 0.1) // many are equal
		}
		must(t, db.Raw(ctx, fmt.Sprintf(`UPDATE runs SET loss = %s, version = version + 1 WHERE number = %d`, loss, n)))
		if rnd.IntN(2) == 0 {
			_, err = acme.RequestCancel(ctx, fmt.Sprint(n), forge.CancelTerm)
			must(t, err)
		}
	}
}

func TestPagesOfRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: seconds of load")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for _, sort := range runSorts {
		t.Run("by "+sort, func(t *testing.T) {
			db := storetest.Open(t)
			acme := storetest.Tenant(t, db, "acme")
			for range 20 {
				change(t, db, acme, rnd)
			}
			t.Run("in peace they are all runs in order, and only the last page has no next", func(t *testing.T) {
				all, none, err := acme.Runs(ctx, store.RunFilter{Sort: sort, Limit: 1000})
				must(t, err)
				if none != "" || len(all) != 20 || !slices.IsSortedFunc(all, func(a, b forge.Run) int {
					if later(sort, a, b) {
						return -1
					}
					return 1
				}) {
					t.Fatalf("%d runs, next %q, %+v", len(all), none, all)
				}
				for size := 1; size < 12; size++ {
					var paged []forge.Run
					f := store.RunFilter{Sort: sort, Limit: size}
					for more := true; more; more = f.Cursor != "" {
						var page []forge.Run
						page, f.Cursor, err = acme.Runs(ctx, f)
						must(t, err)
						if len(page) == 0 || len(page) < size && f.Cursor != "" {
							t.Fatalf("a page of %d of %d, next %q", len(page), size, f.Cursor)
						}
						paged = append(paged, page...)
					}
					if !slices.EqualFunc(paged, all, func(a, b forge.Run) bool { return a.ID == b.ID }) {
						t.Fatalf("pages of %d are not the listing", size)
					}
				}
			})
			t.Run("while runs come, end and learn their loss, none that was there all the time is lost or repeated", func(t *testing.T) {
				for range 2 {
					there, err := db.Int(ctx, `SELECT count(*) FROM runs`)
					must(t, err)
					seen := map[int64]int{}
					f := store.RunFilter{Sort: sort, Limit: 1 + rnd.IntN(8)}
					for more := true; more; more = f.Cursor != "" {
						var page []forge.Run
						page, f.Cursor, err = acme.Runs(ctx, f)
						must(t, err)
						for _, r := range page {
							seen[r.Number]++
						}
						if int64(len(seen)) < there+10 { // numbers ascending would go on for ever
							change(t, db, acme, rnd)
						}
					}
					for n := int64(1); n <= there; n++ {
						if seen[n] != 1 {
							t.Fatalf("run %d was seen %d times", n, seen[n])
						}
					}
				}
			})
		})
	}
}

func TestFiltersOfRuns(t *testing.T) {
	db := storetest.Open(t)
	p := storetest.Principal(t, db, "acme")
	acme := db.For(p)
	for i, name := range []string{"sft-a", "sft_b", "dpo", "sft-c"} {
		storetest.Submit(t, acme, storetest.Spec(func(s *forge.RunSpec) { s.Name, s.Recipe = name, []string{"lora_sft", "dpo"}[i/2] }))
	}
	must(t, db.Raw(ctx, `UPDATE runs SET model = 'bot@1', version = version + 1 WHERE number = 1`,
		`UPDATE runs SET model = 'bot-2@1', version = version + 1 WHERE number = 2`))
	third, err := acme.Run(ctx, "3")
	must(t, err)
	for name, c := range map[string]struct {
		f    store.RunFilter
		want string
	}{
		"names by their beginning":       {store.RunFilter{Name: "sft"}, "[4 2 1]"},
		"no wildcards":                   {store.RunFilter{Name: "sft_"}, "[2]"},
		"nor these":                      {store.RunFilter{Name: "*"}, "[]"},
		"a recipe":                       {store.RunFilter{Recipe: "dpo"}, "[4 3]"},
		"a model, and none that is like": {store.RunFilter{Model: "bot"}, "[1]"},
		"since":                          {store.RunFilter{Since: third.SubmittedAt}, "[4 3]"},
		"until":                          {store.RunFilter{Until: third.SubmittedAt}, "[2 1]"},
		"together":                       {store.RunFilter{Name: "sft", Recipe: "lora_sft", Sort: "number"}, "[1 2]"},
		"what breaks statements":         {store.RunFilter{Name: "x' OR '1'='1\x00", User: "?", Recipe: "?"}, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			runs, _, err := acme.Runs(ctx, c.f)
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
	_, _, err = acme.Runs(ctx, store.RunFilter{Sort: "spec"})
	wantKind(t, err, forge.KindInvalid)
}

func TestACursorWorksForItsListingOnly(t *testing.T) {
	db := storetest.Open(t)
	p := storetest.Principal(t, db, "acme")
	acme, rival := db.For(p), storetest.Tenant(t, db, "rival")
	for i := range 3 {
		storetest.Submit(t, acme, storetest.Spec())
		for _, tenant := range []*store.Tenant{acme, rival} {
			_, _, err := tenant.AddDataset(ctx, datasetVersion(fmt.Sprint("d", i), fmt.Sprint(i)))
			must(t, err)
			_, err = tenant.AddModelVersion(ctx, modelVersion(fmt.Sprint("d", i), fmt.Sprint(i)))
			must(t, err)
		}
	}
	_, runs, err := acme.Runs(ctx, store.RunFilter{Limit: 1})
	must(t, err)
	_, ended, err := acme.Runs(ctx, store.RunFilter{Limit: 1, Sort: "ended_at"})
	must(t, err)
	_, data, err := acme.Datasets(ctx, store.Listing{Limit: 1})
	must(t, err)
	if runs == "" || ended == "" || data == "" {
		t.Fatal("no cursors")
	}
	refused := func(name string, err error) {
		t.Run(name, func(t *testing.T) {
			wantKind(t, err, forge.KindInvalid)
			if !strings.HasPrefix(err.Error(), "cursor: ") {
				t.Fatalf("%q does not name the field", err)
			}
		})
	}
	list := func(t *store.Tenant, f store.RunFilter) error { _, _, err := t.Runs(ctx, f); return err }
	refused("another tenant", list(rival, store.RunFilter{Cursor: runs}))
	refused("another order", list(acme, store.RunFilter{Cursor: runs, Sort: "number"}))
	refused("an order with as many values", list(acme, store.RunFilter{Cursor: ended, Sort: "-ended_at"}))
	refused("another filter", list(acme, store.RunFilter{Cursor: runs, User: "ana"}))
	refused("another time", list(acme, store.RunFilter{Cursor: runs, Since: time.Now()}))
	refused("another listing", second(acme.Models(ctx, store.Listing{Cursor: data})))
	refused("datasets of another tenant", second(rival.Datasets(ctx, store.Listing{Cursor: data})))
	refused("datasets of another prefix", second(acme.Datasets(ctx, store.Listing{Cursor: data, Name: "d"})))
	refused("runs for datasets", second(acme.Datasets(ctx, store.Listing{Cursor: runs})))
	refused("a number", list(acme, store.RunFilter{Cursor: "3"}))
	refused("no base64", list(acme, store.RunFilter{Cursor: "\x00%"}))
	refused("shorter", list(acme, store.RunFilter{Cursor: runs[:len(runs)-2]}))
	raw, err := base64.RawURLEncoding.DecodeString(ended)
	must(t, err)
	for i := range raw {
		bent := slices.Clone(raw)
		bent[i] ^= 1
		if err := list(acme, store.RunFilter{Sort: "ended_at", Cursor: base64.RawURLEncoding.EncodeToString(bent)}); forge.KindOf(err) != forge.KindInvalid {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	must(t, list(acme, store.RunFilter{Cursor: runs, Sort: "-number"})) // "" by its other name
	must(t, second(acme.Datasets(ctx, store.Listing{Cursor: data, Limit: 2})))
}

func TestPagesOfNamedThings(t *testing.T) {
	db := storetest.Open(t)
	p := storetest.Principal(t, db, "acme")
	p.Role = forge.RoleOperator
	acme := db.For(p)
	for _, i := range rand.Perm(7) {
		name := fmt.Sprint("n", i)
		_, _, err := acme.AddDataset(ctx, datasetVersion(name, name))
		must(t, err)
		_, err = acme.AddModelVersion(ctx, modelVersion(name, name))
		must(t, err)
		_, err = acme.CreateTenant(ctx, name)
		must(t, err)
		_, _, err = acme.CreateKey(ctx, store.NewKey{User: name})
		must(t, err)
	}
	type page func(store.Listing) (names []string, next string, err error)
	collect := func(t *testing.T, ask page, l store.Listing) []string {
		var all []string
		for more := true; more; more = l.Cursor != "" {
			names, next, err := ask(l)
			must(t, err)
			if l.Limit > 0 && len(names) > l.Limit {
				t.Fatalf("%d of %d", len(names), l.Limit)
			}
			all, l.Cursor = append(all, names...), next
		}
		return all
	}
	for what, ask := range map[string]page{
		"datasets": func(l store.Listing) ([]string, string, error) {
			all, next, err := acme.Datasets(ctx, l)
			return namesOf(all, func(d forge.Dataset) string { return d.Name }), next, err
		},
		"models": func(l store.Listing) ([]string, string, error) {
			all, next, err := acme.Models(ctx, l)
			return namesOf(all, func(m forge.Model) string { return m.Name }), next, err
		},
		"tenants": func(l store.Listing) ([]string, string, error) {
			all, next, err := acme.Tenants(ctx, l)
			return namesOf(all, func(n forge.Tenant) string { return n.Name }), next, err
		},
		"users": func(l store.Listing) ([]string, string, error) {
			all, next, err := acme.Users(ctx, l)
			return namesOf(all, func(u forge.User) string { return u.Name }), next, err
		},
	} {
		t.Run(what, func(t *testing.T) {
			for _, sort := range []string{"", "name", "-name", "created_at", "-created_at"} {
				whole := collect(t, ask, store.Listing{Sort: sort, Name: "n"})
				if len(whole) != 7 {
					t.Fatalf("by %s: got %v", sort, whole)
				}
				if paged := collect(t, ask, store.Listing{Sort: sort, Name: "n", Limit: 2}); !slices.Equal(paged, whole) {
					t.Fatalf("by %s: got %v, want %v", sort, paged, whole)
				}
				backwards := slices.Clone(whole)
				slices.Sort(backwards)
				if strings.HasPrefix(sort, "-") {
					slices.Reverse(backwards)
				}
				if !strings.HasSuffix(sort, "created_at") && !slices.Equal(whole, backwards) {
					t.Fatalf("by %s: got %v", sort, whole)
				}
			}
			_, _, err := ask(store.Listing{Sort: "size"})
			wantKind(t, err, forge.KindInvalid)
		})
	}
	t.Run("keys come oldest first", func(t *testing.T) {
		got := collect(t, func(l store.Listing) ([]string, string, error) {
			all, next, err := acme.Keys(ctx, l)
			return namesOf(all, func(k forge.Key) string { return string(k.ID) }), next, err
		}, store.Listing{Limit: 3})
		if len(got) != 8 || !slices.IsSorted(got) {
			t.Fatalf("got %v", got)
		}
	})
}

func namesOf[T any](all []T, name func(T) string) []string {
	names := make([]string, len(all))
	for i := range all {
		names[i] = name(all[i])
	}
	return names
}
