package daemon

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// ClusterConfig is one set of nodes behind one executor.
type ClusterConfig struct {
	Name      string            `yaml:"name"`
	Kind      string            `yaml:"kind"` // direct | slurm
	Node      string            `yaml:"node"` // name of this host; default its hostname
	CPUSlots  int               `yaml:"cpu_slots"`
	CPUs      int               `yaml:"cpus"`   // 0: what the host has
	Memory    string            `yaml:"memory"` // "": what the host has
	RunRoot   string            `yaml:"run_root"`
	Python    string            `yaml:"python"` // interpreter of the training environment
	Env       map[string]string `yaml:"env"`
	Network   string            `yaml:"network"` // host | none
	Ports     string            `yaml:"ports"`   // range for MASTER_PORT
	PollEvery forge.Duration    `yaml:"poll_every"`
	LogLimit  string            `yaml:"log_limit"` // of stdout and stderr of a rank, each
	Labels    map[string]string `yaml:"labels"`    // of this host: rack, switch
	// ShimSocket is where systemd starts shims in units of their own (forge-shim.socket); empty: forged forks them.
	ShimSocket string `yaml:"shim_socket"`
	// ArtifactRoot is where registered outputs are copied to, where run_root is scratch space; identity as_user: with {account} in it.
	ArtifactRoot string        `yaml:"artifact_root"`
	Runtime      forge.Runtime `yaml:"runtime"`
	UserPrograms *bool         `yaml:"user_programs"` // runs may bring the program that they are
	Slurm        *SlurmConfig  `yaml:"slurm"`         // kind slurm only, and there always
	// Prices of an hour of one GPU by its type, with "default" for types that are not named. What is not said is not known, and not 0.
	Prices map[string]float64 `yaml:"prices"`
	// ExpectGPUs is how many GPUs a direct cluster's host has. Fewer, and it is sick; 0: as many as it had.
	ExpectGPUs int `yaml:"expect_gpus"`
}

func (c *ClusterConfig) resolve(stateDir string) error {
	def(&c.Kind, KindDirect)
	def(&c.Network, DefaultNetwork)
	def(&c.Ports, DefaultPorts)
	def(&c.LogLimit, DefaultLogLimit)
	def(&c.PollEvery, forge.Duration(DefaultPollEvery))
	if c.Kind == KindSlurm {
		if c.Slurm == nil {
			c.Slurm = &SlurmConfig{}
		}
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("own path: %w", err)
		}
		s := *c.Slurm
		s.resolve(self, c.RunRoot)
		c.Slurm = &s
		def(&c.UserPrograms, s.UserRuntime)
		return nil
	}
	def(&c.UserPrograms, new(false)) // it would run as forged's own account
	def(&c.RunRoot, filepath.Join(stateDir, "runs"))
	if c.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("the host has no name: %w", err)
		}
		c.Node = host
	}
	return nil
}

func (c Config) checkClusters(bad refusal) {
	seen := map[string]bool{}
	for i, cl := range c.Clusters {
		at := func(f string) string { return fmt.Sprintf("clusters[%d].%s", i, f) }
		if err := forge.CheckName(cl.Name); err != nil {
			bad(at("name"), "%v", err)
		}
		if seen[cl.Name] {
			bad(at("name"), "%q stands twice; names are unique", cl.Name)
		}
		seen[cl.Name] = true
		cl.check(at, bad)
	}
}

func (c ClusterConfig) check(at func(string) string, bad refusal) {
	if c.ExpectGPUs < 0 {
		bad(at("expect_gpus"), "%d: want 0 or more", c.ExpectGPUs)
	}
	if c.Network != "host" && c.Network != "none" {
		bad(at("network"), "%q is not allowed; want one of host, none", c.Network)
	}
	if c.Python != "" && !filepath.IsAbs(c.Python) {
		bad(at("python"), "%q: want an absolute path", c.Python)
	}
	if _, _, err := parsePorts(c.Ports); err != nil {
		bad(at("ports"), "%v", err)
	}
	if n, err := forge.ParseMemoryMiB(c.LogLimit); err != nil {
		bad(at("log_limit"), "%v", err)
	} else if n < 1 {
		bad(at("log_limit"), "%q: want at least 1M", c.LogLimit)
	}
	if c.PollEvery.D() < 50*time.Millisecond {
		bad(at("poll_every"), "%s: want at least 50ms", c.PollEvery)
	}
	checkEnv(at("env"), c.Env, bad)
	switch root := c.ArtifactRoot; {
	case root == "":
	case !filepath.IsAbs(root) || filepath.Clean(root) != root:
		bad(at("artifact_root"), "%q: want an absolute path without . and ..", root)
	case below(root, c.RunRoot) || below(c.RunRoot, root):
		bad(at("artifact_root"), "%q and run_root %q lie in each other; what is kept and what may be purged are two places", root, c.RunRoot)
	}
	checkPrices(at("prices"), c.Prices, bad)
	switch c.Kind {
	case KindDirect:
		c.checkDirect(at, bad)
	case KindSlurm:
		c.checkSlurm(at, bad)
	default:
		bad(at("kind"), "%q is not allowed; want one of %s, %s", c.Kind, KindDirect, KindSlurm)
	}
}

