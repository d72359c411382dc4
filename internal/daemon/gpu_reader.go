package daemon

import (
	"context"
	"fmt"
	"sync/atomic"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/nvml"
)

// gpuReader asks NVML for the GPUs of this host, in a child process, for one cluster of kind direct. The daemon has one prober for all clusters: it
// knows of a child that hangs in the kernel, and starts no second one beside it. While nobody answers for the GPUs, those that were known are there
// still, and nothing new is placed on them.
type gpuReader struct {
	d       *Daemon
	cluster forge.ClusterName
	ask     func(context.Context) (nvml.Report, error)
	want    atomic.Int64           // how many there must be; 0: as many as there were
	trouble atomic.Pointer[string] // why the node takes nothing at all, found at the last read; nil: nothing
}

func (r *gpuReader) expect(n int) {
	if r != nil {
		r.want.Store(int64(n))
	}
}

// known are the GPUs that were there last.
func (r *gpuReader) known() []forge.GPU {
	var out []forge.GPU
	for _, n := range r.d.world.nodesOf(r.cluster) {
		for _, g := range n.GPUs {
			if g.Kind == forge.GPUDevice {
				out = append(out, g)
			}
		}
	}
	return out
}

func (r *gpuReader) read(ctx context.Context) ([]forge.GPU, error) {
	r.trouble.Store(nil)
	known := r.known()
	if s := r.d.gpus.watch(); s.State != "" && s.State != forge.NVMLOK && s.State != forge.NVMLNoDriver { // nothing is placed on guesses
		return unanswered(known, s.State, s.Detail), nil
	}
	rep, err := r.ask(ctx)
	if err != nil {
		return nil, err
	}
	return r.judgeReport(rep, known)
}

func (r *gpuReader) judgeReport(rep nvml.Report, known []forge.GPU) ([]forge.GPU, error) {
	want := int(r.want.Load())
	switch rep.State {
	case nvml.StateOK:
		if len(rep.GPUs) < want {
			r.sick("%d of %d expected GPUs are there", len(rep.GPUs), want)
		}
		return rep.GPUs, nil
	case nvml.StateNoDriver:
		if n := max(len(known), want); n > 0 {
			r.sick("no NVML: %s; it is to have %s", rep.Detail, plural(n, "GPU"))
		}
		return nil, nil // what was known is kept, as missing
	}
	if len(known) == 0 {
		return nil, forge.Errorf(forge.KindUnavailable, "nvml.inventory", "NVML: %s: %s", rep.State, rep.Detail)
	}
	return unanswered(known, rep.State, rep.Detail), nil
}

func (r *gpuReader) sick(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	r.trouble.Store(&why)
}

// judge adds what was found out about the node as a whole.
func (r *gpuReader) judge(nodes []forge.Node) []forge.Node {
	if r == nil {
		return nodes
	}
	if why := r.trouble.Load(); why != nil {
		for i := range nodes {
			if nodes[i].State == forge.NodeReady {
				nodes[i].State, nodes[i].Reason = forge.NodeDrained, *why
			}
		}
	}
	return nodes
}

// unanswered are GPUs of which nothing is known now.
func unanswered(known []forge.GPU, state forge.NVMLState, detail string) []forge.GPU {
	out := make([]forge.GPU, 0, len(known))
	for _, g := range known {
		if !g.Missing() {
			g.Sick = fmt.Sprintf("NVML does not answer (%s): %s", state, detail)
		}
		out = append(out, g)
	}
	return out
}
