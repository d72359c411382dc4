package slurm

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/artefact"
	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

const aTenant = "01KASWTENANT00000000000000"

// left is an output as the shim of a job of the account's leaves it, and the request to keep it.
func (c *crowd) left(t *testing.T, account string, files ...string) KeepRequest {
	t.Helper()
	c.n++
	at := rundir.At(filepath.Join(c.home(account), fmt.Sprintf("01KASW%020d", c.n)), 1)
	m := forge.Manifest{Root: at.OutputDir()}
	for i, name := range files {
		path, text := filepath.Join(m.Root, name), fmt.Sprintf("weights %d of %d", i, c.n)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o644))
		m.Files = append(m.Files, forge.File{Path: name, Size: int64(len(text)), SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(text)))})
	}
	must(t, rundir.WriteJSON(at.OutputPath(), m))
	c.give(t, account, c.home(account))
	return KeepRequest{At: at, Root: filepath.Join(c.scratch, "kept", account), Tenant: aTenant, SHA256: m.Digest()}
}

// give makes everything below a directory the account's.
func (c *crowd) give(t *testing.T, account, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, slurmtest.AliceUID+map[string]int{"bob": 1}[account], slurmtest.AliceUID+map[string]int{"bob": 1}[account]))
	}))
}

// project makes a directory for the account's copies that the people of forge may read.
func (c *crowd) project(t *testing.T, account string) string {
	t.Helper()
	dir := filepath.Join(c.scratch, "kept", account)
	must(t, errors.Join(os.MkdirAll(dir, 0o750), os.Lchown(dir, slurmtest.AliceUID+map[string]int{"bob": 1}[account], forgeUsers), os.Chmod(dir, 0o750|os.ModeSetgid)))
	return dir
}

const forgeUsers = 4300 // the group, in slurmtest

