package slurm

import (
	"fmt"
	"os"
	"os/user"
	"strconv"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// resolve finds the group on this host.
func (o Owner) resolve() (rundir.Owner, error) {
	if o == (Owner{}) {
		return rundir.Owner{}, nil
	}
	mask := o.Umask
	if mask == "" {
		mask = DefaultUmask
	}
	m, err := strconv.ParseUint(mask, 8, 9)
	if err != nil {
		return rundir.Owner{}, forge.Invalidf("umask", "%q is not an octal mask", o.Umask)
	}
	out := rundir.Owner{Umask: os.FileMode(m)}
	if o.Group == "" {
		return out, nil
	}
	id := o.Group
	if g, err := user.LookupGroup(o.Group); err == nil {
		id = g.Gid
	}
	if out.GID, err = strconv.Atoi(id); err != nil || out.GID < 0 {
		return out, fmt.Errorf("there is no group %q on this host", o.Group)
	}
	return out, nil
}

// Check says whether files of this owner can be made here: the group exists, and this process may give files to it.
func (o Owner) Check() error {
	r, err := o.resolve()
	if err != nil || r.GID == 0 || os.Geteuid() == 0 {
		return err
	}
	mine, err := os.Getgroups()
	if err != nil {
		return err
	}
	for _, g := range append(mine, os.Getegid()) {
		if g == r.GID {
			return nil
		}
	}
	return fmt.Errorf("forged's user is not in group %q, and may give files only to groups that it is in", o.Group)
}
