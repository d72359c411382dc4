package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

const (
	tlsDir   = "tls"
	pairFile = "forged.pem" // key and certificate in one file, so that they are replaced as one
	certFile = "cert.pem"   // the certificate alone, to hand out to clients

	// A generated certificate is pinned by its fingerprint, so a new one is a change for every client:
	// it lives long, and is renewed long before it ends.
	certLife    = 5 * 365 * 24 * time.Hour
	certRenew   = 60 * 24 * time.Hour
	certWarn    = 14 * 24 * time.Hour
	maxCertSize = 1 << 20
)

// loadCertificate takes the certificate that the configuration says, and makes one where it says so. Nil: TCP is
// served without TLS. It changes nothing that is in force.
func loadCertificate(cfg Config, now time.Time) (*tls.Certificate, error) {
	t := cfg.Listen.TLS
	switch {
	case t.Generate:
		return ownCertificate(filepath.Join(cfg.StateDir, tlsDir), t.Names, now)
	case t.Cert == "":
		return nil, nil
	}
	if st, err := os.Stat(t.Key); err == nil && st.Mode().Perm()&0o077 != 0 {
		return nil, forge.Invalidf("listen.tls.key", "%s has mode %04o; others than its owner may not read it", t.Key, st.Mode().Perm()).
			WithHint("chmod 600 %s", t.Key)
	}
	c, err := readPair(t.Cert, t.Key)
	if err != nil {
		return nil, forge.Invalidf("listen.tls.cert", "%v", err)
	}
	if now.After(c.Leaf.NotAfter) {
		return nil, forge.Invalidf("listen.tls.cert", "%s ended on %s", t.Cert, c.Leaf.NotAfter.UTC().Format(time.RFC3339)).
			WithHint("renew it, then: forged reload")
	}
	return c, nil
}

func readPair(cert, key string) (*tls.Certificate, error) {
	var pems [2][]byte
	for i, path := range []string{cert, key} {
		b, err := readBounded(path, maxCertSize)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		pems[i] = b
	}
	c, err := tls.X509KeyPair(pems[0], pems[1])
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", cert, key, err)
	}
	return &c, nil
}

// ownCertificate keeps the one that is there as long as it has the names and time enough.
func ownCertificate(dir string, names []string, now time.Time) (*tls.Certificate, error) {
	bad := func(err error) error { return forge.Invalidf("listen.tls.generate", "%s: %v", dir, err) }
	want, err := certNames(names)
	if err != nil {
		return nil, bad(err)
	}
	c, err := readPair(filepath.Join(dir, pairFile), filepath.Join(dir, pairFile))
	if err == nil && now.Add(certRenew).Before(c.Leaf.NotAfter) && slices.Equal(namesOf(c.Leaf), want) {
		return c, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, bad(err)
	}
	if err := makeCertificate(dir, want, now); err != nil {
		return nil, bad(err)
	}
	if c, err = readPair(filepath.Join(dir, pairFile), filepath.Join(dir, pairFile)); err != nil {
		return nil, bad(err)
	}
	return c, nil
}

// certNames is what clients may call this host, sorted.
func certNames(more []string) ([]string, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	all := append([]string{"localhost", "127.0.0.1", "::1", host}, more...)
	for i, n := range all {
		if ip := net.ParseIP(n); ip != nil {
			all[i] = ip.String()
		} else {
			all[i] = strings.ToLower(n)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

func namesOf(c *x509.Certificate) []string {
	out := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	slices.Sort(out)
	return out
}

// makeCertificate makes a key and a certificate that it signs itself: a server's, and no authority over any
// other.
func makeCertificate(dir string, names []string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "forged"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	cert, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	pair := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), public...)
	for _, f := range []struct {
		name string
		text []byte
		mode fs.FileMode
	}{{pairFile, pair, 0o600}, {certFile, public, 0o644}} {
		path := filepath.Join(dir, f.name)
		if err := os.WriteFile(path+".new", f.text, f.mode); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}

// fingerprint is the SHA-256 of a certificate, as openssl x509 -fingerprint -sha256 prints it.
func fingerprint(c *tls.Certificate) string {
	sum := sha256.Sum256(c.Certificate[0])
	var parts []string
	for _, b := range sum {
		parts = append(parts, strings.ToUpper(hex.EncodeToString([]byte{b})))
	}
	return strings.Join(parts, ":")
}

// TLSFingerprint is what clients pin: of the certificate that is served, or will be. For forged tls fingerprint.
func TLSFingerprint(cfg Config) (string, time.Time, error) {
	c, err := loadCertificate(cfg, time.Now())
	if err != nil {
		return "", time.Time{}, err
	}
	if c == nil {
		return "", time.Time{}, forge.Errorf(forge.KindPrecondition, "tls.fingerprint", "TCP is served without TLS").
			WithHint("set listen.tls.generate: true, or listen.tls.cert and key, in config.yaml")
	}
	return fingerprint(c), c.Leaf.NotAfter, nil
}

// sayCertificate says which certificate is in force.
func (d *Daemon) sayCertificate(c *tls.Certificate) {
	if c == nil {
		return
	}
	e := d.log.Info()
	if time.Until(c.Leaf.NotAfter) < certWarn {
		e = d.log.Warn()
	}
	e.Str("fingerprint", fingerprint(c)).Time("ends", c.Leaf.NotAfter).Strs("names", namesOf(c.Leaf)).Msg("TCP is served with this certificate")
}

// tlsListener secures connections when the configuration in force has a certificate. It looks each
// time, so that a reload needs no new listener.
type tlsListener struct {
	net.Listener
	d   *Daemon
	cfg *tls.Config
}

func (l tlsListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || l.d.live().certificate == nil {
		return c, err
	}
	return tls.Server(c, l.cfg), nil
}

// tlsConfig answers with the certificate that is in force when somebody connects.
func (d *Daemon) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := d.live().certificate; c != nil {
				return c, nil
			}
			return nil, errors.New("TLS was switched off meanwhile")
		},
	}
}
