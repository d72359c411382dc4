package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

const (
	maxHookAnswer  = 64 << 10 // of a body that nobody reads, and of headers
	maxHookAddress = 2048
)

// The headers of a webhook.
const (
	headerDelivery  = "X-Forge-Delivery"
	headerEvent     = "X-Forge-Event"
	headerTimestamp = "X-Forge-Timestamp"
	headerSignature = "X-Forge-Signature"
)

// post is one POST of a webhook. Its answer is looked at for its status alone: what it says is kept nowhere, so that a hook reads nothing for anybody.
func (h *herald) post(ctx context.Context, cfg HooksConfig, e errand, body []byte) outcome {
	u, err := cfg.parseHookURL(e.hook.Target)
	if err != nil {
		return faulty("%v", err)
	}
	roots, err := cfg.roots()
	if err != nil {
		return faulty("the site's authorities for webhooks cannot be read")
	}
	ctx, cancel := context.WithTimeout(ctx, h.times.whole)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return faulty("the URL cannot be asked")
	}
	timestamp, signature := h.signer.sign(e.hook.ID, time.Now(), body)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "forge/"+h.version)
	r.Header.Set(headerDelivery, e.id)
	r.Header.Set(headerEvent, string(e.event.Type))
	r.Header.Set(headerTimestamp, timestamp)
	r.Header.Set(headerSignature, signature)
	named, _ := cfg.allows(u)
	client := http.Client{
		Transport:     &http.Transport{Proxy: proxyOf(cfg), DialContext: h.dial(cfg, named), TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: h.times.connect, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHookAnswer},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(r)
	if err != nil {
		return faulty("%s", h.webFault(ctx, err))
	}
	defer func() { _ = answer.Body.Close() }()
	// The status is the answer; a body that breaks off, or never ends, does not take it back.
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxHookAnswer))
	return judgeAnswer(answer, time.Now())
}

// judgeAnswer says what a status means.
func judgeAnswer(answer *http.Response, now time.Time) outcome {
	o := outcome{status: answer.StatusCode}
	switch s := answer.StatusCode; {
	case s/100 == 2:
	case s/100 == 3:
		o.fault, o.refuse = fmt.Sprintf("it answered %d, a redirect; redirects are not followed: give the hook the address itself", s), true
	case s == http.StatusRequestTimeout, s == http.StatusTooManyRequests, s/100 == 5:
		o.fault, o.after = fmt.Sprintf("it answered %d", s), retryAfter(answer.Header.Get("Retry-After"), now)
	default:
		o.fault, o.refuse = fmt.Sprintf("it answered %d", s), true
	}
	return o
}

// retryAfter reads seconds or a date; what is neither asks for nothing.
func retryAfter(text string, now time.Time) time.Duration {
	if s, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

func proxyOf(cfg HooksConfig) func(*http.Request) (*url.URL, error) {
	if cfg.Proxy == "" {
		return nil // not the environment's: who started forged did not mean hooks by it
	}
	return func(*http.Request) (*url.URL, error) { return url.Parse(cfg.Proxy) }
}

// errOwnNetwork is a name that leads to where webhooks must not go.
var errOwnNetwork = errors.New("its address lies in a network of the site's own, and hooks.allow_hosts does not name this very host")

// dial looks at the address that is about to be connected to, and not at one that the name had before: a name that changes between a look and
// its use cannot get past it. Where there is a proxy, that one is dialled and decides for itself.
func (h *herald) dial(cfg HooksConfig, named bool) func(context.Context, string, string) (net.Conn, error) {
	d := &net.Dialer{Timeout: h.times.connect}
	if cfg.Proxy == "" {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil || !reachable(at.Addr(), named) {
				return errOwnNetwork
			}
			return nil
		}
	}
	return d.DialContext
}

// notPublic are networks that are nobody's on the internet, or through which one comes back into those.
var notPublic = prefixes("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10")

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		all[i] = netip.MustParsePrefix(t)
	}
	return all
}

func reachable(a netip.Addr, named bool) bool {
	a = a.Unmap().WithZone("")
	if a.IsUnspecified() || a.IsMulticast() {
		return false
	}
	if named {
		return true
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return !a.IsLoopback() && !a.IsPrivate() && !a.IsLinkLocalUnicast()
}

// webFault is what went wrong in a sentence, without the URL.
func (h *herald) webFault(ctx context.Context, err error) string {
	if errors.Is(err, errOwnNetwork) {
		return errOwnNetwork.Error()
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Sprintf("it did not answer within %s", forge.Duration(h.times.whole))
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	text := err.Error()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		text = "the connection was closed before it answered"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
