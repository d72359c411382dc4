package daemon

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// long registers a version that takes a moment to hash: zeros that lie on no disk.
func (r *rig) long(t *testing.T, name string, bytes int64) forge.ModelVersion {
	t.Helper()
	m := forge.Manifest{Root: t.TempDir()}
	f, err := os.Create(filepath.Join(m.Root, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if err := f.Truncate(bytes); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	m.Files = []forge.File{{Path: "model.safetensors", Size: bytes, SHA256: hex.EncodeToString(sum.Sum(nil))}}
	v, err := r.db.For(r.op).AddModelVersion(t.Context(), forge.ModelVersion{Name: name, Kind: forge.ModelBase, SHA256: m.Digest(), Manifest: m})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Both have seen an empty production and have passed their gates before either of them may write.
func TestOfTwoPromotionsAtOnceOneWinsAndTheOtherIsToldWhoDid(t *testing.T) {
	r := gated(t)
	s := registry{r.Daemon}
	versions := []forge.ModelVersion{r.long(t, "tiny", 48<<20), r.long(t, "tiny", 48<<20+1)}
	for _, v := range versions {
		storetest.Move(t, r.db.For(r.op), v.ID, forge.StageCandidate)
	}
	file, err := sql.Open("sqlite3", filepath.Join(r.live().cfg.StateDir, "forge.db")+"?_txlock=immediate&_busy_timeout=5000")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	held, err := file.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback()
	type answer struct {
		version int
		api.Promotion
		error
	}
	answers := make(chan answer, 2)
	for i, v := range versions {
		go func() {
			p := r.op
			p.Once = forge.Once{Op: "PromoteModel", Key: fmt.Sprintf("key-of-promotion-%d", i), Digest: fmt.Sprint(i)}
			out, err := s.PromoteModel(t.Context(), p, forge.Ref{Name: "tiny", Number: v.Number}, api.PromoteRequest{})
			answers <- answer{v.Number, out, err}
		}()
	}
	seen := map[string]bool{}
	comesTrue(t, "both gather their evidence", func() bool {
		r.reading.mu.Lock()
		defer r.reading.mu.Unlock()
		for _, own := range r.reading.of {
			for key := range own {
				seen[key] = true
			}
		}
		return len(seen) == 2
	})
	if err := held.Rollback(); err != nil {
		t.Fatal(err)
	}
	won, lost := <-answers, <-answers
	if won.error != nil {
		won, lost = lost, won
	}
	if won.error != nil || !won.Promoted || won.Report.Verdict != forge.GatePass {
		t.Fatalf("nobody won: %v, %v", won.error, lost.error)
	}
	if forge.KindOf(lost.error) != forge.KindConflict || !strings.Contains(lost.Error(), fmt.Sprintf("in production of tiny has changed meanwhile: tiny@%d is there", won.version)) || forge.HintOf(lost.error) == "" {
		t.Errorf("the other: %v", lost.error)
	}
	v, err := r.db.For(r.op).ModelVersion(t.Context(), forge.Ref{Name: "tiny", Number: lost.version})
	if err != nil || v.Stage != forge.StageCandidate {
		t.Errorf("%+v, %v", v, err)
	}
	if c, err := s.VerifyModelHistory(t.Context(), r.op, "tiny"); err != nil || !c.Intact || c.Lines != 5 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestMembersTakeAwayTheAliasesThatTheySetAndNoOthers(t *testing.T) {
	r := gated(t)
	s := registry{r.Daemon}
	mia, ben, ada := storetest.User(t, r.db, r.op.Tenant, "mia", forge.RoleMember), storetest.User(t, r.db, r.op.Tenant, "ben", forge.RoleMember), storetest.User(t, r.db, r.op.Tenant, "ada", forge.RoleAdmin)
	viewer := storetest.User(t, r.db, r.op.Tenant, "vic", forge.RoleViewer)
	m := output(t, wholeFiles)
	if _, err := r.db.For(ben).AddModelVersion(t.Context(), forge.ModelVersion{Name: "chat", Kind: forge.ModelTrained, SHA256: m.Digest(), Manifest: *m}); err != nil {
		t.Fatal(err)
	}
	sets := func(p forge.Principal, alias string) {
		t.Helper()
		if _, err := s.SetModelAlias(t.Context(), p, forge.Ref{Name: "chat", Number: 1}, alias); err != nil {
			t.Fatal(err)
		}
	}
	sets(ben, "best")
	sets(ada, "release")
	for _, c := range []struct {
		p     forge.Principal
		alias string
		says  string
	}{{mia, "best", "alias best of chat was set by ben"}, {ben, "release", "alias release of chat was set by ada"}, {viewer, "best", "viewer"}} {
		if _, err := s.RemoveModelAlias(t.Context(), c.p, "chat", c.alias); forge.KindOf(err) != forge.KindForbidden || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s takes %s: %v", c.p.User, c.alias, err)
		}
	}
	if all, err := s.ModelAliases(t.Context(), mia, "chat"); err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	if a, err := s.RemoveModelAlias(t.Context(), ben, "chat", "best"); err != nil || a.Version != 1 || a.SetBy != ben.Actor() {
		t.Errorf("%+v, %v", a, err)
	}
	sets(ben, "best")
	if _, err := s.RemoveModelAlias(t.Context(), ada, "chat", "best"); err != nil {
		t.Error(err)
	}
	if _, err := s.RemoveModelAlias(t.Context(), ada, "chat", "best"); forge.KindOf(err) != forge.KindNotFound {
		t.Errorf("twice: %v", err)
	}
}
