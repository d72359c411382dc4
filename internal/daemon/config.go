package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// Config is config.yaml: strict, every default a named constant. `forged config show` prints
// the resolved form.
type Config struct {
	StateDir    string          `yaml:"state_dir"`
	Listen      ListenConfig    `yaml:"listen"`
	Log         LogConfig       `yaml:"log"`
	RecipesDir  string          `yaml:"recipes_dir"`
	SuitesDir   string          `yaml:"suites_dir"`
	GatesFile   string          `yaml:"gates_file"` // what is asked of a model before it enters a stage; empty: the built-in rules
	Retry       RetryConfig     `yaml:"retry"`
	Policy      PolicyConfig    `yaml:"policy"`
	Limits      LimitsConfig    `yaml:"limits"`
	DatasetRoot string          `yaml:"dataset_root"` // where copies of datasets lie that forge owns; default STATE_DIR/datasets
	DataRoots   []string        `yaml:"data_roots"`   // where datasets and models may lie; empty: anywhere but in what is the daemon's own
	Hooks       HooksConfig     `yaml:"hooks"`
	GPUs        GPUConfig       `yaml:"gpus"`
	Currency    string          `yaml:"currency"` // word for what prices are in: EUR; nothing is converted
	Clusters    []ClusterConfig `yaml:"clusters"`
}

// ListenConfig says where the API is served.
type ListenConfig struct {
	Socket     string      `yaml:"socket"`      // path of the unix socket; default STATE_DIR/forged.sock
	SocketMode string      `yaml:"socket_mode"` // who may connect to it, octal
	TCP        string      `yaml:"tcp"`         // host:port; without TLS loopback only; "off" for none
	TLS        TLSConfig   `yaml:"tls"`
	Metrics    *bool       `yaml:"metrics"` // serve /metrics, which needs no key
	Munge      MungeConfig `yaml:"munge"`
}

// TLSConfig says with which certificate TCP is served. Nothing of it: without TLS.
type TLSConfig struct {
	Cert     string   `yaml:"cert"`     // PEM, with the chain
	Key      string   `yaml:"key"`      // PEM, readable by nobody else
	Generate bool     `yaml:"generate"` // a certificate of our own instead, in STATE_DIR/tls
	Names    []string `yaml:"names"`    // more host names and addresses for that one
}

// LogConfig is for forged's own log, on stderr.
type LogConfig struct {
	Level  string `yaml:"level"`  // debug | info | warn | error
	Format string `yaml:"format"` // json | console
}

// RetryConfig bounds what infrastructure failures may cost.
type RetryConfig struct {
	BackoffMin     forge.Duration `yaml:"backoff_min"`
	BackoffMax     forge.Duration `yaml:"backoff_max"`
	FruitlessLimit int            `yaml:"fruitless_limit"` // attempts in a row without a newer checkpoint before a run is held
	PauseAfter     int            `yaml:"pause_after"`     // held runs …
	PauseWindow    forge.Duration `yaml:"pause_window"`    // … in this time pause the cluster
}

// LimitsConfig bounds what the API accepts.
type LimitsConfig struct {
	MaxBodyBytes      int64    `yaml:"max_body_bytes"`
	MaxSnapshotBytes  int64    `yaml:"max_snapshot_bytes"`  // files of a working directory that a run brings
	MaxDatasetBytes   int64    `yaml:"max_dataset_bytes"`   // one file of a dataset that forge keeps a copy of
	RequestsPerSecond *float64 `yaml:"requests_per_second"` // of one key; 0: any number
	Burst             int      `yaml:"burst"`               // of one key, at once
	StreamsPerKey     *int     `yaml:"streams_per_key"`     // followers of events; 0: any number
	ScansAtOnce       *int     `yaml:"scans_at_once"`       // datasets that forged itself reads; the others wait for their turn
	MemberMaxPriority *int     `yaml:"member_max_priority"` // of members whose user says nothing else; 0 is a cap, too
}

