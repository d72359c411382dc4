package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

const (
	stagingDir   = ".restore" // in the state directory, until everything is in place
	actorRestore = "forged restore"
)

// VerifyBackup reads a backup to its end, holds every digest against its manifest, and has SQLite check the database in it. The
// database is unpacked beside the file for that, and removed again.
func VerifyBackup(ctx context.Context, file string) (BackupManifest, error) {
	dir, err := os.MkdirTemp(filepath.Dir(file), ".forge-verify-*")
	if err != nil {
		if dir, err = os.MkdirTemp("", "forge-verify-*"); err != nil {
			return BackupManifest{}, err
		}
	}
	defer func() { _ = os.RemoveAll(dir) }()
	return unpack(ctx, file, dir)
}

// unpack writes a backup's members below dir, synced, and checks them all.
func unpack(ctx context.Context, file, dir string) (BackupManifest, error) {
	m, err := readBundle(ctx, file, func(f BackupFile, r io.Reader) error {
		to := filepath.Join(dir, filepath.FromSlash(f.Path)) // one of a few names: see parse
		if err := roomFor(dir, f.Size); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		if err := writeNew(to, r); err != nil {
			return err
		}
		for d := filepath.Dir(to); len(d) > len(dir); d = filepath.Dir(d) { // what is moved into place has to be there after a power loss
			if err := syncDir(d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return m, err
	}
	contents, err := store.Inspect(ctx, filepath.Join(dir, dbFile))
	if err != nil {
		return m, err
	}
	if contents.LastEventSeq != m.Database.LastEventSeq || contents.SchemaVersion != m.Database.SchemaVersion {
		return m, notBackup(file, "its database is not the one that its manifest describes")
	}
	return m, nil
}

func writeNew(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// RestoreOptions is what `forged restore` asks for.
type RestoreOptions struct {
	File     string
	StateDir string
	Now      time.Time
}

// RestoredSite is what a restore did.
type RestoredSite struct {
	Manifest BackupManifest
	Held     int // runs that were put on hold
}

// Restore puts a backup into a state directory that is empty or absent. All or nothing: everything is unpacked, checked and made ready
// in a directory of its own inside it, and the database, without which forged serves nothing, is moved into place last. What a
// crash leaves is told by that directory, and removed by the next restore.
func Restore(ctx context.Context, o RestoreOptions) (RestoredSite, error) {
	var done RestoredSite
	if err := vacant(o.StateDir); err != nil {
		return done, err
	}
	if err := prepareStateDir(o.StateDir); err != nil {
		return done, err
	}
	lock, err := lockState(o.StateDir)
	if err != nil {
		return done, err
	}
	defer func() { _ = lock.release() }()
	if err := clearInterrupted(o.StateDir); err != nil {
		return done, err
	}
	staging := filepath.Join(o.StateDir, stagingDir)
	if err := os.Mkdir(staging, 0o700); err != nil {
		return done, stateDirError(o.StateDir, err)
	}
	done, err = stage(ctx, o, staging)
	if err != nil { // nothing was put into place yet
		return done, errors.Join(err, os.RemoveAll(staging))
	}
	return done, place(o.StateDir, staging)
}

// stage makes everything ready that place will move.
func stage(ctx context.Context, o RestoreOptions, staging string) (RestoredSite, error) {
	var done RestoredSite
	var err error
	if done.Manifest, err = unpack(ctx, o.File, staging); err != nil {
		return done, err
	}
	db := filepath.Join(staging, dbFile)
	if done.Held, err = store.Restore(ctx, db, store.Restored{TakenAt: done.Manifest.TakenAt, From: o.File, Actor: actorRestore, Why: forge.WhyRequested},
		store.Options{Log: zerolog.Nop()}); err != nil {
		return done, err
	}
	if err := syncFile(db); err != nil {
		return done, err
	}
	file, err := filepath.Abs(o.File)
	if err != nil {
		return done, err
	}
	size := int64(0)
	if st, err := os.Stat(file); err == nil {
		size = st.Size()
	}
	return done, errors.Join(
		writeJSONFile(filepath.Join(staging, restoredFile), restoredMark{TakenAt: done.Manifest.TakenAt, RestoredAt: o.Now.UTC(), From: file}),
		writeJSONFile(filepath.Join(staging, lastBackupFile), LastBackup{TakenAt: done.Manifest.TakenAt, File: file, Bytes: size, LastEventSeq: done.Manifest.Database.LastEventSeq}),
	)
}

// place moves what was staged, the database last. A database in place means that the restore is done.
func place(stateDir, staging string) error {
	entries, err := os.ReadDir(staging)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == dbFile {
			continue
		}
		if err := os.Rename(filepath.Join(staging, e.Name()), filepath.Join(stateDir, e.Name())); err != nil {
			return err
		}
	}
	if err := syncDir(stateDir); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(staging, dbFile), filepath.Join(stateDir, dbFile)); err != nil {
		return err
	}
	return errors.Join(syncDir(stateDir), os.RemoveAll(staging))
}

// placed are the names that a restore makes in a state directory.
var placed = []string{configFile, hookSecretFile, tlsDir, recipesPart, snapshotsDir, restoredFile, lastBackupFile}

// lockFiles may lie in a directory that counts as empty.
var lockFiles = []string{lockFile, "lost+found"}

// vacant refuses a state directory in which there is anything but what an interrupted restore left.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return stateDirError(dir, err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	interrupted := slices.Contains(names, stagingDir)
	names = slices.DeleteFunc(names, func(n string) bool {
		return slices.Contains(lockFiles, n) || interrupted && (n == stagingDir || slices.Contains(placed, n))
	})
	if len(names) == 0 {
		return nil
	}
	shown := strings.Join(names[:min(len(names), maxNamed)], ", ")
	return (&forge.Error{Kind: forge.KindConflict, Op: "restore", Field: "state-dir",
		Err: fmt.Errorf("%s is not empty: it has %s; nothing was restored", dir, shown)}).
		WithHint("stop forged and move the directory away (mv %s %s.old), or restore into another one", dir, dir)
}

// clearInterrupted removes what a restore that was cut off left. vacant has seen that there is nothing else.
func clearInterrupted(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, stagingDir)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs []error
	for _, n := range append(slices.Clone(placed), stagingDir) { // the staging directory last: it is the mark
		errs = append(errs, os.RemoveAll(filepath.Join(dir, n)))
	}
	return errors.Join(errs...)
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeJSONFile replaces a small file durably, mode 0600.
func writeJSONFile(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

func readJSONFile[T any](path string) (T, error) {
	var v T
	b, err := readBounded(path, maxMarkerSize)
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(b, &v)
}
