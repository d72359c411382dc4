package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"slices"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

const (
	readChunk     = 1 << 20
	maxMetricLine = 64 << 10
	maxMetricKeys = 256
)

// cursors remembers how far the metrics of each open attempt were read, so that an idle
// attempt costs no query. The durable cursor moves with the rows; this one follows it.
type cursors struct {
	mu sync.Mutex
	m  map[string]*cursor
}

type cursor struct {
	offset int64
	saved  map[string]forge.Checkpoint // as they were recorded, by path
}

func (c *cursors) get(key string) (*cursor, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x, ok := c.m[key]
	return x, ok
}

func (c *cursors) put(key string, x *cursor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m[key] = x
}

func (c *cursors) drop(a forge.Attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.m, forge.AttemptKey(a.Run, a.Number))
}

// progress moves new metric lines and new checkpoint manifests into the store: whole lines
// only, in the transaction that moves the byte cursor. With all it reads to the end.
func (d *Daemon) progress(ctx context.Context, c *Cluster, a forge.Attempt, all bool, now time.Time) error {
	key := forge.AttemptKey(a.Run, a.Number)
	cur, ok := d.cursors.get(key)
	if !ok {
		at, err := d.db.StreamCursor(ctx, a.Run, a.Number, forge.StreamMetrics)
		if err != nil {
			return err
		}
		cur = &cursor{offset: at, saved: map[string]forge.Checkpoint{}}
		d.cursors.put(key, cur)
	}
	saves, err := d.newSaves(ctx, c, a, cur, now)
	if err != nil {
		return err
	}
	for {
		chunk, err := c.Files.Read(ctx, a.ExternalID, forge.StreamMetrics, cur.offset, readChunk)
		if err != nil {
			return err
		}
		rows, total, used := parseMetrics(a, chunk.Data, now)
		if used == 0 && len(saves) == 0 {
			return nil
		}
		err = d.db.RecordProgress(ctx, store.Progress{Run: a.Run, Attempt: a.Number, Stream: forge.StreamMetrics,
			From: cur.offset, Next: cur.offset + int64(used), Rows: rows, TotalSteps: total, Saves: saves, At: now})
		if err != nil {
			d.cursors.drop(a) // whatever it was, the durable cursor is the truth
			return err
		}
		if d.world.measure(&a, rows, now) {
			kick(d.kickPlan)
		}
		cur.offset += int64(used)
		for _, s := range saves {
			cur.saved[s.Path] = s
		}
		saves = nil
		if !all && int64(len(chunk.Data)) < readChunk || used == 0 {
			return nil
		}
	}
}

// catchUp reads what an earlier attempt wrote after it was given up, as far as this one has resumed from it: its ranks may have gone on
// on a node that was lost, until the fence stopped them. Without it the steps between its last look and that save would be missing.
func (d *Daemon) catchUp(ctx context.Context, c *Cluster, a forge.Attempt, r forge.Resume, now time.Time) error {
	if r.Run != "" || r.Attempt == 0 || r.Attempt >= a.Number {
		return nil
	}
	all, err := d.db.AttemptsOf(ctx, a.Run)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(x forge.Attempt) bool { return x.Number == r.Attempt })
	if i < 0 || all[i].ExternalID == "" || all[i].LastStep >= r.Step {
		return nil
	}
	old := all[i]
	at, err := d.db.StreamCursor(ctx, a.Run, old.Number, forge.StreamMetrics)
	if err != nil {
		return err
	}
	for {
		chunk, err := c.Files.Read(ctx, old.ExternalID, forge.StreamMetrics, at, readChunk)
		if err != nil {
			return err
		}
		rows, _, used := parseMetrics(old, chunk.Data, now)
		if used == 0 {
			return nil
		}
		rows = slices.DeleteFunc(rows, func(m forge.MetricRow) bool { return m.Step > r.Step }) // those are done again
		err = d.db.RecordEarlier(ctx, store.Progress{Run: a.Run, Attempt: old.Number, Stream: forge.StreamMetrics, From: at, Next: at + int64(used), Rows: rows, At: now})
		if err != nil {
			return err
		}
		at += int64(used)
	}
}

// newSaves are what is there and not recorded as it is now, and what was and is gone.
func (d *Daemon) newSaves(ctx context.Context, c *Cluster, a forge.Attempt, cur *cursor, now time.Time) ([]forge.Checkpoint, error) {
	list, err := c.Files.Checkpoints(ctx, a.Run, a.RunDir, false)
	if err != nil {
		return nil, err
	}
	var fresh []forge.Checkpoint
	there := map[string]bool{}
	for _, s := range list {
		if s.Attempt != a.Number {
			continue
		}
		there[s.Path] = true
		if old, ok := cur.saved[s.Path]; !ok || old.SHA256 != s.SHA256 || old.Verdict != s.Verdict || !old.Removed.IsZero() {
			fresh = append(fresh, s)
		}
	}
	for path, s := range cur.saved {
		if !there[path] && s.Removed.IsZero() { // ranks keep the newest ones
			s.Removed = now
			fresh = append(fresh, s)
		}
	}
	return fresh, nil
}

// metricLine is one line of metrics.jsonl (docs/run-contract.md).
type metricLine struct {
	Step       int64               `json:"step"`
	TotalSteps int64               `json:"total_steps"`
	Time       time.Time           `json:"time"`
	Values     map[string]*float64 `json:"values"`
}

// parseMetrics takes whole lines from the front of data. A line that is not understood is
// passed over: what a user's program prints must not stop its run from being watched.
func parseMetrics(a forge.Attempt, data []byte, now time.Time) (rows []forge.MetricRow, total int64, used int) {
	for {
		i := bytes.IndexByte(data[used:], '\n')
		if i < 0 {
			// A line that never ends would stop the stream for good.
			if len(data)-used >= maxMetricLine {
				used = len(data)
			}
			return rows, total, used
		}
		line := data[used : used+i]
		used += i + 1
		var m metricLine
		if len(line) > maxMetricLine || json.Unmarshal(line, &m) != nil || m.Step < 0 || len(m.Values) > maxMetricKeys {
			continue
		}
		row := forge.MetricRow{Run: a.Run, Attempt: a.Number, Step: m.Step, Time: m.Time, Values: make(map[string]float64, len(m.Values))}
		if row.Time.IsZero() {
			row.Time = now
		}
		for k, v := range m.Values {
			if v != nil && !math.IsNaN(*v) && !math.IsInf(*v, 0) && len(k) <= forge.MaxNameLength {
				row.Values[k] = *v
			}
		}
		total = max(total, m.TotalSteps)
		rows = append(rows, row)
	}
}
