package rundir_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

func TestWhatIsMadeInARunDirectoryHasItsGroupAndItsModes(t *testing.T) {
	gid := os.Getegid()
	if os.Geteuid() == 0 {
		gid = 4242 // any group will do for root
	}
	for name, c := range map[string]struct {
		owner     rundir.Owner
		dir, file fs.FileMode
	}{
		"nothing said":              {rundir.Owner{}, 0o750, 0o640},
		"the group may read":        {rundir.Owner{GID: gid, Umask: 0o027}, 0o750 | fs.ModeSetgid, 0o640},
		"the group may write":       {rundir.Owner{GID: gid, Umask: 0o007}, 0o770 | fs.ModeSetgid, 0o660},
		"the owner alone":           {rundir.Owner{Umask: 0o077}, 0o700 | fs.ModeSetgid, 0o600},
		"others get nothing either": {rundir.Owner{Umask: 0o020}, 0o750 | fs.ModeSetgid, 0o640},
	} {
		t.Run(name, func(t *testing.T) {
			old := syscall.Umask(0o022)
			defer syscall.Umask(old)
			root := t.TempDir()
			l := rundir.LaunchFile{Launch: forge.Launch{Run: "R", Attempt: 1, RunDir: filepath.Join(root, "R")}}
			for range 2 { // as after a crash
				if err := rundir.PrepareFor(l, c.owner); err != nil {
					t.Fatal(err)
				}
			}
			at := rundir.At(l.RunDir, 1)
			for _, err := range []error{rundir.MakeDir(at.NodeDir(0)), rundir.MakeDir(at.RankDir(0)), rundir.WriteJSON(at.ExitPath(0), 1), rundir.ClaimForShim(at, "", time.Now())} {
				if err != nil {
					t.Fatal(err)
				}
			}
			f, err := rundir.CreateAppend(at.StdoutPath(0))
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			err = filepath.WalkDir(l.RunDir, func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				st, err := d.Info()
				if err != nil {
					return err
				}
				want := c.file
				if d.IsDir() {
					want = c.dir
				}
				if got := st.Mode() & (fs.ModePerm | fs.ModeSetgid); got != want {
					t.Errorf("%s has mode %v, want %v", path, got, want)
				}
				if g := int(st.Sys().(*syscall.Stat_t).Gid); c.owner.GID != 0 && g != c.owner.GID {
					t.Errorf("%s is of group %d, want %d", path, g, c.owner.GID)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
