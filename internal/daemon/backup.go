package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// BackupOptions is what `forged backup` asks for.
type BackupOptions struct {
	StateDir string
	Config   string // configuration file; empty: STATE_DIR/config.yaml
	Out      string // file to make, which must not exist; empty: forge-backup-TIME.tar.gz here; "-": Stdout
	Stdout   io.Writer
	Version  string
	Progress func(done, total int64) // nil: silent
	Now      time.Time
}

// LastBackup is last-backup.json in the state directory: what `forgectl doctor` and a refusal of a damaged
// database say of the newest backup. It is a file and no row: backup runs beside a daemon that owns the database.
type LastBackup struct {
	TakenAt      time.Time `json:"taken_at"`
	File         string    `json:"file"` // "-": it went to a pipe
	Bytes        int64     `json:"bytes"`
	LastEventSeq int64     `json:"last_event_seq"`
	Without      []string  `json:"without,omitempty"` // working directories that runs need and that it could not take
}

const (
	lastBackupFile = "last-backup.json"
	copyName       = ".forge-backup-*.db"
)

// Backup writes one file with all that a site cannot make again, while forged serves or not. It reads the
// database as of one moment; see docs/backup.md for what is and is not in it.
func Backup(ctx context.Context, o BackupOptions) (LastBackup, error) {
	last := LastBackup{TakenAt: o.Now.UTC(), File: o.Out}
	if last.File == "" {
		last.File = "forge-backup-" + last.TakenAt.Format("2006-01-02T15:04:05Z") + ".tar.gz"
	}
	dbPath := filepath.Join(o.StateDir, dbFile)
	st, err := os.Stat(dbPath)
	if err != nil {
		return last, (&forge.Error{Kind: forge.KindPrecondition, Op: "backup", Field: "state-dir",
			Err: fmt.Errorf("%s has no database: %w", o.StateDir, err)}).WithHint("forged backup --state-dir DIR, with the directory that forged serves")
	}
	scratch := o.StateDir
	if last.File != "-" {
		if last.File, err = filepath.Abs(last.File); err != nil {
			return last, err
		}
		if _, err := os.Lstat(last.File); !errors.Is(err, fs.ErrNotExist) {
			return last, (&forge.Error{Kind: forge.KindConflict, Op: "backup", Field: "out", Err: fmt.Errorf("%s exists already; nothing was written", last.File)}).
				WithHint("name another file with --out, or move this one away")
		}
		scratch = filepath.Dir(last.File)
	}
	if err := roomFor(scratch, 2*st.Size()); err != nil {
		return last, err
	}
	snapshot, err := scratchName(scratch)
	if err != nil {
		return last, forge.Invalidf("out", "%v", err)
	}
	defer func() { _ = os.Remove(snapshot) }()
	if err := store.Backup(ctx, dbPath, snapshot, o.Progress); err != nil {
		return last, err
	}
	contents, err := store.Inspect(ctx, snapshot)
	if err != nil {
		return last, err
	}
	b := newBundle(o, last.TakenAt, contents)
	if err := b.add(ctx, dbFile, snapshot, maxDatabase); err != nil {
		return last, err
	}
	if err := b.addSite(ctx, o); err != nil {
		return last, err
	}
	sources, err := b.addSources(ctx, o, snapshot)
	if err == nil {
		err = roomFor(scratch, st.Size()+sources) // the copy is made, the bundle is not
	}
	if err != nil {
		return last, err
	}
	last.LastEventSeq, last.Without = contents.LastEventSeq, b.without
	if last.File == "-" {
		last.Bytes, err = b.write(ctx, o.Stdout)
	} else {
		last.Bytes, err = b.writeFile(ctx, last.File)
	}
	if err != nil {
		return last, err
	}
	if err := writeJSONFile(filepath.Join(o.StateDir, lastBackupFile), last); err != nil {
		return last, fmt.Errorf("the backup is whole, and could not be noted in %s: %w", lastBackupFile, err)
	}
	return last, nil
}

// scratchName picks a name that VACUUM INTO may make: the file must not be there.
func scratchName(dir string) (string, error) {
	f, err := os.CreateTemp(dir, copyName)
	if err != nil {
		return "", err
	}
	return f.Name(), errors.Join(f.Close(), os.Remove(f.Name()))
}

// roomFor refuses before it starts what would fill a disk that others need, too.
func roomFor(dir string, bytes int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return forge.Invalidf("out", "%s: %v", dir, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < bytes {
		return (&forge.Error{Kind: forge.KindUnavailable, Op: "backup", Field: "out", Err: fmt.Errorf("%s has %d MiB free; the backup may need %d MiB", dir, free>>20, bytes>>20)}).
			WithHint("name a file on another filesystem with --out")
	}
	return nil
}

// addSite adds what lies beside the database. What is not there is not missed; what cannot be had for its size is named.
func (b *bundle) addSite(ctx context.Context, o BackupOptions) error {
	config := o.Config
	if config == "" {
		config = filepath.Join(o.StateDir, configFile)
	}
	if err := b.addIfThere(ctx, configFile, config); err != nil {
		return err
	}
	if err := b.addDir(ctx, tlsDir, filepath.Join(o.StateDir, tlsDir), func(string) bool { return true }); err != nil {
		return err
	}
	if err := b.addIfThere(ctx, hookSecretFile, filepath.Join(o.StateDir, hookSecretFile)); err != nil {
		return err
	}
	cfg, err := LoadConfig(o.Config, o.StateDir)
	if err != nil { // a site whose configuration is broken needs its backup all the more
		b.leaveOut("recipes_dir and the roots of run directories", "", "the configuration does not load: "+err.Error())
		return nil
	}
	if cfg.RecipesDir != "" {
		yaml := func(name string) bool { return strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml") }
		if err := b.addDir(ctx, recipesPart, cfg.RecipesDir, yaml); err != nil {
			return err
		}
	}
	if cfg.SuitesDir != "" {
		b.leaveOut("suites of the site's own", cfg.SuitesDir, "nodes read them in place; keep them as code is kept")
	}
	if t := cfg.Listen.TLS; t.Cert != "" {
		b.leaveOut("TLS certificate and key", t.Cert, "the configuration names files of the site's own")
	}
	for _, c := range cfg.Clusters {
		b.leaveOut("run directories of cluster "+c.Name, c.RunRoot, "checkpoints, outputs and logs stay where they are")
	}
	b.leaveOut("datasets and base models", "", "they are referenced in place, by path and digest")
	b.leaveOut("secrets of API keys", "", "the database has their hashes only; keys that people hold go on working")
	return nil
}

// ReadLastBackup reads last-backup.json. fs.ErrNotExist: there was none.
func ReadLastBackup(stateDir string) (LastBackup, error) {
	return readJSONFile[LastBackup](filepath.Join(stateDir, lastBackupFile))
}
