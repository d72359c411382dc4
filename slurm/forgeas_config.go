package slurm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml"

	forge "github.com/forge-ml/forge-ml"
)

// HelperConfig is where root says what the helper may do. It is read by a program that acts as any user of forge, so that
// nobody but root may be able to write it.
const HelperConfig = "/etc/forge/forge-as.yaml"

const (
	maxHelperConfig = 64 << 10
	defaultMinUID   = 1000
)

// helperConfig is forge-as.yaml.
type helperConfig struct {
	MinUID   int                                 `yaml:"min_uid"` // accounts below it are the system's
	Clusters map[forge.ClusterName]helperCluster `yaml:"clusters"`
}

// helperCluster is what may be done on one cluster, and with which programs.
type helperCluster struct {
	RunRoots []string `yaml:"run_roots"` // run directories lie directly in one of them
	// ArtifactRoots are where copies of what runs left may lie, one directory per account; empty: nothing is copied.
	ArtifactRoots []string `yaml:"artifact_roots"`

	Bin    string   `yaml:"bin"`    // directory of Slurm's programs
	Conf   string   `yaml:"conf"`   // SLURM_CONF; empty: Slurm's own place
	Allow  []string `yaml:"allow"`  // raw sbatch options of users, as in forged's configuration
	Inputs []string `yaml:"inputs"` // datasets and models lie below one of them; empty: wherever the user can read
}

// readHelperConfig reads the file as one that was open all the while: what was looked at is what is read.
func readHelperConfig(path string) (helperConfig, error) {
	var c helperConfig
	if err := rootsAlone(filepath.Dir(path), 0o022); err != nil {
		return c, fmt.Errorf("%s: %w", filepath.Dir(path), err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return c, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil {
		err = ownedByRoot(st, 0o022)
	}
	if err == nil && (!st.Mode().IsRegular() || st.Size() > maxHelperConfig) {
		err = fmt.Errorf("want a file of at most %d bytes", maxHelperConfig)
	}
	if err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxHelperConfig))
	if err != nil {
		return c, err
	}
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(&c); err != nil {
		return c, fmt.Errorf("%s: %s", path, yaml.FormatError(err, false, false))
	}
	if c.MinUID == 0 {
		c.MinUID = defaultMinUID
	}
	return c, c.validate()
}

func (c helperConfig) validate() error {
	for name, cl := range c.Clusters {
		if err := forge.CheckName(string(name)); err != nil {
			return fmt.Errorf("clusters: %w", err)
		}
		if len(cl.RunRoots) == 0 {
			return fmt.Errorf("clusters.%s: run_roots names none", name)
		}
		for _, p := range slices.Concat(cl.RunRoots, cl.ArtifactRoots, cl.Inputs, []string{cl.Bin}) {
			if !filepath.IsAbs(p) || filepath.Clean(p) != p || p == "/" {
				return fmt.Errorf("clusters.%s: %q: want an absolute path, written plainly, and not /", name, p)
			}
		}
		for _, p := range cl.ArtifactRoots {
			if !strings.Contains(p, accountMark) {
				return fmt.Errorf("clusters.%s: artifact_roots: %q: want %s in it: each account has a directory of its own", name, p, accountMark)
			}
		}
		if cl.Conf != "" && !filepath.IsAbs(cl.Conf) {
			return fmt.Errorf("clusters.%s: conf: %q: want an absolute path", name, cl.Conf)
		}
		for _, a := range cl.Allow {
			if _, err := AllowName(a); err != nil {
				return fmt.Errorf("clusters.%s: allow: %w", name, err)
			}
		}
	}
	return nil
}

// roots are the run roots of an account.
func (c helperCluster) roots(account string) []string {
	out := make([]string, len(c.RunRoots))
	for i, r := range c.RunRoots {
		out[i] = strings.ReplaceAll(r, accountMark, account)
	}
	return out
}

// AccountIn reads from a run directory whose it is, where the run root names it; empty: it does not lie there.
func AccountIn(template, runDir string) string {
	before, after, ok := strings.Cut(template, accountMark)
	rest, under := strings.CutPrefix(runDir, before)
	account, _, _ := strings.Cut(rest, "/")
	if !ok || !under || CheckAccount(account) != nil || filepath.Dir(runDir) != before+account+after {
		return ""
	}
	return account
}

// RunRootOf fills in whose runs lie in a run root.
func RunRootOf(template, account string) string {
	return strings.ReplaceAll(template, accountMark, account)
}

// rootsAlone says whether only root can change what is at a path.
func rootsAlone(path string, closed os.FileMode) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if st.Mode()&os.ModeSymlink != 0 {
		return errors.New("is a symbolic link")
	}
	return ownedByRoot(st, closed)
}

func ownedByRoot(st os.FileInfo, closed os.FileMode) error {
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !ok || sys.Uid != 0:
		return errors.New("does not belong to root")
	case st.Mode().Perm()&closed != 0:
		return fmt.Errorf("can be written by others than root (mode %04o)", st.Mode().Perm())
	}
	return nil
}
