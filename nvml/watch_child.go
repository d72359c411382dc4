//go:build linux && cgo

package nvml

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	forge "github.com/forge-ml/forge-ml"
)

// message is a line of `forged nvml watch`; one of its members is there.
type message struct {
	Look   *forge.GPULook   `json:"look,omitempty"`
	Events []forge.GPUEvent `json:"events,omitempty"`
}

// watch is `forged nvml watch`: a goroutine for each GPU reads it and one more waits for its events, so that a GPU that hangs takes no other with it.
type watch struct {
	every     time.Duration
	hungAfter time.Duration   // a call that takes longer hangs
	patience  time.Duration   // how long a look waits for GPUs that do not answer; the next one has them
	only      map[string]bool // UUIDs; nil: all

	lib    nv.Interface
	has    func(string) bool
	driver string
	joiner *joiner
	gpus   []*gpuWatch // by NVML's index

	mu  sync.Mutex
	out *json.Encoder
}

// watchMain is the child. It ends when in does, and has no other way to be asked to.
func watchMain(args []string, in io.Reader, out io.Writer) int {
	w := &watch{patience: 2 * time.Second, out: json.NewEncoder(out)}
	flags := flag.NewFlagSet("nvml watch", flag.ContinueOnError)
	flags.DurationVar(&w.every, "every", DefaultEvery, "between looks")
	flags.DurationVar(&w.hungAfter, "hung-after", 10*time.Second, "a call that takes longer hangs")
	uuids := flags.String("uuids", "", "comma-separated UUIDs; empty: all GPUs")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || w.every <= 0 || w.hungAfter <= 0 {
		fmt.Fprintln(os.Stderr, "forged nvml watch [--every 5s] [--hung-after 10s] [--uuids A,B]")
		return 64
	}
	if *uuids != "" {
		w.only = map[string]bool{}
		for uuid := range strings.SplitSeq(*uuids, ",") {
			w.only[uuid] = true
		}
	}
	ctx, end := context.WithCancel(context.Background())
	asked := make(chan struct{}, 1)
	go func() {
		defer end()
		for lines := bufio.NewScanner(in); lines.Scan(); {
			if lines.Text() == "look" {
				notify(asked)
			}
		}
	}()
	w.run(ctx, asked)
	return 0
}

// notify asks for one more look; more than one at a time are one.
func notify(asked chan<- struct{}) {
	select {
	case asked <- struct{}{}:
	default:
	}
}

func (w *watch) run(ctx context.Context, asked chan struct{}) {
	w.joiner = newJoiner(func(events []forge.GPUEvent) {
		w.say(message{Events: events})
		notify(asked) // what has happened shows in the readings, and the driver says there what it wants done
	})
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for full := true; ; {
		look := w.look(ctx, full)
		if ctx.Err() != nil {
			return
		}
		w.say(message{Look: &look})
		select {
		case <-ctx.Done():
			return
		case <-asked:
			full = true
		case <-tick.C:
			full = false
		}
	}
}

// say writes one line.
func (w *watch) say(m message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.out.Encode(m); err != nil { // whoever listened has gone, and stdin will end as well
		fmt.Fprintln(os.Stderr, "forged nvml watch:", err)
	}
}

// look asks every GPU that has no call under way and waits a little for those that answer late.
func (w *watch) look(ctx context.Context, full bool) forge.GPULook {
	l := forge.GPULook{At: time.Now(), State: forge.NVMLOK, GPUs: []forge.GPUReading{}}
	if err := w.open(); err != nil {
		l.State, l.Detail = forge.NVMLError, err.Error()
		if errors.Is(err, errNoLibrary) {
			l.State = forge.NVMLNoDriver
		}
		return l
	}
	l.Driver = w.driver
	n, ret := w.lib.DeviceGetCount()
	if ret != nv.SUCCESS {
		l.State, l.Detail = forge.NVMLError, failure("nvmlDeviceGetCount", ret).Error()
		return l
	}
	for len(w.gpus) < n {
		w.gpus = append(w.gpus, w.newGPU(ctx, len(w.gpus)))
	}
	for _, g := range w.gpus[n:] {
		g.stop()
	}
	w.gpus = w.gpus[:n]
	patience := time.NewTimer(w.patience)
	defer patience.Stop()
	var pending []<-chan struct{}
	for _, g := range w.gpus {
		pending = append(pending, g.begin(full))
	}
	late := false
	for _, answered := range pending {
		if late {
			break
		}
		select {
		case <-answered:
		case <-patience.C:
			late = true
		case <-ctx.Done():
			return l
		}
	}
	all := make([][]forge.GPUReading, 0, n)
	for _, g := range w.gpus {
		all = append(all, g.readings(w.hungAfter))
	}
	l.GPUs = w.wanted(inOrder(all))
	return l
}

// open opens the library; once open it stays so.
func (w *watch) open() error {
	if w.lib != nil {
		return nil
	}
	opened, err := Open()
	if err != nil {
		return err
	}
	r := opened.(*reader)
	driver, err := r.Driver()
	if err != nil {
		return err
	}
	w.lib, w.has, w.driver = r.lib, r.has, driver
	return nil
}

// inOrder puts the GPUs in the order of their PCI addresses; one that has none keeps the place of its index.
func inOrder(all [][]forge.GPUReading) (out []forge.GPUReading) {
	var placed, lost [][]forge.GPUReading
	for _, g := range all {
		if g[0].PCI == "" {
			lost = append(lost, g)
		} else {
			placed = append(placed, g)
		}
	}
	slices.SortStableFunc(placed, func(a, b []forge.GPUReading) int { return strings.Compare(a[0].PCI, b[0].PCI) })
	for _, g := range lost {
		placed = slices.Insert(placed, min(g[0].Index, len(placed)), g)
	}
	return slices.Concat(placed...)
}

// wanted leaves out what was not asked for, and names what was and is not there.
func (w *watch) wanted(all []forge.GPUReading) []forge.GPUReading {
	if all == nil {
		all = []forge.GPUReading{}
	}
	if w.only == nil {
		return all
	}
	missing := map[string]bool{}
	for uuid := range w.only {
		missing[uuid] = true
	}
	all = slices.DeleteFunc(all, func(r forge.GPUReading) bool {
		delete(missing, r.UUID)
		return !w.only[r.UUID] && r.UUID != "" // one that does not even say who it is may be one of them
	})
	silent := slices.ContainsFunc(all, func(r forge.GPUReading) bool { return r.UUID == "" })
	for uuid := range missing {
		if !silent {
			all = append(all, forge.GPUReading{UUID: uuid, Index: -1, Minor: -1, Lost: true, Problem: "lost: the driver lists no GPU with this UUID"})
		}
	}
	return all
}
