package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/workdir"
)

// Snapshots lie in the state directory, by tenant and digest:
//
//	snapshots/TENANT/new/SHA256/{archive.tar.gz,snapshot.json}    no run is of it yet; removed after a day
//	snapshots/TENANT/used/SHA256/…                                a run is: moved there before the run is stored
//
// A crash between the move and the store keeps one for nothing, and leaves no run without its own.
const (
	snapshotsDir    = "snapshots"
	snapshotArchive = "archive.tar.gz"
	snapshotInfo    = "snapshot.json"
	snapshotLife    = 24 * time.Hour
	snapshotsEvery  = time.Hour
	// maxNewSnapshots bounds what one tenant can fill the disk with.
	maxNewSnapshots = 64
)

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// snapshots implements api.Snapshots.
type snapshots struct{ d *Daemon }

func (s snapshots) dir(t forge.TenantID, elem ...string) string {
	return filepath.Join(append([]string{s.d.live().cfg.StateDir, snapshotsDir, string(t)}, elem...)...)
}

func (s snapshots) AddSnapshot(ctx context.Context, p forge.Principal, digest string, body io.Reader) (api.Snapshot, error) {
	const op = "snapshot.add"
	var none api.Snapshot
	if err := least(p, op, forge.RoleMember, "uploading a working directory"); err != nil {
		return none, err
	}
	if !digestForm.MatchString(digest) {
		return none, forge.Invalidf("sha256", "%.70q: want 64 hexadecimal digits", digest)
	}
	fresh := s.dir(p.Tenant, "new")
	if err := os.MkdirAll(fresh, 0o700); err != nil {
		return none, unwritten(op, err)
	}
	waiting, err := os.ReadDir(fresh)
	if err != nil {
		return none, unwritten(op, err)
	}
	if len(waiting) >= maxNewSnapshots {
		return none, forge.Errorf(forge.KindPrecondition, op, "%d snapshots of the tenant wait for a run to be made of them", len(waiting)).
			WithHint("each is removed a day after it came; submit runs of them, or wait")
	}
	temp, err := os.MkdirTemp(fresh, ".upload-")
	if err != nil {
		return none, unwritten(op, err)
	}
	defer os.RemoveAll(temp)
	got, err := s.receive(ctx, temp, digest, body)
	if err != nil {
		return none, err
	}
	s.d.snapshotLock.Lock()
	defer s.d.snapshotLock.Unlock()
	// Whoever repeats the request is answered by the digest.
	if have, err := s.info(p.Tenant, digest); err == nil {
		_ = os.Chtimes(filepath.Join(fresh, digest), time.Time{}, time.Now()) // its day begins anew, unless a run has it already
		return have, s.d.db.For(p).Noted(ctx, digest)
	}
	if err := os.Rename(temp, filepath.Join(fresh, digest)); err != nil {
		return none, unwritten(op, err)
	}
	return got, s.d.db.For(p).Noted(ctx, digest)
}

