package invariant

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Line is one line of a model's history. Name is the version that it is about, as NAME@NUMBER.
type Line struct {
	Model, Version, Name, VersionSHA256, Action, From, To, Actor, Reason, Report, ReportSHA256, Before, SHA256 string
	Seq, At                                                                                                    int64
	Forced                                                                                                     bool
}

// Digest hashes a line as docs/registry.md says that anybody can.
func (l Line) Digest() string {
	var b strings.Builder
	for _, v := range []string{"forge-stage-1", strconv.FormatInt(l.Seq, 10), l.Name, l.VersionSHA256, l.Action, l.From, l.To, l.Actor,
		time.Unix(0, l.At).UTC().Format(time.RFC3339Nano), l.Reason, strconv.FormatBool(l.Forced), l.ReportSHA256, l.Before} {
		fmt.Fprintf(&b, "%d:%s,", len(v), v)
	}
	return hexOf(b.String())
}

func hexOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func (f *Facts) readHistories(ctx context.Context, tx *sql.Tx) error {
	return rows(ctx, tx, `SELECT s.model, s.version, m.name || '@' || v.number, s.version_sha256, s.action, s.was, s.becomes, s.actor, s.reason, s.report, s.report_sha256, s.before, s.sha256,
		s.seq, s.at, s.forced FROM stage_changes s LEFT JOIN models m ON m.id = s.model LEFT JOIN model_versions v ON v.id = s.version ORDER BY s.model, s.seq`, func(s scan) error {
		var l Line
		var name sql.NullString
		err := s(&l.Model, &l.Version, &name, &l.VersionSHA256, &l.Action, &l.From, &l.To, &l.Actor, &l.Reason, &l.Report, &l.ReportSHA256, &l.Before, &l.SHA256, &l.Seq, &l.At, &l.Forced)
		l.Name = name.String
		f.Lines = append(f.Lines, l)
		return err
	})
}

// 7, too: stage changes are append-only and carry their verdict.
func (j *judge) histories() {
	newest := map[string]Line{} // of each model
	stage := map[string]string{}
	for _, l := range j.f.Lines {
		before := newest[l.Model]
		at := fmt.Sprintf("line %d of the history of model %s", l.Seq, l.Model)
		if l.Seq != before.Seq+1 {
			j.say(7, "%s comes behind line %d", at, before.Seq)
		}
		if l.Before != before.SHA256 {
			j.say(7, "%s does not hold the digest of the line before it", at)
		}
		if l.Digest() != l.SHA256 || l.Report != "" && hexOf(l.Report) != l.ReportSHA256 {
			j.say(7, "%s does not say what was hashed", at)
		}
		if l.From != stage[l.Version] {
			j.say(7, "%s takes version %s out of %q, where it is not: it is in %q", at, l.Name, l.From, stage[l.Version])
		}
		if l.Action == string(forge.ActionPromote) && l.Report == "" && !l.Forced {
			j.say(7, "%s is a promotion and has no verdict", at)
		}
		newest[l.Model], stage[l.Version] = l, l.To
	}
	for _, v := range j.f.Versions {
		if stage[v.ID] != v.Stage {
			j.say(7, "version %s of model %s is in %q, and the newest line about it says %q", v.ID, v.Model, v.Stage, stage[v.ID])
		}
	}
}
