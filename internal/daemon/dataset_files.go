package daemon

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/store"
)

// Copies of datasets that forge owns lie below dataset_root, by tenant:
//
//	TENANT/incoming/SHA256         a file that was sent; removed after a day
//	TENANT/DIRECTORY/data/…        a version of several files: hard links to what was sent, so that a copy takes no time and no second place
//	TENANT/DIRECTORY/NAME          a version of one
//
// DIRECTORY is 128 random bits. Where jobs belong to people (as_user) they must be able to read a copy, and no mode says "the people of this tenant": there
// the directories can be entered and not listed, so that a copy is open to whoever knows its path, which is shown to its tenant only.
// A crash between the copy and its row leaves a directory that no version names; datasetsLoop removes it after a day.
const (
	incomingDir   = "incoming"
	newCopy       = ".new-"
	copiesEvery   = time.Hour
	copyLife      = 24 * time.Hour
	nonBlocking   = syscall.O_NONBLOCK
	maxIncoming   = 2 * maxFiles // files of a tenant that no version was made of yet
	copiedDirName = "data"
)

var copyForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

func unkept(op string, err error) error {
	e := forge.Errorf(forge.KindUnavailable, op, "the data could not be kept: %w", err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return e.WithHint("free space below dataset_root; what was written of it is removed")
	}
	return e
}

// open says whether copies must be readable by others than forged's account.
func (d *Daemon) openCopies() bool {
	for _, c := range d.live().clusters {
		if c.AsUser {
			return true
		}
	}
	return false
}

func (s datasets) modes() (dir, file fs.FileMode) {
	if s.d.openCopies() {
		return 0o711, 0o644
	}
	return 0o700, 0o600
}

// mayCopy refuses copies where runs could not read them.
func (d *Daemon) mayCopy() error {
	cfg := d.live().cfg
	for _, c := range d.live().clusters {
		if c.Slurm != nil && below(cfg.DatasetRoot, cfg.StateDir) {
			return forge.Errorf(forge.KindPrecondition, "dataset.copy", "copies would lie in %s, which the nodes of cluster %s do not see", cfg.DatasetRoot, c.Name).
				WithHint("set dataset_root in config.yaml to a directory on a filesystem that forged and every node see; or register the data where it is, without --copy")
		}
	}
	return nil
}

func (s datasets) dir(t forge.TenantID, elem ...string) string {
	return filepath.Join(append([]string{s.d.live().cfg.DatasetRoot, string(t)}, elem...)...)
}

