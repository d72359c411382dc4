package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// History lists the lines of a model's history, oldest first, and says where the next page begins. KindNotFound.
func (t *Tenant) History(ctx context.Context, model string, l Listing) ([]forge.StageChange, string, error) {
	const op = "model.history"
	id, err := t.modelID(ctx, model)
	if err != nil {
		return nil, "", err
	}
	after := int64(0)
	if l.Cursor != "" {
		if after, err = strconv.ParseInt(l.Cursor, 10, 64); err != nil || after < 1 {
			return nil, "", forge.Invalidf("cursor", "%.40q is not a cursor of this listing", l.Cursor)
		}
	}
	var rows []stageRow
	limit := l.limit()
	err = selectStages(t.db.read.NewSelect(), &rows).Where("s.tenant = ?", t.p.Tenant).Where("s.model = ?", id).Where("s.seq > ?", after).Limit(int64(limit) + 1).Scan(ctx)
	if err != nil {
		return nil, "", classify(op, err)
	}
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		next = strconv.FormatInt(rows[limit-1].Seq, 10)
	}
	all, err := nouns(rows, func(r *stageRow) (forge.StageChange, error) { return r.forge() })
	return all, next, classify(op, err)
}

func selectStages(q *bun.SelectQuery, rows *[]stageRow) *bun.SelectQuery {
	return q.Model(rows).ColumnExpr("s.*, m.name || '@' || v.number AS name").Join("JOIN models AS m ON m.id = s.model").
		Join("LEFT JOIN model_versions AS v ON v.id = s.version").Order("s.seq")
}

// VerifyHistory hashes every line of a model's history anew and holds it against the line before, against the versions as they stand, against
// the head that the model keeps, and against the events that told of it. What does not hold is named, all of it. KindNotFound.
func (t *Tenant) VerifyHistory(ctx context.Context, model string) (forge.HistoryCheck, error) {
	const op = "model.history"
	out := forge.HistoryCheck{Model: model, Breaks: []forge.HistoryBreak{}, Checked: t.db.now().UTC()}
	var lines []stageRow
	var versions []modelVersionRow
	var events []eventRow
	var seq, began int64
	var head string
	err := t.db.snapshot(ctx, op, func(tx bun.Tx) error {
		var id forge.ModelID
		err := tx.QueryRowContext(ctx, `SELECT id, history_seq, history_began, history_head FROM models WHERE tenant = ? AND name = ?`, string(t.p.Tenant), clean(model)).
			Scan(&id, &seq, &began, &head)
		if absent(err) {
			return noModel(model)
		}
		if err == nil {
			err = selectStages(tx.NewSelect(), &lines).Where("s.model = ?", id).Scan(ctx)
		}
		if err == nil {
			err = tx.NewSelect().Model(&versions).Where("v.model = ?", id).Order("v.number").Scan(ctx)
		}
		if err == nil {
			err = tx.NewSelect().Model(&events).Where("e.tenant = ?", t.p.Tenant).Where("e.type IN ('model.registered', 'model.stage_changed')").Order("e.seq").Scan(ctx)
		}
		return err
	})
	if err != nil {
		return forge.HistoryCheck{}, err
	}
	c := historian{HistoryCheck: &out, stage: map[forge.ModelVersionID]forge.Stage{}, sha: map[int64]string{}, was: map[forge.ModelVersionID]bool{}}
	c.lines(lines)
	c.heads(seq, head)
	c.versions(model, versions)
	told, err := toldOf(events, model)
	if err != nil {
		return forge.HistoryCheck{}, classify(op, err)
	}
	c.events(began, told)
	out.Intact = len(out.Breaks) == 0
	return out, nil
}

type historian struct {
	*forge.HistoryCheck
	stage map[forge.ModelVersionID]forge.Stage // as the lines so far say
	was   map[forge.ModelVersionID]bool        // in production once
	sha   map[int64]string                     // of each line
	bytes map[forge.ModelVersionID]string      // digest that its lines were written for
}

func (c *historian) say(seq int64, model, format string, args ...any) {
	c.Breaks = append(c.Breaks, forge.HistoryBreak{Seq: seq, Model: model, Why: fmt.Sprintf(format, args...)})
}

