package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strconv"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

// evals implements api.Evals. A suite is the site's and no tenant's: everybody with a key sees all.
type evals struct{ d *Daemon }

func (s evals) Suites(context.Context, forge.Principal) ([]api.SuiteRow, error) {
	l := s.d.live().suites
	var out []api.SuiteRow
	for _, name := range l.Names() {
		x, err := l.Get(name)
		if err != nil {
			return nil, err
		}
		out = append(out, api.SuiteRowOf(x))
	}
	return out, nil
}

func (s evals) Suite(_ context.Context, _ forge.Principal, name string) (api.Suite, error) {
	x, err := s.d.live().suites.Get(name)
	return api.Suite{Suite: x}, err
}

func (s evals) Evals(ctx context.Context, p forge.Principal, f api.EvalFilter) (api.List[forge.Eval], error) {
	items, next, err := s.d.db.For(p).Evals(ctx, store.EvalFilter{Model: f.Model, Suite: f.Suite}, store.Listing{Limit: f.Limit, Cursor: f.Cursor})
	return api.List[forge.Eval]{Items: items, Next: next}, err
}

func (s evals) Eval(ctx context.Context, p forge.Principal, run string) (api.EvalDetail, error) {
	e, err := s.d.db.For(p).Eval(ctx, run)
	if err != nil {
		return api.EvalDetail{}, err
	}
	out := api.EvalDetail{Eval: e}
	if now, err := s.d.live().suites.Get(e.Suite); err == nil && now.SHA256 == e.SuiteSHA256 {
		out.Benchmarks = now.Benchmarks
	}
	return out, nil
}

func (s evals) EvalSamples(ctx context.Context, p forge.Principal, run string, f api.SampleFilter) (api.List[api.EvalSample], error) {
	var out api.List[api.EvalSample]
	skip := int64(0)
	if f.Cursor != "" {
		n, err := strconv.ParseInt(f.Cursor, 10, 64)
		if err != nil || n < 1 {
			return out, forge.Invalidf("cursor", "%.40q is not a cursor of this listing", f.Cursor)
		}
		skip = n
	}
	packed, err := s.d.db.For(p).EvalSamples(ctx, run, f.Task, f.Filter)
	if err != nil {
		return out, err
	}
	at := int64(-1)
	err = eachSample(packed.Data, func(line []byte) (bool, error) {
		if at++; at < skip {
			return true, nil
		}
		if len(out.Items) >= max(f.Limit, 1) {
			out.Next = strconv.FormatInt(at, 10)
			return false, nil
		}
		var x api.EvalSample
		if err := json.Unmarshal(line, &x); err != nil {
			return false, err
		}
		out.Items = append(out.Items, x)
		return true, nil
	})
	if err != nil {
		return out, unreadSamples(err)
	}
	return out, nil
}

// eachLine goes through lines of at most so many bytes, as long as it is told to.
func eachLine(from io.Reader, most int, do func(line []byte) (more bool, err error)) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, most)
	for lines.Scan() {
		if more, err := do(lines.Bytes()); err != nil || !more {
			return err
		}
	}
	return lines.Err()
}
