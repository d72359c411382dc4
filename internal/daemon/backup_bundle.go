package daemon

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// The format of a backup, and what bounds its reader: a file that claims to be one may be anything.
const (
	bundleFormat = 1
	manifestName = "manifest.json"
	recipesPart  = "recipes"

	maxManifest = 4 << 20
	maxMember   = 16 << 20 // of everything but the database
	maxExtra    = 64 << 20 // of all of it together
	maxMembers  = 2000
	maxDatabase = 1 << 40
)

// BackupManifest is manifest.json, the first member of a backup.
type BackupManifest struct {
	Format      int            `json:"format"`
	Forged      string         `json:"forged"`
	TakenAt     time.Time      `json:"taken_at"`
	Host        string         `json:"host"`
	StateDir    string         `json:"state_dir"`
	Database    store.Contents `json:"database"`
	Files       []BackupFile   `json:"files"`
	NotIncluded []NotIncluded  `json:"not_included"`
}

// BackupFile is one member, with what it must have.
type BackupFile struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// NotIncluded says in words what is not in a backup, and where it is.
type NotIncluded struct {
	What string `json:"what"`
	Root string `json:"root,omitempty"`
	Why  string `json:"why"`
}

// bundle is a backup in the making.
type bundle struct {
	m       BackupManifest
	sources []string // beside m.Files
	extra   int64    // of what is small
	many    int      // members that are of working directories
	without []string
}

func newBundle(o BackupOptions, at time.Time, c store.Contents) *bundle {
	host, _ := os.Hostname() // only said to people
	return &bundle{m: BackupManifest{Format: bundleFormat, Forged: o.Version, TakenAt: at, Host: host, StateDir: o.StateDir, Database: c}}
}

func (b *bundle) leaveOut(what, root, why string) {
	b.m.NotIncluded = append(b.m.NotIncluded, NotIncluded{what, root, why})
}

func (b *bundle) addIfThere(ctx context.Context, name, source string) error {
	err := b.add(ctx, name, source, maxMember)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// add digests a file that will be a member. A link is not followed: what it points to may be anybody's.
func (b *bundle) add(ctx context.Context, name, source string, limit int64) error {
	st, err := os.Lstat(source)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		b.leaveOut(name, source, "not a regular file")
		return nil
	}
	own := name == dbFile || sourceMember(name)
	if !own && (st.Size() > limit || b.extra+st.Size() > maxExtra || len(b.m.Files)-b.many >= maxMembers) {
		b.leaveOut(name, source, fmt.Sprintf("%d bytes are more than a backup takes", st.Size()))
		return nil
	}
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	n, err := io.Copy(sum, contextReader{ctx, io.LimitReader(f, st.Size())})
	if err != nil {
		return err
	}
	if !own {
		b.extra += n
	}
	b.m.Files = append(b.m.Files, BackupFile{Path: name, Size: n, SHA256: hex.EncodeToString(sum.Sum(nil))})
	b.sources = append(b.sources, source)
	return nil
}

