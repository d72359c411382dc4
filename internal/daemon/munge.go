package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

// How munge's word is taken. munged itself refuses a credential that it has decoded before, and one that is past its
// time; what is here holds as well where munged was started again, or where its clock allows more.
const (
	mungeMaxAge    = 2 * time.Minute
	mungeTimeout   = 10 * time.Second
	mungeAtOnce    = 8    // programs that decode
	mungeUsed      = 8192 // credentials that are remembered
	mungeMaxOutput = 16 << 10
	// An operator's key opens the whole site, and root on any host that has the realm's munge key can be anyone there.
	mungeOperatorLife = time.Hour
)

// unmunge's exit codes, which are munge's own errors.
const (
	mungeExpired  = 15
	mungeRewound  = 16
	mungeReplayed = 17
)

var credentialForm = regexp.MustCompile(`^MUNGE:[A-Za-z0-9+/=]+:$`)

// logins implements api.Logins.
type logins struct{ d *Daemon }

// mungeDesk is what logins by munge share.
type mungeDesk struct {
	mu    sync.Mutex
	used  map[[32]byte]time.Time // when a credential was taken
	slots chan struct{}
}

// LoginMunge lets munged say whose the credential is, and makes a key for that user which ends soon.
func (s logins) LoginMunge(ctx context.Context, r api.LoginMungeRequest) (api.CreatedKey, error) {
	const op = "login.munge"
	cfg := s.d.live().cfg.Listen.Munge
	if !cfg.Enabled {
		return api.CreatedKey{}, forge.Errorf(forge.KindPrecondition, op, "this site takes no credentials of munge").
			WithHint("an operator turns it on: listen.munge.enabled; or ask an admin for a key: forgectl key create --user NAME")
	}
	if !credentialForm.MatchString(r.Credential) {
		return api.CreatedKey{}, forge.Invalidf("credential", "is none of munge: want MUNGE:…: as the program munge prints it")
	}
	word, err := s.d.desk.decode(ctx, cfg.Socket, r.Credential)
	if err != nil {
		return api.CreatedKey{}, err
	}
	switch address, ok := strings.CutPrefix(word.payload, api.MungePayload("")); {
	case !ok:
		return api.CreatedKey{}, refusedWord("the credential was not made for a login here")
	case !s.isOurs(ctx, address):
		return api.CreatedKey{}, refusedWord("the credential is for a server at %.200q, and that is no name of this one", address).
			WithHint("log in by the name that the operator gives, or ask for yours to be added to listen.munge.names")
	case word.age() < -mungeMaxAge || word.age() > mungeMaxAge:
		return api.CreatedKey{}, refusedWord("the credential is %s old; it is taken for %s", forge.Duration(word.age()), forge.Duration(mungeMaxAge))
	case !s.d.desk.takeOnce(sha256.Sum256([]byte(r.Credential)), time.Now()):
		return api.CreatedKey{}, refusedWord("the credential was used before")
	case word.uid == overflowUID:
		return api.CreatedKey{}, refusedWord("uid %d is nobody's", word.uid)
	}
	p, err := s.d.db.AuthenticatePeer(ctx, word.uid)
	if err != nil {
		return api.CreatedKey{}, err // of the store, in words about the uid, which is the caller's own
	}
	life := cfg.Life.D()
	if p.Role == forge.RoleOperator {
		life = min(life, mungeOperatorLife)
	}
	k, secret, err := s.d.db.For(p).CreateKey(ctx, store.NewKey{User: p.User, Name: api.MungeKeyName, Life: life, Why: forge.WhyLogin})
	return api.CreatedKey{Key: k, Secret: secret}, err
}

func refusedWord(format string, args ...any) *forge.Error {
	return forge.Errorf(forge.KindUnauthorized, "login.munge", format, args...).WithHint("forgectl login SERVER --munge makes a new one")
}

// isOurs says whether an address, as a client knows it, is one of this daemon. A server that people were
// talked into trusting could hand their credentials on to us: they name it, and not us.
func (s logins) isOurs(ctx context.Context, address string) bool {
	live := s.d.live()
	l := live.cfg.Listen
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return path == l.Socket
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return false
	}
	host := strings.ToLower(u.Hostname())
	if slices.Contains(l.Munge.Names, host) || slices.Contains(l.Munge.Names, strings.ToLower(u.Host)) || slices.Contains(l.TLS.Names, host) {
		return true
	}
	// Every user of a host can listen on its loopback addresses: there the port tells us from others.
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return u.Port() != "" && u.Port() == ownPort(ctx)
	}
	if live.certificate != nil && live.certificate.Leaf != nil && live.certificate.Leaf.VerifyHostname(host) == nil {
		return true
	}
	at, _, _ := net.SplitHostPort(l.TCP)
	name, _ := os.Hostname()
	return host == at || host == strings.ToLower(name)
}

// ownPort is where the request came in.
func ownPort(ctx context.Context) string {
	if a, ok := ctx.Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		return strconv.Itoa(a.Port)
	}
	return ""
}