// executor is the one that forged would have.
func (c *crowd) executor(t *testing.T) *Executor {
	t.Helper()
	o := c.o
	o.Hand, o.RunRoot, o.With = c.AsUser, filepath.Join(c.scratch, "{account}", "forge"), With{ArtifactRoot: filepath.Join(c.scratch, "kept", "{account}")}
	e, err := New(o)
	must(t, err)
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func (c *crowd) can(t *testing.T, who, path string) bool {
	t.Helper()
	return exec.CommandContext(t.Context(), "setpriv", "--reuid="+who, "--regid="+who, "--init-groups", "cat", path).Run() == nil
}

func TestWhatAPersonsRunLeftIsCopiedAsThePerson(t *testing.T) {
	if !people(t) {
		return
	}
	c, ctx := gatherOn(t, &slurmtest.Cluster{Bin: "/usr/bin", Conf: "/etc/slurm/slurm.conf"}), t.Context()
	root := c.project(t, "alice")
	e := c.executor(t)
	q := c.left(t, "alice", "adapter_config.json", "merged/model.safetensors")
	m, err := e.Keep(ctx, externalID("alice", q.At), aTenant, q.SHA256)
	if err != nil || m.Root != artefact.Place(root, aTenant, q.SHA256) || m.Digest() != q.SHA256 {
		t.Fatalf("%+v, %v", m, err)
	}

	t.Run("it is the person's, and the project's to read", func(t *testing.T) {
		must(t, filepath.WalkDir(filepath.Join(root, aTenant), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() == lockName {
				return err
			}
			st, err := d.Info()
			want := fs.FileMode(0o440)
			if st.IsDir() {
				want = 0o750
			}
			if sys := st.Sys().(*syscall.Stat_t); sys.Uid != slurmtest.AliceUID || sys.Gid != forgeUsers || st.Mode().Perm() != want {
				t.Errorf("%s: %s of %d:%d", path, st.Mode(), sys.Uid, sys.Gid)
			}
			return err
		}))
		file := filepath.Join(m.Root, "merged/model.safetensors")
		for who, may := range map[string]bool{"bob": true, "forge": false, "mallory": false} {
			if got := c.can(t, who, file); got != may {
				t.Errorf("%s reads it: %t", who, got)
			}
		}
	})
	t.Run("it is listed, read again, and an input, after scratch was purged", func(t *testing.T) {
		must(t, os.RemoveAll(q.At.RunDir))
		kept, err := e.Kept(ctx)
		if err != nil || len(kept) != 1 || kept[0].Account != "alice" || kept[0].Err != nil || len(kept[0].Copies) != 1 || kept[0].Copies[0].Name != q.SHA256 || kept[0].Copies[0].Tenant != aTenant || kept[0].Copies[0].Bytes == 0 {
			t.Errorf("%+v, %v", kept, err)
		}
		if seen, err := e.Reread(ctx, m); err != nil || len(seen.Differs) > 0 || seen.Files != 2 || seen.Bytes != m.Bytes() {
			t.Errorf("%+v, %v", seen, err)
		}
		must(t, errors.Join(e.CheckInputs(ctx, m), e.Untouched(ctx, m)))
		if _, err := e.Keep(ctx, externalID("alice", q.At), aTenant, q.SHA256); !errors.Is(err, artefact.ErrDiffers) {
			t.Errorf("a copy of what is gone: %v", err)
		}
	})
	t.Run("what its owner does to it is found", func(t *testing.T) {
		file := filepath.Join(m.Root, "adapter_config.json")
		before, err := os.ReadFile(file)
		must(t, err)
		must(t, errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, []byte("another 0 of 1!"), 0o600)))
		if seen, err := e.Reread(ctx, m); err != nil || len(seen.Differs) != 1 || seen.Differs[0].File != file {
			t.Errorf("other bytes: %+v, %v", seen, err)
		}
		if err := e.CheckInputs(ctx, m); forge.KindOf(err) != forge.KindInvalid {
			t.Errorf("as an input: %v", err)
		}
		elsewhere := c.put(t, "elsewhere", string(before), 0o644)
		must(t, errors.Join(os.Remove(file), os.Symlink(elsewhere, file)))
		if seen, err := e.Reread(ctx, m); err != nil || len(seen.Differs) != 1 || !strings.Contains(seen.Differs[0].Why, "no regular file") {
			t.Errorf("a link to the same bytes: %+v, %v", seen, err)
		}
		must(t, errors.Join(os.Rename(m.Root, m.Root+".moved"), os.Symlink(m.Root+".moved", m.Root)))
		if seen, err := e.Reread(ctx, m); err != nil || len(seen.Differs) != 1 || !strings.Contains(seen.Differs[0].Why, "symbolic link") {
			t.Errorf("a link to the whole: %+v, %v", seen, err)
		}
		must(t, os.Remove(m.Root))
		if seen, err := e.Reread(ctx, m); err != nil || len(seen.Differs) != 2 || seen.Differs[0].Why != "it is gone" {
			t.Errorf("gone: %+v, %v", seen, err)
		}
	})
	t.Run("an output that is registered where it lies is read again there", func(t *testing.T) {
		q := c.left(t, "alice", "w")
		out, err := rundir.ReadOutput(q.At)
		must(t, err)
		if seen, err := e.Reread(ctx, out); err != nil || len(seen.Differs) > 0 || seen.Files != 1 {
			t.Errorf("%+v, %v", seen, err)
		}
	})
	t.Run("who asked goes away, and the helper does not go on for them", func(t *testing.T) {
		q := c.left(t, "alice", "w")
		lock, err := os.OpenFile(filepath.Join(root, aTenant, lockName), os.O_RDWR, 0)
		must(t, err)
		defer lock.Close()
		must(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
		short, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { _, err := c.Keep(short, "alice", q); ended <- err }()
		pid := c.helperOf(t, verbKeep)
		if uid := owner(t, fmt.Sprintf("/proc/%d/mem", pid)); uid != 0 {
			t.Errorf("its owner, %d, may debug what answers for them", uid)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		deadline := time.Now().Add(20 * time.Second)
		for { // sudo, which root may kill here and forged may not, takes nobody with it
			if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); len(b) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the helper still waits")
			}
			<-time.After(50 * time.Millisecond)
		}
		for {
			_, err := c.Ping(ctx, "alice")
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("nothing can be asked as her any more:", err)
			}
			<-time.After(50 * time.Millisecond)
		}
		must(t, unix.Flock(int(lock.Fd()), unix.LOCK_UN))
		if a, err := c.Keep(ctx, "alice", q); err != nil || a.Copy.Digest() != q.SHA256 {
			t.Errorf("asked again: %+v, %v", a, err)
		}
	})
}

// helperOf waits for the helper's process that does a verb.
func (c *crowd) helperOf(t *testing.T, verb string) int {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range all {
			b, _ := os.ReadFile(path)
			pid := 0
			if _, err := fmt.Sscanf(path, "/proc/%d/", &pid); err == nil && string(b) == DefaultHelper+"\x00"+verb+"\x00" {
				return pid
			}
		}
	}
	t.Fatal("no helper does", verb)
	return 0
}

