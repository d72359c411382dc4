package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	forge "github.com/forge-ml/forge-ml"
)

// startHint is what to do when nobody is there.
const startHint = "is forged running? start it with: forged serve"

// unreachable says why there is no answer, in the words of somebody who wants to fix it.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if e := c.distrust(err); e != nil {
		return e
	}
	e := &forge.Error{Kind: forge.KindUnavailable, Hint: startHint}
	var timeout net.Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Err = fmt.Errorf("no forged answers at %s: there is no such socket", c.shown)
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Err = fmt.Errorf("no forged answers at %s: connection refused", c.shown)
	case errors.Is(err, fs.ErrPermission):
		e.Kind = forge.KindForbidden
		e.Err = fmt.Errorf("the socket %s may not be opened by this user", c.shown)
		e.Hint = "it belongs to the user that runs forged; ask them, or use the HTTP address with a key"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		e.Err = fmt.Errorf("forged at %s did not answer in time", c.shown)
		e.Hint = "try again; forged's log says what it is busy with"
	default:
		e.Err = fmt.Errorf("no forged answers at %s: %w", c.shown, cause(err))
	}
	return e
}

// cause strips net/http's wrapping, which names our made-up host.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
