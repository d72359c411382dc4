package daemon

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/store"
)

// madeAt makes a state directory whose clock says at.
func madeAt(t *testing.T, at time.Time) string {
	t.Helper()
	dir := shortDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), filepath.Join(dir, dbFile), store.Options{Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := db.CreateTenant(t.Context(), forge.DefaultTenant)
	if err == nil {
		_, _, err = db.CreateKey(t.Context(), tenant.ID, "admin", forge.RoleOperator, "test")
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// backedUp makes a state directory and a backup of it.
func backedUp(t *testing.T) (dir, file string) {
	t.Helper()
	dir = shortDir(t)
	if _, err := Init(t.Context(), dir, "admin", NoUID); err != nil {
		t.Fatal(err)
	}
	return dir, backupOf(t, dir)
}

func backupOf(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "b.tar.gz")
	if _, err := Backup(t.Context(), BackupOptions{StateDir: dir, Out: file, Version: "test", Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	return file
}

func restoreTo(t *testing.T, file, dir string) error {
	t.Helper()
	_, err := Restore(t.Context(), RestoreOptions{File: file, StateDir: dir, Now: time.Now()})
	return err
}

// member is one entry of a forged backup.
type member struct {
	tar.Header
	data []byte
}

// rewritten unpacks a backup, lets the test change it, and packs it again.
func rewritten(t *testing.T, file string, change func(m *BackupManifest, all []member) []member) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all []member
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, member{*h, data})
	}
	var m BackupManifest
	if err := json.Unmarshal(all[0].data, &m); err != nil {
		t.Fatal(err)
	}
	all = change(&m, all)
	if all[0].Name == manifestName {
		if all[0].data, err = json.Marshal(m); err != nil {
			t.Fatal(err)
		}
	}
	var packed bytes.Buffer
	gz := gzip.NewWriter(&packed)
	out := tar.NewWriter(gz)
	for _, x := range all {
		x.Header.Size, x.Header.Format, x.Header.PAXRecords = int64(len(x.data)), tar.FormatUnknown, nil
		if err := out.WriteHeader(&x.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(x.data); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(t.TempDir(), "changed.tar.gz")
	if err := errors.Join(out.Close(), gz.Close(), os.WriteFile(to, packed.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return to
}

func listed(name string, data []byte) BackupFile {
	return BackupFile{Path: name, Size: int64(len(data)), SHA256: fmt.Sprintf("%x", sha256.Sum256(data))}
}

func TestABackupThatIsNotWholeIsRefusedAndNothingIsLeft(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a daemon, a backup and a restore for each case")
	}
	_, good := backedUp(t)
	evil := func(name string, kind byte) func(*BackupManifest, []member) []member {
		return func(m *BackupManifest, all []member) []member {
			m.Files = append(m.Files, listed(name, nil))
			return append(all, member{tar.Header{Name: name, Typeflag: kind, Linkname: "/etc/passwd", Mode: 0o600}, nil})
		}
	}
	for _, tc := range []struct {
		name   string
		change func(m *BackupManifest, all []member) []member
		kind   forge.Kind
		says   string
	}{
		{"a bit was flipped", func(_ *BackupManifest, all []member) []member {
			all[1].data[len(all[1].data)/2] ^= 1
			return all
		}, forge.KindInvalid, "forge.db has not the digest"},
		{"a member is missing", func(_ *BackupManifest, all []member) []member { return all[:len(all)-1] }, forge.KindInvalid, "config.yaml is missing"},
		{"a member that the manifest does not list", func(_ *BackupManifest, all []member) []member {
			return append(all, member{tar.Header{Name: "extra", Typeflag: tar.TypeReg}, []byte("x")})
		}, forge.KindInvalid, `"extra" is not a file that its manifest lists`},
		{"a name that leaves the directory", evil("../evil", tar.TypeReg), forge.KindInvalid, "is no name of"},
		{"a name that leaves its part", evil("recipes/../../evil", tar.TypeReg), forge.KindInvalid, "is no name of"},
		{"an absolute name", evil("/etc/evil", tar.TypeReg), forge.KindInvalid, "is no name of"},
		{"a lock file of ours", evil("forged.lock", tar.TypeReg), forge.KindInvalid, "is no name of"},
		{"a symbolic link", evil("tls/key.pem", tar.TypeSymlink), forge.KindInvalid, "is not a file that its manifest lists"},
		{"a hard link", evil("tls/key.pem", tar.TypeLink), forge.KindInvalid, "is not a file that its manifest lists"},
		{"a device", evil("tls/key.pem", tar.TypeChar), forge.KindInvalid, "is not a file that its manifest lists"},
		{"a member larger than any", func(m *BackupManifest, all []member) []member {
			m.Files[1].Size = maxMember + 1
			return all
		}, forge.KindInvalid, "larger than forged backup makes any"},
		{"a member that is longer than it says", func(_ *BackupManifest, all []member) []member {
			all[2].data = append(all[2].data, "more"...)
			return all
		}, forge.KindInvalid, "the manifest says"},
		{"a member that stands twice", func(m *BackupManifest, all []member) []member {
			m.Files = append(m.Files, m.Files[1])
			return append(all, all[2])
		}, forge.KindInvalid, "stands twice"},
		{"no manifest in front", func(_ *BackupManifest, all []member) []member { return all[1:] }, forge.KindInvalid, "does not begin with manifest.json"},
		{"a format of tomorrow", func(m *BackupManifest, all []member) []member {
			m.Format = 2
			return all
		}, forge.KindPrecondition, "has format 2; this forged reads format 1"},
		{"a schema of tomorrow", func(m *BackupManifest, all []member) []member {
			m.Database.SchemaVersion = 9999
			return all
		}, forge.KindPrecondition, "schema version 9999"},
		{"another database than the manifest describes", func(m *BackupManifest, all []member) []member {
			m.Database.LastEventSeq += 7
			return all
		}, forge.KindInvalid, "not the one that its manifest describes"},
		{"a database that is none", func(m *BackupManifest, all []member) []member {
			all[1].data = []byte(strings.Repeat("nonsense", 100))
			m.Files[0] = listed(dbFile, all[1].data)
			return all
		}, forge.KindUnavailable, "does not begin with the header of a database"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := rewritten(t, good, tc.change)
			dir := filepath.Join(t.TempDir(), "deep", "state")
			err := restoreTo(t, file, dir)
			if err == nil || forge.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v (%s); want %s that says %q", err, forge.KindOf(err), tc.kind, tc.says)
			}
			if forge.HintOf(err) == "" {
				t.Error("no hint says what to do")
			}
			left, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(dir)), "*", "*", "*"))
			for _, l := range left {
				if filepath.Base(l) != lockFile {
					t.Errorf("%s was left", l)
				}
			}
			if _, err := VerifyBackup(t.Context(), file); err == nil {
				t.Error("verify finds nothing wrong with it")
			}
		})
	}
	t.Run("the file was cut off", func(t *testing.T) {
		b, err := os.ReadFile(good)
		if err != nil {
			t.Fatal(err)
		}
		cut := filepath.Join(t.TempDir(), "cut.tar.gz")
		for _, n := range []int{0, 10, len(b) / 2, len(b) - 3} {
			if err := os.WriteFile(cut, b[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			if err := restoreTo(t, cut, filepath.Join(t.TempDir(), "s")); forge.KindOf(err) != forge.KindInvalid {
				t.Errorf("cut to %d bytes: %v", n, err)
			}
		}
	})
}

func TestARestoreNeedsAnEmptyDirectoryAndLeavesOneOrAWholeOne(t *testing.T) {
	served, file := backedUp(t)
	t.Run("a directory with something in it is named", func(t *testing.T) {
		err := restoreTo(t, file, served)
		if forge.KindOf(err) != forge.KindConflict || !strings.Contains(err.Error(), "forge.db") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("one that a daemon is about to serve is refused", func(t *testing.T) {
		dir := t.TempDir()
		lock, err := lockState(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = lock.release() }()
		if err := restoreTo(t, file, dir); forge.KindOf(err) != forge.KindConflict || !strings.Contains(err.Error(), "another forged") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("modes let nobody else in", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "s")
		if err := restoreTo(t, file, dir); err != nil {
			t.Fatal(err)
		}
		err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %o", path, info.Mode().Perm())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	// A crash between any two steps: what is there is either no state directory, or all of it.
	t.Run("what a crash half-way leaves is not served, and does not keep a restore away", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "s")
		staging := filepath.Join(dir, stagingDir)
		if err := os.MkdirAll(staging, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := stage(t.Context(), RestoreOptions{File: file, StateDir: dir, Now: time.Now()}, staging); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{configFile, lastBackupFile, restoredFile} {
			if err := os.Rename(filepath.Join(staging, name), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			_, err := New(t.Context(), Options{Config: Config{StateDir: dir}})
			if forge.KindOf(err) != forge.KindPrecondition {
				t.Fatalf("after %s was moved: %v", name, err)
			}
		}
		if err := os.RemoveAll(filepath.Join(dir, pythonDir)); err != nil { // which New made
			t.Fatal(err)
		}
		if err := restoreTo(t, file, dir); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(staging); err == nil {
			t.Error("the staging directory is still there")
		}
	})
}

func TestABackupIsMadeOnceAndItsFileIsPrivate(t *testing.T) {
	dir, file := backedUp(t)
	st, err := os.Stat(file)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", st.Mode(), err)
	}
	_, err = Backup(t.Context(), BackupOptions{StateDir: dir, Out: file, Now: time.Now()})
	if forge.KindOf(err) != forge.KindConflict {
		t.Errorf("over a file that is there: %v", err)
	}
	var piped bytes.Buffer
	last, err := Backup(t.Context(), BackupOptions{StateDir: dir, Out: "-", Stdout: &piped, Now: time.Now()})
	if err != nil || last.Bytes != int64(piped.Len()) {
		t.Errorf("to a pipe: %d of %d bytes, %v", piped.Len(), last.Bytes, err)
	}
	if got, err := ReadLastBackup(dir); err != nil || !got.TakenAt.Equal(last.TakenAt) {
		t.Errorf("last-backup.json: %+v, %v", got, err)
	}
	for _, d := range []string{dir, filepath.Dir(file)} {
		if left, _ := filepath.Glob(filepath.Join(d, ".forge-*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Backup(ctx, BackupOptions{StateDir: dir, Out: file + "2", Now: time.Now()}); err == nil {
		t.Error("a backup that was given up was made")
	}
	if _, err := os.Stat(file + "2"); err == nil {
		t.Error("and left a file")
	}
}

// remaining is a fake executor that also says what it still has.
type remaining struct {
	*executortest.Fake
	list []forge.Remains
	err  error
}

func (r *remaining) Remains(context.Context) ([]forge.Remains, error) { return r.list, r.err }

// restoredRig serves a restored database of one run, which was launched where the backed-up site had slots for it, over an
// executor that knows of nothing but what list says.
func restoredRig(t *testing.T, slots int, list func(run forge.RunID) ([]forge.Remains, error)) (*rig, forge.Run) {
	t.Helper()
	r := start(t, slots)
	run := r.submit(t, script(2))
	if slots > 0 {
		r.launched(t, run.ID, 1)
	}
	file := backupOf(t, r.live().cfg.StateDir)
	r.stop()
	dir := shortDir(t)
	if err := restoreTo(t, file, dir); err != nil {
		t.Fatal(err)
	}
	again := serveOn(t, dir, executortest.NewFake(fakeNode(2)), func(o *Options) {
		c := &o.Clusters[0]
		x := &remaining{Fake: c.Executor.(*executortest.Fake)}
		x.list, x.err = list(run.ID)
		c.Executor = x
	})
	again.op = r.op
	return again, run
}

func (r *rig) waitsFor(t *testing.T, says string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		why := strings.Join(site{r.Daemon}.Ready(t.Context()), "\n")
		if strings.Contains(why, says) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("readyz says %q, want %q", why, says)
		case <-tick.C:
		}
	}
}

func TestARestoredDatabaseWaitsForWhatItDoesNotKnow(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a daemon, a backup and a restore for each case")
	}
	stranger := forge.RunID("01STRANGERSTRANGERSTRANGER")
	for _, tc := range []struct {
		name string
		list func(run forge.RunID) ([]forge.Remains, error)
		says string
	}{
		{"a run that was submitted after the backup is at work", func(forge.RunID) ([]forge.Remains, error) {
			return []forge.Remains{{Run: stranger, Newest: 1, Alive: map[int][]int{1: {4242}}}}, nil
		}, "end it: kill 4242"},
		{"an attempt that was placed after the backup is at work", func(run forge.RunID) ([]forge.Remains, error) {
			return []forge.Remains{{Run: run, Newest: 1, Alive: map[int][]int{1: {4242, 4243}}}}, nil
		}, "end it: kill 4242 4243"},
		{"a run directory that cannot be read", func(run forge.RunID) ([]forge.Remains, error) {
			return []forge.Remains{{Run: run, Problem: "permission denied"}}, nil
		}, "permission denied"},
		{"a fence that nobody of ours wrote", func(run forge.RunID) ([]forge.Remains, error) {
			return []forge.Remains{{Run: run, Newest: 1 << 20}}, nil
		}, "correct the file fence"},
		{"a cluster that does not answer", func(forge.RunID) ([]forge.Remains, error) { return nil, errors.New("not mounted") }, "not mounted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, run := restoredRig(t, 0, tc.list)
			r.waitsFor(t, tc.says)
			if _, err := r.db.For(r.op).ReleaseRun(t.Context(), fmt.Sprint(run.Number)); err != nil {
				t.Fatal(err)
			}
			if got, err := r.db.RunByID(t.Context(), run.ID); err != nil || got.Attempt != 0 {
				t.Errorf("placed in spite of it: attempt %d, %v", got.Attempt, err)
			}
			if _, err := os.Stat(filepath.Join(r.live().cfg.StateDir, restoredFile)); err != nil {
				t.Errorf("a restart would forget to compare: %v", err)
			}
		})
	}
}

func TestARestoredRunNeverCountsAnAttemptTwice(t *testing.T) {
	r, run := restoredRig(t, 0, func(run forge.RunID) ([]forge.Remains, error) {
		return []forge.Remains{{Run: run, Newest: 3}, {Run: "01STRANGERSTRANGERSTRANGER", Newest: 1}}, nil
	})
	got := r.await(t, run.ID, "counted past the attempts that were lost", func(x forge.Run) bool { return x.Attempt == 3 && x.State == forge.RunPending })
	if got.Hold == nil {
		t.Error("it is not held any more")
	}
	attempts, err := r.db.AttemptsOf(t.Context(), run.ID)
	if err != nil || len(attempts) != 3 || attempts[2].Reason != forge.EndSuperseded {
		t.Errorf("%+v, %v", attempts, err)
	}
	if _, err := r.db.For(r.op).ReleaseRun(t.Context(), fmt.Sprint(run.Number)); err != nil {
		t.Fatal(err)
	}
	r.launched(t, run.ID, 4)
	if _, err := os.Stat(filepath.Join(r.live().cfg.StateDir, restoredFile)); err == nil {
		t.Error("restored.json is still there")
	}
	events, err := r.db.For(r.op).Events(t.Context(), store.EventFilter{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	said := false
	for _, e := range events {
		said = said || e.Type == forge.EventBackupRestored && strings.Contains(e.Message, "01STRANGERSTRANGERSTRANGER")
	}
	if !said {
		t.Error("nobody is told of the run directory that the database does not know")
	}
}

func TestAnAttemptWhoseDirectoryIsGoneIsOverAndFreesWhatItHeld(t *testing.T) {
	r, run := restoredRig(t, 2, func(forge.RunID) ([]forge.Remains, error) { return nil, nil })
	r.await(t, run.ID, "waiting again", func(x forge.Run) bool { return x.State == forge.RunPending && x.Attempt == 1 && x.Hold != nil })
	next := r.submit(t, script(2))
	r.launched(t, next.ID, 1)
}

func TestABackupOfAnOlderForgedIsBroughtForwardByTheRestore(t *testing.T) {
	dir := shortDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	packed, err := os.Open("../../store/testdata/schema/0002.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = packed.Close() }()
	zip, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeNew(filepath.Join(dir, dbFile), zip); err != nil {
		t.Fatal(err)
	}
	file := backupOf(t, dir)
	if m, err := VerifyBackup(t.Context(), file); err != nil || m.Database.SchemaVersion != 2 {
		t.Fatalf("%+v, %v", m.Database, err)
	}
	to := shortDir(t) + "2"
	if err := restoreTo(t, file, to); err != nil {
		t.Fatal(err)
	}
	got, err := store.Inspect(t.Context(), filepath.Join(to, dbFile))
	if err != nil || got.SchemaVersion < 4 || got.Counts["runs"] != 6 {
		t.Errorf("%+v, %v", got, err)
	}
}
