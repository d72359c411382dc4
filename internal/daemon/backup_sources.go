package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forge-ml/forge-ml/store"
)

// maxSources bounds what a backup takes of the working directories of runs, all together.
const maxSources = 16 << 30

// addSources adds the working directories of the runs that have not ended: without its own a run that waits is over. What is not there, or does
// not fit, is named with its runs.
func (b *bundle) addSources(ctx context.Context, o BackupOptions, snapshot string) (bytes int64, err error) {
	needed, err := store.Sources(ctx, snapshot)
	if err != nil {
		return 0, err
	}
	for _, u := range needed {
		dir := path.Join(snapshotsDir, string(u.Tenant), "used", u.SHA256)
		at := filepath.Join(o.StateDir, filepath.FromSlash(dir))
		st, err := os.Lstat(filepath.Join(at, snapshotArchive))
		why := ""
		switch {
		case errors.Is(err, fs.ErrNotExist):
			why = "it is not there"
		case err != nil:
			return 0, err
		case !st.Mode().IsRegular():
			why = "it is not a regular file"
		case bytes+st.Size() > maxSources:
			why = fmt.Sprintf("with its %d bytes all are more than the %d that a backup takes", st.Size(), int64(maxSources))
		}
		if why == "" {
			if why, err = b.addSource(ctx, dir, at, u.SHA256); err != nil {
				return 0, err
			}
			bytes += st.Size()
		}
		if why != "" {
			what := fmt.Sprintf("working directory %.12s of %s", u.SHA256, runNumbers(u.Numbers))
			b.leaveOut(what, at, why+"; what of it has not started yet, or starts with another run directory, ends as bad_input")
			b.without = append(b.without, what+": "+why)
		}
	}
	return bytes, nil
}

// addSource adds one, or says why not.
func (b *bundle) addSource(ctx context.Context, dir, at, digest string) (why string, err error) {
	n := len(b.m.Files)
	for _, name := range []string{snapshotArchive, snapshotInfo} {
		if err := b.addIfThere(ctx, path.Join(dir, name), filepath.Join(at, name)); err != nil {
			return "", err
		}
	}
	if len(b.m.Files) != n+2 || b.m.Files[n].SHA256 != digest {
		b.m.Files, b.sources = b.m.Files[:n], b.sources[:n]
		return "it is not whole", nil
	}
	b.many += 2
	return "", nil
}

func runNumbers(n []int64) string {
	words := make([]string, 0, 6)
	for _, x := range n[:min(len(n), 5)] {
		words = append(words, fmt.Sprint(x))
	}
	if len(n) > 5 {
		words = append(words, "…")
	}
	if len(n) == 1 {
		return "run " + words[0]
	}
	return "runs " + strings.Join(words, ", ")
}

// sourceMember says that a member of a backup is of a run's working directory, by a name that forged would give it.
func sourceMember(name string) bool {
	p := strings.Split(name, "/")
	return len(p) == 5 && p[0] == snapshotsDir && tenantForm(p[1]) && p[2] == "used" && digestForm.MatchString(p[3]) && slices.Contains([]string{snapshotArchive, snapshotInfo}, p[4])
}

// tenantForm: tenants are named by ULIDs.
func tenantForm(s string) bool {
	return len(s) == 26 && strings.Trim(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}
