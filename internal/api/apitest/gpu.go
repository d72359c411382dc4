package apitest

import (
	"context"
	"slices"
	"strconv"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// SetGPUs says which GPUs there are.
func (f *Fake) SetGPUs(nodes ...api.NodeGPUs) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gpus = nodes
}

// SetGPUHistory says what a GPU was like.
func (f *Fake) SetGPUHistory(h api.GPUHistory) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gpuPast == nil {
		f.gpuPast = map[string]api.GPUHistory{}
	}
	f.gpuPast[h.UUID] = h
}

// GPUs implements api.GPUs.
func (f *Fake) GPUs(_ context.Context, _ forge.Principal, q api.GPUQuery) ([]api.NodeGPUs, error) {
	leave, err := f.enter("GPUs")
	if err != nil {
		return nil, err
	}
	defer leave()
	out := []api.NodeGPUs{}
	for _, n := range f.gpus {
		if q.Cluster != "" && q.Cluster != string(n.Cluster) || q.Node != "" && q.Node != string(n.Node) {
			continue
		}
		n.GPUs = slices.Clone(n.GPUs)
		if q.Run != "" {
			n.GPUs = slices.DeleteFunc(n.GPUs, func(g api.GPUView) bool { return g.Run == nil || strconv.FormatInt(g.Run.Number, 10) != q.Run })
		}
		if len(n.GPUs) > 0 || q.Run == "" {
			out = append(out, n)
		}
	}
	if len(out) == 0 && q.Node != "" {
		return nil, notFound("node", q.Node)
	}
	return out, nil
}

// GPUHistory implements api.GPUs.
func (f *Fake) GPUHistory(_ context.Context, _ forge.Principal, uuid string, since time.Time) (api.GPUHistory, error) {
	leave, err := f.enter("GPUHistory")
	if err != nil {
		return api.GPUHistory{}, err
	}
	defer leave()
	h, ok := f.gpuPast[uuid]
	if !ok {
		return h, notFound("GPU", uuid)
	}
	h.Steps = slices.Clone(h.Steps)
	h.Steps = slices.DeleteFunc(h.Steps, func(s forge.GPUSample) bool { return s.At.Before(since) })
	return h, nil
}
