package client

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// maxCAFile bounds a file of certificates; a system's whole bundle is a quarter of it.
const maxCAFile = 1 << 20

// pinError is a server whose certificate is not the one that was pinned.
type pinError struct{ got, want string }

func (e *pinError) Error() string { return "its certificate has another fingerprint" }

// endedError is a pinned certificate whose time is over.
type endedError struct{ at time.Time }

func (e *endedError) Error() string { return "its certificate has ended" }

// trust says which servers are believed: those of the system's authorities, of the ones in CAFile, or
// the one whose certificate has the fingerprint.
func trust(o Options) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		st, err := os.Stat(o.CAFile)
		if err == nil && (!st.Mode().IsRegular() || st.Size() > maxCAFile) {
			err = fmt.Errorf("want a regular file of at most %d bytes", maxCAFile)
		}
		var b []byte
		if err == nil {
			b, err = os.ReadFile(o.CAFile)
		}
		if err != nil {
			return nil, forge.Invalidf("ca_file", "%s: %w", o.CAFile, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, forge.Invalidf("ca_file", "%s holds no PEM certificate", o.CAFile)
		}
	}
	if o.Fingerprint == "" {
		return c, nil
	}
	want, err := ParseFingerprint(o.Fingerprint)
	if err != nil {
		return nil, err
	}
	// Names and authorities say nothing where the certificate itself is known. It is checked instead of
	// them, on every connection.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(s tls.ConnectionState) error {
		leaf := s.PeerCertificates[0]
		if got := Fingerprint(leaf); got != want {
			return &pinError{got: got, want: want}
		}
		if time.Now().After(leaf.NotAfter) {
			return &endedError{at: leaf.NotAfter}
		}
		return nil
	}
	return c, nil
}

// Fingerprint is the SHA-256 of a certificate as forged tls fingerprint and openssl print it.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return spell(sum[:])
}

func spell(sum []byte) string {
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

// ParseFingerprint takes a SHA-256 in hexadecimal, with or without colons, and gives the form of Fingerprint.
func ParseFingerprint(s string) (string, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(s), ":", ""))
	if err != nil || len(b) != sha256.Size {
		return "", forge.Invalidf("fingerprint", "%.100q is not a SHA-256 fingerprint: want 64 hexadecimal digits, as forged tls fingerprint prints them", s)
	}
	return spell(b), nil
}

// distrust puts a failed handshake into words. Nil: it was something else.
func (c *Client) distrust(err error) *forge.Error {
	e := &forge.Error{Kind: forge.KindPrecondition}
	var pin *pinError
	var ended *endedError
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &pin):
		e.Err = fmt.Errorf("%s is not the server that was pinned: its certificate has the fingerprint %s, pinned is %s", c.shown, pin.got, pin.want)
		e.Hint = "if the certificate was renewed, compare with `forged tls fingerprint` on the server's host and pin the new one; otherwise somebody else answers there"
	case errors.As(err, &ended):
		e.Err = fmt.Errorf("the certificate of %s ended on %s", c.shown, ended.at.UTC().Format(time.RFC3339))
		e.Hint = "restart or reload forged, which renews its own certificate, then pin the new fingerprint"
	case errors.As(err, &verify):
		e.Err, e.Hint = c.unverified(verify)
	case errors.As(err, &record), strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		e.Err = fmt.Errorf("%s does not speak TLS", c.shown)
		e.Hint = "is it http://, or another port?"
	default:
		return nil
	}
	return e
}

func (c *Client) unverified(v *tls.CertificateVerificationError) (err error, hint string) {
	print := "unknown"
	if len(v.UnverifiedCertificates) > 0 {
		print = Fingerprint(v.UnverifiedCertificates[0])
	}
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	switch {
	case errors.As(v.Err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("the certificate of %s is not valid at this time: it is from %s to %s (fingerprint %s)", c.shown,
				invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339), print),
			"renew it on the server (forged reload), or correct this host's clock"
	case errors.As(v.Err, &name):
		return fmt.Errorf("the certificate of %s (fingerprint %s) is for other names: %w", c.shown, print, name),
			"use one of its names, or add this one to listen.tls.names in forged's config.yaml"
	}
	return fmt.Errorf("the certificate of %s is signed by nobody that this host trusts; its fingerprint is %s", c.shown, print),
		"if that is what `forged tls fingerprint` prints on the server's host, pin it; otherwise name the authority's file"
}
