package daemon

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Shims may say "look now" when their ranks have started or ended. It is a hint and nothing more: forged reads the records
// then, instead of at its next turn. So there is no key to it, no word in the answer, and the server bounds how much is listened to.
const (
	reportFile  = "report.secret" // from which the tokens of attempts are made; a new one only makes old hints void
	reportBytes = 1 << 10
)

// looker is what an executor may add: it reads what an attempt has left, at once.
type looker interface{ Look(id forge.ExternalID) }

// reports hears them.
type reports struct {
	d      *Daemon
	secret []byte
}

func newReports(d *Daemon, stateDir string) (*reports, error) {
	secret, err := reportSecret(filepath.Join(stateDir, reportFile))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", reportFile, err)
	}
	return &reports{d: d, secret: secret}, nil
}

// reportSecret outlives the daemon, so that shims of attempts from before a restart are heard.
func reportSecret(path string) ([]byte, error) {
	b, err := readBounded(path, reportBytes)
	if err == nil {
		if secret, err := hex.DecodeString(strings.TrimSpace(string(b))); err == nil && len(secret) == sha256.Size {
			return secret, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // never fails; crashes the program instead
	return secret, putWhole(path, []byte(hex.EncodeToString(secret)+"\n"))
}

// token is what the shims of one attempt show. It cannot be guessed, and is nowhere written down but in their launch.
func (s *reports) token(key string) string {
	h := hmac.New(sha256.New, s.secret)
	_, _ = io.WriteString(h, key)
	return hex.EncodeToString(h.Sum(nil))
}

// ServeHTTP answers the same to everybody.
func (s *reports) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer w.WriteHeader(http.StatusNoContent)
	var q struct{ Attempt, Token string }
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, reportBytes)).Decode(&q) == nil {
		s.heard(q.Attempt, q.Token)
	}
}

func (s *reports) heard(key, token string) {
	if !hmac.Equal([]byte(token), []byte(s.token(key))) {
		return
	}
	run, n, err := forge.ParseAttemptKey(key)
	if err != nil {
		return
	}
	a, ok := s.d.world.attempt(run)
	if !ok || a.Number != n || a.ExternalID == "" {
		return
	}
	if c := s.d.live().clusters[a.Cluster]; c != nil {
		if l, ok := c.Executor.(looker); ok {
			l.Look(a.ExternalID)
		}
	}
}

// reportTo is where the shims of an attempt find forged; nil where nobody would be told.
func (d *Daemon) reportTo(a forge.Attempt) *forge.ReportTo {
	live := d.live()
	c := live.clusters[a.Cluster]
	if c == nil || d.reports == nil {
		return nil
	}
	if _, ok := c.Executor.(looker); !ok {
		return nil
	}
	to := &forge.ReportTo{Socket: live.cfg.Listen.Socket, Token: d.reports.token(forge.AttemptKey(a.Run, a.Number))}
	bound, err := os.ReadFile(filepath.Join(live.cfg.StateDir, addrFile))
	host, port, serr := net.SplitHostPort(strings.TrimSpace(string(bound)))
	if err != nil || serr != nil {
		return to // TCP is off
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			return to
		}
	}
	to.URL = "http://" + net.JoinHostPort(host, port)
	if cert := live.certificate; cert != nil && len(cert.Certificate) > 0 {
		sum := sha256.Sum256(cert.Certificate[0])
		to.URL, to.Pin = "https://"+net.JoinHostPort(host, port), hex.EncodeToString(sum[:])
	}
	return to
}
