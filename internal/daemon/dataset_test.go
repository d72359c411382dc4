package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func digestOfBytes(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func memberOf(p forge.Principal, name string) forge.Principal {
	p.Role, p.User = forge.RoleMember, name
	return p
}

// scannedFile is what a pass over one file says of it.
func scannedFile(t *testing.T, path string) *forge.Scanned {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(bytes.Count(b, []byte("\n")))
	return &forge.Scanned{Kind: forge.KindText, Layout: forge.DatasetLayout{Format: forge.FormatJSONL}, Columns: []string{"text"}, Rows: n,
		Manifest: forge.Manifest{Root: path, Files: []forge.File{{Path: ".", Size: st.Size(), SHA256: digestOfBytes(b), ModTime: st.ModTime()}}},
		Report:   forge.ScanReport{Scanner: "1", By: forge.ScannedByJob, PII: &forge.PIIReport{Scanner: "1", Rows: n}}}
}

func textFile(t *testing.T, rows ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d.jsonl")
	text := ""
	for _, r := range rows {
		text += `{"text":"` + r + "\"}\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatSomebodyElseScannedIsHeldAgainstTheDisk(t *testing.T) {
	r := start(t, 1)
	s := datasets{r.Daemon}
	path := textFile(t, "one", "two")
	add := func(change func(*api.AddDatasetRequest)) (api.DatasetAdded, error) {
		q := api.AddDatasetRequest{Name: "d", Paths: []string{path}, Scanned: scannedFile(t, path)}
		change(&q)
		return s.AddDataset(t.Context(), r.op, q)
	}
	for what, change := range map[string]func(*api.AddDatasetRequest){
		"a digest of something else": func(q *api.AddDatasetRequest) {
			q.Scanned.Manifest.Files[0].SHA256, q.Scanned.Manifest.Files[0].ModTime = strings.Repeat("0", 64), time.Unix(1, 0)
		},
		"a size of something else":    func(q *api.AddDatasetRequest) { q.Scanned.Manifest.Files[0].Size++ },
		"a path that leaves the root": func(q *api.AddDatasetRequest) { q.Scanned.Manifest.Files[0].Path = "../x" },
		"a digest that is none":       func(q *api.AddDatasetRequest) { q.Scanned.Manifest.Files[0].SHA256 = "ab" },
		"no file":                     func(q *api.AddDatasetRequest) { q.Scanned.Manifest.Files = nil },
		"a file twice": func(q *api.AddDatasetRequest) {
			q.Scanned.Manifest.Files = append(q.Scanned.Manifest.Files, q.Scanned.Manifest.Files[0])
		},
		"no rows":                       func(q *api.AddDatasetRequest) { q.Scanned.Rows = 0 },
		"a kind that there is not":      func(q *api.AddDatasetRequest) { q.Scanned.Kind = "poem" },
		"forged's own directory":        func(q *api.AddDatasetRequest) { q.Scanned.Manifest.Root = r.live().cfg.StateDir },
		"a report of other rows":        func(q *api.AddDatasetRequest) { q.Scanned.Report.PII.Rows = 9 },
		"findings, by the policy block": func(q *api.AddDatasetRequest) { q.Scanned.Report.PII.RowsFound, q.PIIPolicy = 1, forge.PIIBlock },
		"a redaction of nothing":        func(q *api.AddDatasetRequest) { q.Redaction = true },
	} {
		if got, err := add(change); forge.KindOf(err) != forge.KindInvalid {
			t.Errorf("%s: %v %v", what, got, err)
		}
	}
	v, err := add(func(*api.AddDatasetRequest) {})
	if err != nil || v.Existed || v.PII != forge.PIIClean {
		t.Fatalf("%+v, %v", v, err)
	}
	got, err := s.DatasetNumber(t.Context(), r.op, forge.Ref{Name: "d"})
	if err != nil || got.Scan.By != forge.ScannedByForgectl {
		t.Errorf("what forgectl says is forgectl's: %+v, %v", got.Scan, err)
	}
	again, err := add(func(*api.AddDatasetRequest) {})
	if err != nil || !again.Existed || again.ID != v.ID {
		t.Errorf("%+v, %v", again, err)
	}
	redacted := textFile(t, "[EMAIL]")
	child, err := s.AddDataset(t.Context(), r.op, api.AddDatasetRequest{Name: "d", Paths: []string{redacted}, Scanned: scannedFile(t, redacted), Parents: []string{"d@1"}, Redaction: true})
	if err != nil || child.PII != forge.PIIRedacted || child.Parents[0].ID != v.ID {
		t.Errorf("%+v, %v", child, err)
	}
}

func TestAVersionIsVerifiedFileByFile(t *testing.T) {
	r := start(t, 1)
	s := datasets{r.Daemon}
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(dir, name+".jsonl"), []byte(`{"text":"`+name+`"}`+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.AddDataset(t.Context(), r.op, api.AddDatasetRequest{Name: "d", Paths: []string{dir}}); err != nil {
		t.Fatal(err)
	}
	ref := forge.Ref{Name: "d", Number: 1}
	if v, err := s.VerifyDataset(t.Context(), r.op, ref); err != nil || !v.Intact || v.Files != 3 {
		t.Fatalf("%+v, %v", v, err)
	}
	b := filepath.Join(dir, "b.jsonl")
	st, _ := os.Stat(b)
	err := errors.Join(os.WriteFile(b, []byte(`{"text":"x"}`+"\n"), 0o600), os.Chtimes(b, st.ModTime(), st.ModTime()), os.Remove(filepath.Join(dir, "c.jsonl")))
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.VerifyDataset(t.Context(), r.op, ref)
	if err != nil || v.Intact || len(v.Differs) != 2 || v.Differs[0].File != b || v.Differs[0].Found == "" || !strings.Contains(v.Differs[1].Why, "gone") {
		t.Errorf("%+v, %v", v, err)
	}
	t.Run("and a run of it is refused with what to do", func(t *testing.T) {
		_, err := runs{r.Daemon}.SubmitRun(t.Context(), r.op, api.SubmitRunRequest{Recipe: "lora_sft", Dataset: "d@1", Base: "x"})
		saysNo(t, err, "dataset", "hint:forgectl dataset verify d@1", "hint:forgectl dataset add d")
	})
	t.Run("and one of what is deleted, too", func(t *testing.T) {
		if _, err := s.DeleteDataset(t.Context(), r.op, ref, api.DeleteDatasetRequest{}); err != nil {
			t.Fatal(err)
		}
		_, err := runs{r.Daemon}.SubmitRun(t.Context(), r.op, api.SubmitRunRequest{Recipe: "lora_sft", Dataset: "d@1", Base: "x"})
		saysNo(t, err, "dataset", "deleted")
	})
}

func TestForgeKeepsACopyOfItsOwnAndErasesItWhole(t *testing.T) {
	r := start(t, 1)
	s := datasets{r.Daemon}
	path := textFile(t, "one", "two")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := digestOfBytes(content)
	ask := api.AddDatasetRequest{Name: "d", Paths: []string{path}, Scanned: scannedFile(t, path), Copy: true}
	if _, err := s.AddDataset(t.Context(), r.op, ask); forge.KindOf(err) != forge.KindInvalid {
		t.Errorf("a copy of what was not sent: %v", err)
	}
	for what, body := range map[string]io.Reader{"other bytes": strings.NewReader("x"), "half of them": bytes.NewReader(content[:5]), "a sender that goes away": io.MultiReader(strings.NewReader("x"), failing{})} {
		if _, err := s.AddDatasetFile(t.Context(), r.op, sum, body); forge.KindOf(err) != forge.KindInvalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got, err := s.AddDatasetFile(t.Context(), r.op, sum, bytes.NewReader(content)); err != nil || got.Bytes != int64(len(content)) {
		t.Fatalf("%+v, %v", got, err)
	}
	v, err := s.AddDataset(t.Context(), r.op, ask)
	if err != nil || !v.Owned || v.Manifest.Root == path || filepath.Base(v.Manifest.Root) != "d.jsonl" {
		t.Fatalf("%+v, %v", v, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, err := s.VerifyDataset(t.Context(), r.op, forge.Ref{Name: "d"}); err != nil || !got.Intact {
		t.Errorf("%+v, %v", got, err)
	}
	dir := filepath.Dir(v.Manifest.Root)
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st, err)
	}
	t.Run("and gives it out to whoever may train on it", func(t *testing.T) {
		ref := forge.Ref{Name: "d"}
		read := func(p forge.Principal, ref forge.Ref, digest string) ([]byte, error) {
			f, n, err := s.OwnedFile(t.Context(), p, ref, digest)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			b, err := io.ReadAll(f)
			if int64(len(b)) != n {
				t.Errorf("%d bytes of %d", len(b), n)
			}
			return b, err
		}
		if got, err := read(memberOf(r.op, "eve"), ref, sum); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%q, %v", got, err)
		}
		viewer := r.op
		viewer.Role = forge.RoleViewer
		other, err := r.db.CreateTenant(t.Context(), "other")
		if err != nil {
			t.Fatal(err)
		}
		stranger := memberOf(r.op, "bob")
		stranger.Tenant = other.ID
		same := textFile(t, "one", "two")
		if _, err := s.AddDataset(t.Context(), r.op, api.AddDatasetRequest{Name: "there", Paths: []string{same}, Scanned: scannedFile(t, same)}); err != nil {
			t.Fatal(err)
		}
		for what, c := range map[string]struct {
			p      forge.Principal
			ref    forge.Ref
			digest string
			want   forge.Kind
		}{
			"a viewer":                        {viewer, ref, sum, forge.KindForbidden},
			"another tenant":                  {stranger, ref, sum, forge.KindNotFound},
			"a file that is not of it":        {r.op, ref, strings.Repeat("0", 64), forge.KindNotFound},
			"data that lies where it lay":     {r.op, forge.Ref{Name: "there"}, sum, forge.KindPrecondition},
			"a version that there is not yet": {r.op, forge.Ref{Name: "d", Number: 9}, sum, forge.KindNotFound},
		} {
			if _, err := read(c.p, c.ref, c.digest); err == nil || forge.KindOf(err) != c.want {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	again, err := s.AddDataset(t.Context(), r.op, ask)
	if err != nil || !again.Existed || again.Manifest.Root != v.Manifest.Root {
		t.Errorf("%+v, %v", again, err)
	}
	if copies, _ := filepath.Glob(s.dir(r.op.Tenant, "*")); len(copies) != 2 { // incoming, and the one copy
		t.Errorf("there are %v", copies)
	}
	t.Run("what no version names is forgotten after a day, and nothing else", func(t *testing.T) {
		orphan := s.dir(r.op.Tenant, strings.Repeat("ab", 16))
		if err := os.Mkdir(orphan, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := s.forget(t.Context(), time.Now().Add(copyLife-time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(orphan); err != nil {
			t.Error("too early")
		}
		if err := s.forget(t.Context(), time.Now().Add(copyLife+time.Minute)); err != nil {
			t.Fatal(err)
		}
		if left, _ := filepath.Glob(s.dir(r.op.Tenant, "*", "*")); !slices.Equal(left, []string{v.Manifest.Root}) {
			t.Errorf("left is %v", left)
		}
	})
	t.Run("a purge that was cut off is finished", func(t *testing.T) {
		if _, err := r.db.For(r.op).DeleteDataset(t.Context(), v.ID, true); err != nil { // the row, and a kill -9 before the bytes
			t.Fatal(err)
		}
		if err := s.purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		gone, err := s.DatasetNumber(t.Context(), r.op, forge.Ref{Name: "d", Number: 1})
		if _, _, err := s.OwnedFile(t.Context(), r.op, forge.Ref{Name: "d", Number: 1}, sum); forge.KindOf(err) != forge.KindPrecondition || err == nil {
			t.Errorf("what is erased is given out: %v", err)
		}
		if _, serr := os.Stat(dir); err != nil || gone.PurgedAt.IsZero() || !errors.Is(serr, os.ErrNotExist) || gone.SHA256 != v.SHA256 {
			t.Errorf("%+v, %v, %v", gone, err, serr)
		}
	})
}

func TestFingerprintsOfRowsAreTakenWholeOrNotAtAll(t *testing.T) {
	r := start(t, 1)
	s := datasets{r.Daemon}
	path := textFile(t, "one", "two", "three")
	_, err := s.AddDataset(t.Context(), memberOf(r.op, "ada"), api.AddDatasetRequest{Name: "d", Paths: []string{path}, Scanned: scannedFile(t, path)})
	if err != nil {
		t.Fatal(err)
	}
	rows := func(n ...uint64) (b []byte) {
		for _, x := range n {
			b = binary.BigEndian.AppendUint64(b, x)
		}
		return b
	}
	ref := forge.Ref{Name: "d", Number: 1}
	send := func(p forge.Principal, b []byte, digest string) error {
		_, err := s.AddDatasetRows(t.Context(), p, ref, digest, bytes.NewReader(b))
		return err
	}
	for what, b := range map[string][]byte{"too few": rows(1, 2), "too many": rows(1, 2, 3, 4), "half a one": rows(1, 2, 3)[:20], "out of order": rows(1, 3, 2)} {
		if err := send(r.op, b, digestOfBytes(b)); forge.KindOf(err) != forge.KindInvalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	good := rows(1, 1, 1<<63)
	if err := send(r.op, good, strings.Repeat("0", 64)); forge.KindOf(err) != forge.KindInvalid {
		t.Errorf("another digest: %v", err)
	}
	if err := send(memberOf(r.op, "eve"), good, digestOfBytes(good)); forge.KindOf(err) != forge.KindForbidden {
		t.Errorf("a colleague: %v", err)
	}
	if got, _ := s.DatasetImpact(t.Context(), r.op, strings.Repeat("0", 15)+"1"+strings.Repeat("0", 48)); len(got.Versions) != 0 || len(got.Unknown) != 1 {
		t.Errorf("before it is whole: %+v", got)
	}
	if err := send(memberOf(r.op, "ada"), good, digestOfBytes(good)); err != nil {
		t.Fatal(err)
	}
	got, err := s.DatasetImpact(t.Context(), r.op, strings.Repeat("0", 15)+"1"+strings.Repeat("0", 48))
	if err != nil || len(got.Versions) != 1 || got.Versions[0] != (forge.RowInside{Name: "d@1", Times: 2}) || len(got.Unknown) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, context.DeadlineExceeded }
