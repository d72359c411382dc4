package shim

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// requestPatience is how long a request may take to come in. forged writes it at once.
const requestPatience = 5 * time.Second

// fromSocket makes this process, which systemd started for one connection, the shim that the
// connection asks for. Standard input is the connection, and stays open until the shim has ended. It
// returns only when it fails: otherwise the process is then the same as one that forged has forked.
func fromSocket() error {
	f := os.Stdin
	conn, err := net.FileConn(f) // a duplicate; the descriptor itself is kept for the shim
	if err != nil {
		return fmt.Errorf("%s wants a connection as standard input (systemd: Accept=yes, StandardInput=socket): %w", rundir.StartFlag, err)
	}
	if err := fromOurselves(conn); err != nil {
		return err // and not a word to a stranger
	}
	if err := conn.SetDeadline(time.Now().Add(requestPatience)); err != nil {
		return err
	}
	var q rundir.StartRequest
	if err := rundir.Receive(conn, &q); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	become, err := prepareExec(q)
	if err != nil {
		return errors.Join(err, rundir.Send(conn, rundir.StartAnswer{Error: err.Error()}))
	}
	if err := rundir.Send(conn, rundir.StartAnswer{}); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	_ = conn.Close()
	// A Go program gives its non-blocking mode to every holder of the socket; the shim never reads it.
	return become()
}

// fromOurselves: only the user that forged runs as may start anything, whatever the mode of the socket.
func fromOurselves(conn net.Conn) error {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("a %s connection; want a unix socket", conn.LocalAddr().Network())
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if cerr != nil {
		return fmt.Errorf("peer of the connection: %w", cerr)
	}
	if int(cred.Uid) != os.Getuid() {
		return fmt.Errorf("uid %d asks (pid %d); only uid %d, which this shim runs as, may", cred.Uid, cred.Pid, os.Getuid())
	}
	return nil
}

// prepareExec does all that may fail before the answer, so that the answer is true.
func prepareExec(q rundir.StartRequest) (func() error, error) {
	at := rundir.At(q.RunDir, q.Attempt)
	args := rundir.ShimFlags(at, q.Node)
	if _, err := parse(args); err != nil {
		return nil, err
	}
	if filepath.Clean(q.RunDir) != q.RunDir {
		return nil, fmt.Errorf("run directory %q is not a clean path", q.RunDir)
	}
	if err := os.Chdir(at.Dir()); err != nil {
		return nil, err
	}
	log, err := rundir.CreateAppend(at.LogPath(q.Node))
	if err != nil {
		return nil, err
	}
	env := []string{"HOME=" + home()}
	for _, e := range q.Env {
		if name, _, _ := strings.Cut(e, "="); name == crash.EnvAt || name == crash.EnvMark {
			env = append(env, e)
		}
	}
	return func() error {
		for _, fd := range []int{1, 2} {
			if err := unix.Dup3(int(log.Fd()), fd, 0); err != nil {
				return fmt.Errorf("log of the shim: %w", err)
			}
		}
		// The program once more, with the command line by which forged finds a shim that has not locked yet.
		return syscall.Exec("/proc/self/exe", slices.Concat(execArgs, args), env)
	}, nil
}

// execArgs is how this program is called as a shim.
var execArgs = []string{"forged", "shim"}
