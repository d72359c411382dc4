//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// holding are the files below a directory that have a text in them.
func holding(t *testing.T, dir, text string) (paths []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), text) {
			paths = append(paths, path)
		}
		return err
	}))
	return paths
}

// TestAKillInTheMiddleOfAPurgeLeavesNoByte kills forged at every named point of an erasure. Nobody asks for it again: the restarted forged
// ends what was decided, keeps the tombstone, and touches no other copy.
func TestAKillInTheMiddleOfAPurgeLeavesNoByte(t *testing.T) {
	for _, point := range crash.PurgePoints {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			mark := filepath.Join(t.TempDir(), "fired")
			ctx, s := open(t, func(o *forgedtest.Options) {
				o.Forged = filepath.Join(o.Bin, "forged-crash")
				o.ServeEnv = []string{"FORGE_CRASH_AT=" + point, "FORGE_CRASH_MARK=" + mark}
			})
			const secret, other = "a word that must not stay anywhere", "a word of the dataset beside it"
			for name, word := range map[string]string{"gone": secret, "kept": other} {
				dir := filepath.Join(s.Dir, "data", name)
				for _, file := range []string{"a.jsonl", "deep/b.jsonl"} {
					write(t, filepath.Join(dir, file), fmt.Sprintf("{\"text\":%q}\n", word+" "+file))
				}
				_, err := s.Ctl(ctx, "dataset", "add", name, dir, "--copy")
				must(t, err)
			}
			before := versionOf(t, ctx, s, "gone@1")
			if n := len(holding(t, s.State(), secret)); !before.Owned || n < 2 {
				t.Fatalf("%d files hold it before: %+v", n, before)
			}
			asking, stop := context.WithCancel(ctx)
			answered := make(chan error, 1)
			go func() {
				_, err := s.Ctl(asking, "dataset", "delete", "gone@1", "--purge", "--yes")
				answered <- err
			}()
			select {
			case <-s.Exited():
			case <-ctx.Done():
				t.Fatal("forged outlived its crash point")
			}
			stop() // forgectl would ask again
			<-answered
			if _, err := os.Stat(mark); err != nil {
				t.Fatal("it ended without having met the point")
			}
			must(t, s.Start(ctx))
			var after forge.DatasetVersion
			for after.PurgedAt.IsZero() {
				if ctx.Err() != nil {
					t.Fatalf("it never was purged: %+v", after)
				}
				after = versionOf(t, ctx, s, "gone@1")
			}
			if after.SHA256 != before.SHA256 || after.DeletedAt.IsZero() || after.Rows != 2 || !after.Indexed {
				t.Errorf("the tombstone is %+v", after)
			}
			if left := holding(t, s.State(), secret); len(left) > 0 {
				t.Errorf("it is still in %v", left)
			}
			if _, err := s.Ctl(ctx, "dataset", "verify", "kept@1"); err != nil || len(holding(t, s.State(), other)) < 2 {
				t.Errorf("the other dataset: %v", err)
			}
			sound(t, ctx, s)
		})
	}
}
