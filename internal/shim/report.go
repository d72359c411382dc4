package shim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// reportPatience bounds what a report may cost. It is worth a moment sooner, and no more.
const reportPatience = 2 * time.Second

// report tells forged to look, if it can be reached. Whatever becomes of it is nothing: forged looks by itself.
func (s *shim) report() {
	to := s.launch.Report
	if to == nil {
		return
	}
	body, err := json.Marshal(map[string]string{"attempt": s.launch.Key, "token": to.Token})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), reportPatience)
	defer cancel()
	if to.Socket != "" && post(ctx, "http://forged", to.Socket, "", body) == nil {
		return
	}
	if to.URL != "" {
		if err := post(ctx, to.URL, "", to.Pin, body); err != nil {
			s.log.Debug().Err(err).Msg("forged not reached; it looks by itself")
		}
	}
}

// post sends a report to a socket or an address. Nothing of the answer is read.
func post(ctx context.Context, url, socket, pin string, body []byte) error {
	t := &http.Transport{DisableKeepAlives: true}
	if socket != "" {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
	}
	if pin != "" {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, VerifyConnection: func(c tls.ConnectionState) error {
			if len(c.PeerCertificates) > 0 {
				if sum := sha256.Sum256(c.PeerCertificates[0].Raw); hex.EncodeToString(sum[:]) == pin {
					return nil
				}
			}
			return errors.New("another certificate than forged's")
		}}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+forge.ReportPath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	return res.Body.Close()
}
