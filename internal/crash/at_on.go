//go:build crashpoints

package crash

import (
	"os"
	"slices"
	"syscall"
)

var armed = os.Getenv("FORGE_CRASH_AT")

// At kills this process with SIGKILL when FORGE_CRASH_AT names the point. The file named by
// FORGE_CRASH_MARK is created first, exclusively: a point fires once per test, so that the
// restarted daemon gets past it.
func At(point string) {
	if !slices.Contains(Points, point) {
		panic("crash: point " + point + " is not in crash.Points")
	}
	if armed != point {
		return
	}
	f, err := os.OpenFile(os.Getenv("FORGE_CRASH_MARK"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	_ = f.Close()
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
