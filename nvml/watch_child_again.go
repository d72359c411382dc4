//go:build linux && cgo

package nvml

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// beforeEnv carries what the process knew over an exec.
const beforeEnv = "FORGE_NVML_BEFORE"

// before is what a process leaves to the one that it becomes.
type before struct {
	GPUs  []forge.GPUReading `json:"gpus"`  // a lost one no longer says who it is
	Again time.Duration      `json:"again"` // how long the next waits with it
}

const (
	shutdownWait = 5 * time.Second // for nvmlShutdown; the process goes on without its end
	againMost    = time.Hour
)

// stale says whether something has been lost for so long that the library is to be opened anew: an open one keeps the GPUs that it found when it was
// opened, and sees neither one that was reset nor a driver that was loaded again. While a call hangs nothing is done.
func (w *watch) stale(l forge.GPULook) bool {
	well := l.State == forge.NVMLOK
	for _, r := range l.GPUs {
		well = well && !r.Lost && !r.Reset
	}
	if well {
		w.wellAt, w.before.Again = time.Now(), 0
	}
	if w.lib == nil || time.Since(w.wellAt) < max(w.againAt, w.before.Again) {
		return false
	}
	return !slices.ContainsFunc(w.gpus, (*gpuWatch).underWay)
}

// again replaces the process by itself: dlclose does not unload a library of which a function was bound, and what it had in memory would stay. What
// stays lost is looked for ever more rarely.
func (w *watch) again(l forge.GPULook) {
	ended := make(chan struct{})
	go func() {
		w.lib.Shutdown()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(shutdownWait):
	}
	w.mu.Lock() // no line is cut in two
	b := before{Again: min(2*max(w.againAt, w.before.Again), againMost)}
	for _, r := range l.GPUs {
		if r.UUID != "" && r.Index >= 0 {
			b.GPUs = append(b.GPUs, unchanging(r))
		}
	}
	text, err := json.Marshal(b)
	if err == nil {
		err = os.Setenv(beforeEnv, string(text))
	}
	if err == nil {
		err = syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	}
	fmt.Fprintln(os.Stderr, "forged nvml watch: begin again:", err)
	os.Exit(71) // the library is shut down; whoever started this process starts another
}

// recall takes what the process before left.
func (w *watch) recall() {
	text := os.Getenv(beforeEnv)
	if text == "" {
		return
	}
	if err := json.Unmarshal([]byte(text), &w.before); err != nil {
		fmt.Fprintln(os.Stderr, "forged nvml watch:", err)
	}
}
