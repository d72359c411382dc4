package forgedtest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// FakeGPUs is a driver without GPUs: contrib/fake-nvml, and the file that it answers from. A node of a test cluster has a file of its own.
type FakeGPUs struct {
	Dir string // has libnvidia-ml.so.1: gpus.library_path

	mu    sync.Mutex
	nodes map[string]map[string]string // "": this host
	xids  map[string]int               // delivered so far
}

// NewFakeGPUs builds the library into a directory of its own, with n GPUs on this host.
func NewFakeGPUs(ctx context.Context, source, dir string, n int) (*FakeGPUs, error) {
	if out, err := exec.CommandContext(ctx, filepath.Join(source, "contrib/fake-nvml/build"), dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("contrib/fake-nvml/build: %w\n%s", err, out)
	}
	f := &FakeGPUs{Dir: dir, nodes: map[string]map[string]string{}, xids: map[string]int{}}
	return f, f.Node("", n)
}

// Node gives a node n GPUs.
func (f *FakeGPUs) Node(node string, n int) error {
	keys := map[string]string{"count": strconv.Itoa(n), "driver": "570.86.15"}
	for gpu := range n {
		keys[fmt.Sprintf("gpu.%d.uuid", gpu)] = f.UUID(node, gpu)
	}
	f.mu.Lock()
	f.nodes[node] = keys
	f.mu.Unlock()
	return f.write(node)
}

// UUID is what a GPU is called.
func (f *FakeGPUs) UUID(node string, gpu int) string {
	sum := 0
	for _, c := range node {
		sum = sum*31 + int(c)
	}
	return fmt.Sprintf("GPU-0000%04x-0000-0000-0000-%012x", sum&0xffff, gpu)
}

// Set changes what the driver of a node answers: "gpu.0.temp", "93". An empty value takes the key away.
func (f *FakeGPUs) Set(node string, pairs ...string) error {
	f.mu.Lock()
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			delete(f.nodes[node], pairs[i])
		} else {
			f.nodes[node][pairs[i]] = pairs[i+1]
		}
	}
	f.mu.Unlock()
	return f.write(node)
}

// XID has the driver of a node tell of one.
func (f *FakeGPUs) XID(node string, gpu, xid int) error {
	f.mu.Lock()
	f.xids[node]++
	n := f.xids[node]
	f.mu.Unlock()
	return f.Set(node, fmt.Sprintf("event.%d", n), fmt.Sprintf("%d,8,%d", gpu, xid))
}

// write replaces the file by rename: the library never sees half of one.
func (f *FakeGPUs) write(node string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := "state.txt"
	if node != "" {
		name = "state." + node + ".txt"
	}
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(f.nodes[node])) {
		fmt.Fprintf(&b, "%s %s\n", k, f.nodes[node][k])
	}
	path := filepath.Join(f.Dir, name)
	if err := os.WriteFile(path+".new", []byte(b.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Follow has the drivers tell of the processes that there are, until ctx ends: whoever has GPUs in CUDA_VISIBLE_DEVICES holds a gigabyte of each and
// keeps it busy, as training does.
func (f *FakeGPUs) Follow(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	was := ""
	for {
		if use := f.uses(); fmt.Sprint(use) != was {
			was = fmt.Sprint(use)
			f.tell(use)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

type fakeGPU struct {
	node string
	gpu  int
}

func (f *FakeGPUs) tell(use map[fakeGPU][]int) {
	f.mu.Lock()
	nodes := map[string]int{}
	for node, keys := range f.nodes {
		nodes[node], _ = strconv.Atoi(keys["count"])
	}
	f.mu.Unlock()
	for node, n := range nodes {
		var pairs []string
		for gpu := range n {
			procs, used, util := "", "", ""
			for i, pid := range use[fakeGPU{node, gpu}] {
				if i > 0 {
					procs += ","
				}
				procs += fmt.Sprintf("%d:%d", pid, 1<<30)
				used, util = strconv.Itoa((i+1)<<30), strconv.Itoa(90+gpu)
			}
			at := fmt.Sprintf("gpu.%d.", gpu)
			pairs = append(pairs, at+"procs", procs, at+"mem.used", used, at+"util.gpu", util)
		}
		_ = f.Set(node, pairs...)
	}
}

// uses looks for ranks: what has a rank's number in its environment, and GPUs.
func (f *FakeGPUs) uses() map[fakeGPU][]int {
	out := map[fakeGPU][]int{}
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	slices.Sort(environs)
	for _, path := range environs {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		env := map[string]string{}
		for kv := range strings.SplitSeq(string(data), "\x00") {
			k, v, _ := strings.Cut(kv, "=")
			env[k] = v
		}
		if env["LOCAL_RANK"] == "" || env["CUDA_VISIBLE_DEVICES"] == "" {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		node := env["SLURMD_NODENAME"]
		words := strings.Split(env["CUDA_VISIBLE_DEVICES"], ",")
		local, err := strconv.Atoi(env["LOCAL_RANK"])
		if err != nil {
			continue
		}
		if at, ok := f.find(node, words[local%len(words)]); ok {
			out[at] = append(out[at], pid)
		}
	}
	return out
}

// find takes a UUID, or NVML's number of a GPU.
func (f *FakeGPUs) find(node, word string) (fakeGPU, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _ := strconv.Atoi(f.nodes[node]["count"])
	for gpu := range n {
		if word == strconv.Itoa(gpu) || word == f.nodes[node][fmt.Sprintf("gpu.%d.uuid", gpu)] {
			return fakeGPU{node, gpu}, true
		}
	}
	return fakeGPU{}, false
}
