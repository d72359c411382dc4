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

	forge "github.com/forge-ml/forge-ml"
)

// ErrFingerprint says that a server showed another certificate than the one that is pinned.
var ErrFingerprint = errors.New("the server shows another certificate than the pinned one")

// tlsConfig is how a server's certificate is known. A pinned one is that certificate alone, whoever
// signed it and whatever it is called: a generated one is signed by nobody.
func tlsConfig(o Options) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		b, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, forge.Invalidf("ca", "%s cannot be read: %w", o.CAFile, cause(err))
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, forge.Invalidf("ca", "%s holds no certificate; want PEM", o.CAFile)
		}
	}
	if o.Fingerprint == "" {
		return c, nil
	}
	pinned, err := ParseFingerprint(o.Fingerprint)
	if err != nil {
		return nil, err
	}
	c.InsecureSkipVerify = true // the check below takes its place
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) > 0 && Fingerprint(s.PeerCertificates[0].Raw) == pinned {
			return nil
		}
		return ErrFingerprint
	}
	return c, nil
}

// Fingerprint is the SHA-256 of a certificate, as `forged tls fingerprint` and openssl print it.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return colons(sum[:])
}

// ParseFingerprint reads the forms in which tools print one.
func ParseFingerprint(s string) (string, error) {
	digits := strings.ToLower(strings.TrimSpace(s))
	if _, after, named := strings.Cut(digits, "="); named { // openssl: sha256 Fingerprint=AB:…
		digits = after
	}
	digits = strings.NewReplacer(":", "", " ", "", "sha256", "").Replace(digits)
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != sha256.Size {
		return "", forge.Invalidf("fingerprint", "%q is no SHA-256 fingerprint; want 64 hexadecimal digits, with or without colons", s).
			WithHint("on the server: forged tls fingerprint")
	}
	return colons(b), nil
}

func colons(b []byte) string {
	parts := make([]string, len(b))
	for i, x := range b {
		parts[i] = fmt.Sprintf("%02X", x)
	}
	return strings.Join(parts, ":")
}
