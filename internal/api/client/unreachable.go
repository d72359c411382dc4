package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
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
	e := &forge.Error{Kind: forge.KindUnavailable, Hint: startHint}
	var timeout net.Error
	var verify *tls.CertificateVerificationError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Err = saying(err, "no forged answers at %s: there is no such socket", c.shown)
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Err = saying(err, "no forged answers at %s: connection refused", c.shown)
	case errors.Is(err, fs.ErrPermission):
		e.Kind = forge.KindForbidden
		e.Err = saying(err, "the socket %s may not be opened by this user", c.shown)
		e.Hint = "it belongs to the user that runs forged; ask them, or use the HTTP address with a key"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		e.Err = saying(err, "forged at %s did not answer in time", c.shown)
		e.Hint = "try again; forged's log says what it is busy with"
	case errors.Is(err, ErrFingerprint):
		e.Err = saying(err, "%s shows another certificate than the one that is pinned for it", c.shown)
		e.Hint = "ask the operator whether it was changed (forged tls fingerprint); if so: forgectl login with --fingerprint and the new one; if not, somebody is in between"
	case errors.As(err, &verify):
		e.Err = saying(err, "the certificate of %s is not trusted: %v", c.shown, verify.Err)
		e.Hint = "forgectl login pins it by its fingerprint (the operator's forged tls fingerprint says it), or takes --ca FILE"
	case errors.Is(err, http.ErrSchemeMismatch):
		e.Err = saying(err, "%s speaks no TLS", c.shown)
		e.Hint = "the address begins with http: then, or TLS is to be turned on in forged's configuration"
	case lost(err):
		e.Err = saying(err, "the connection to forged at %s was lost before it answered", c.shown)
		e.Hint = "if it was to change something, look whether it did before you repeat it"
	default:
		e.Err = saying(err, "no forged answers at %s: %v", c.shown, cause(err))
	}
	return e
}

// said is an error in words for people that still tells errors.Is what it was.
type said struct {
	text string
	err  error
}

func saying(err error, format string, args ...any) error {
	return &said{fmt.Sprintf(format, args...), err}
}

func (e *said) Error() string { return e.text }
func (e *said) Unwrap() error { return e.err }

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
