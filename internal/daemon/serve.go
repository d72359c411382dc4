package daemon

import (
	"bytes"
	"context"
	"net"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/forge-ml/forge-ml/internal/api/server"
)

// options is what the API is told of the configuration.
func (d *Daemon) options(cfg Config) server.Options {
	o := server.Options{Log: d.log, Version: d.version, MaxBody: cfg.Limits.MaxBodyBytes, MaxSnapshot: cfg.Limits.MaxSnapshotBytes, MaxDataset: cfg.Limits.MaxDatasetBytes, Stop: d.stopping,
		Report: d.reports, Rate: *cfg.Limits.RequestsPerSecond, Burst: cfg.Limits.Burst, Streams: *cfg.Limits.StreamsPerKey}
	if *cfg.Listen.Metrics {
		o.Metrics, o.Observe, o.Followers = d.meter.handler(), d.meter.observe, d.meter.followers
	}
	return o
}

// overflowUID is what the kernel says of every uid that this user namespace has no name for: it
// stands for many people, and is nobody's.
const overflowUID = 65534

// withPeer asks the kernel who is at the other end of a connection on the unix socket. That is who the request
// is from; whatever the client says of itself is not looked at.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil || err != nil || cred == nil || cred.Uid == overflowUID {
		return ctx
	}
	return server.WithPeer(ctx, cred.Uid)
}

// httpLog takes what net/http has to say, failed handshakes above all, into our log. It is
// what strangers cause, so it is for those who look.
type httpLog struct{ zerolog.Logger }

func (l httpLog) Write(b []byte) (int, error) {
	l.Debug().Str("from", "net/http").Msg(string(bytes.TrimSpace(b)))
	return len(b), nil
}