// The defaults, each one named.
const (
	DefaultTCP            = "127.0.0.1:7433"
	TCPOff                = "off"
	DefaultLogLevel       = "info"
	DefaultLogFormat      = "json"
	DefaultBackoffMin     = 2 * time.Second
	DefaultBackoffMax     = 10 * time.Minute
	DefaultFruitlessLimit = 3
	DefaultPauseAfter     = 5
	DefaultPauseWindow    = 10 * time.Minute
	DefaultMaxBodyBytes   = 1 << 20
	DefaultSocketMode     = "0600"
	DefaultMetrics        = true
	DefaultMungeLife      = 12 * time.Hour
	DefaultRequests       = 200.0 // a second
	DefaultBurst          = 1000
	DefaultStreams        = 64
	DefaultMemberPriority = 60
	DefaultScans          = 1
	DefaultClusterName    = "local"
	DefaultNetwork        = "host"
	DefaultLogLimit       = "1G"
	DefaultPorts          = "29500-29999"
	DefaultPollEvery      = time.Second
	KindDirect            = "direct"

	configFile    = "config.yaml"
	maxConfigSize = 1 << 20
)

// DefaultStateDir is where state lives when nothing else is said: /var/lib/forge for root,
// the user's state directory otherwise.
func DefaultStateDir() string {
	if d := os.Getenv("FORGE_STATE"); d != "" {
		return d
	}
	if os.Geteuid() == 0 {
		return "/var/lib/forge"
	}
	if d := os.Getenv("XDG_STATE_HOME"); d != "" {
		return filepath.Join(d, "forge")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "/var/lib/forge"
	}
	return filepath.Join(home, ".local", "state", "forge")
}

// LoadConfig reads a file strictly and fills the defaults. A missing file is the defaults
// only when path is empty and the state directory has no config.yaml.
func LoadConfig(path, stateDir string) (Config, error) {
	explicit := path != ""
	if !explicit {
		path = filepath.Join(stateDir, configFile)
	}
	var c Config
	b, err := readBounded(path, maxConfigSize)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !explicit:
	case err != nil:
		return c, &forge.Error{Kind: forge.KindInvalid, Op: "config.load", Field: path, Err: err,
			Hint: "forged init writes one; forged serve --config FILE names another"}
	default:
		if c, err = ParseConfig(b); err != nil {
			return c, fmt.Errorf("%s: %w", path, err)
		}
	}
	if c.StateDir == "" {
		c.StateDir = stateDir
	}
	return c.resolve()
}

// ParseConfig decodes strictly: unknown and doubled keys are errors that name the line.
func ParseConfig(b []byte) (Config, error) {
	var c Config
	dec := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict(), yaml.DisallowUnknownField())
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) { // EOF: nothing but comments
		return c, &forge.Error{Kind: forge.KindInvalid, Op: "config.parse", Err: errors.New(yaml.FormatError(err, false, true)),
			Hint: "forged config show prints every key with its default"}
	}
	return c, nil
}

func (c Config) resolve() (Config, error) {
	abs, err := filepath.Abs(c.StateDir)
	if err != nil {
		return c, forge.Invalidf("state_dir", "%q: %v", c.StateDir, err)
	}
	c.StateDir = abs
	def(&c.Listen.Socket, filepath.Join(abs, "forged.sock"))
	def(&c.Listen.TCP, DefaultTCP)
	def(&c.Log.Level, DefaultLogLevel)
	def(&c.Log.Format, DefaultLogFormat)
	def(&c.Retry.BackoffMin, forge.Duration(DefaultBackoffMin))
	def(&c.Retry.BackoffMax, forge.Duration(DefaultBackoffMax))
	def(&c.Retry.FruitlessLimit, DefaultFruitlessLimit)
	def(&c.Retry.PauseAfter, DefaultPauseAfter)
	def(&c.Retry.PauseWindow, forge.Duration(DefaultPauseWindow))
	def(&c.Listen.SocketMode, DefaultSocketMode)
	def(&c.Listen.Metrics, new(DefaultMetrics))
	def(&c.Listen.Munge.Life, forge.Duration(DefaultMungeLife))
	if len(c.Listen.TLS.Names) == 0 {
		c.Listen.TLS.Names = nil
	}
	if len(c.Listen.Munge.Names) == 0 {
		c.Listen.Munge.Names = nil
	}
	if p, err := c.Policy.policy(); err == nil { // else validate says so
		trust, test, licenses := c.Policy.TrustRemoteCode, c.Policy.LoadTest, c.Policy.Licenses
		c.Policy = policyConfig(p)
		c.Policy.TrustRemoteCode, c.Policy.LoadTest, c.Policy.Licenses = trust, test, licenses.settled()
		def(&c.Policy.LoadTest, new(true))
	}
	def(&c.Limits.MaxBodyBytes, DefaultMaxBodyBytes)
	def(&c.Limits.MaxSnapshotBytes, api.DefaultMaxSnapshot)
	def(&c.Limits.MaxDatasetBytes, api.DefaultMaxDataset)
	def(&c.DatasetRoot, filepath.Join(abs, "datasets"))
	def(&c.Limits.RequestsPerSecond, new(DefaultRequests))
	def(&c.Limits.Burst, DefaultBurst)
	def(&c.Limits.StreamsPerKey, new(DefaultStreams))
	def(&c.Limits.ScansAtOnce, new(DefaultScans))
	def(&c.Limits.MemberMaxPriority, new(DefaultMemberPriority))
	c.Hooks.resolve()
	c.GPUs.resolve()
	if len(c.Clusters) == 0 {
		c.Clusters = []ClusterConfig{{Name: DefaultClusterName, Kind: KindDirect}}
	}
	for i := range c.Clusters {
		if err := c.Clusters[i].resolve(abs); err != nil {
			return c, forge.Invalidf(fmt.Sprintf("clusters[%d].node", i), "%v", err)
		}
	}
	return c, c.validate()
}