func TestTheHelperKeepsOnlyWhatIsThePersonsAndOnlyWhereRootSays(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a helper is built and installed")
	}
	if !people(t) {
		return
	}
	c, ctx := gatherOn(t, &slurmtest.Cluster{Bin: "/usr/bin", Conf: "/etc/slurm/slurm.conf"}), t.Context()
	root := c.project(t, "alice")
	c.project(t, "bob")
	forbidden := func(t *testing.T, what string, q KeepRequest, says string) {
		t.Helper()
		if a, err := c.Keep(ctx, "alice", q); forge.KindOf(err) != forge.KindForbidden || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %+v, %v", what, a, err)
		}
	}
	refused := func(t *testing.T, what string, q KeepRequest, why KeepRefusal, says string) {
		t.Helper()
		if a, err := c.Keep(ctx, "alice", q); err != nil || a.Why != why || !strings.Contains(a.Words, says) || len(a.Copy.Files) > 0 {
			t.Errorf("%s: %+v, %v", what, a, err)
		}
		entries, _ := os.ReadDir(filepath.Join(root, aTenant))
		for _, x := range entries {
			if x.Name() != lockName {
				t.Errorf("%s leaves %s", what, x.Name())
			}
		}
	}
	t.Run("a root that is not listed for this account", func(t *testing.T) {
		for _, to := range []string{"", "/tmp", c.scratch, c.home("alice"), filepath.Join(c.scratch, "kept"), filepath.Join(c.scratch, "kept", "bob"), root + "/", root + "/x", root + "/../alice", filepath.Join(c.scratch, "kept", "{account}")} {
			q := c.left(t, "alice", "w")
			q.Root = to
			forbidden(t, to, q, "artifact_root")
		}
	})
	t.Run("names that lead elsewhere", func(t *testing.T) {
		for _, tenant := range []string{"", ".", "..", "a/b", "../x", "/etc", ".hidden", "a\x00", strings.Repeat("x", 65)} {
			q := c.left(t, "alice", "w")
			q.Tenant = tenant
			forbidden(t, tenant, q, "tenant")
		}
		for _, digest := range []string{"", "..", strings.Repeat("g", 64), strings.Repeat("A", 64), strings.Repeat("a", 63)} {
			q := c.left(t, "alice", "w")
			q.SHA256 = digest
			forbidden(t, digest, q, "sha256")
		}
	})
	t.Run("another's run", func(t *testing.T) {
		q := c.left(t, "alice", "w")
		theirs := c.left(t, "bob", "w")
		forbidden(t, "in his root", KeepRequest{theirs.At, root, aTenant, theirs.SHA256}, "run_dir")
		shared := filepath.Join(c.scratch, "shared", filepath.Base(theirs.At.RunDir))
		must(t, os.Rename(theirs.At.RunDir, shared))
		forbidden(t, "in a root of all", KeepRequest{rundir.At(shared, 1), root, aTenant, theirs.SHA256}, "belongs to somebody else")
		must(t, os.Symlink(shared, filepath.Join(c.home("alice"), "01KASW99999999999999999999")))
		q.At = rundir.At(filepath.Join(c.home("alice"), "01KASW99999999999999999999"), 1)
		forbidden(t, "by a link of hers", q, "run_dir")
	})
	t.Run("a root that is not hers alone", func(t *testing.T) {
		q := c.left(t, "alice", "w")
		must(t, os.Chmod(root, 0o770))
		forbidden(t, "the group may write", q, "written by others")
		must(t, errors.Join(os.Chmod(root, 0o750|os.ModeSetgid), os.Lchown(root, slurmtest.BobUID, forgeUsers)))
		forbidden(t, "somebody else's", q, "somebody else")
		must(t, errors.Join(os.Remove(root), os.Symlink(c.home("alice"), root)))
		forbidden(t, "a link", q, "no directory")
		must(t, os.Remove(root))
		if a, err := c.Keep(ctx, "alice", q); err == nil {
			t.Errorf("none: %+v", a) // it may be mounted in a moment
		}
		c.project(t, "alice")
	})
	t.Run("an output that is not what was hashed", func(t *testing.T) {
		for what, change := range map[string]func(at rundir.Attempt) error{
			"a link to another directory": func(at rundir.Attempt) error {
				return errors.Join(os.Rename(at.OutputDir(), at.OutputDir()+".x"), os.Symlink(at.OutputDir()+".x", at.OutputDir()))
			},
			"a file that is a link out of it": func(at rundir.Attempt) error {
				b, err := os.ReadFile(filepath.Join(at.OutputDir(), "w"))
				return errors.Join(err, os.WriteFile(at.Dir()+"/w", b, 0o644), os.Remove(filepath.Join(at.OutputDir(), "w")), os.Symlink("../w", filepath.Join(at.OutputDir(), "w")))
			},
			"other bytes": func(at rundir.Attempt) error {
				return os.WriteFile(filepath.Join(at.OutputDir(), "w"), []byte("weights 0 of x"), 0o644)
			},
			"gone": func(at rundir.Attempt) error { return os.RemoveAll(at.OutputDir()) },
			"a named pipe": func(at rundir.Attempt) error {
				return errors.Join(os.Remove(filepath.Join(at.OutputDir(), "w")), syscall.Mkfifo(filepath.Join(at.OutputDir(), "w"), 0o644))
			},
			"of no record":  func(at rundir.Attempt) error { return os.Remove(at.OutputPath()) },
			"a broken one":  func(at rundir.Attempt) error { return os.WriteFile(at.OutputPath(), []byte(`{"root":`), 0o644) },
			"one of others": func(at rundir.Attempt) error { return rewrite(at, func(m *forge.Manifest) { m.Root = "/etc" }) },
			"one of other bytes": func(at rundir.Attempt) error {
				other := filepath.Join(at.OutputDir(), "w")
				return errors.Join(os.WriteFile(other, []byte("x"), 0o644), rewrite(at, func(m *forge.Manifest) {
					m.Files[0].Size, m.Files[0].SHA256 = 1, fmt.Sprintf("%x", sha256.Sum256([]byte("x")))
				}))
			},
			"one that leads out": func(at rundir.Attempt) error {
				return rewrite(at, func(m *forge.Manifest) { m.Files[0].Path = "../../launch.json" })
			},
		} {
			q := c.left(t, "alice", "w")
			must(t, change(q.At))
			c.give(t, "alice", c.home("alice"))
			refused(t, what, q, KeepDiffers, "")
		}
	})
	t.Run("a place that a link of hers leads to", func(t *testing.T) {
		out := filepath.Join(c.home("alice"), "out")
		must(t, os.MkdirAll(out, 0o755))
		c.give(t, "alice", out)
		tenant := filepath.Join(root, "elsewhere")
		must(t, os.Symlink(out, tenant))
		q := c.left(t, "alice", "w")
		q.Tenant = "elsewhere"
		refused(t, "the tenant's", q, KeepDenied, "symbolic link")
		must(t, os.Remove(tenant))
		must(t, os.Mkdir(tenant, 0o755))
		must(t, os.Symlink(out, filepath.Join(tenant, q.SHA256)))
		must(t, os.WriteFile(filepath.Join(out, "w"), []byte(fmt.Sprintf("weights 0 of %d", c.n)), 0o644)) // the very bytes
		c.give(t, "alice", tenant)
		refused(t, "the copy's", q, KeepDenied, "symbolic link")
		if left, _ := os.ReadDir(out); len(left) != 1 {
			t.Errorf("%d things went there", len(left))
		}
	})
	t.Run("what is read again is hers, and a copy or an output", func(t *testing.T) {
		q := c.left(t, "bob", "w")
		theirs, err := rundir.ReadOutput(q.At)
		must(t, err)
		copied, err := c.Keep(ctx, "bob", KeepRequest{q.At, filepath.Join(c.scratch, "kept", "bob"), aTenant, q.SHA256})
		if err != nil || copied.Why != "" {
			t.Fatalf("%+v, %v", copied, err)
		}
		digest := strings.Repeat("a", 64)
		for _, m := range []forge.Manifest{theirs, copied.Copy, {Root: "/etc", Files: []forge.File{{Path: "passwd"}}}, {Root: c.scratch}, {Root: "/etc/x/" + digest}, {Root: root + "/" + digest}, {Root: root + "/../alice/" + aTenant + "/" + digest},
			{Root: root + "/" + aTenant + "/" + digest, Files: []forge.File{{Path: "../../../../etc/passwd"}}}, {Root: "/etc/attempts/0001/output"}, {}} {
			if seen, err := c.Reread(ctx, "alice", m); forge.KindOf(err) != forge.KindForbidden {
				t.Errorf("%s: %+v, %v", m.Root, seen, err)
			}
		}
		if list, err := c.Kept(ctx, "alice", filepath.Join(c.scratch, "kept", "bob")); forge.KindOf(err) != forge.KindForbidden {
			t.Errorf("his copies: %+v, %v", list, err)
		}
	})
	t.Run("without artifact_roots nothing is copied, and a root is one per account", func(t *testing.T) {
		text, err := os.ReadFile(HelperConfig)
		must(t, err)
		defer func() { must(t, os.WriteFile(HelperConfig, text, 0o644)) }()
		template := filepath.Join(c.scratch, "kept", "{account}")
		must(t, HelperKeeps("lab", template))
		for _, other := range []string{root, filepath.Join(c.scratch, "{account}")} {
			if err := HelperKeeps("lab", other); forge.KindOf(err) != forge.KindPrecondition {
				t.Errorf("%s: %v", other, err)
			}
		}
		without := slices.DeleteFunc(strings.Split(string(text), "\n"), func(l string) bool { return strings.Contains(l, "artifact_roots") })
		must(t, os.WriteFile(HelperConfig, []byte(strings.Join(without, "\n")), 0o644))
		forbidden(t, "none", c.left(t, "alice", "w"), "artifact_root")
		must(t, os.WriteFile(HelperConfig, []byte(strings.Replace(string(text), "kept/{account}", "kept", 1)), 0o644))
		if code, said := c.raw(t, "alice", []string{"ping"}, `{"cluster":"lab","deadline":"5s","ask":{}}`); code != helperRefuses || !strings.Contains(said, "artifact_roots") {
			t.Errorf("exit %d: %s", code, said)
		}
	})
}

