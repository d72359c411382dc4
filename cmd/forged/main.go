// Command forged is the daemon, as `forged shim` what runs beside the ranks of a node, and, called forge-as, what acts as a
// user of a Slurm cluster.
package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/forge-ml/forge-ml/internal/shim"
	"github.com/forge-ml/forge-ml/slurm"
)

// version and commit are set by the linker.
var (
	version = "dev"
	commit  = "unknown"
)

func main() {
	// The shim stands between a placed gang and its first instruction, and must not pay for
	// the command tree of the daemon.
	if filepath.Base(os.Args[0]) == slurm.HelperName { // sudo runs a copy of this program by that name, as a user
		os.Exit(slurm.HelperMain(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == "shim" {
		os.Exit(shim.Main(context.Background(), os.Args[2:]))
	}
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}