// mungeWord is what munged says of a credential.
type mungeWord struct {
	uid              uint32
	encoded, decoded time.Time
	payload          string
}

// age goes by munged's clock alone.
func (w mungeWord) age() time.Duration { return w.decoded.Sub(w.encoded) }

// takeOnce notes a credential; false: it was there before.
func (m *mungeDesk) takeOnce(digest [32]byte, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for d, at := range m.used {
		if now.Sub(at) > 2*mungeMaxAge { // from before its time to after it
			delete(m.used, d)
		}
	}
	if _, before := m.used[digest]; before || len(m.used) >= mungeUsed {
		return false
	}
	m.used[digest] = now
	return true
}

// decode asks munged through its own program. Nothing follows from silence.
func (m *mungeDesk) decode(ctx context.Context, socket, credential string) (mungeWord, error) {
	ctx, cancel := context.WithTimeout(ctx, mungeTimeout)
	defer cancel()
	silent := func(format string, args ...any) error {
		return forge.Errorf(forge.KindUnavailable, "login.munge", format, args...).WithHint("an operator sees to munged on the host of forged; a key lets you in meanwhile")
	}
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return mungeWord{}, silent("too many logins are being looked at")
	}
	args := []string{"--numeric", "--keys=STATUS,ENCODE_TIME,DECODE_TIME,UID"}
	if socket != "" {
		args = append(args, "--socket="+socket)
	}
	cmd := exec.CommandContext(ctx, "unmunge", args...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = []string{"LC_ALL=C"}, "/", time.Second
	cmd.Stdin = strings.NewReader(credential)
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return mungeWord{}, silent("munged did not answer within %s", mungeTimeout)
	case errors.As(err, &exit):
		return mungeWord{}, mungeRefusal(exit.ExitCode(), silent)
	case err != nil:
		return mungeWord{}, silent("munge cannot be asked: the program unmunge did not start")
	}
	w, err := parseWord(out)
	if err != nil {
		return mungeWord{}, silent("munge's answer cannot be read")
	}
	return w, nil
}

func mungeRefusal(code int, silent func(string, ...any) error) error {
	switch code {
	case mungeExpired:
		return refusedWord("the credential is past its time")
	case mungeRewound:
		return refusedWord("the credential is from the future: the clocks of its host and of forged's differ")
	case mungeReplayed:
		return refusedWord("the credential was used before")
	case 1, 2, 3, 4, 5, 6, 7: // out of memory, no socket, no answer: munge's faults, and not the credential's
		return silent("munged does not answer (unmunge ended with %d)", code)
	case -1:
		return silent("munged does not answer (unmunge was killed)")
	}
	return refusedWord("the credential is not valid (munge's error %d)", code)
}

// parseWord reads what unmunge prints: lines of metadata, an empty one, the payload as it is.
func parseWord(out []byte) (mungeWord, error) {
	if len(out) > mungeMaxOutput {
		return mungeWord{}, fmt.Errorf("%d bytes", len(out))
	}
	head, payload, ok := strings.Cut(string(out), "\n\n")
	if !ok {
		return mungeWord{}, errors.New("no metadata")
	}
	said := map[string]int64{}
	for line := range strings.Lines(head) {
		name, value, _ := strings.Cut(line, ":")
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil {
			return mungeWord{}, fmt.Errorf("%s: %w", name, err)
		}
		said[name] = n
	}
	if len(said) != 4 || said["STATUS"] != 0 || said["UID"] < 0 || said["UID"] > 1<<32-2 || said["ENCODE_TIME"] == 0 || said["DECODE_TIME"] == 0 {
		return mungeWord{}, errors.New("not what was asked for")
	}
	return mungeWord{uid: uint32(said["UID"]), encoded: time.Unix(said["ENCODE_TIME"], 0), decoded: time.Unix(said["DECODE_TIME"], 0), payload: payload}, nil
}

func (m MungeConfig) check(bad refusal) {
	if m.Life <= 0 || m.Life.D() > mungeMaxLife {
		bad("listen.munge.life", "%s: want more than 0 and at most %s", m.Life, forge.Duration(mungeMaxLife))
	}
	if m.Socket != "" && (!filepath.IsAbs(m.Socket) || len(m.Socket) > maxSocketPath) {
		bad("listen.munge.socket", "%q: want the absolute path of munged's socket", m.Socket)
	}
	for _, n := range m.Names {
		host := n
		if h, _, err := net.SplitHostPort(n); err == nil {
			host = h
		}
		if net.ParseIP(host) == nil && (host == "" || len(host) > 253 || strings.ContainsFunc(host, notInHostName)) {
			bad("listen.munge.names", "%q: want a host name or an IP address, with :PORT where it is one port only", n)
		}
	}
	if !m.Enabled {
		return
	}
	if _, err := exec.LookPath("unmunge"); err != nil {
		bad("listen.munge.enabled", "the program unmunge is not there: install munge")
	}
}
