package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// askTimeout bounds how long systemd and a new process may take to answer.
const askTimeout = 20 * time.Second

// startShim brings one shim into being and lets it go. It is waited for in the background, so that
// its end wakes us; when the daemon dies, it goes on.
func (e *Executor) startShim(ctx context.Context, a *attempt, node int) error {
	if err := rundir.MakeDir(a.at.NodeDir(node)); err != nil {
		return fmt.Errorf("start shim: %w", err)
	}
	e.notify.add(a.at.NodeDir(node))
	var wait func() error
	var err error
	if socket := e.with.Load().ShimSocket; socket != "" {
		wait, err = askForShim(ctx, socket, a.at, node)
	} else {
		wait, err = e.forkShim(a.at, node)
	}
	if err != nil {
		return fmt.Errorf("start shim: %w", err)
	}
	e.mu.Lock()
	a.ours[node], a.watched[node] = true, true
	e.mu.Unlock()
	go func() { // ends with the shim, which may outlive Close: not waited for
		err := wait()
		e.mu.Lock()
		delete(a.ours, node)
		e.mu.Unlock()
		e.logOf(a).Debug().Err(err).Msg("shim ended")
		e.nudge()
	}()
	return nil
}

// forkShim starts a shim as a child: a session of its own, an environment of its own, files and no
// pipes. It lives in forged's cgroup and in what sandbox forged has.
func (e *Executor) forkShim(at rundir.Attempt, node int) (wait func() error, err error) {
	log, err := rundir.CreateAppend(at.LogPath(node))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(e.o.Self, slices.Concat(e.o.ShimArgs, rundir.ShimFlags(at, node))...)
	cmd.Args[0] = "forged"
	cmd.Dir = at.Dir()
	cmd.Env = append([]string{"HOME=" + os.Getenv("HOME")}, crash.Env()...) // nothing of forged's own leaks
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return cmd.Wait, nil
}

// askForShim lets systemd start a shim in a unit, a cgroup and a slice of its own, outside forged's
// sandbox. The shim holds its end of the connection for as long as it lives.
func askForShim(ctx context.Context, socket string, at rundir.Attempt, node int) (wait func() error, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("shim_socket: %w", err)
	}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	q := rundir.StartRequest{RunDir: at.RunDir, Attempt: at.Number, Node: node, Env: crash.Env()}
	if err := rundir.Send(conn, q); err != nil {
		return nil, fmt.Errorf("shim_socket %s: %w", socket, err)
	}
	var answer rundir.StartAnswer
	switch err := rundir.Receive(conn, &answer); {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("shim_socket %s: closed without an answer; journalctl -u 'forge-shim@*' may say why", socket)
	case err != nil:
		return nil, fmt.Errorf("shim_socket %s: %w", socket, err)
	case answer.Error != "":
		return nil, fmt.Errorf("shim_socket %s: %s", socket, answer.Error)
	}
	return func() error {
		defer conn.Close()
		if err := conn.SetDeadline(time.Time{}); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, conn)
		return err
	}, nil
}
