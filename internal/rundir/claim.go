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

// Why an attempt is not a shim's to start.
var (
	ErrRevoked = errors.New("the claim of this attempt was revoked before it started")
	ErrClaimed = errors.New("another job holds the claim of this attempt")
)

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

// ClaimForShim claims the attempt for its shims. holder names which job of a batch system they belong
// to, since a lost answer or a requeue can make two of one attempt; "" where there is only one. nil: this
// shim or another of the same holder has it. ErrRevoked: forged was first. ErrClaimed: another job was.
//
// Without a holder it is not synced: the claim has to outlive the shim, not the machine, and a machine
// that lost power runs no shim. With one, the other shims and forged are on machines of their own.
func ClaimForShim(a Attempt, holder string, now time.Time) error {
	if _, err := makeClaim(a, Claim{By: "shim", Holder: holder, At: now.UTC()}, holder != ""); err != nil {
		return err
	}
	c, err := ReadClaim(a)
	switch {
	case err != nil:
		return err
	case c.Revoked:
		return ErrRevoked
	case c.Holder != holder:
		return fmt.Errorf("%w: %q, and this is %q", ErrClaimed, c.Holder, holder)
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

// makeClaim makes the claim whole or not at all, so that no reader ever meets half of one.
func makeClaim(a Attempt, c Claim, sync bool) (made bool, err error) {
	if _, err := os.Lstat(a.ClaimPath()); err == nil {
		return false, nil // the usual case of a second look costs no temporary file
	}
	data, err := json.Marshal(c)
	if err != nil {
		return false, err
	}
	made, err = linkOnce(a.ClaimPath(), append(data, '\n'), sync)
	if err != nil {
		return false, fmt.Errorf("claim attempt %d: %w", a.Number, err)
	}
	return made, nil
}

// linkOnce gives a complete file its name, unless the name is taken: of several that try, on whatever
// machines, exactly one makes it.
func linkOnce(path string, data []byte, sync bool) (made bool, err error) {
	temp := tempPath(path)
	if err := writeTemp(temp, data, sync); err != nil {
		_ = os.Remove(temp)
		return false, err
	}
	defer os.Remove(temp)
	linkErr := os.Link(temp, path)
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
	return false, linkErr
}