func (c Config) validate() error {
	var errs []error
	bad := func(field, format string, args ...any) { errs = append(errs, forge.Invalidf(field, format, args...)) }
	oneOf := func(field, v string, allowed ...string) {
		for _, a := range allowed {
			if v == a {
				return
			}
		}
		bad(field, "%q is not allowed; want one of %s", v, strings.Join(allowed, ", "))
	}
	// sun_path holds 108 bytes with its NUL; a longer path fails at bind with a bare EINVAL.
	if len(c.Listen.Socket) > maxSocketPath {
		bad("listen.socket", "%q has %d bytes, unix sockets allow %d; choose a shorter state_dir or socket path", c.Listen.Socket, len(c.Listen.Socket), maxSocketPath)
	}
	c.checkListen(bad)
	oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	oneOf("log.format", c.Log.Format, "json", "console")
	if c.Retry.BackoffMin <= 0 || c.Retry.BackoffMax < c.Retry.BackoffMin {
		bad("retry.backoff_max", "%s: want at least backoff_min (%s), which must be above 0", c.Retry.BackoffMax, c.Retry.BackoffMin)
	}
	if c.Retry.FruitlessLimit < 1 || c.Retry.PauseAfter < 1 {
		bad("retry.fruitless_limit", "fruitless_limit and pause_after must be at least 1")
	}
	if p, err := c.Policy.policy(); err != nil {
		bad("policy", "%v", err)
	} else if err := p.Validate(); err != nil {
		bad("policy", "%v", err)
	}
	c.Policy.Licenses.check(bad)
	if n := c.Limits.MaxSnapshotBytes; n < 1<<20 || n > 10<<30 {
		bad("limits.max_snapshot_bytes", "%d: want 1048576 (1 MiB) to 10737418240 (10 GiB)", n)
	}
	if n := c.Limits.MaxDatasetBytes; n < 1<<20 {
		bad("limits.max_dataset_bytes", "%d: want at least 1048576 (1 MiB)", n)
	}
	if !filepath.IsAbs(c.DatasetRoot) {
		bad("dataset_root", "%q: want an absolute path", c.DatasetRoot)
	}
	if c.Limits.MaxBodyBytes < 1024 {
		bad("limits.max_body_bytes", "%d: want at least 1024", c.Limits.MaxBodyBytes)
	}
	c.Limits.check(bad)
	if m := *c.Limits.MemberMaxPriority; m < forge.MinPriority || m > forge.MaxPriority {
		bad("limits.member_max_priority", "%d: want %d to %d", m, forge.MinPriority, forge.MaxPriority)
	}
	for i, root := range c.DataRoots {
		if !filepath.IsAbs(root) {
			bad(fmt.Sprintf("data_roots[%d]", i), "%q: want an absolute path", root)
		}
	}
	c.Hooks.check(bad)
	c.GPUs.check(bad)
	if c.Currency != "" && !currencyWord.MatchString(c.Currency) {
		bad("currency", "%q: want a word of letters, 1 to 12 of them: EUR, credits", c.Currency)
	}
	c.checkClusters(bad)
	return errors.Join(errs...)
}

// maxSocketPath is sun_path without its NUL.
const maxSocketPath = 107

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func readBounded(path string, limit int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > limit {
		return nil, fmt.Errorf("want a regular file of at most %d bytes", limit)
	}
	return os.ReadFile(path)
}
