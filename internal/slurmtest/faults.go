package slurmtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const controller = "slurmctld"

// KillNode kills the slurmd of a node. Its steps and their tasks keep running, as they do on real nodes.
func (c *Cluster) KillNode(node string) error { return c.kill(node) }

// LosePower ends everything that runs on a node at once: slurmd, steps, tasks.
func (c *Cluster) LosePower(node string) error {
	ctx, cancel := context.WithTimeout(context.Background(), downLimit)
	defer cancel()
	_, err := c.command(ctx, nil, script("down"), c.Dir, node)
	return err
}

// StartNode starts the slurmd of a node.
func (c *Cluster) StartNode(node string) error { return c.start(node) }

// KillController kills slurmctld with nothing saved that it has not saved yet.
func (c *Cluster) KillController() error { return c.kill(controller) }

// StartController starts it again from what it has saved, and waits until it answers.
func (c *Cluster) StartController() error {
	if err := c.start(controller); err != nil {
		return err
	}
	return c.Until("slurmctld answers", func() bool {
		out, err := c.Run("scontrol", "ping")
		return err == nil && strings.Contains(out, "is UP")
	})
}

// FreezeController stops slurmctld in its tracks: it takes connections, and answers none.
func (c *Cluster) FreezeController() error { return c.signal(controller, syscall.SIGSTOP) }

// ThawController lets it go on, with everything that it was asked meanwhile.
func (c *Cluster) ThawController() error { return c.signal(controller, syscall.SIGCONT) }

// CutLink pulls the cable of a node: what runs there goes on, and nobody hears of it. Only with Options.Netns.
func (c *Cluster) CutLink(node string) error { return c.link(node, "down") }

// JoinLink plugs it in again.
func (c *Cluster) JoinLink(node string) error { return c.link(node, "up") }

func (c *Cluster) link(node, state string) error {
	name, err := os.ReadFile(filepath.Join(c.Dir, "run", node+".net"))
	if err != nil {
		return fmt.Errorf("%s has no link of its own: %w", node, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	_, err = c.command(ctx, nil, "ip", "link", "set", strings.TrimSpace(string(name)), state)
	return err
}

// until is how long Until waits.
const until = 60 * time.Second

// Until waits for a condition.
func (c *Cluster) Until(what string, holds func() bool) error {
	end := time.Now().Add(until)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(end) {
			return fmt.Errorf("not within %s: %s", until, what)
		}
		<-tick.C
	}
	return nil
}

func (c *Cluster) start(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	_, err := c.command(ctx, nil, filepath.Join(c.Dir, "start", name))
	return err
}

// kill returns when the process is gone, and with it the ports that it had.
func (c *Cluster) kill(name string) error {
	pid, err := c.Pid(name)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("%s (pid %d): %w", name, pid, err)
	}
	return c.Until(name+" is gone", func() bool { return !alive(pid) })
}

func (c *Cluster) signal(name string, sig syscall.Signal) error {
	pid, err := c.Pid(name)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, sig)
}

// Pid is the process of a daemon: munged, slurmctld, slurmdbd, mariadbd, n1, n2 ...
func (c *Cluster) Pid(name string) (int, error) {
	b, err := os.ReadFile(filepath.Join(c.Dir, "run", name+".pid"))
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 2 {
		return 0, fmt.Errorf("%s.pid holds %q", name, b)
	}
	return pid, nil
}

// alive is false for a zombie: whoever inherited the daemons may be slow to reap.
func alive(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}
