//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// examine asks the daemon what it sees.
func examine(t *testing.T, ctx context.Context, s *forgedtest.Site) map[string]api.Check {
	t.Helper()
	base, err := s.TCP()
	must(t, err)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/doctor", nil)
	must(t, err)
	req.Header.Set(api.HeaderKey, s.Key)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	var list api.List[api.Check]
	if err := json.Unmarshal(body, &list); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s (%v)", resp.Status, body, err)
	}
	out := map[string]api.Check{}
	for _, c := range list.Items {
		out[c.Name] = c
	}
	return out
}

func diagnosed(t *testing.T, c api.Check, want api.CheckStatus, found, fix string) {
	t.Helper()
	if c.Status != want || !strings.Contains(c.Found, found) || !strings.Contains(c.Fix, fix) {
		t.Errorf("%s is %s: %s; fix: %s\nwant %s that says %q and %q", c.Name, c.Status, c.Found, c.Fix, want, found, fix)
	}
}

func TestTheDoctorFindsWhatAnUnprivilegedForgedMayNotDoAndAFullDisk(t *testing.T) {
	dir, err := os.MkdirTemp("", "forge")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=32m,uid=65534,gid=65534,mode=0755"); err != nil {
		t.Fatalf("a small tmpfs cannot be mounted (this test needs root): %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	bin := filepath.Join(t.TempDir(), "bin")
	copyBin(t, bin)
	ctx, s := open(t, func(o *forgedtest.Options) {
		o.KeepOnStop, o.Network = true, "host"
		o.Dir, o.Bin, o.User = dir, bin, &syscall.Credential{Uid: 65534, Gid: 65534}
	})
	sees := examine(t, ctx, s)
	diagnosed(t, sees["run_root_writable/local"], api.CheckOK, "takes durable writes", "")
	diagnosed(t, sees["last_backup"], api.CheckWarn, "no backup was made yet", "forged backup --state-dir "+s.State())
	diagnosed(t, sees["python_environment/local"], api.CheckWarn, "no interpreter", "contrib/python-env/install")
	diagnosed(t, sees["state_lock"], api.CheckOK, "is held", "")

	runs := filepath.Join(s.State(), "runs")
	must(t, os.Chown(runs, 0, 0))
	must(t, os.Chmod(runs, 0o755))
	diagnosed(t, examine(t, ctx, s)["run_root_writable/local"], api.CheckFail, "permission denied", "chown 65534 "+runs)
	must(t, os.Chown(runs, 65534, 65534))

	fill(t, filepath.Join(dir, "ballast"))
	sees = examine(t, ctx, s)
	diagnosed(t, sees["state_disk_free"], api.CheckFail, "(0 %)", "du -xh")
	diagnosed(t, sees["run_root_writable/local"], api.CheckFail, "no space left", "du -xh")
	must(t, os.Remove(filepath.Join(dir, "ballast")))
}

func TestTheDoctorImportsWhatRecipesImport(t *testing.T) {
	python := os.Getenv("FORGE_PYTHON")
	if python == "" {
		t.Fatal("FORGE_PYTHON is not set; run these tests through make test")
	}
	ctx, s := open(t, func(o *forgedtest.Options) { o.Python = python })
	diagnosed(t, examine(t, ctx, s)["python_environment/local"], api.CheckOK, "torch", "")
}
