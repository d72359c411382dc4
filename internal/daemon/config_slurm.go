package daemon

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/slurm"
)

// SlurmConfig is what only a cluster of kind slurm has.
type SlurmConfig struct {
	Bin         string                 `yaml:"bin"`  // directory of sbatch and the others; empty: PATH
	Conf        string                 `yaml:"conf"` // SLURM_CONF; empty: Slurm's own place
	Shim        string                 `yaml:"shim"` // path of forged on the nodes
	Share       string                 `yaml:"share"`
	Timeout     forge.Duration         `yaml:"timeout"`
	Identity    string                 `yaml:"identity"` // self | as_user
	AsUser      AsUserConfig           `yaml:"as_user"`
	Binding     string                 `yaml:"binding"` // eager | late
	BindTimeout forge.Duration         `yaml:"bind_timeout"`
	MaxPending  int                    `yaml:"max_pending"`
	NiceStep    *int                   `yaml:"nice_step"`
	PollEvery   forge.Duration         `yaml:"poll_every"`
	NodesEvery  forge.Duration         `yaml:"nodes_every"`
	GRES        string                 `yaml:"gres"`
	Partitions  []PartitionConfig      `yaml:"partitions"`
	Allow       []string               `yaml:"allow"`
	UserRuntime *bool                  `yaml:"user_runtime"`
	Network     bool                   `yaml:"network"`
	Owners      map[string]OwnerConfig `yaml:"owners"`
	Labels      map[string]string      `yaml:"labels"`
	Topology    bool                   `yaml:"topology"`
	Drain       string                 `yaml:"drain"` // exclude | scontrol
}

// AsUserConfig is how forged acts as the owners of jobs, identity as_user.
type AsUserConfig struct {
	Sudo   string `yaml:"sudo"`
	Helper string `yaml:"helper"` // what sudo may run as them: contrib/sudoers
}

// PartitionConfig is one partition that forge may use.
type PartitionConfig struct {
	Name            string            `yaml:"name"`
	GPUType         string            `yaml:"gpu_type"`
	CPUsPerGPU      int               `yaml:"cpus_per_gpu"`
	MemoryPerGPU    string            `yaml:"memory_per_gpu"`
	GPUMemory       string            `yaml:"gpu_memory"`
	PricePerGPUHour float64           `yaml:"price_per_gpu_hour"`
	Account         string            `yaml:"account"`
	QOS             string            `yaml:"qos"`
	Env             map[string]string `yaml:"env"`
}

// OwnerConfig is how files of one tenant's runs are made.
type OwnerConfig struct {
	Group string `yaml:"group"`
	Umask string `yaml:"umask"`
}

// The defaults of a cluster of kind slurm.
const (
	KindSlurm = "slurm"

	DefaultBinding         = string(slurm.BindEager)
	DefaultBindTimeout     = 10 * time.Minute
	DefaultMaxPending      = 20
	DefaultNiceStep        = 10
	DefaultSlurmPollEvery  = 10 * time.Second
	DefaultSlurmNodesEvery = time.Minute
	DefaultGRES            = "gpu"
	DefaultDrain           = string(slurm.DrainExclude)
	DefaultSudo            = "/usr/bin/sudo"

	IdentitySelf   = "self"
	IdentityAsUser = "as_user"
)

func (s *SlurmConfig) resolve(self, runRoot string) {
	def(&s.Shim, self)
	if runRoot != "" {
		def(&s.Share, filepath.Join(fixedRoot(runRoot), shareDir))
	}
	def(&s.Timeout, forge.Duration(slurm.DefaultTimeout))
	def(&s.Identity, IdentitySelf)
	def(&s.AsUser.Sudo, DefaultSudo)
	def(&s.AsUser.Helper, slurm.DefaultHelper)
	def(&s.UserRuntime, new(s.Identity == IdentityAsUser)) // with one account for all, what one runs can read what another left
	def(&s.Binding, DefaultBinding)
	def(&s.BindTimeout, forge.Duration(DefaultBindTimeout))
	def(&s.MaxPending, DefaultMaxPending)
	def(&s.NiceStep, new(DefaultNiceStep))
	def(&s.PollEvery, forge.Duration(DefaultSlurmPollEvery))
	def(&s.NodesEvery, forge.Duration(DefaultSlurmNodesEvery))
	def(&s.GRES, DefaultGRES)
	def(&s.Drain, DefaultDrain)
	for name, o := range s.Owners {
		def(&o.Umask, slurm.DefaultUmask)
		s.Owners[name] = o
	}
}

