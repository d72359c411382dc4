package shim

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// inNamespace is the flag of a shim that was started inside namespaces of its own.
const inNamespace = "--in-namespace"

// isolate gives the calling thread, and with it every rank that it starts, a network of its own
// with nothing but loopback. errNeedsUserNamespace: not with these rights.
func isolate(inside bool) error {
	if !inside {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if errors.Is(err, unix.EPERM) {
			return errNeedsUserNamespace
		}
		if err != nil {
			return fmt.Errorf("network namespace: %w", err)
		}
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	// The right that brought loopback up must not reach the ranks.
	return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
}

var errNeedsUserNamespace = errors.New("network namespace: not permitted")

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	return nil
}

// rerun starts this shim once more in a user and a network namespace, as the same user, and stands
// by until it has ended. A process with several threads, as every Go process is, cannot move itself
// into a user namespace. The inner one is the shim: it takes the lock; dying, this one takes it along.
func rerun(args []string) (int, error) {
	uid, gid := os.Getuid(), os.Getgid()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	own := os.Args[:max(1, len(os.Args)-len(args))] // the program and its subcommand
	argv := slices.Concat(own, []string{inNamespace}, args)
	proc, err := os.StartProcess("/proc/self/exe", argv, &os.ProcAttr{
		Env:   os.Environ(),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
			AmbientCaps: []uintptr{unix.CAP_NET_ADMIN},
			Pdeathsig:   syscall.SIGKILL,
		},
	})
	if err != nil {
		return 0, fmt.Errorf("network namespace: not permitted, and no user namespace either: %w", err)
	}
	go func() {
		for s := range signals {
			_ = proc.Signal(s)
		}
	}()
	st, err := proc.Wait()
	if err != nil {
		return 1, nil
	}
	return max(st.ExitCode(), 0), nil
}