// mkdir makes a directory of copies, and those above it, with the modes that they need whatever the umask is.
func (s datasets) mkdir(t forge.TenantID, elem ...string) (string, error) {
	mode, _ := s.modes()
	for _, dir := range []string{s.d.live().cfg.DatasetRoot, s.dir(t), s.dir(t, elem...)} {
		err := os.Mkdir(dir, mode)
		if errors.Is(err, fs.ErrNotExist) {
			err = os.MkdirAll(dir, mode)
		}
		if err == nil {
			err = os.Chmod(dir, mode)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	return s.dir(t, elem...), nil
}

func (s datasets) AddDatasetFile(ctx context.Context, p forge.Principal, digest string, body io.Reader) (api.DatasetFile, error) {
	const op = "dataset.file"
	var none api.DatasetFile
	if err := least(p, op, forge.RoleMember, "sending a dataset"); err != nil {
		return none, err
	}
	if err := s.d.mayCopy(); err != nil {
		return none, err
	}
	n, err := s.receive(p.Tenant, digest, &arriving{from: body})
	if err != nil {
		return none, err
	}
	return api.DatasetFile{SHA256: digest, Bytes: n}, s.d.db.For(p).Noted(ctx, digest)
}

// receive keeps a file under its digest: written aside, synced, renamed.
func (s datasets) receive(t forge.TenantID, digest string, in *arriving) (int64, error) {
	const op = "dataset.file"
	if !digestForm.MatchString(digest) {
		return 0, forge.Invalidf("sha256", "%.70q: want 64 hexadecimal digits", digest)
	}
	dir, err := s.mkdir(t, incomingDir)
	if err != nil {
		return 0, unkept(op, err)
	}
	if waiting, err := os.ReadDir(dir); err != nil {
		return 0, unkept(op, err)
	} else if len(waiting) >= maxIncoming {
		return 0, forge.Errorf(forge.KindPrecondition, op, "%d files of the tenant wait for a version to be made of them", len(waiting)).
			WithHint("each is removed a day after it came; register what was sent, or wait")
	}
	f, err := os.CreateTemp(dir, newCopy)
	if err != nil {
		return 0, unkept(op, err)
	}
	defer func() { _ = f.Close(); _ = os.Remove(f.Name()) }()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), in)
	if err != nil {
		var big *http.MaxBytesError
		switch {
		case errors.As(in.err, &big):
			return 0, forge.Invalidf("", "the file is larger than the %d bytes that this site takes", big.Limit).WithHint("limits.max_dataset_bytes; or register the data where it is, without --copy")
		case in.err != nil:
			return 0, forge.Invalidf("", "the file did not arrive whole and in time")
		}
		return 0, unkept(op, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != digest {
		return 0, forge.Invalidf("sha256", "the file has the digest %s", got)
	}
	_, mode := s.modes()
	if err := errors.Join(f.Chmod(mode), f.Sync(), os.Rename(f.Name(), filepath.Join(dir, digest)), syncDir(dir)); err != nil {
		return 0, unkept(op, err)
	}
	return n, nil
}

func (s datasets) DatasetFile(_ context.Context, p forge.Principal, digest string) (api.DatasetFile, error) {
	if !digestForm.MatchString(digest) {
		return api.DatasetFile{}, forge.Invalidf("sha256", "%.70q: want 64 hexadecimal digits", digest)
	}
	st, err := os.Stat(s.dir(p.Tenant, incomingDir, digest))
	if err != nil {
		return api.DatasetFile{}, forge.Errorf(forge.KindNotFound, "dataset.file", "no file %.12s waits here: one of which no version is made is removed after a day", digest).WithHint("send it again")
	}
	return api.DatasetFile{SHA256: digest, Bytes: st.Size()}, nil
}

// take copies files that forged has read to where those are that were sent.
func (s datasets) take(ctx context.Context, p forge.Principal, m forge.Manifest) error {
	for _, f := range m.Files {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if f.Size > s.d.live().cfg.Limits.MaxDatasetBytes {
			return forge.Invalidf("copy", "%s has %d bytes; this site keeps copies of at most %d", f.Path, f.Size, s.d.live().cfg.Limits.MaxDatasetBytes).WithHint("limits.max_dataset_bytes")
		}
		in, err := openData(filepath.Join(m.Root, filepath.FromSlash(f.Path)))
		if err != nil {
			return forge.Invalidf("paths", "%s cannot be read again: %w", f.Path, err)
		}
		_, err = s.receive(p.Tenant, f.SHA256, &arriving{from: in})
		_ = in.Close()
		if forge.KindOf(err) == forge.KindInvalid && err != nil {
			return forge.Errorf(forge.KindConflict, "dataset.add", "%s changed while it was read", f.Path).WithHint("nothing may write to the files while they are registered; add them again")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keep makes a version's own directory out of files that were sent.
func (s datasets) keep(t forge.TenantID, m forge.Manifest) (forge.Manifest, string, error) {
	const op = "dataset.copy"
	var none forge.Manifest
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	name := hex.EncodeToString(random[:])
	s.d.copyLock.Lock()
	defer s.d.copyLock.Unlock()
	fresh, err := s.mkdir(t, newCopy+name)
	if err != nil {
		return none, "", unkept(op, err)
	}
	done := false
	defer func() {
		if !done {
			_ = os.RemoveAll(fresh)
		}
	}()
	dirMode, _ := s.modes()
	final := s.dir(t, name)
	out := forge.Manifest{Root: filepath.Join(final, copiedDirName)}
	base := filepath.Join(fresh, copiedDirName)
	if len(m.Files) == 1 && m.Files[0].Path == "." { // its name tells readers its format
		one := strings.TrimLeft(filepath.Base(filepath.Clean(m.Root)), ".")
		if one == "" || one == "/" {
			return none, "", forge.Invalidf("scanned", "the root of a single file has no name")
		}
		if err := checkText("scanned", one, 200); err != nil {
			return none, "", err
		}
		base, out.Root = filepath.Join(fresh, one), filepath.Join(final, one)
	}
	dirs := map[string]bool{fresh: true}
	for _, f := range m.Files {
		to := filepath.Join(base, filepath.FromSlash(f.Path))
		for dir := filepath.Dir(to); !dirs[dir]; dir = filepath.Dir(dir) {
			if err := os.MkdirAll(dir, dirMode); err != nil {
				return none, "", unkept(op, err)
			}
			dirs[dir] = true
		}
		from := s.dir(t, incomingDir, f.SHA256)
		err := os.Link(from, to)
		if errors.Is(err, fs.ErrNotExist) {
			return none, "", forge.Invalidf("scanned", "%s was not sent, or more than a day ago", f.Path).WithHint("each file goes to %s{sha256} first", api.DatasetFilesPath)
		}
		st, serr := os.Stat(to)
		if err = errors.Join(err, serr); err != nil {
			return none, "", unkept(op, err)
		}
		if st.Size() != f.Size {
			return none, "", forge.Invalidf("scanned", "%s has %d bytes; the file that was sent has %d", f.Path, f.Size, st.Size())
		}
		kept := forge.File{Path: f.Path, Size: f.Size, SHA256: f.SHA256, ModTime: st.ModTime().UTC()}
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			kept.Inode = sys.Ino
		}
		out.Files = append(out.Files, kept)
	}
	for dir := range dirs {
		if err := errors.Join(os.Chmod(dir, dirMode), syncDir(dir)); err != nil {
			return none, "", unkept(op, err)
		}
	}
	if err := os.Rename(fresh, final); err != nil {
		return none, "", unkept(op, err)
	}
	done = true
	return out, final, syncDir(s.dir(t))
}

// purge erases every copy of which it is decided. A crash in the middle leaves the rest for the next time.
func (s datasets) purge(ctx context.Context) error {
	all, err := s.d.db.DatasetsToPurge(ctx)
	if err != nil {
		return err
	}
	s.d.copyLock.Lock()
	defer s.d.copyLock.Unlock()
	var faults []error
	for _, c := range all {
		if err := s.erase(ctx, c); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", c.Dir, err))
		}
	}
	return errors.Join(faults...)
}

// erase removes one copy, and what was sent for it: a link that stays keeps the bytes. It trusts no row blindly with a removal of trees.
func (s datasets) erase(ctx context.Context, c store.DatasetCopy) error {
	if !copyForm.MatchString(filepath.Base(c.Dir)) || filepath.Base(filepath.Dir(c.Dir)) != string(c.Tenant) {
		return errors.New("it is no directory of a copy")
	}
	v, err := s.d.db.DatasetVersionByID(ctx, c.ID)
	if err != nil {
		return err
	}
	for _, f := range v.Manifest.Files {
		if digestForm.MatchString(f.SHA256) {
			_ = os.Remove(filepath.Join(filepath.Dir(c.Dir), incomingDir, f.SHA256))
		}
	}
	crash.At("purge.half_erased")
	if err := os.RemoveAll(c.Dir); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(c.Dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.d.db.DatasetPurged(ctx, c.ID)
}

func (d *Daemon) datasetsLoop(ctx context.Context) {
	tick := time.NewTicker(copiesEvery)
	defer tick.Stop()
	s := datasets{d}
	for {
		if err := errors.Join(s.purge(ctx), s.forget(ctx, time.Now())); err != nil && ctx.Err() == nil {
			d.log.Warn().Err(err).Msg("copies of datasets not removed")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// forget removes what was sent or copied more than a day ago and became no version.
func (s datasets) forget(ctx context.Context, now time.Time) error {
	s.d.copyLock.Lock()
	defer s.d.copyLock.Unlock()
	root := s.d.live().cfg.DatasetRoot
	sent, err := filepath.Glob(filepath.Join(root, "*", incomingDir, "*"))
	if err != nil {
		return err
	}
	copies, err := filepath.Glob(filepath.Join(root, "*", "*"))
	if err != nil {
		return err
	}
	var faults []error
	for _, path := range append(sent, copies...) {
		name := filepath.Base(path)
		isCopy := copyForm.MatchString(strings.TrimPrefix(name, newCopy))
		if filepath.Base(filepath.Dir(path)) != incomingDir && !isCopy {
			continue
		}
		st, err := os.Lstat(path)
		if err != nil || now.Sub(changedAt(st)) < copyLife {
			continue
		}
		if isCopy {
			known, err := s.d.db.DatasetCopyKnown(ctx, path)
			if err != nil {
				return err
			}
			if known {
				continue
			}
		}
		if err := os.RemoveAll(path); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// changedAt is when a name came to be what it is, which a rename counts for and a writer cannot set.
func changedAt(st fs.FileInfo) time.Time {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return time.Unix(sys.Ctim.Unix())
	}
	return st.ModTime()
}
