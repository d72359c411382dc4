package main

import (
	"context"
	"errors"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

const (
	mungeTimeout = 10 * time.Second
	mungeTTL     = 120 // seconds; the server takes none that is older
	mungeSoon    = time.Hour
)

// mungeKey turns who munged says we are into a key. The credential names the server that it is for, so that nobody whom
// we were talked into asking can take it somewhere else.
func (a *app) mungeKey(ctx context.Context, t target, socket string) (string, error) {
	cl, err := a.open(place{server: t.Server, ca: t.CA, fingerprint: t.Fingerprint})
	if err != nil {
		return "", err
	}
	credential, err := a.mungeCredential(ctx, audience(t.Server), socket)
	if err != nil {
		return "", err
	}
	k, err := cl.LoginMunge(ctx, credential)
	return k.Secret, err
}

// audience is how the server is named in a credential: scheme, host and port, or the path of its socket.
func audience(server string) string {
	if path, local := socketPath(server); local {
		return "unix://" + path
	}
	u, err := url.Parse(server)
	if err != nil {
		return server
	}
	return strings.ToLower(u.Scheme + "://" + u.Host)
}

func (a *app) mungeCredential(ctx context.Context, address, socket string) (string, error) {
	args := []string{"--ttl=" + strconv.Itoa(mungeTTL)}
	if socket != "" {
		abs, err := absolute(socket)
		if err != nil {
			return "", err
		}
		args = append(args, "--socket="+abs)
	}
	ctx, cancel := context.WithTimeout(ctx, mungeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "munge", args...)
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader(api.MungePayload(address))
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", forge.Errorf(forge.KindPrecondition, "login", "the program munge is not on this host").
			WithHint("log in from a login node of the cluster; or ask an admin for a key: forgectl key create --user NAME")
	case ctx.Err() != nil:
		return "", forge.Errorf(forge.KindUnavailable, "login", "munged of this host did not answer within %s", mungeTimeout)
	case errors.As(err, &exit):
		return "", forge.Errorf(forge.KindUnavailable, "login", "munge made no credential: %s", firstLine(string(exit.Stderr))).
			WithHint("does munged run on this host? --socket names its socket, where it is not munge's own")
	case err != nil:
		return "", forge.Errorf(forge.KindUnavailable, "login", "munge did not start: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