// receive writes an archive and looks through it: what is kept is what a shim will unpack.
func (s snapshots) receive(ctx context.Context, dir, digest string, body io.Reader) (api.Snapshot, error) {
	const op = "snapshot.add"
	var none api.Snapshot
	f, err := os.OpenFile(filepath.Join(dir, snapshotArchive), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return none, unwritten(op, err)
	}
	defer f.Close()
	sum := sha256.New()
	in := &arriving{from: body}
	if _, err := io.Copy(io.MultiWriter(f, sum), in); err != nil {
		var big *http.MaxBytesError
		switch {
		case errors.As(in.err, &big):
			return none, forge.Invalidf("", "the archive is larger than the %d bytes that this site takes", big.Limit).WithHint("name in %s what the run does not need", workdir.IgnoreFile)
		case in.err != nil:
			return none, forge.Invalidf("", "the archive did not arrive whole and in time")
		}
		return none, unwritten(op, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != digest {
		return none, forge.Invalidf("sha256", "the archive has the digest %s", got)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return none, unwritten(op, err)
	}
	out := api.Snapshot{SHA256: digest}
	if out.Bytes, out.Files, err = workdir.Inspect(ctx, f, s.d.live().cfg.Limits.MaxSnapshotBytes); err != nil {
		return none, err
	}
	text, err := json.Marshal(out)
	if err != nil {
		return none, err
	}
	if err := errors.Join(f.Sync(), os.WriteFile(filepath.Join(dir, snapshotInfo), text, 0o600)); err != nil {
		return none, unwritten(op, err)
	}
	return out, nil
}

// arriving keeps the fault of the sender apart from those of our own disk.
type arriving struct {
	from io.Reader
	err  error
}

func (r *arriving) Read(b []byte) (int, error) {
	n, err := r.from.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

func unwritten(op string, err error) error {
	return forge.Errorf(forge.KindUnavailable, op, "the snapshot could not be kept: %w", err)
}

func (s snapshots) Snapshot(_ context.Context, p forge.Principal, digest string) (api.Snapshot, error) {
	return s.info(p.Tenant, digest)
}

// info is what forged has under a digest.
func (s snapshots) info(t forge.TenantID, digest string) (api.Snapshot, error) {
	var out api.Snapshot
	if !digestForm.MatchString(digest) {
		return out, forge.Invalidf("sha256", "%.70q: want 64 hexadecimal digits", digest)
	}
	for _, where := range []string{"used", "new"} {
		text, err := os.ReadFile(s.dir(t, where, digest, snapshotInfo))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = json.Unmarshal(text, &out)
		}
		if err != nil {
			return out, forge.Errorf(forge.KindUnavailable, "snapshot", "snapshot %.12s cannot be read: %w", digest, err)
		}
		return out, nil
	}
	return out, forge.Errorf(forge.KindNotFound, "snapshot", "there is no snapshot %.12s: one of which no run is made is removed after a day", digest).
		WithHint("forgectl run submit script --workdir DIR uploads it")
}

// size is how large an archive is; 0: nobody knows.
func (s snapshots) size(t forge.TenantID, digest string) int64 {
	for _, where := range []string{"used", "new"} {
		if st, err := os.Stat(s.dir(t, where, digest, snapshotArchive)); err == nil {
			return st.Size()
		}
	}
	return 0
}

// file is where the archive is that a run uses.
func (s snapshots) file(t forge.TenantID, digest string) string {
	if !digestForm.MatchString(digest) {
		return ""
	}
	return s.dir(t, "used", digest, snapshotArchive)
}

// keep makes a snapshot stay, before the run that uses it is stored.
func (s snapshots) keep(t forge.TenantID, digest string) error {
	s.d.snapshotLock.Lock()
	defer s.d.snapshotLock.Unlock()
	used := s.dir(t, "used")
	if _, err := os.Stat(filepath.Join(used, digest)); err == nil {
		return nil
	}
	if err := os.MkdirAll(used, 0o700); err != nil {
		return unwritten("run.submit", err)
	}
	err := os.Rename(s.dir(t, "new", digest), filepath.Join(used, digest))
	if errors.Is(err, fs.ErrNotExist) {
		_, err = s.info(t, digest)
		return asField(err, "source.sha256")
	}
	if err == nil {
		err = syncDir(used)
	}
	if err != nil {
		return unwritten("run.submit", err)
	}
	return nil
}

func (d *Daemon) snapshotsLoop(ctx context.Context) {
	tick := time.NewTicker(snapshotsEvery)
	defer tick.Stop()
	for {
		if err := d.forgetSnapshots(time.Now()); err != nil {
			d.log.Warn().Err(err).Msg("old snapshots not removed")
		}
		if err := d.pruneHeld(ctx, time.Now()); err != nil && ctx.Err() == nil {
			d.log.Warn().Err(err).Msg("checkpoints held for runs that have ended not removed")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// forgetSnapshots removes those that no run was made of for a day, and what uploads left that were cut off.
func (d *Daemon) forgetSnapshots(now time.Time) error {
	d.snapshotLock.Lock()
	defer d.snapshotLock.Unlock()
	state := d.live().cfg.StateDir
	dirs, err := filepath.Glob(filepath.Join(state, snapshotsDir, "*", "new", "*")) // Go's * takes hidden ones as well
	if err != nil {
		return err
	}
	var faults []error
	for _, dir := range dirs {
		if st, err := os.Stat(dir); err != nil || now.Sub(st.ModTime()) < snapshotLife {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", strings.TrimPrefix(dir, state), err))
		}
	}
	return errors.Join(faults...)
}
