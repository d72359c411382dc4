package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

type stageRow struct {
	bun.BaseModel `bun:"table:stage_changes,alias:s"`

	Model      forge.ModelID        `bun:"model,pk"`
	Seq        int64                `bun:"seq,pk"`
	Tenant     forge.TenantID       `bun:"tenant"`
	Version    forge.ModelVersionID `bun:"version"`
	VersionSHA string               `bun:"version_sha256"`
	Action     forge.StageAction    `bun:"action"`
	Was        forge.Stage          `bun:"was"`
	Becomes    forge.Stage          `bun:"becomes"`
	Actor      string               `bun:"actor"`
	At         stamp                `bun:"at"`
	Reason     string               `bun:"reason"`
	Forced     bool                 `bun:"forced"`
	Report     string               `bun:"report"`
	ReportSHA  string               `bun:"report_sha256"`
	Before     string               `bun:"before"`
	SHA256     string               `bun:"sha256"`

	Name string `bun:"name,scanonly"` // NAME@NUMBER
}

func (r *stageRow) forge() (forge.StageChange, error) {
	c := forge.StageChange{Seq: r.Seq, Model: r.Name, SHA256Of: r.VersionSHA, Action: r.Action, From: r.Was, To: r.Becomes, Actor: r.Actor, At: r.At.time(),
		Reason: r.Reason, Forced: r.Forced, ReportOf: r.ReportSHA, Before: r.Before, SHA256: r.SHA256}
	if r.Report == "" {
		return c, nil
	}
	c.Report = &forge.GateReport{}
	return c, decode(r.Report, c.Report)
}

// chainForm names the form of what is hashed; another form gets another name.
const chainForm = "forge-stage-1"

// digest is the SHA-256 of a line. What is hashed are its values, each as its length in bytes, a colon, the value and a comma: no value can
// run into the next. They are those that the API gives, in this order, so that anybody can hash a history anew (docs/registry.md).
// This form never changes: lines of years ago are hashed by it.
func (r *stageRow) digest() string {
	var b strings.Builder
	for _, v := range []string{chainForm, strconv.FormatInt(r.Seq, 10), r.Name, r.VersionSHA, string(r.Action), string(r.Was), string(r.Becomes), r.Actor,
		r.At.time().Format(time.RFC3339Nano), r.Reason, strconv.FormatBool(r.Forced), r.ReportSHA, r.Before} {
		fmt.Fprintf(&b, "%d:%s,", len(v), v)
	}
	return hexSHA256(b.String())
}

func hexSHA256(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// seal makes a line the one behind seq and before.
func (r *stageRow) seal(seq int64, before string) {
	r.Seq, r.Before = seq+1, before
	if r.Report != "" {
		r.ReportSHA = hexSHA256(r.Report)
	}
	r.SHA256 = r.digest()
}

const insertStageSQL = `INSERT INTO stage_changes (model, seq, tenant, version, version_sha256, action, was, becomes, actor, at, reason, forced, report, report_sha256, before, sha256)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

func (r *stageRow) values() []any {
	return []any{string(r.Model), r.Seq, string(r.Tenant), string(r.Version), r.VersionSHA, string(r.Action), string(r.Was), string(r.Becomes), r.Actor,
		int64(r.At), r.Reason, r.Forced, r.Report, r.ReportSHA, r.Before, r.SHA256}
}

// foundThere is the reason of lines that say where versions stood when histories began.
const foundThere = "stood here before histories were kept"

// beginHistories writes the lines of all versions that are older than their histories. A version that stood in production got there past any
// gate, and its lines say so. It is a step of migration 0014: it knows the tables as they were then, and never changes.
func beginHistories(ctx context.Context, conn *sql.Conn, now time.Time) error {
	rows, err := conn.QueryContext(ctx, `SELECT m.id, m.tenant, m.name, v.id, v.number, v.sha256, v.stage, v.created_by, v.created_at
		FROM model_versions AS v JOIN models AS m ON m.id = v.model ORDER BY m.id, v.number`)
	if err != nil {
		return err
	}
	defer rows.Close()
	type found struct {
		stageRow
		name  string
		stage forge.Stage
	}
	var all []found
	for rows.Next() {
		var f found
		var number int
		if err := rows.Scan(&f.Model, &f.Tenant, &f.name, &f.Version, &number, &f.VersionSHA, &f.stage, &f.Actor, &f.At); err != nil {
			return err
		}
		f.Name = forge.Ref{Name: f.name, Number: number}.String()
		all = append(all, f)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	type head struct {
		seq int64
		sha string
	}
	var order []forge.ModelID
	heads := map[forge.ModelID]head{}
	write := func(f found, line stageRow) error {
		h, ok := heads[f.Model]
		if !ok {
			order = append(order, f.Model)
		}
		line.seal(h.seq, h.sha)
		h.seq, h.sha = line.Seq, line.SHA256
		heads[f.Model] = h
		_, err := conn.ExecContext(ctx, insertStageSQL, line.values()...)
		return err
	}
	for _, f := range all {
		line := f.stageRow
		line.Action, line.Becomes = forge.ActionRegister, forge.StageStaging
		if err := write(f, line); err != nil {
			return err
		}
	}
	for _, f := range all {
		line := f.stageRow
		line.Actor, line.At, line.Reason = actorForged, stampOf(now), foundThere
		var way []forge.Stage
		switch f.stage {
		case forge.StageCandidate:
			way = []forge.Stage{forge.StageCandidate}
		case forge.StageProduction:
			way = []forge.Stage{forge.StageCandidate, forge.StageProduction}
		case forge.StageArchived:
			way = []forge.Stage{forge.StageArchived}
		}
		line.Becomes = forge.StageStaging
		for _, to := range way {
			line.Was, line.Becomes, line.Action, line.Forced = line.Becomes, to, forge.ActionPromote, true
			if to == forge.StageArchived {
				line.Action, line.Forced = forge.ActionArchive, false
			}
			if err := write(f, line); err != nil {
				return err
			}
		}
	}
	for _, id := range order {
		h := heads[id]
		if _, err := conn.ExecContext(ctx, `UPDATE models SET history_seq = ?, history_began = ?, history_head = ? WHERE id = ?`, h.seq, h.seq, h.sha, string(id)); err != nil {
			return err
		}
	}
	return nil
}