func (c *historian) lines(lines []stageRow) {
	c.bytes = map[forge.ModelVersionID]string{}
	before, want := "", int64(1)
	for i := range lines {
		l := &lines[i]
		for ; want < l.Seq; want++ {
			c.say(want, "", "the line is missing")
		}
		want = l.Seq + 1
		if l.Name == "" {
			c.say(l.Seq, "", "it is about a version that is not there")
		}
		if l.digest() != l.SHA256 {
			c.say(l.Seq, l.Name, "what it says is not what its digest was made of: it was changed")
		}
		if l.Before != before {
			c.say(l.Seq, l.Name, "it does not follow the line before it, which has another digest")
		}
		if (l.Report == "") != (l.ReportSHA == "") || l.Report != "" && hexSHA256(l.Report) != l.ReportSHA {
			c.say(l.Seq, l.Name, "the report of its gate was changed")
		}
		c.move(l)
		before, c.sha[l.Seq] = l.SHA256, l.SHA256
	}
	c.Lines, c.Head = int64(len(lines)), before
}

// move carries out what a line says.
func (c *historian) move(l *stageRow) {
	if is := c.stage[l.Version]; is != l.Was {
		c.say(l.Seq, l.Name, "it takes the version out of %s, and by the lines before it stood in %s", orNone(l.Was), orNone(is))
	}
	ok := forge.CanMoveStage(l.Was, l.Becomes)
	if l.Action == forge.ActionRegister {
		ok = l.Was == "" && l.Becomes == forge.StageStaging
	}
	if l.Was == forge.StageArchived {
		ok = ok && l.Action == forge.ActionRollback && c.was[l.Version]
	}
	if !ok {
		c.say(l.Seq, l.Name, "no version goes from %s to %s by %s", orNone(l.Was), l.Becomes, l.Action)
	}
	if l.Becomes == forge.StageProduction {
		for v, s := range c.stage {
			if s == forge.StageProduction && v != l.Version {
				c.say(l.Seq, l.Name, "another version was in production still")
			}
		}
		c.was[l.Version] = true
	}
	if sha, ok := c.bytes[l.Version]; ok && sha != l.VersionSHA {
		c.say(l.Seq, l.Name, "it is about other bytes than the lines before it")
	}
	c.stage[l.Version], c.bytes[l.Version] = l.Becomes, l.VersionSHA
}

func orNone(s forge.Stage) string {
	if s == "" {
		return "no stage"
	}
	return string(s)
}

func (c *historian) heads(seq int64, head string) {
	switch {
	case seq > c.Lines:
		c.say(seq, "", "the model knows of %d lines, and there are %d: the newest were removed", seq, c.Lines)
	case seq != c.Lines || head != c.Head:
		c.say(0, "", "the model knows of %d lines, the newest with the digest %.12s; there are %d, the newest with %.12s", seq, head, c.Lines, c.Head)
	}
}

func (c *historian) versions(model string, versions []modelVersionRow) {
	for i := range versions {
		v := &versions[i]
		name := forge.Ref{Name: model, Number: v.Number}.String()
		switch is, ok := c.stage[v.ID]; {
		case !ok:
			c.say(0, name, "no line tells of its registration")
			continue
		case is != v.Stage:
			c.say(0, name, "it stands in %s, and by its history it is in %s: its stage was changed without a line", v.Stage, is)
		}
		if c.bytes[v.ID] != v.SHA256 {
			c.say(0, name, "its digest is %.12s, and its lines were written for %.12s", v.SHA256, c.bytes[v.ID])
		}
		delete(c.stage, v.ID)
	}
}

// told is a line as an event told of it when it was written.
type told struct {
	seq   int64
	sha   string
	event int64
	at    time.Time
}

func toldOf(events []eventRow, model string) ([]told, error) {
	var out []told
	for i := range events {
		var d struct {
			Model string `json:"model"`
			Line  int64  `json:"line"`
			SHA   string `json:"line_sha256"`
		}
		if err := decode(events[i].Data, &d); err != nil {
			return nil, err
		}
		if d.Model == model && d.Line > 0 {
			out = append(out, told{d.Line, d.SHA, events[i].Seq, events[i].Time.time()})
		}
	}
	return out, nil
}

func (c *historian) events(began int64, all []told) {
	known := map[int64]bool{}
	for _, e := range all {
		known[e.seq] = true
		if sha, ok := c.sha[e.seq]; !ok {
			c.say(e.seq, "", "event %d of %s told of it, and it is not there", e.event, e.at.Format(time.RFC3339))
		} else if sha != e.sha {
			c.say(e.seq, "", "event %d of %s told of a line with another digest", e.event, e.at.Format(time.RFC3339))
		}
	}
	for seq := began + 1; seq <= c.Lines; seq++ {
		if _, ok := c.sha[seq]; ok && !known[seq] {
			c.say(seq, "", "no event tells of it: it was put there past forge")
		}
	}
}
