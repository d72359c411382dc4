package rundir

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// ErrFenceAhead says that a newer attempt holds the fence.
var ErrFenceAhead = errors.New("the fence is ahead: a newer attempt holds it")

// ReadFence returns the highest attempt allowed. No fence is fs.ErrNotExist: a shim that finds
// none is in the wrong place and must not start.
func ReadFence(runDir string) (int, error) {
	data, err := readBounded(FencePath(runDir), 64)
	if err != nil {
		return 0, fmt.Errorf("read fence: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("read fence: %q is not an attempt number", data)
	}
	return n, nil
}

// RaiseFence allows attempt n and shuts out all before it. It never goes down: a fence above n is
// ErrFenceAhead. A fence that cannot be read is an error and not "none", since writing a lower
// one would let a superseded attempt back in.
func RaiseFence(runDir string, n int) error {
	now, err := ReadFence(runDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case now > n:
		return fmt.Errorf("attempt %d, fence %d: %w", n, now, ErrFenceAhead)
	case now == n:
		return nil
	}
	return WriteDurable(fenceContent(runDir, n))
}

func fenceContent(runDir string, n int) Content {
	return Content{Path: FencePath(runDir), Data: []byte(strconv.Itoa(n) + "\n")}
}
