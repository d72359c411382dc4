package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"
)

const (
	spinAfter = 300 * time.Millisecond // what is done sooner needs no comfort
	spinEvery = 120 * time.Millisecond
)

var spinFrames = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

// spin shows on the terminal that something long goes on: how far it is, while the server says so to ask, and
// else how long it has; the size too where the path is also here. In a pipe there is nothing, and nobody asks.
// Whoever calls it calls what it returns.
func (a *app) spin(ctx context.Context, what, path string, ask howFar) (stop func()) {
	if !a.ErrTTY {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	var bytes atomic.Int64
	var far atomic.Pointer[standing]
	go measure(ctx, path, &bytes)
	go a.watchProgress(ctx, ask, &far)
	go func() {
		defer close(done)
		began, shown := a.Now(), false
		tick := time.NewTimer(spinAfter)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				if shown {
					io.WriteString(a.Err, "\r\x1b[K")
				}
				return
			case <-tick.C:
			}
			text := what + " " + clean(path)
			var line string
			if s := far.Load(); s != nil {
				line = barLine(text, *s, a.Width)
			} else {
				if n := bytes.Load(); n > 0 {
					text += " (" + size(n) + ")"
				}
				elapsed := "  " + span(a.Now().Sub(began))
				line = string(spinFrames[i%len(spinFrames)]) + " " + fitWidth(text, max(cutLeast, a.Width-len(elapsed)-3)) + elapsed
			}
			fmt.Fprintf(a.Err, "\r%s\x1b[K", line)
			shown = true
			tick.Reset(spinEvery)
		}
	}()
	return func() { cancel(); <-done }
}

// measure adds up what lies below a path. The server reads its own file system: where that is not
// ours the path is not there, and nothing is said.
func measure(ctx context.Context, path string, sum *atomic.Int64) {
	if !filepath.IsAbs(path) { // what is read here says itself how large it is
		return
	}
	_ = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			sum.Add(info.Size())
		}
		return nil
	})
}
