package slurm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/artefact"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// KeepRequest is a copy that is to be made of what an attempt left: it comes to Root/Tenant/SHA256.
type KeepRequest struct {
	At     rundir.Attempt `json:"at"`
	Root   string         `json:"root"` // an artefact root of the account
	Tenant string         `json:"tenant"`
	SHA256 string         `json:"sha256"` // of the output's manifest, as forged has read it
}

// KeepAnswer is the manifest of the copy, or why there is none and will be none by asking again.
type KeepAnswer struct {
	Copy  forge.Manifest `json:"copy"`
	Why   KeepRefusal    `json:"why,omitempty"`
	Words string         `json:"words,omitempty"`
	Hint  string         `json:"hint,omitempty"`
}

// KeepRefusal is from a closed set.
type KeepRefusal string

// The refusals.
const (
	KeepNoRoom  KeepRefusal = "no_room" // the disk or the quota is full
	KeepDiffers KeepRefusal = "differs" // the output is not what output.json says, or that is not what forged has read
	KeepDenied  KeepRefusal = "denied"  // the account may not read or write there
)

// err is the refusal as who copies by itself meets it.
func (a KeepAnswer) err() error {
	const op = "artefact.copy"
	switch a.Why {
	case KeepNoRoom:
		return &forge.Error{Kind: forge.KindUnavailable, Op: op, Err: worded{artefact.ErrNoRoom, a.Words}, Hint: a.Hint}
	case KeepDiffers:
		return &forge.Error{Kind: forge.KindPrecondition, Op: op, Err: worded{artefact.ErrDiffers, a.Words}, Hint: a.Hint}
	case KeepDenied:
		return &forge.Error{Kind: forge.KindPrecondition, Op: op, Err: worded{fs.ErrPermission, a.Words}, Hint: a.Hint}
	}
	return nil
}

// worded is an error that came through the pipe, in its own words.
type worded struct {
	is    error
	words string
}

func (s worded) Error() string { return s.words }
func (s worded) Unwrap() error { return s.is }

// believe holds a copy against what was asked for: nothing that comes through the pipe changes what forged has read of an output.
func (a KeepAnswer) believe(q KeepRequest) error {
	bad := func(format string, args ...any) error {
		return forge.Errorf(forge.KindInternal, "slurm.keep", "the copy of %s is not believed: "+format, append([]any{q.At.OutputDir()}, args...)...)
	}
	if a.Why != "" {
		if a.err() == nil {
			return bad("%.40q is no reason that is known", a.Why)
		}
		return nil
	}
	if want := artefact.Place(q.Root, q.Tenant, q.SHA256); a.Copy.Root != want {
		return bad("it lies in %.200q, want %s", a.Copy.Root, want)
	}
	if got := a.Copy.Digest(); got != q.SHA256 {
		return bad("its digest is %.64s, want %s", got, q.SHA256)
	}
	return localFiles(a.Copy)
}

func localFiles(m forge.Manifest) error {
	for _, f := range m.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
			return refuse("root", "%.200q leads out of %s", f.Path, m.Root)
		}
	}
	return nil
}

// readOutput reads output.json, which its owner can write: it speaks of the attempt's own output and of nothing else.
func readOutput(at rundir.Attempt) (forge.Manifest, error) {
	m, err := rundir.ReadOutput(at)
	if err == nil && (m.Root != at.OutputDir() || localFiles(m) != nil) {
		err = fmt.Errorf("%s: it is about %.200q: %w", at.OutputPath(), m.Root, rundir.ErrBroken)
	}
	return m, err
}

// Keep copies what an attempt left to where it stays.
func (h *Own) Keep(ctx context.Context, account string, q KeepRequest) (KeepAnswer, error) {
	if err := h.only(account); err != nil {
		return KeepAnswer{}, err
	}
	c, err := h.keep(ctx, q)
	a := KeepAnswer{Copy: c}
	switch {
	case err == nil || ctx.Err() != nil:
		return a, err
	case errors.Is(err, artefact.ErrNoRoom):
		a.Why = KeepNoRoom
	case errors.Is(err, artefact.ErrDiffers):
		a.Why = KeepDiffers
	case errors.Is(err, fs.ErrPermission), errors.Is(err, artefact.ErrNotOwn):
		a.Why = KeepDenied
	default:
		return a, err
	}
	var e *forge.Error
	if a.Copy, a.Words = (forge.Manifest{}), cut(err.Error(), maxHelperWord); errors.As(err, &e) {
		a.Hint = e.Hint
	}
	return a, nil
}