func (c ClusterConfig) checkDirect(at func(string) string, bad refusal) {
	if c.CPUSlots < 0 || c.CPUSlots > 1024 {
		bad(at("cpu_slots"), "%d: want 0 to 1024", c.CPUSlots)
	}
	if c.CPUs < 0 {
		bad(at("cpus"), "%d: want 0 (what the host has) or more", c.CPUs)
	}
	if _, err := mebibytes(c.Memory); err != nil {
		bad(at("memory"), "%v", err)
	}
	if !filepath.IsAbs(c.RunRoot) {
		bad(at("run_root"), "%q: want an absolute path", c.RunRoot)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Labels)) {
		if !labelName.MatchString(name) || !labelName.MatchString(c.Labels[name]) {
			bad(at("labels"), "%q: %q: want words of letters, digits and ._- for both, like rack: r1", name, c.Labels[name])
		}
	}
	if c.ShimSocket != "" && (!filepath.IsAbs(c.ShimSocket) || len(c.ShimSocket) > maxSocketPath) {
		bad(at("shim_socket"), "%q: want an absolute path of at most %d bytes", c.ShimSocket, maxSocketPath)
	}
	for _, k := range []struct {
		key   string
		given bool
	}{{"slurm", c.Slurm != nil}, {"runtime", !c.Runtime.Empty()}} {
		if k.given {
			bad(at(k.key), "is for clusters of kind %s; this one is of kind %s", KindSlurm, KindDirect)
		}
	}
}

var labelName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// accountPart stands for the owner of the jobs in a run_root.
const accountPart = "{account}"

func (c ClusterConfig) checkSlurm(at func(string) string, bad refusal) {
	for _, k := range []struct {
		key   string
		given bool
	}{
		{"node", c.Node != ""}, {"cpu_slots", c.CPUSlots != 0}, {"cpus", c.CPUs != 0}, {"memory", c.Memory != ""}, {"shim_socket", c.ShimSocket != ""}, {"labels", len(c.Labels) > 0},
	} {
		if k.given {
			bad(at(k.key), "is for clusters of kind %s; Slurm knows its nodes", KindDirect)
		}
	}
	if c.Network == "none" {
		bad(at("network"), "none is for clusters of kind %s; ranks of a gang on several nodes have to reach each other", KindDirect)
	}
	switch {
	case c.RunRoot == "":
		bad(at("run_root"), "is missing; want a directory that forged and every node see under the same path")
	case !filepath.IsAbs(c.RunRoot) || filepath.Clean(c.RunRoot) != c.RunRoot:
		bad(at("run_root"), "%q: want an absolute path without . and ..", c.RunRoot)
	case !strings.Contains(c.RunRoot, accountPart) && c.Slurm.Identity == IdentityAsUser:
		bad(at("run_root"), "%q: with slurm.identity: %s each account has a root of its own; want %s in it", c.RunRoot, IdentityAsUser, accountPart)
	case strings.Contains(c.RunRoot, accountPart) && c.Slurm.Identity != IdentityAsUser:
		bad(at("run_root"), "%q: %s needs slurm.identity: %s; with %s every job belongs to forged's own account", c.RunRoot, accountPart, IdentityAsUser, IdentitySelf)
	}
	switch people := strings.Contains(c.ArtifactRoot, accountPart); {
	case c.ArtifactRoot != "" && !people && c.Slurm.Identity == IdentityAsUser:
		bad(at("artifact_root"), "%q: with slurm.identity: %s copies belong to people, each account's in a directory of its own; want %s in it", c.ArtifactRoot, IdentityAsUser, accountPart)
	case people && c.Slurm.Identity != IdentityAsUser:
		bad(at("artifact_root"), "%q: %s needs slurm.identity: %s", c.ArtifactRoot, accountPart, IdentityAsUser)
	}
	var e *forge.Error
	if err := c.Runtime.CheckWhole(); errors.As(err, &e) {
		bad(at(e.Field), "%v", e.Err)
	}
	c.Slurm.check(at, bad)
}

func parsePorts(s string) (lo, hi int, err error) {
	a, b, ok := strings.Cut(s, "-")
	x, err1 := strconv.ParseUint(a, 10, 16)
	y, err2 := strconv.ParseUint(b, 10, 16)
	if !ok || err1 != nil || err2 != nil || x < 1024 || y < x {
		return 0, 0, fmt.Errorf("port range %q: want LOW-HIGH within 1024-65535", s)
	}
	return int(x), int(y), nil
}
