package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"syscall"
	"time"
)

// The pauses between sending a request again whose answer was lost.
const (
	insistFirst = 100 * time.Millisecond
	insistLast  = 2 * time.Second
)

// Once is the Idempotency-Key of a request that changes something. A caller draws one only where it wants to
// ask for the request by it, and for each request another.
type Once string

// NewOnce draws 128 bits that nobody else draws.
func NewOnce() Once {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return Once(hex.EncodeToString(b[:]))
}

// insist sends a request until it is answered. Only a connection that was lost after it was made says
// that the request may have arrived: then it is sent again, and from there on a server that is away,
// as one that is restarted is, is waited for until Options.Insist is over. One that was never
// there is said at once.
func (c *Client) insist(ctx context.Context, send func() error) error {
	err := send()
	if !lost(err) {
		return err
	}
	over := time.NewTimer(c.opts.Insist)
	defer over.Stop()
	for pause := insistFirst; ; pause = min(2*pause, insistLast) {
		select {
		case <-ctx.Done():
			return err // of the lost answer: what it says is what the caller must know
		case <-over.C:
			return err
		case <-time.After(pause):
		}
		if again := send(); !lost(again) && !away(again) {
			return again
		}
	}
}

// lost says whether a connection that was there ended before the answer.
func lost(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// away says whether nobody was there to ask.
func away(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}
