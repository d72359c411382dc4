package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// doors are the addresses that are served, by kind: doorSocket, doorTCP.
type doors map[string]*door

const (
	doorSocket = "socket"
	doorTCP    = "tcp"
)

// door is one bound address.
type door struct {
	net.Listener
	at     string // as the configuration says it: a door whose text did not change stays as it is
	served bool
	closed atomic.Bool
}

// Close is fine when http.Server was first.
func (l *door) Close() error {
	l.closed.Store(true)
	if err := l.Listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// bind binds what the configuration says and old has not bound already. What is new is pushed on undo;
// nothing of old is touched.
func (d *Daemon) bind(ctx context.Context, cfg Config, old doors, undo *stopStack) (doors, error) {
	fresh := doors{}
	for kind, want := range map[string]struct {
		at   string
		bind func(context.Context, string) (net.Listener, error)
	}{
		doorSocket: {cfg.Listen.Socket, func(ctx context.Context, path string) (net.Listener, error) {
			return listenSocket(ctx, path, cfg.Listen.mode())
		}},
		doorTCP: {cfg.Listen.TCP, d.listenTCP},
	} {
		if want.at == TCPOff {
			continue
		}
		if l := old[kind]; l != nil && l.at == want.at {
			fresh[kind] = l
			continue
		}
		l, err := want.bind(ctx, want.at)
		if err != nil {
			return nil, err
		}
		fresh[kind] = &door{Listener: l, at: want.at}
		undo.push(kind, fresh[kind].Close)
	}
	return fresh, nil
}

// useDoors serves what is new and closes what is not wanted any more; requests that came in there go on.
func (d *Daemon) useDoors(fresh doors) {
	d.writeAddress(fresh)
	for _, l := range fresh {
		if !l.served {
			l.served = true
			d.serve(l)
		}
	}
	for kind, l := range d.doors {
		if fresh[kind] != l {
			if err := l.Close(); err != nil {
				d.log.Warn().Err(err).Str("address", l.at).Msg("listener not closed")
			}
		}
	}
	d.doors = fresh
	d.sayCertificate(d.live().certificate)
}

// writeAddress says which TCP address is bound. It comes before anything is served: who has been told
// "ready" on one door finds the other.
func (d *Daemon) writeAddress(fresh doors) {
	addr := filepath.Join(d.live().cfg.StateDir, addrFile)
	var err error
	if l := fresh[doorTCP]; l != nil {
		err = putWhole(addr, []byte(l.Addr().String()+"\n"))
	} else if err = os.Remove(addr); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		d.log.Warn().Err(err).Msg("bound address not written down")
	}
}

func listenSocket(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	bad := func(err error) error { return forge.Invalidf("listen.socket", "%s: %v", path, err) }
	// The state lock is ours, so a socket that is here was left by a daemon that is dead. Anything else
	// that is here is not ours to remove.
	switch st, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, bad(err)
	case st.Mode().Type() != fs.ModeSocket:
		return nil, bad(errors.New("there is a file that is no socket; it is left alone"))
	default:
		if err := os.Remove(path); err != nil {
			return nil, bad(err)
		}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, bad(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(bad(err), l.Close())
	}
	return l, nil
}

func (d *Daemon) listenTCP(ctx context.Context, addr string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, (&forge.Error{Kind: forge.KindConflict, Op: "serve", Field: "listen.tcp", Err: fmt.Errorf("%s: %w", addr, err)}).
			WithHint("set listen.tcp to a free port (127.0.0.1:0 picks one) or to %q", TCPOff)
	}
	return tlsListener{l, d, d.tlsConfig()}, nil
}

// newServer answers with the handler that is in force when a request comes.
func (d *Daemon) newServer() *http.Server {
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			d.requests.Add(1)
			defer d.requests.Add(-1)
			d.live().handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ConnContext: withPeer, ErrorLog: stdlog.New(httpLog{d.log}, "", 0),
	}
}

func (d *Daemon) serve(l *door) {
	d.wg.Go(func() {
		if err := d.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && !l.closed.Load() {
			select {
			case d.fatal <- fmt.Errorf("serve %s: %w", l.at, err):
			default:
			}
		}
	})
}
