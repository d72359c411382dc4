package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

const (
	// DefaultTimeout bounds one request. Registrations, which hash on the server, have none
	// but the caller's context.
	DefaultTimeout = 30 * time.Second
	// DefaultPatience is how long Events tries to reach a server that went away.
	DefaultPatience = 2 * time.Minute
	// DefaultInsist is how long a request is sent again whose answer was lost: about as long as a
	// daemon takes to come back.
	DefaultInsist = 10 * time.Second
	// maxAnswer bounds what is read of one answer: a page of 1,000 whole runs is a few MB.
	maxAnswer = 256 << 20
	// dialTimeout bounds how long it takes to learn that nobody is there.
	dialTimeout = 5 * time.Second
)

// Options says where the server is and who asks.
type Options struct {
	// Address is unix:///path/forged.sock, an absolute path of a socket, or http(s)://host:port.
	Address string
	Key     string
	// Tenant is where an operator acts, by id or name; empty: where the key belongs.
	Tenant string
	// CAFile holds the certificates that may have signed the server's; empty: those of the system.
	// Fingerprint is the SHA-256 of the server's own, which then is trusted for that alone.
	CAFile, Fingerprint string
	Timeout             time.Duration
	Patience            time.Duration
	// Insist is how long a request is sent again whose answer was lost; it is carried out once.
	Insist    time.Duration
	UserAgent string
}

// Client asks one server. It is safe for concurrent use.
type Client struct {
	opts  Options
	base  string
	shown string // the address as people know it
	http  *http.Client
	ahead atomic.Int64
	dated atomic.Bool
}

// New makes a client; it does not connect yet.
func New(o Options) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Patience <= 0 {
		o.Patience = DefaultPatience
	}
	if o.Insist <= 0 {
		o.Insist = DefaultInsist
	}
	c := &Client{opts: o, shown: o.Address}
	dialer := &net.Dialer{Timeout: dialTimeout}
	t := &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, DialContext: dialer.DialContext}
	switch {
	case strings.HasPrefix(o.Address, "unix://"), strings.HasPrefix(o.Address, "/"):
		path := strings.TrimPrefix(o.Address, "unix://")
		if !strings.HasPrefix(path, "/") {
			return nil, badAddress(o.Address)
		}
		c.shown, c.base = path, "http://forged"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}
	default:
		u, err := url.Parse(o.Address)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return nil, badAddress(o.Address)
		}
		c.base = strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/")
		t.Proxy = http.ProxyFromEnvironment
		if t.TLSClientConfig, err = tlsConfig(o); err != nil {
			return nil, err
		}
	}
	// A redirect would carry the key to wherever it points.
	c.http = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, nil
}

func badAddress(a string) error {
	return forge.Invalidf("server", "%q is not an address of forged; want unix:///path/forged.sock or http://host:port", a)
}

// Address is where the client asks, as people know it.
func (c *Client) Address() string { return c.shown }

func (c *Client) request(ctx context.Context, method, path string, q url.Values, in any) (*http.Request, error) {
	target := c.base + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	var body io.Reader
	file, upload := in.(archive)
	if upload {
		f, err := file.open()
		if err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
		body = f // closed by the transport
	} else if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, forge.Invalidf("", "the request cannot be written as JSON: %w", err)
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", path, err)
	}
	switch {
	case upload:
		r.Header.Set("Content-Type", file.as)
		r.ContentLength = file.size
	case in != nil:
		r.Header.Set("Content-Type", "application/json")
	}
	if c.opts.Key != "" {
		r.Header.Set(api.HeaderKey, c.opts.Key)
	}
	if c.opts.Tenant != "" {
		r.Header.Set(api.HeaderTenant, c.opts.Tenant)
	}
	if c.opts.UserAgent != "" {
		r.Header.Set("User-Agent", c.opts.UserAgent)
	}
	r.Header.Set("Accept", "application/json")
	return r, nil
}

// ask is one request within the client's timeout.
func (c *Client) ask(ctx context.Context, method, path string, q url.Values, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	return c.askLong(ctx, method, path, q, in, out)
}

// askLong is one request within the caller's context alone. One whose answer was lost on the way is
// sent again (once.go), under the same Idempotency-Key: it is carried out once.
func (c *Client) askLong(ctx context.Context, method, path string, q url.Values, in, out any) error {
	return c.askAs(ctx, "", method, path, q, in, out)
}

// askAs is askLong under a key that the caller may have drawn.
func (c *Client) askAs(ctx context.Context, once Once, method, path string, q url.Values, in, out any) error {
	if once == "" && method != http.MethodGet {
		once = NewOnce()
	}
	return c.insist(ctx, func() error { return c.askOnce(ctx, once, method, path, q, in, out) })
}

func (c *Client) askOnce(ctx context.Context, once Once, method, path string, q url.Values, in, out any) error {
	r, err := c.request(ctx, method, path, q, in)
	if err != nil {
		return err
	}
	if once != "" {
		r.Header.Set(api.HeaderOnce, string(once))
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	c.noteDate(resp)
	body := io.LimitReader(resp.Body, maxAnswer)
	if resp.StatusCode/100 != 2 {
		return c.refusal(resp, body)
	}
	if ct, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); ct != "application/json" {
		return c.foreign(resp)
	}
	b, err := readAll(body, resp.ContentLength)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return forge.Errorf(forge.KindUnavailable, "", "the answer of %s cannot be read: %w", c.shown, err).
			WithHint("are forgectl and forged of one version? see: forgectl doctor")
	}
	return nil
}

// noteDate keeps how far the server's clock is from ours, for the doctor.
func (c *Client) noteDate(resp *http.Response) {
	if t, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		c.ahead.Store(int64(time.Until(t)))
		c.dated.Store(true)
	}
}

// Ahead is how far the server's clock was ahead of ours at the last answer, to the second: what
// answers carry. False before the first.
func (c *Client) Ahead() (time.Duration, bool) {
	return time.Duration(c.ahead.Load()).Round(time.Second), c.dated.Load()
}

// readAll reads with a buffer of the announced size: growing one for a long listing copies it
// several times.
func readAll(r io.Reader, size int64) ([]byte, error) {
	var b bytes.Buffer
	if size > 0 && size < maxAnswer {
		b.Grow(int(size) + bytes.MinRead)
	}
	_, err := b.ReadFrom(r)
	return b.Bytes(), err
}

// refusal turns a problem back into the error that the server had.
func (c *Client) refusal(resp *http.Response, body io.Reader) error {
	ct, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var p api.Problem
	if ct != api.ProblemType || json.NewDecoder(io.LimitReader(body, 1<<20)).Decode(&p) != nil {
		return c.foreign(resp)
	}
	p.Status = resp.StatusCode
	return p.Forge()
}

// foreign is the error for an answer that is not forged's. A proxy's 401 or 403 means what it
// says; a 404 of somebody else says nothing about our runs.
func (c *Client) foreign(resp *http.Response) error {
	kind := forge.KindUnavailable
	if k := api.KindOfStatus(resp.StatusCode); k == forge.KindUnauthorized || k == forge.KindForbidden {
		kind = k
	}
	return forge.Errorf(kind, "", "%s answered %s, and not as forged does", c.shown, resp.Status).
		WithHint("is this the address of forged? a proxy in between may have answered")
}

// Close gives idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }
