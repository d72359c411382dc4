package rundir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Cgroup is the directory of a cgroup of version 2 that holds the ranks of one shim and all that descends from them, wherever it has moved: nothing
// leaves it that may not write to cgroups. "" is none.
type Cgroup string

// CgroupName is what the cgroup of a shim's ranks is called.
func CgroupName(a Attempt, node int) string {
	return fmt.Sprintf("forge-%s.%d-%d", filepath.Base(a.RunDir), a.Number, node)
}

// Is says that the directory is called as that of this shim would be: a path that was read is not believed further.
func (c Cgroup) Is(a Attempt, node int) bool { return filepath.Base(string(c)) == CgroupName(a, node) }

// Processes lists what runs in it and below it. One that is not there is empty.
func (c Cgroup) Processes() ([]Process, error) {
	var out []Process
	err := c.each(func(dir string) error {
		data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			return err
		}
		for word := range bytes.FieldsSeq(data) {
			pid, err := strconv.Atoi(string(word))
			if err != nil || pid == 0 { // 0: of another pid namespace
				continue
			}
			if p, err := Identify(pid); err == nil {
				out = append(out, p)
			}
		}
		return nil
	})
	return out, err
}

// Empty says that nothing runs in it, by the kernel's own count.
func (c Cgroup) Empty() (bool, error) {
	if c == "" {
		return true, nil
	}
	data, err := os.ReadFile(filepath.Join(string(c), "cgroup.events"))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return strings.Contains("\n"+string(data), "\npopulated 0\n"), err
}

// Kill ends everything in it at once, so that nothing forks out of reach meanwhile. Kernels before 5.14 cannot: an error, and no harm.
func (c Cgroup) Kill() error {
	if c == "" {
		return nil
	}
	err := os.WriteFile(filepath.Join(string(c), "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		if _, serr := os.Lstat(string(c)); errors.Is(serr, fs.ErrNotExist) {
			return nil
		}
	}
	return err
}

// Remove removes it with what is below it; only an empty one can be.
func (c Cgroup) Remove() error {
	var dirs []string
	if err := c.each(func(dir string) error { dirs = append(dirs, dir); return nil }); err != nil {
		return err
	}
	var errs []error
	for i := len(dirs) - 1; i >= 0; i-- { // those inside first
		if err := os.Remove(dirs[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (c Cgroup) each(f func(dir string) error) error {
	if c == "" {
		return nil
	}
	return filepath.WalkDir(string(c), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = f(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went meanwhile
		}
		return err
	})
}
