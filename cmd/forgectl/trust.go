package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

const trustTimeout = 5 * time.Second

// trust settles, before a key is sent anywhere, how the server's certificate is known: by the system's
// authorities, by a file of ours, or by its fingerprint, as ssh does on the first visit.
func (a *app) trust(ctx context.Context, t *target) error {
	u, err := url.Parse(t.Server)
	if err != nil || u.Scheme != "https" {
		return nil // not encrypted, or refused by the client
	}
	if t.Fingerprint != "" {
		t.Fingerprint, err = client.ParseFingerprint(t.Fingerprint)
		return err
	}
	if t.CA != "" {
		return nil
	}
	_, err = leaf(ctx, u, false)
	var unknown *tls.CertificateVerificationError
	if err == nil || !errors.As(err, &unknown) {
		return nil // trusted, or not there: the client says so in its own words
	}
	cert, err := leaf(ctx, u, true)
	if err != nil {
		return nil
	}
	print := client.Fingerprint(cert)
	fmt.Fprintf(a.Err, "the certificate of %s is signed by nobody that this host knows (%s)\nits SHA-256 fingerprint is %s\n",
		clean(u.Host), clean(unknown.Err.Error()), print)
	e := forge.Invalidf("fingerprint", "the certificate of %s is not known", u.Host).
		WithHint("compare it with what the operator says, then: forgectl login %s --fingerprint %s", t.Server, print)
	if a.Secret == nil {
		return e
	}
	fmt.Fprint(a.Err, "is this what the operator says it is? type yes to go on: ")
	said, err := bufio.NewReader(io.LimitReader(a.In, 64)).ReadString('\n')
	if err != nil || strings.TrimSpace(said) != "yes" {
		return e
	}
	t.Fingerprint = print
	return nil
}

// leaf is the certificate that a server shows. Blindly: nothing is sent, it is only looked at.
func leaf(ctx context.Context, u *url.URL, blindly bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, trustTimeout)
	defer cancel()
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "443")
	}
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: blindly, MinVersion: tls.VersionTLS12}}
	conn, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	tc, ok := conn.(*tls.Conn)
	if !ok || len(tc.ConnectionState().PeerCertificates) == 0 {
		return nil, errors.New("no certificate")
	}
	return tc.ConnectionState().PeerCertificates[0].Raw, nil
}
