//go:build e2e

package e2e

import (
	"path/filepath"
	"testing"

	"github.com/forge-ml/forge-ml/internal/doctest"
)

// The blocks of the docs that are for a host with systemd are typed on one, page by page.
func TestTheSystemdBlocksOfTheDocsWork(t *testing.T) {
	root, err := filepath.Abs("../..")
	must(t, err)
	t.Chdir(root)
	ran := 0
	for _, p := range pages(t, root) {
		blocks, err := doctest.Read(p)
		must(t, err)
		var script []doctest.Block
		for _, b := range blocks {
			if b.Mode == "systemd" {
				script = append(script, b)
			}
		}
		if len(script) == 0 {
			continue
		}
		ran += len(script)
		t.Run(p, func(t *testing.T) {
			bootMachine(t, root).do("bash", "-c", "cd /srv/repo\n"+doctest.Script(script))
		})
	}
	if ran == 0 {
		t.Error("no page has a block for systemd")
	}
}
