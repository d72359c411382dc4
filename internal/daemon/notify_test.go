package daemon

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// serviceManager listens as systemd does and hands on what it is told, line by line.
func serviceManager(t *testing.T, watchdog string) <-chan string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", watchdog)
	said := make(chan string, 1000)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			for line := range strings.Lines(string(buf[:n])) {
				said <- strings.TrimSpace(line)
			}
		}
	}()
	return said
}

// hears waits until it is told something that starts so, and returns all that was said up to then.
func hears(t *testing.T, said <-chan string, word string) []string {
	t.Helper()
	var all []string
	late := time.After(20 * time.Second)
	for {
		select {
		case line := <-said:
			all = append(all, line)
			if strings.HasPrefix(line, word) {
				return all
			}
		case <-late:
			t.Fatalf("never told %s, only %q", word, all)
		}
	}
}

func TestTheServiceManagerIsToldWhenItServesReloadsAndStops(t *testing.T) {
	said := serviceManager(t, "")
	r := startReloader(t)
	hears(t, said, "READY=1")
	if err := healthy("unix", r.live().cfg.Listen.Socket); err != nil {
		t.Errorf("it said that it is ready: %v", err)
	}
	r.reload(r.base + "colour: red\n")
	all := hears(t, said, "READY=1")
	if len(all) != 4 || all[0] != "RELOADING=1" || !strings.HasPrefix(all[1], "MONOTONIC_USEC=") || !strings.Contains(all[2], "refused") || !strings.Contains(all[2], "colour") {
		t.Errorf("during a reload that was refused it said %q", all)
	}
	r.reload(r.base)
	if all := hears(t, said, "READY=1"); strings.Contains(strings.Join(all, " "), "refused") {
		t.Errorf("after a good reload it still says %q", all)
	}
	r.stop()
	hears(t, said, "STOPPING=1")
}

func TestTheWatchdogIsFedOnlyWhilePlanningAndTheStoreTurn(t *testing.T) {
	said := serviceManager(t, "200000")
	r := start(t, 1)
	hears(t, said, "WATCHDOG=1")
	hears(t, said, "WATCHDOG=1") // again and again
	for name, hang := range map[string]func() (letGo func()){
		"the store's writer hangs": func() func() {
			r.tail.mu.Lock() // which it takes after each commit with an event
			go func() { _ = r.db.AddEvent(t.Context(), forge.Event{Type: forge.EventNodeChanged, Message: "x"}) }()
			return r.tail.mu.Unlock
		},
		"planning hangs": func() func() {
			r.world.mu.Lock()
			return r.world.mu.Unlock
		},
	} {
		t.Run(name, func(t *testing.T) {
			letGo := hang()
			defer func() { letGo() }()
			// What was on its way is past when a whole interval says nothing.
			late := time.After(20 * time.Second)
			for quiet := false; !quiet; {
				select {
				case <-said:
				case <-time.After(600 * time.Millisecond):
					quiet = true
				case <-late:
					t.Fatal("it is fed all the same")
				}
			}
			letGo()
			letGo = func() {}
			hears(t, said, "WATCHDOG=1")
		})
	}
}

// A restored database may wait for its clusters for hours; nothing is planned meanwhile.
func TestPlanningThatHasNotBegunIsNotOneThatHangs(t *testing.T) {
	r := start(t, 1)
	r.await(t, r.submit(t, script(99)).ID, "served", func(forge.Run) bool { return r.ready.Load() })
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	r.turns.remove("plan")
	if err := r.pulse(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPulseSaysWhoDoesNotTurn(t *testing.T) {
	r := start(t, 1)
	r.await(t, r.submit(t, script(99)).ID, "served", func(forge.Run) bool { return r.ready.Load() })
	if err := r.pulse(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.stop()
	if err := r.pulse(t.Context()); err == nil || !strings.Contains(err.Error(), "writer") {
		t.Errorf("with the database closed: %v", err)
	}
}
