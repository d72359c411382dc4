package rundir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// ErrRevoked says that forged took the claim first: nothing may start for this attempt.
var ErrRevoked = errors.New("the claim of this attempt was revoked before it started")

// Claim says who may act for an attempt. It is made once and never changes.
type Claim struct {
	By      string    `json:"by"`               // shim | forged
	Holder  string    `json:"holder,omitempty"` // which of several jobs of the attempt its shims belong to; "" where there is only one
	Revoked bool      `json:"revoked,omitempty"`
	At      time.Time `json:"at"`
}

// ReadClaim reads the claim; no claim is fs.ErrNotExist. A claim that does not parse (power was
// lost between link and data) is an error: neither side may take it for its own.
func ReadClaim(a Attempt) (Claim, error) {
	c, err := readJSON[Claim](a.ClaimPath(), 4096)
	if err == nil && c.By == "" {
		err = fmt.Errorf("read %s: it names nobody", a.ClaimPath())
	}
	return c, err
}

// ClaimForShim claims the attempt for its shims. nil: this shim or another of the same attempt
// holds it. ErrRevoked: forged was first. It is not synced: the claim has to outlive the shim, not
// the machine, and a machine that lost power runs no shim.
func ClaimForShim(a Attempt, now time.Time) error {
	if _, err := makeClaim(a, Claim{By: "shim", At: now.UTC()}, false); err != nil {
		return err
	}
	c, err := ReadClaim(a)
	switch {
	case err != nil:
		return err
	case c.Revoked:
		return ErrRevoked
	}
	return nil
}

// Revoke makes the absence of an attempt certain: when it returns true, durably, every late start
// exits before work. False: a shim was first.
func Revoke(a Attempt, now time.Time) (bool, error) {
	made, err := makeClaim(a, Claim{By: "forged", Revoked: true, At: now.UTC()}, true)
	if err != nil {
		return false, err
	}
	if made {
		return true, SyncDir(a.Dir())
	}
	c, err := ReadClaim(a)
	if err != nil {
		return false, err
	}
	return c.Revoked, nil
}

// makeClaim links a complete file to the name, so that no reader ever meets half a claim.
func makeClaim(a Attempt, c Claim, sync bool) (made bool, err error) {
	if _, err := os.Lstat(a.ClaimPath()); err == nil {
		return false, nil // the usual case of a second look costs no temporary file
	}
	data, err := json.Marshal(c)
	if err != nil {
		return false, err
	}
	temp := tempPath(a.ClaimPath())
	if err := writeTemp(temp, append(data, '\n'), sync); err != nil {
		_ = os.Remove(temp)
		return false, fmt.Errorf("claim attempt %d: %w", a.Number, err)
	}
	defer os.Remove(temp)
	linkErr := os.Link(temp, a.ClaimPath())
	if linkErr == nil {
		return true, nil
	}
	// A network filesystem repeats a request whose answer was lost and then reports EEXIST for
	// our own link: the link count is the truth.
	if st, err := os.Stat(temp); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Nlink == 2 {
			return true, nil
		}
	}
	if errors.Is(linkErr, fs.ErrExist) {
		return false, nil
	}
	return false, fmt.Errorf("claim attempt %d: %w", a.Number, linkErr)
}