func (h *Own) keep(ctx context.Context, q KeepRequest) (none forge.Manifest, err error) {
	gone := func(err error) error {
		if noRecord(err) || errors.Is(err, artefact.ErrNotOwn) {
			return fmt.Errorf("%w: %w", artefact.ErrDiffers, err)
		}
		return err
	}
	m, err := readOutput(q.At)
	if err != nil {
		return none, gone(err)
	}
	if got := m.Digest(); got != q.SHA256 {
		return none, fmt.Errorf("%s is about sha256 %.12s, and was about %.12s when forged read it: %w", q.At.OutputPath(), got, q.SHA256, artefact.ErrDiffers)
	}
	runRoot := filepath.Dir(q.At.RunDir)
	rel, err := filepath.Rel(runRoot, q.At.OutputDir())
	if err != nil {
		return none, err
	}
	in, err := artefact.OpenOwn(runRoot, rel)
	if err != nil {
		return none, gone(err)
	}
	defer in.Close()
	unlock, err := alone(ctx, q.Root, q.Tenant)
	if err != nil {
		return none, err
	}
	defer unlock()
	c, err := artefact.CopyFrom(ctx, in, m, q.Root, q.Tenant, nil)
	if err != nil {
		return none, err
	}
	return c, unlinked(q, c)
}

// unlinked holds that a copy lies where it is said to lie, and not where a link leads that its owner has put there.
func unlinked(q KeepRequest, c forge.Manifest) error {
	to, err := artefact.OpenOwn(q.Root, filepath.Join(q.Tenant, q.SHA256))
	if err != nil {
		return err
	}
	defer to.Close()
	for _, f := range c.Files {
		for part := filepath.FromSlash(f.Path); part != "."; part = filepath.Dir(part) {
			st, err := to.Lstat(part)
			if err != nil {
				return err
			}
			if st.Mode()&fs.ModeSymlink != 0 {
				return fmt.Errorf("%s is a symbolic link: %w", filepath.Join(c.Root, part), artefact.ErrNotOwn)
			}
		}
	}
	return nil
}

// lockName is of the file that orders the copies of an account for one tenant: a helper of a forged that was killed may still be at it.
const lockName = ".forge-lock"

// alone makes the tenant's directory and holds its lock.
func alone(ctx context.Context, root, tenant string) (unlock func(), err error) {
	st, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	switch err := os.Mkdir(filepath.Join(root, tenant), 0o700); {
	case err == nil:
		err = os.Chmod(filepath.Join(root, tenant), st.Mode()&os.ModeSetgid|0o700|st.Mode().Perm()&0o050)
		if err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrExist):
		return nil, err
	}
	dir, err := artefact.OpenOwn(root, tenant)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if st, err := dir.Lstat(lockName); err == nil && !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is a %s: %w", filepath.Join(root, tenant, lockName), st.Mode().Type(), artefact.ErrNotOwn)
	}
	f, err := dir.OpenFile(lockName, os.O_RDWR|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	wait := time.NewTicker(100 * time.Millisecond)
	defer wait.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		case <-wait.C:
		}
	}
}

// Reread reads every byte of what a person's version lies in.
func (h *Own) Reread(ctx context.Context, account string, m forge.Manifest) (artefact.Seen, error) {
	if err := h.only(account); err != nil {
		return artefact.Seen{}, err
	}
	up, rel := filepath.Dir(filepath.Dir(m.Root)), filepath.Join(filepath.Base(filepath.Dir(m.Root)), filepath.Base(m.Root)) // a copy is ROOT/TENANT/DIGEST
	if _, ok := outputAt(m.Root); ok {
		up = filepath.Dir(filepath.Dir(filepath.Dir(up)))
		rel, _ = filepath.Rel(up, m.Root)
	}
	in, err := artefact.OpenOwn(up, rel)
	switch {
	case errors.Is(err, artefact.ErrNotOwn):
		return artefact.Seen{Differs: []artefact.Differs{{File: m.Root, Why: err.Error()}}}, nil
	case errors.Is(err, fs.ErrNotExist):
		return artefact.Checker{}.Check(ctx, m, nil) // which says of each file that it is gone
	case errors.Is(err, fs.ErrPermission):
		return artefact.Seen{}, forge.Errorf(forge.KindPrecondition, "model.verify", "uid %d may not read %s", os.Getuid(), m.Root)
	case err != nil:
		return artefact.Seen{}, forge.Errorf(forge.KindUnavailable, "model.verify", "%s cannot be read: %w", m.Root, err)
	}
	defer in.Close()
	return artefact.Checker{In: in}.Check(ctx, m, nil)
}

