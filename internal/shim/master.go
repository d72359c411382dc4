package shim

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"time"

	"github.com/forge-ml/forge-ml/internal/rundir"
)

const loopback = "127.0.0.1"

// lookupPatience is how long a name server may take.
const lookupPatience = 3 * time.Second

// masterAddr is where ranks find rank 0: loopback as long as they all share a node. Under a batch system it is an
// address and no name: that a node knows its own name says nothing about the others.
func (s *shim) masterAddr(ctx context.Context) (string, error) {
	if len(s.perNode) == 1 {
		return loopback, nil
	}
	if s.job == nil {
		for _, share := range s.launch.Placement {
			if share.Node != s.launch.Placement[0].Node {
				return string(s.launch.Placement[0].Node), nil
			}
		}
		return loopback, nil
	}
	own, err := interfaces()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	host, _ := os.Hostname()
	var named []net.IP
	for _, name := range []string{string(s.job.name), host} {
		if addrs, err := net.DefaultResolver.LookupIPAddr(ctx, name); err == nil {
			for _, a := range addrs {
				named = append(named, a.IP)
			}
		}
	}
	launcher := net.ParseIP(os.Getenv("SLURM_LAUNCH_NODE_IPADDR"))
	return chooseMaster(own, s.siteInterface(), append(named, launcher))
}

// siteInterface is the network that the site chose for the ranks, "" where it left that open.
func (s *shim) siteInterface() string {
	for _, name := range []string{"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"} {
		first, _, _ := strings.Cut(strings.TrimPrefix(s.launch.Options.Env[name], "="), ",")
		if first != "" && !strings.HasPrefix(first, "^") { // NCCL's "not these"
			return first
		}
	}
	return ""
}

// iface is one address of this host.
type iface struct {
	name string
	ip   net.IP
}

// chooseMaster takes the best of the host's own addresses: on the site's interface, else one that a name of this
// host or Slurm itself leads to, else any that is not loopback. A name that leads to loopback is what installers write
// into /etc/hosts; the other nodes would each find themselves there.
func chooseMaster(own []iface, site string, named []net.IP) (string, error) {
	usable := func(ip net.IP) bool { return ip != nil && !ip.IsLoopback() && ip.IsGlobalUnicast() }
	for _, i := range own { // NCCL takes a prefix, gloo the whole name
		if site != "" && strings.HasPrefix(i.name, site) && (usable(i.ip) || i.ip.IsLoopback() && i.name == site) {
			return i.ip.String(), nil
		}
	}
	for _, ip := range named {
		for _, i := range own {
			if usable(ip) && i.ip.Equal(ip) {
				return ip.String(), nil
			}
		}
	}
	for _, i := range own {
		if usable(i.ip) && !strings.HasPrefix(i.name, "docker") && !strings.HasPrefix(i.name, "virbr") {
			return i.ip.String(), nil
		}
	}
	for _, i := range own { // several "nodes" on a host without a network
		if i.ip.IsLoopback() {
			return i.ip.String(), nil
		}
	}
	return "", errors.New("this host has no address that the ranks of other nodes could reach")
}

// interfaces lists the addresses of this host that are up, those of IPv4 first.
func interfaces() ([]iface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var v4, v6 []iface
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			switch {
			case !ok:
			case n.IP.To4() != nil:
				v4 = append(v4, iface{i.Name, n.IP})
			default:
				v6 = append(v6, iface{i.Name, n.IP})
			}
		}
	}
	return append(v4, v6...), nil
}

// interfaceToMaster names the interface over which this node reaches rank 0, "" where only one node takes part, or
// nobody knows.
func (s *shim) interfaceToMaster() string {
	if s.job == nil || len(s.perNode) == 1 {
		return ""
	}
	return interfaceTo(s.master)
}

func interfaceTo(m rundir.Master) string {
	conn, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.ParseIP(m.Addr), Port: m.Port}) // sends nothing
	if err != nil {
		return ""
	}
	defer conn.Close()
	from, ok := conn.LocalAddr().(*net.UDPAddr)
	own, err := interfaces()
	if !ok || err != nil {
		return ""
	}
	for _, i := range own {
		if i.ip.Equal(from.IP) {
			return i.name
		}
	}
	return ""
}
