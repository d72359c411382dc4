package apitest

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// bound is what a cursor belongs to: used elsewhere it is refused.
func bound(p forge.Principal, listing string, about ...any) string {
	b, err := json.Marshal([]any{listing, p.Tenant, about})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// pageOf cuts a page out of what is there in order. A cursor names the last item of the page before; nothing that is listed here
// ever goes away.
func pageOf[T any](all []T, id func(T) string, limit int, cursor, bound string) (api.List[T], error) {
	var out api.List[T]
	if cursor != "" {
		raw, err := base64.RawURLEncoding.DecodeString(cursor)
		last, ok := strings.CutPrefix(string(raw), bound)
		i := slices.IndexFunc(all, func(it T) bool { return id(it) == last })
		if err != nil || !ok || i < 0 {
			return out, forge.Invalidf("cursor", "%.40q is not a cursor of this listing with these filters and in this order", cursor)
		}
		all = all[i+1:]
	}
	out.Items = all
	if limit > 0 && len(all) > limit {
		out.Items = all[:limit]
		out.Next = base64.RawURLEncoding.EncodeToString([]byte(bound + id(all[limit-1])))
	}
	return out, nil
}

// thing is what a listing of named things knows of one.
type thing struct {
	id, name string
	made     time.Time
}

// paged is a page of the named things that are visible.
func paged[T any](p forge.Principal, listing string, all []T, l api.Listing, look func(T) (t thing, visible bool)) (api.List[T], error) {
	field, desc := strings.CutPrefix(l.Sort, "-")
	if !slices.Contains([]string{"", "name", "created_at"}, field) {
		return api.List[T]{}, forge.Invalidf("sort", "%q is not a field to sort by; want one of name, created_at", l.Sort)
	}
	var seen []T
	for _, it := range all {
		if t, visible := look(it); visible && strings.HasPrefix(t.name, l.Name) {
			seen = append(seen, it)
		}
	}
	slices.SortFunc(seen, func(a, b T) int {
		x, _ := look(a)
		y, _ := look(b)
		c := cmp.Compare(x.name, y.name)
		if field == "created_at" {
			c = cmp.Or(x.made.Compare(y.made), cmp.Compare(x.id, y.id))
		}
		if desc {
			return -c
		}
		return c
	})
	return pageOf(seen, func(it T) string { t, _ := look(it); return t.id }, l.Limit, l.Cursor, bound(p, listing, cmp.Or(field, "name"), desc, l.Name))
}

// sortRuns puts runs into the order of a sort: those without the value last, ties by number in the same direction.
func sortRuns(runs []forge.Run, sort string) error {
	field, desc := strings.CutPrefix(cmp.Or(sort, "-number"), "-")
	missing, compare := func(forge.Run) bool { return false }, func(a, b forge.Run) int { return 0 }
	switch field {
	case "number":
	case "priority":
		compare = func(a, b forge.Run) int { return cmp.Compare(a.Spec.Priority, b.Spec.Priority) }
	case "submitted_at":
		compare = func(a, b forge.Run) int { return a.SubmittedAt.Compare(b.SubmittedAt) }
	case "ended_at":
		missing = func(r forge.Run) bool { return r.EndedAt.IsZero() }
		compare = func(a, b forge.Run) int { return a.EndedAt.Compare(b.EndedAt) }
	case "loss":
		missing = func(r forge.Run) bool { return r.EndedAt.IsZero() || r.Loss == nil }
		compare = func(a, b forge.Run) int { return cmp.Compare(*a.Loss, *b.Loss) }
	default:
		return forge.Invalidf("sort", "%q is not a field to sort by; want one of number, priority, submitted_at, ended_at, loss", sort)
	}
	slices.SortFunc(runs, func(a, b forge.Run) int {
		if x, y := missing(a), missing(b); x != y {
			if x {
				return 1
			}
			return -1
		}
		c := 0
		if !missing(a) {
			c = compare(a, b)
		}
		if c = cmp.Or(c, cmp.Compare(a.Number, b.Number)); desc {
			return -c
		}
		return c
	})
	return nil
}
