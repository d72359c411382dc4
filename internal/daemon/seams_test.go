package daemon

import "github.com/forge-ml/forge-ml/internal/executortest"

// The suite that executors pass restates the seams, since no executor may import the daemon.
// These lines hold the two equal.
var (
	_ Executor              = executortest.Executor(nil)
	_ executortest.Executor = Executor(nil)
	_ Files                 = executortest.Files(nil)
	_ executortest.Files    = Files(nil)
)
