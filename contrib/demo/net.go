package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// netWatch samples the sockets of every process of the demo and remembers each address that
// is not loopback.
type netWatch struct {
	dir     string
	done    chan struct{}
	wg      sync.WaitGroup
	foreign map[string]bool
}

const netEvery = 500 * time.Millisecond

func watchNet(dir string) *netWatch {
	w := &netWatch{dir: dir, done: make(chan struct{}), foreign: map[string]bool{}}
	w.wg.Go(func() {
		tick := time.NewTicker(netEvery)
		defer tick.Stop()
		for {
			w.sample()
			select {
			case <-w.done:
				return
			case <-tick.C:
			}
		}
	})
	return w
}

func (w *netWatch) stop() []string {
	close(w.done)
	w.wg.Wait()
	var out []string
	for a := range w.foreign {
		out = append(out, a)
	}
	slices.Sort(out)
	return out
}

func (w *netWatch) sample() {
	procs, err := forgedtest.Survivors(w.dir)
	if err != nil {
		return
	}
	for _, p := range procs {
		own := sockets(p.Pid)
		for _, f := range []string{"tcp", "tcp6", "udp", "udp6"} {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", p.Pid, f))
			if err != nil {
				continue
			}
			sc := bufio.NewScanner(bytes.NewReader(b))
			sc.Scan() // header
			for sc.Scan() {
				f := strings.Fields(sc.Text())
				if len(f) < 10 || !own[f[9]] {
					continue
				}
				for _, addr := range f[1:3] {
					if ip := parseIP(addr); ip != nil && !ip.IsLoopback() && !ip.IsUnspecified() {
						w.foreign[fmt.Sprintf("%s by %s", ip, p.Command)] = true
					}
				}
			}
		}
	}
}

// sockets are the inodes of a process's sockets.
func sockets(pid int) map[string]bool {
	out := map[string]bool{}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if t, err := os.Readlink(fd); err == nil && strings.HasPrefix(t, "socket:[") {
			out[strings.TrimSuffix(strings.TrimPrefix(t, "socket:["), "]")] = true
		}
	}
	return out
}

// parseIP reads the kernel's form: hex words in host byte order, then a port.
func parseIP(s string) net.IP {
	host, _, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	if err != nil || len(b)%4 != 0 {
		return nil
	}
	for i := 0; i < len(b); i += 4 {
		b[i], b[i+1], b[i+2], b[i+3] = b[i+3], b[i+2], b[i+1], b[i]
	}
	return net.IP(b)
}