// slurmWord is a name as Slurm takes it: it becomes an argument of its programs, or part of one.
var slurmWord = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}$`)

// labelPattern is a name of a feature with at most one star.
var labelPattern = regexp.MustCompile(`^[A-Za-z0-9_.+:=-]*\*?[A-Za-z0-9_.+:=-]*$`)

func (s *SlurmConfig) check(at func(string) string, bad refusal) {
	bad = under(at("slurm")+".", bad)
	oneOf := func(field, v string, allowed ...string) {
		if !slices.Contains(allowed, v) {
			bad(field, "%q is not allowed; want one of %s", v, strings.Join(allowed, ", "))
		}
	}
	for _, p := range [][2]string{{"bin", s.Bin}, {"conf", s.Conf}, {"shim", s.Shim}, {"share", s.Share}, {"as_user.sudo", s.AsUser.Sudo}, {"as_user.helper", s.AsUser.Helper}} {
		if p[1] != "" && (!filepath.IsAbs(p[1]) || filepath.Clean(p[1]) != p[1]) {
			bad(p[0], "%q: want an absolute path without . and ..", p[1])
		}
	}
	oneOf("identity", s.Identity, IdentitySelf, IdentityAsUser)
	oneOf("binding", s.Binding, string(slurm.BindEager), string(slurm.BindLate))
	oneOf("drain", s.Drain, string(slurm.DrainExclude), string(slurm.DrainScontrol))
	for _, d := range []struct {
		field      string
		v          forge.Duration
		low, upper time.Duration
	}{
		{"timeout", s.Timeout, time.Second, 5 * time.Minute}, {"bind_timeout", s.BindTimeout, 10 * time.Second, 24 * time.Hour},
		{"poll_every", s.PollEvery, time.Second, 10 * time.Minute}, {"nodes_every", s.NodesEvery, 5 * time.Second, time.Hour},
	} {
		if d.v.D() < d.low || d.v.D() > d.upper {
			bad(d.field, "%s: want %s to %s", d.v, forge.Duration(d.low), forge.Duration(d.upper))
		}
	}
	if s.MaxPending < 1 || s.MaxPending > maxPendingLimit {
		bad("max_pending", "%d: want 1 to %d", s.MaxPending, maxPendingLimit)
	}
	if n := *s.NiceStep; n < 0 || n > maxNiceStep {
		bad("nice_step", "%d: want 0 (priorities of forge mean nothing to Slurm) to %d", n, maxNiceStep)
	}
	if !slurmWord.MatchString(s.GRES) {
		bad("gres", "%q is not the name of a generic resource", s.GRES)
	}
	s.checkPartitions(bad)
	for i, name := range s.Allow {
		if _, err := slurm.AllowName(name); err != nil {
			bad(fmt.Sprintf("allow[%d]", i), "%v", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Owners)) {
		o := s.Owners[name]
		if err := forge.CheckName(name); err != nil {
			bad("owners", "%v", err)
		}
		if o.Group != "" && !slurmWord.MatchString(o.Group) {
			bad("owners."+name+".group", "%q is not a name or number of a group", o.Group)
		}
		if err := checkUmask(o.Umask); err != nil {
			bad("owners."+name+".umask", "%v", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Labels)) {
		if !slurmWord.MatchString(name) || name == "switch" {
			bad("labels", "%q: want a word for the label; switch is for topology", name)
		}
		if p := s.Labels[name]; p == "" || !labelPattern.MatchString(p) {
			bad("labels."+name, `%q: want the name of a feature with at most one *, like "rack*"`, p)
		}
	}
}

// Bounds that catch a slip of the finger.
const (
	maxPendingLimit = 100_000
	maxNiceStep     = 10_000_000 // Slurm takes nice up to 2^31 - 3; there are 100 steps
)

func (s *SlurmConfig) checkPartitions(bad refusal) {
	seen := map[string]bool{}
	for i, p := range s.Partitions {
		at := func(f string) string { return fmt.Sprintf("partitions[%d].%s", i, f) }
		if !slurmWord.MatchString(p.Name) {
			bad(at("name"), "%q is not the name of a partition", p.Name)
		}
		if seen[p.Name] {
			bad(at("name"), "%q stands twice; names are unique", p.Name)
		}
		seen[p.Name] = true
		for _, w := range [][2]string{{"gpu_type", p.GPUType}, {"account", p.Account}, {"qos", p.QOS}} {
			if w[1] != "" && !slurmWord.MatchString(w[1]) {
				bad(at(w[0]), "%q: want a word of letters, digits, _ . + -", w[1])
			}
		}
		if p.CPUsPerGPU < 0 || p.CPUsPerGPU > 1024 {
			bad(at("cpus_per_gpu"), "%d: want 0 (what the run asks for) to 1024", p.CPUsPerGPU)
		}
		if p.PricePerGPUHour < 0 || p.PricePerGPUHour > 1e6 {
			bad(at("price_per_gpu_hour"), "%g: want 0 or more", p.PricePerGPUHour)
		}
		for _, m := range [][2]string{{"memory_per_gpu", p.MemoryPerGPU}, {"gpu_memory", p.GPUMemory}} {
			if _, err := mebibytes(m[1]); err != nil {
				bad(at(m[0]), "%v", err)
			}
		}
		checkEnv(at("env"), p.Env, bad)
	}
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func checkEnv(field string, env map[string]string, bad refusal) {
	for _, k := range slices.Sorted(maps.Keys(env)) {
		switch {
		case !envName.MatchString(k):
			bad(field, "%q is not the name of a variable", k)
		case strings.ContainsRune(env[k], 0):
			bad(field+"."+k, "holds a NUL, which no variable can")
		}
	}
}

// checkUmask: the owner must be able to use its own files, and others get nothing by a slip.
func checkUmask(s string) error {
	m, err := strconv.ParseUint(s, 8, 32)
	if err != nil || m > 0o777 {
		return fmt.Errorf("%q: want an octal mask from 0007 (the group may write) over 0027 (it may read) to 0077 (only the owner)", s)
	}
	if m&0o700 != 0 || m&0o007 != 0o007 {
		return fmt.Errorf("%q: want a mask that leaves the owner everything and others nothing: 0007, 0027 or 0077", s)
	}
	return nil
}

func mebibytes(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	return forge.ParseMemoryMiB(s)
}

func under(prefix string, bad refusal) refusal {
	return func(field, format string, args ...any) { bad(prefix+field, format, args...) }
}
