// Command forged is the daemon, as `forged shim` what runs beside the ranks of a node, as `forged scan` what reads a dataset, and, called forge-as, what acts as a
// user of a Slurm cluster.
package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/forge-ml/forge-ml/internal/dataset/scanner"
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
	if len(os.Args) > 1 && os.Args[1] == "scan" { // the rank of a run that reads a dataset, or a child of the daemon that does
		os.Exit(scanner.Main(os.Args[2:], version, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}
