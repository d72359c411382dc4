//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forge-ml/forge-ml/internal/doctest"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// pageTimeout bounds what the commands of one page may take.
const pageTimeout = 3 * time.Minute

// prelude is what a reader of a page has: the programs on PATH, and the patience to wait until
// a daemon that was started in the background is up.
const prelude = `
ready() {
	for _ in $(seq 200); do forgectl whoami >/dev/null 2>&1 && return; sleep 0.05; done
	echo "forged did not come up" >&2; exit 1
}
trap 'kill $(jobs -p) 2>/dev/null || true; wait || true' EXIT
`

func pages(t *testing.T, root string) []string {
	t.Helper()
	all := []string{"README.md", "CONTRIBUTING.md"}
	for _, pattern := range []string{"docs/*.md", "docs/adr/*.md", "contrib/*/README.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		must(t, err)
		for _, f := range found {
			rel, err := filepath.Rel(root, f)
			must(t, err)
			all = append(all, rel)
		}
	}
	return all
}

// What people are told to type is typed here, page by page, in a home of its own.
func TestEveryCommandBlockOfTheDocsWorks(t *testing.T) {
	root, err := filepath.Abs("../..")
	must(t, err)
	t.Chdir(root)
	ran := 0
	for _, p := range pages(t, root) {
		blocks, err := doctest.Read(p)
		must(t, err)
		plain := slices.DeleteFunc(slices.Clone(blocks), func(b doctest.Block) bool { return b.Mode != "" })
		targets := slices.DeleteFunc(slices.Clone(blocks), func(b doctest.Block) bool { return b.Mode != "make" })
		if len(plain)+len(targets) == 0 {
			continue
		}
		t.Run(p, func(t *testing.T) {
			for _, b := range targets {
				shell(t, root, t.TempDir(), "make() { command make -n \"$@\" >/dev/null; }\n"+doctest.Script([]doctest.Block{b}))
			}
			if len(plain) > 0 {
				home, err := os.MkdirTemp("", "docs")
				must(t, err)
				must(t, os.Chmod(home, 0o755)) // munged's socket lies below it, and is for everybody
				t.Cleanup(func() { leaveNothing(t, home) })
				shell(t, root, home, prelude+doctest.Script(plain))
			}
		})
		ran += len(plain) + len(targets)
	}
	if ran == 0 {
		t.Error("no page has a command block")
	}
}

// shell runs a script as a user would: in a shell, with nothing of ours in the environment.
func shell(t *testing.T, root, home, script string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), pageTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = root
	cmd.Env = []string{"PATH=" + binDir(t) + ":" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8", "FORGE_STATE=" + filepath.Join(home, "state"),
		"FORGE_PYTHON=" + os.Getenv("FORGE_PYTHON"), "GOMODCACHE=" + goEnv(t, "GOMODCACHE"), "GOCACHE=" + goEnv(t, "GOCACHE")}
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, tail(string(out), 4000))
	}
}

// goEnv keeps what Go has fetched and built: a home of its own must not mean to fetch it again.
func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[strings.IndexByte(s[len(s)-n:], '\n')+len(s)-n:]
	}
	return s
}

// leaveNothing ends what a page left running and removes its home.
func leaveNothing(t *testing.T, home string) {
	t.Helper()
	left, err := forgedtest.Survivors(home)
	must(t, err)
	for _, p := range left {
		if proc, err := os.FindProcess(p.Pid); err == nil {
			_ = proc.Kill()
		}
	}
	must(t, os.RemoveAll(home))
}