var attemptNumber = regexp.MustCompile(`^[0-9]{4,7}$`)

// outputAt is the attempt whose output a path is.
func outputAt(path string) (rundir.Attempt, bool) {
	dir := filepath.Dir(path)
	n := 0
	if !attemptNumber.MatchString(filepath.Base(dir)) {
		return rundir.Attempt{}, false
	}
	for _, c := range filepath.Base(dir) {
		n = 10*n + int(c-'0')
	}
	at := rundir.At(filepath.Dir(filepath.Dir(dir)), n)
	return at, at.OutputDir() == path
}

// Kept lists what was kept of an account.
func (h *Own) Kept(_ context.Context, account, root string) ([]artefact.Kept, error) {
	if err := h.only(account); err != nil {
		return nil, err
	}
	list, err := artefact.List(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, err
}

// KeptOf is what was kept of one account, or why nobody can say.
type KeptOf struct {
	Account, Root string
	Copies        []artefact.Kept
	Err           error
}

// Keep has what an attempt left copied to the artefact root of whom it belongs to, and answers the manifest of the copy. artefact.ErrNoRoom,
// artefact.ErrDiffers and fs.ErrPermission are in the chain of errors that asking again does not mend.
func (e *Executor) Keep(ctx context.Context, id forge.ExternalID, tenant forge.TenantID, sha256 string) (forge.Manifest, error) {
	account, at, err := e.parseID(id)
	if err != nil {
		return forge.Manifest{}, err
	}
	q := KeepRequest{At: at, Root: RunRootOf(e.with.Load().ArtifactRoot, account), Tenant: string(tenant), SHA256: sha256}
	a, err := e.hand.Keep(ctx, account, q)
	if err == nil {
		err = a.believe(q)
	}
	if err == nil {
		err = a.err()
	}
	if err != nil {
		return forge.Manifest{}, err
	}
	return a.Copy, nil
}

// Owns says whether what lies there belongs to a person: forged opens nothing of it.
func (e *Executor) Owns(path string) bool { return e.ownerOf(path) != "" }

// ownerOf is the account in whose artefact or run root a path lies; empty: in none.
func (e *Executor) ownerOf(path string) string {
	if e.self {
		return ""
	}
	return firstOf(ownerIn(e.with.Load().ArtifactRoot, path), ownerIn(e.o.RunRoot, path))
}

func ownerIn(template, path string) string {
	before, after, ok := strings.Cut(template, accountMark)
	rest, under := strings.CutPrefix(path, before)
	account, _, _ := strings.Cut(rest, "/")
	if !ok || !under || CheckAccount(account) != nil || !strings.HasPrefix(path, before+account+after+"/") || filepath.Clean(path) != path {
		return ""
	}
	return account
}

// Reread has every byte of what belongs to a person read again, as them.
func (e *Executor) Reread(ctx context.Context, m forge.Manifest) (artefact.Seen, error) {
	account := e.ownerOf(m.Root)
	if account == "" {
		return artefact.Seen{}, forge.Errorf(forge.KindPrecondition, "model.verify", "%.200q lies in nobody's run root or artefact root on cluster %s", m.Root, e.o.Cluster)
	}
	return e.hand.Reread(ctx, account, m)
}

// Untouched says whether size, time and inode of what belongs to a person are as registered, or its bytes are.
func (e *Executor) Untouched(ctx context.Context, m forge.Manifest) error {
	return e.hand.CheckInputs(ctx, e.ownerOf(m.Root), m)
}

// Kept lists what was kept, account by account: everybody's root is looked for by its path.
func (e *Executor) Kept(ctx context.Context) ([]KeptOf, error) {
	template := e.with.Load().ArtifactRoot
	accounts, err := e.accountsIn(template)
	if err != nil || template == "" {
		return nil, err
	}
	out := make([]KeptOf, 0, len(accounts))
	for _, account := range accounts {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		k := KeptOf{Account: account, Root: RunRootOf(template, account)}
		k.Copies, k.Err = e.hand.Kept(ctx, account, k.Root)
		out = append(out, k)
	}
	return out, nil
}
