// Command forged is the daemon, and, as `forged shim`, what runs beside the ranks of a node.
package main

import (
	"context"
	"os"

	"github.com/forge-ml/forge-ml/internal/shim"
)

// version and commit are set by the linker.
var (
	version = "dev"
	commit  = "unknown"
)

func main() {
	// The shim stands between a placed gang and its first instruction, and must not pay for
	// the command tree of the daemon.
	if len(os.Args) > 1 && os.Args[1] == "shim" {
		os.Exit(shim.Main(context.Background(), os.Args[2:]))
	}
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}
