package daemon

import (
	"io/fs"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// MungeConfig lets people log in by what munged says of them.
type MungeConfig struct {
	Enabled bool           `yaml:"enabled"`
	Socket  string         `yaml:"socket"` // of munged; empty: munge's own
	Names   []string       `yaml:"names"`  // more names by which people reach this forged, with :PORT where it is one port only
	Life    forge.Duration `yaml:"life"`   // of the keys
}

// mungeMaxLife: who wants a longer one asks for a key.
const mungeMaxLife = 7 * 24 * time.Hour

// refusal notes what is wrong with one key of the configuration.
type refusal func(field, format string, args ...any)

// mode is the socket's file mode; validation has seen that it is one.
func (l ListenConfig) mode() fs.FileMode {
	m, _ := strconv.ParseUint(l.SocketMode, 8, 32)
	return fs.FileMode(m)
}

func (l ListenConfig) secure() bool { return l.TLS.Generate || l.TLS.Cert != "" }

func (c Config) checkListen(bad refusal) {
	l := c.Listen
	// Connecting takes write permission. The daemon's own user always has it: its tools work as ever.
	if m, err := strconv.ParseUint(l.SocketMode, 8, 32); err != nil || m&^0o666 != 0 || m&0o600 != 0o600 {
		bad("listen.socket_mode", "%q: want an octal mode from 0600 (only the daemon's user) over 0660 (its group) to 0666 (everyone on the host)", l.SocketMode)
	}
	c.checkTCP(bad)
	l.Munge.check(bad)
	t := l.TLS
	switch {
	case t.Generate && (t.Cert != "" || t.Key != ""):
		bad("listen.tls.generate", "a certificate is either generated or given by cert and key, not both")
	case (t.Cert == "") != (t.Key == ""):
		bad("listen.tls.cert", "cert and key go together")
	case t.Cert != "" && !filepath.IsAbs(t.Cert), t.Key != "" && !filepath.IsAbs(t.Key):
		bad("listen.tls.cert", "%q, %q: want absolute paths", t.Cert, t.Key)
	case len(t.Names) > 0 && !t.Generate:
		bad("listen.tls.names", "names stand in a generated certificate; one that is given has its own")
	}
	for _, n := range t.Names {
		if net.ParseIP(n) == nil && (n == "" || len(n) > 253 || strings.ContainsFunc(n, notInHostName)) {
			bad("listen.tls.names", "%q is neither a host name nor an IP address", n)
		}
	}
}

func notInHostName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '*'
}

func (c Config) checkTCP(bad refusal) {
	if c.Listen.TCP == TCPOff {
		if c.Listen.secure() {
			bad("listen.tls", "there is a certificate and nothing to serve with it: listen.tcp is %q", TCPOff)
		}
		return
	}
	host, port, err := net.SplitHostPort(c.Listen.TCP)
	_, perr := strconv.ParseUint(port, 10, 16)
	ip := net.ParseIP(host)
	switch {
	case err != nil || perr != nil:
		bad("listen.tcp", "%q: want HOST:PORT, or %q", c.Listen.TCP, TCPOff)
	case host != "localhost" && (ip == nil || !ip.IsLoopback()) && !c.Listen.secure():
		bad("listen.tcp", "%q is not a loopback address; without TLS forged serves 127.0.0.1 and [::1] only; set listen.tls", c.Listen.TCP)
	}
}

func (l LimitsConfig) check(bad refusal) {
	if r := *l.RequestsPerSecond; r < 0 || r > 1e6 || r != 0 && r < 0.1 {
		bad("limits.requests_per_second", "%g: want 0 (any number), or 0.1 to 1000000", r)
	}
	if l.Burst < 1 || l.Burst > 1e6 {
		bad("limits.burst", "%d: want 1 to 1000000", l.Burst)
	}
	if n := *l.ScansAtOnce; n < 1 || n > 64 {
		bad("limits.scans_at_once", "%d: want 1 to 64", n)
	}
	if n := *l.StreamsPerKey; n < 0 || n > 1e5 {
		bad("limits.streams_per_key", "%d: want 0 (any number) to 100000", n)
	}
}
