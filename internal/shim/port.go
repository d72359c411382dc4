package shim

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// reservePort finds a port that nobody listens on and that no other shim of this host has chosen. A range is tried from a
// place that depends on the shim, so that two that start together rarely meet. A program that is not ours may still
// take the port before rank 0 binds it: the ranks then end with the rendezvous code and are started again.
func reservePort(low, high, seed int) (int, error) {
	if low <= 0 || high < low {
		for range 100 {
			port, err := bindable(0)
			if err != nil {
				return 0, err
			}
			if reserve(port) {
				return port, nil
			}
		}
		return 0, errors.New("no port is free for the ranks' rendezvous: 100 of the system's own choice are promised to others")
	}
	n := high - low + 1
	for i := range n {
		if port, err := bindable(low + (seed+i)%n); err == nil && reserve(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port is free for the ranks' rendezvous in %d-%d", low, high)
}

// reserve promises a port to this shim for as long as it lives, by a name in the kernel's own list of sockets, which ends with
// the process and is as wide as the network that the port is in. Binding the port itself would keep rank 0 from it.
func reserve(port int) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return true // nothing to promise by
	}
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("@forge-rendezvous-%d", port)})
	if err != nil {
		unix.Close(fd)
	}
	return !errors.Is(err, unix.EADDRINUSE)
}

// bindable binds and lets go. It uses the calling thread's network, which net.Listen may not.
func bindable(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	in, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return 0, &net.AddrError{Err: "not an IPv4 address"}
	}
	return in.Port, nil
}
