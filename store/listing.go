package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

const (
	defaultPage = 100
	maxPage     = 10_000
	digestBytes = 12
)

// Listing asks for one page of things that have names. Pages are keysets: a page begins after the values of the
// last item of the one before, so that what is inserted meanwhile neither repeats nor hides an item.
type Listing struct {
	Limit  int    // at most so many; 0: 100
	Cursor string // next of the page before; KindInvalid for one of another listing, tenant, filter or order
	Sort   string // name or created_at, descending with a leading '-'; empty: the listing's own order
	Name   string // names that begin with this
	Kind   string // of models and datasets
}

func (l Listing) limit() int { return pageSize(l.Limit, defaultPage) }

func pageSize(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return min(n, maxPage)
}

// order is a total order of a listing: columns that no two rows share all values of, all in one direction.
type order struct {
	name    string
	columns []string
	desc    bool
}

// orderOf finds the order that a sort field names among those that a listing has, the first of which is its own.
func orderOf(sort string, all ...order) (order, error) {
	field, desc := strings.CutPrefix(sort, "-")
	if sort == "" {
		return all[0], nil
	}
	names := make([]string, len(all))
	for i, o := range all {
		if o.name == field {
			o.desc = desc
			return o, nil
		}
		names[i] = o.name
	}
	return order{}, forge.Invalidf("sort", "%.80q is not a field to sort by; want one of %s, descending with a leading '-'", sort, strings.Join(names, ", "))
}

func (o order) direction() string {
	if o.desc {
		return "DESC"
	}
	return "ASC"
}

// apply orders a query and begins it after a place.
func (o order) apply(q *bun.SelectQuery, after []any) *bun.SelectQuery {
	for _, c := range o.columns {
		q = q.OrderExpr(c + " " + o.direction())
	}
	if after == nil {
		return q
	}
	op := ">"
	if o.desc {
		op = "<"
	}
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(after)), ", ")
	return q.Where(fmt.Sprintf("(%s) %s (%s)", strings.Join(o.columns, ", "), op, marks), after...)
}

// bound is what a cursor belongs to; one that is used elsewhere would skip items without a word.
type bound string

func (t *Tenant) bound(listing string, o order, filters ...any) bound {
	b, err := json.Marshal([]any{listing, t.p.Tenant, o.name, o.desc, filters})
	if err != nil { // strings, numbers and times only
		panic(err)
	}
	return bound(b)
}

func (b bound) digest(place []byte) []byte {
	h := sha256.New()
	h.Write([]byte(b))
	h.Write([]byte{0})
	h.Write(place)
	return h.Sum(nil)[:digestBytes]
}

// cursor makes the opaque form of a place: its values after a digest of them and of what they are a place in. The
// digest is no secret. Whoever forges one only starts a listing elsewhere that is theirs anyway.
func (b bound) cursor(place []any) (string, error) {
	p, err := json.Marshal(place)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(b.digest(p), p...)), nil
}

// place is where a cursor points; nil for an empty one.
func (b bound) place(cursor string, values int) ([]any, error) {
	if cursor == "" {
		return nil, nil
	}
	bad := badCursor(cursor)
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(raw) < digestBytes || !bytes.Equal(b.digest(raw[digestBytes:]), raw[:digestBytes]) {
		return nil, bad
	}
	dec := json.NewDecoder(bytes.NewReader(raw[digestBytes:]))
	dec.UseNumber()
	var place []any
	if err := dec.Decode(&place); err != nil || len(place) != values {
		return nil, bad
	}
	for i, v := range place {
		switch v := v.(type) {
		case string:
			place[i] = clean(v)
		case json.Number:
			if n, err := v.Int64(); err == nil {
				place[i] = n
			} else if f, err := v.Float64(); err == nil {
				place[i] = f
			} else {
				return nil, bad
			}
		default:
			return nil, bad
		}
	}
	return place, nil
}

func badCursor(cursor string) error {
	return forge.Invalidf("cursor", "%.40q is not a cursor of this listing with these filters and in this order", cursor).
		WithHint("pass next of the page before, with the same filters and sort, or begin anew without a cursor")
}

// namedOrders are the orders of named things.
func namedOrders(alias string) []order {
	return []order{{name: "name", columns: []string{alias + ".name"}}, {name: "created_at", columns: []string{alias + ".created_at", alias + ".id"}}}
}

// placed is a row that says where it stands in an order.
type placed interface{ place(order string) []any }

// pageOf reads a page of what q selects. There is a next page only when a row beyond this one was seen.
func pageOf[R any, P interface {
	*R
	placed
}](ctx context.Context, t *Tenant, listing string, l Listing, orders []order, q *bun.SelectQuery, rows *[]R, filters ...any) (string, error) {
	o, err := orderOf(l.Sort, orders...)
	if err != nil {
		return "", err
	}
	b := t.bound(listing, o, append(slices.Clone(filters), l.Name, l.Kind)...)
	after, err := b.place(l.Cursor, len(o.columns))
	if err != nil {
		return "", err
	}
	limit := l.limit()
	if err := o.apply(q, after).Limit(int64(limit) + 1).Scan(ctx); err != nil {
		return "", classify(listing, err)
	}
	if len(*rows) <= limit {
		return "", nil
	}
	*rows = (*rows)[:limit]
	return b.cursor(P(&(*rows)[limit-1]).place(o.name))
}

// startsWith narrows a query to names that begin with a prefix; LIKE would take '_' for any character.
func startsWith(q *bun.SelectQuery, column, prefix string) *bun.SelectQuery {
	if prefix == "" {
		return q
	}
	prefix = clean(prefix)
	return q.Where("substr("+column+", 1, length(?)) = ?", prefix, prefix)
}
