package slurm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/artefact"
)

// The verbs about copies of what runs left.
func init() {
	duties[verbKeep] = dutyOf((*helper).checkKeep, func(ctx context.Context, h *helper, q KeepRequest) (KeepAnswer, error) {
		if err := h.makeRoot(q.Root); err != nil {
			return KeepAnswer{}, err
		}
		return h.own.Keep(ctx, "", q)
	})
	duties[verbReread] = dutyOf((*helper).checkReread, func(ctx context.Context, h *helper, m forge.Manifest) (artefact.Seen, error) {
		return h.own.Reread(ctx, "", m)
	})
	duties[verbKept] = dutyOf(func(h *helper, q *askKept) error { return h.checkArtefactRoot(q.Root) },
		func(ctx context.Context, h *helper, q askKept) ([]artefact.Kept, error) {
			return h.own.Kept(ctx, "", q.Root)
		})
}

// calledOff are the verbs that end when nobody waits for their answer any more: they read for hours, and what they began is gone on with.
var calledOff = map[string]bool{verbKeep: true, verbReread: true, verbKept: true, verbCheckpoints: true, verbCheckInputs: true}

var (
	tenantName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
	digestName = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// artefactRoots are where copies of an account may lie.
func (c helperCluster) artefactRoots(account string) []string {
	out := make([]string, len(c.ArtifactRoots))
	for i, r := range c.ArtifactRoots {
		out[i] = RunRootOf(r, account)
	}
	return out
}

// checkKeep: from a run directory of the user's to an artefact root of theirs, and the two names below it cannot lead anywhere.
func (h *helper) checkKeep(q *KeepRequest) error {
	switch {
	case !tenantName.MatchString(q.Tenant):
		return refuse("tenant", "%.64q is no id of a tenant", q.Tenant)
	case !digestName.MatchString(q.SHA256):
		return refuse("sha256", "%.64q is no digest", q.SHA256)
	}
	if err := h.checkAttempt(q.At); err != nil {
		return err
	}
	return h.checkArtefactRoot(q.Root)
}

func (h *helper) checkArtefactRoot(root string) error {
	roots := h.cfg.artefactRoots(h.account)
	if !slices.Contains(roots, root) {
		return refuse("artifact_root", "%.200q: want one of artifact_roots, which are %q", root, roots)
	}
	if problem, _ := artefactRoot(root); problem != "" {
		return refuse("artifact_root", "%s %s", root, problem)
	}
	return nil
}

// artefactRoot says what is wrong with a directory of copies, and whether anybody else than its owner can read in it. One that is not there is not
// mounted, or not made: whoever needs it says so.
func artefactRoot(root string) (problem string, shared bool) {
	st, err := os.Lstat(root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", false
	case err != nil:
		return err.Error(), false
	case !st.IsDir():
		return fmt.Sprintf("is a %s and no directory", st.Mode().Type()), false
	case !mine(st):
		return "belongs to somebody else", false
	case st.Mode().Perm()&0o022 != 0:
		return fmt.Sprintf("can be written by others (mode %04o): they could put other bytes in the place of a copy", st.Mode().Perm()), false
	}
	return "", st.Mode().Perm()&0o050 == 0o050 && st.Mode()&os.ModeSetgid != 0
}

// checkReread: a copy of the user's, or the output of a run of theirs.
func (h *helper) checkReread(m *forge.Manifest) error {
	if err := localFiles(*m); err != nil {
		return err
	}
	if at, ok := outputAt(m.Root); ok {
		return h.checkAttempt(at)
	}
	tenant := filepath.Dir(m.Root)
	if !digestName.MatchString(filepath.Base(m.Root)) || !tenantName.MatchString(filepath.Base(tenant)) || filepath.Clean(m.Root) != m.Root {
		return refuse("root", "%.200q is neither a copy nor the output of a run", m.Root)
	}
	return h.checkArtefactRoot(filepath.Dir(tenant))
}

// ArtefactRoot is what the helper says of one.
type ArtefactRoot struct {
	Path    string `json:"path"`
	Missing bool   `json:"missing,omitempty"`
	Problem string `json:"problem,omitempty"`
	Shared  bool   `json:"shared"` // its group can read in it, and what is made there is the group's, too
}

func (h *helper) seeArtefactRoots() (out []ArtefactRoot) {
	for _, root := range h.cfg.artefactRoots(h.account) {
		r := ArtefactRoot{Path: root}
		r.Problem, r.Shared = artefactRoot(root)
		_, err := os.Lstat(root)
		r.Missing = errors.Is(err, fs.ErrNotExist)
		out = append(out, r)
	}
	return out
}

// HelperKeeps says whether root's configuration of the helper lets it copy to an artefact root of a cluster. The helper runs on forged's host, so that
// the file is here; only root writes it, and everybody reads it.
func HelperKeeps(cluster forge.ClusterName, template string) error {
	return helperKeeps(HelperConfig, cluster, template)
}

func helperKeeps(config string, cluster forge.ClusterName, template string) error {
	cfg, err := readHelperConfig(config)
	if err != nil {
		return forge.Errorf(forge.KindPrecondition, "slurm.as_user", "what the helper may do cannot be read: %w", err)
	}
	if roots := cfg.Clusters[cluster].ArtifactRoots; !slices.Contains(roots, template) {
		return forge.Errorf(forge.KindPrecondition, "slurm.as_user", "%s is none of artifact_roots [%s] of cluster %s in %s", template, strings.Join(roots, ", "), cluster, config).
			WithHint("root says there where copies of people may lie: add it, or leave the key out")
	}
	return nil
}

// watchCaller ends ctx when the reading end of out is gone: nobody but root can end what sudo has started, and forged is not root.
func watchCaller(ctx context.Context, out io.Writer, cancel context.CancelFunc) {
	f, ok := out.(*os.File)
	if !ok {
		return
	}
	fds := []unix.PollFd{{Fd: int32(f.Fd())}}
	for ctx.Err() == nil {
		n, err := unix.Poll(fds, int(callerLook/time.Millisecond))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return
		case n > 0 && fds[0].Revents != 0:
			cancel()
			return
		}
	}
}

const callerLook = 500 * time.Millisecond