func rewrite(at rundir.Attempt, change func(*forge.Manifest)) error {
	m, err := rundir.ReadOutput(at)
	if err != nil {
		return err
	}
	change(&m)
	return rundir.WriteJSON(at.OutputPath(), m)
}

func TestACopyOfOtherBytesIsNotBelieved(t *testing.T) {
	dir := t.TempDir()
	at := rundir.At(filepath.Join(dir, "alice", "01KASW00000000000000000001"), 1)
	good := forge.Manifest{Files: []forge.File{{Path: "w", Size: 1, SHA256: strings.Repeat("a", 64)}}}
	digest := good.Digest()
	good.Root = artefact.Place(filepath.Join(dir, "kept", "alice"), aTenant, digest)
	h := &AsUser{Cluster: "lab", Sudo: filepath.Join(dir, "sudo")}
	e, err := New(Options{Cluster: "lab", Hand: h, RunRoot: dir + "/{account}", Shim: "/bin/true", Tools: Tools{Bin: dir}, With: With{ArtifactRoot: dir + "/kept/{account}"}})
	must(t, err)
	defer e.Close()
	keep := func(a KeepAnswer) (forge.Manifest, error) {
		b, err := json.Marshal(a)
		must(t, err)
		must(t, os.WriteFile(h.Sudo, fmt.Appendf(nil, "#!/bin/sh\ncat >/dev/null\necho '{\"answer\":%s}'\n", b), 0o755))
		return e.Keep(t.Context(), externalID("alice", at), aTenant, digest)
	}
	if m, err := keep(KeepAnswer{Copy: good}); err != nil || m.Root != good.Root {
		t.Errorf("what is good: %+v, %v", m, err)
	}
	for what, change := range map[string]func(*KeepAnswer){
		"other bytes":       func(a *KeepAnswer) { a.Copy.Files[0].SHA256 = strings.Repeat("b", 64) },
		"a file more":       func(a *KeepAnswer) { a.Copy.Files = append(a.Copy.Files, forge.File{Path: "x"}) },
		"none":              func(a *KeepAnswer) { a.Copy.Files = nil },
		"another place":     func(a *KeepAnswer) { a.Copy.Root = "/var/lib/forge" },
		"an unknown reason": func(a *KeepAnswer) { a.Why = "because" },
	} {
		a := KeepAnswer{Copy: forge.Manifest{Root: good.Root, Files: slices.Clone(good.Files)}}
		change(&a)
		if m, err := keep(a); forge.KindOf(err) != forge.KindInternal || len(m.Files) > 0 {
			t.Errorf("%s: %+v, %v", what, m, err)
		}
	}
	for why, is := range map[KeepRefusal]error{KeepNoRoom: artefact.ErrNoRoom, KeepDiffers: artefact.ErrDiffers, KeepDenied: fs.ErrPermission} {
		if m, err := keep(KeepAnswer{Why: why, Words: "17 bytes are missing"}); !errors.Is(err, is) || err == nil || !strings.Contains(err.Error(), "17 bytes are missing") || len(m.Files) > 0 {
			t.Errorf("%s: %+v, %v", why, m, err)
		}
	}
}