// addDir adds the files directly in a directory that want names.
func (b *bundle) addDir(ctx context.Context, name, dir string, want func(string) bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || strings.Contains(e.Name(), "\\") || !want(e.Name()) {
			continue
		}
		if err := b.addIfThere(ctx, path.Join(name, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// writeFile makes the backup under its name only when it is whole and on the disk.
func (b *bundle) writeFile(ctx context.Context, name string) (n int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".forge-backup-*.tmp") // mode 0600
	if err != nil {
		return 0, forge.Invalidf("out", "%v", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	n, err = b.write(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil { // link, not rename: it must never replace a file that came meanwhile
		err = os.Link(f.Name(), name)
	}
	if err == nil {
		err = syncDir(filepath.Dir(name))
	}
	if err != nil {
		return n, &forge.Error{Kind: forge.KindUnavailable, Op: "backup", Field: "out", Err: err}
	}
	return n, nil
}

func (b *bundle) write(ctx context.Context, w io.Writer) (int64, error) {
	count := &countWriter{w: w}
	zip, err := gzip.NewWriterLevel(count, gzip.BestSpeed)
	if err != nil {
		return 0, err
	}
	out := tar.NewWriter(zip)
	manifest, err := json.MarshalIndent(b.m, "", "  ")
	if err != nil {
		return 0, err
	}
	if err := b.member(out, manifestName, int64(len(manifest)), strings.NewReader(string(manifest))); err != nil {
		return 0, err
	}
	for i, f := range b.m.Files {
		src, err := os.Open(b.sources[i])
		if err != nil {
			return 0, err
		}
		// Exactly the bytes that were digested: a file that shrank meanwhile fails here, one that changed at the next verify.
		err = b.member(out, f.Path, f.Size, contextReader{ctx, io.LimitReader(src, f.Size)})
		if cerr := src.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return count.n, errors.Join(out.Close(), zip.Close())
}

func (b *bundle) member(out *tar.Writer, name string, size int64, r io.Reader) error {
	if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: size, ModTime: b.m.TakenAt, Format: tar.FormatPAX}); err != nil {
		return err
	}
	n, err := io.Copy(out, r)
	if err == nil && n != size {
		err = fmt.Errorf("it changed while it was read; run the backup again")
	}
	return err
}

// readBundle reads a backup to its end and gives every member to take, which must read it. Each is held against the manifest: a name that
// leaves the directory, a link, a member that is not listed, missing, doubled, too long or of another digest is refused.
func readBundle(ctx context.Context, name string, take func(f BackupFile, r io.Reader) error) (BackupManifest, error) {
	var m BackupManifest
	f, err := os.Open(name)
	if err != nil {
		return m, forge.Invalidf("file", "%v", err).WithHint("forged restore FILE --state-dir DIR, with a file that forged backup made")
	}
	defer func() { _ = f.Close() }()
	zip, err := gzip.NewReader(contextReader{ctx, f})
	if err != nil {
		return m, notBackup(name, "it is not compressed with gzip")
	}
	in := tar.NewReader(zip)
	head, err := in.Next()
	if err != nil || head.Name != manifestName || head.Typeflag != tar.TypeReg || head.Size > maxManifest {
		return m, notBackup(name, "it does not begin with "+manifestName)
	}
	text, err := io.ReadAll(io.LimitReader(in, maxManifest))
	if err != nil {
		return m, notBackup(name, "its manifest cannot be read: "+err.Error())
	}
	if err := m.parse(name, text); err != nil {
		return m, err
	}
	left := slices.Clone(m.Files)
	for {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return m, notBackup(name, "it breaks off: "+err.Error())
		}
		i := slices.IndexFunc(left, func(f BackupFile) bool { return f.Path == head.Name })
		if i < 0 || head.Typeflag != tar.TypeReg {
			return m, notBackup(name, fmt.Sprintf("its member %.80q is not a file that its manifest lists", head.Name))
		}
		want := left[i]
		left = slices.Delete(left, i, i+1)
		if head.Size != want.Size {
			return m, notBackup(name, fmt.Sprintf("%s has %d bytes, the manifest says %d", want.Path, head.Size, want.Size))
		}
		sum := sha256.New()
		src := &brokenReader{r: in}
		if err := take(want, io.TeeReader(src, sum)); src.err != nil {
			return m, notBackup(name, "it breaks off in "+want.Path+": "+src.err.Error())
		} else if err != nil {
			return m, err
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != want.SHA256 {
			return m, notBackup(name, fmt.Sprintf("%s has not the digest that the manifest says", want.Path))
		}
	}
	if len(left) > 0 {
		return m, notBackup(name, left[0].Path+" is missing")
	}
	if _, err := io.Copy(io.Discard, zip); err != nil { // the checksum of the whole stands at its end
		return m, notBackup(name, err.Error())
	}
	return m, nil
}

func notBackup(name, why string) error {
	return (&forge.Error{Kind: forge.KindInvalid, Op: "restore", Field: "file", Err: fmt.Errorf("%s is no whole backup: %s", name, why)}).
		WithHint("nothing was restored; try the backup before this one")
}

func (m *BackupManifest) parse(name string, text []byte) error {
	if err := json.Unmarshal(text, m); err != nil {
		return notBackup(name, "its manifest is not JSON")
	}
	if m.Format != bundleFormat {
		return (&forge.Error{Kind: forge.KindPrecondition, Op: "restore", Field: "file", Err: fmt.Errorf("%s has format %d; this forged reads format %d", name, m.Format, bundleFormat)}).
			WithHint("use the forged that made it: %.40s", m.Forged)
	}
	if err := store.CheckSchemaVersion(m.Database.SchemaVersion, m.Database.SchemaName); err != nil {
		return err
	}
	seen, extra, sources, many, db := map[string]bool{}, int64(0), int64(0), 0, false
	for _, f := range m.Files {
		dir, base := path.Split(f.Path)
		part := dir == "" && (base == dbFile || base == configFile || base == hookSecretFile) || dir == tlsDir+"/" || dir == recipesPart+"/" || sourceMember(f.Path)
		switch limit := int64(maxMember); {
		case !part || base == "" || base == "." || base == ".." || strings.ContainsAny(base, "\\\x00") || strings.HasPrefix(base, "."):
			return notBackup(name, fmt.Sprintf("%.80q is no name of a backup's member", f.Path))
		case seen[f.Path] || len(seen)-many > maxMembers:
			return notBackup(name, fmt.Sprintf("%.80q stands twice, or there are too many members", f.Path))
		case f.Path == dbFile:
			db = true
		case sourceMember(f.Path):
			if many++; f.Size < 0 || sources+f.Size > maxSources+int64(many)*maxManifest {
				return notBackup(name, fmt.Sprintf("%.80q with %d bytes is larger than forged backup makes any", f.Path, f.Size))
			}
			sources += f.Size
			if base == snapshotArchive && path.Base(path.Dir(f.Path)) != f.SHA256 {
				return notBackup(name, fmt.Sprintf("%.80q has another digest than its name says", f.Path))
			}
		case f.Size < 0 || f.Size > limit || extra+f.Size > maxExtra:
			return notBackup(name, fmt.Sprintf("%.80q with %d bytes is larger than forged backup makes any", f.Path, f.Size))
		default:
			extra += f.Size
		}
		seen[f.Path] = true
	}
	if !db {
		return notBackup(name, "it has no "+dbFile)
	}
	return nil
}

// brokenReader tells what is wrong with the backup from what is wrong with where it goes.
type brokenReader struct {
	r   io.Reader
	err error
}

func (b *brokenReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		b.err = err
	}
	return n, err
}

type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// contextReader ends a long copy when its caller has had enough.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
