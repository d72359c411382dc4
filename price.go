package forge

import (
	"slices"
	"strings"
)

// Prices is what an hour of a GPU costs, as the configuration says. What it does not say is not known, which is not the same as 0.
type Prices struct {
	Currency string // a word; nothing is converted
	Clusters map[ClusterName]ClusterPrices
}

// ClusterPrices are those of one cluster, for an hour of one GPU.
type ClusterPrices struct {
	Types      map[string]float64 // by names of GPU types, as NamesGPUType reads them
	Default    *float64           // of types that are not named
	Partitions map[string]float64 // of a batch system's partitions; "" is the default one. They win: a partition is the narrower place
}

// Any says whether there is a price at all.
func (p *Prices) Any() bool {
	if p != nil {
		for _, c := range p.Clusters {
			if len(c.Types) > 0 || len(c.Partitions) > 0 || c.Default != nil {
				return true
			}
		}
	}
	return false
}

// Of is what an hour of one GPU of a type costs; false: nobody has said. A CPU slot costs nothing unless the cluster names its type, cpu.
func (p *Prices) Of(c ClusterName, partition string, kind GPUKind, typ string) (float64, bool) {
	if p == nil {
		return 0, kind == GPUCPUSlot
	}
	at := p.Clusters[c]
	if v, ok := at.Partitions[partition]; ok && kind != GPUCPUSlot {
		return v, true
	}
	if v, ok := at.named(typ); ok {
		return v, true
	}
	if kind == GPUCPUSlot {
		return 0, true
	}
	if at.Default != nil {
		return *at.Default, true
	}
	return 0, false
}

// named finds the price of a type: of several names that fit the one with most words, "H100 80GB" before "H100".
func (c ClusterPrices) named(typ string) (price float64, ok bool) {
	best := ""
	for name, v := range c.Types {
		if !NamesGPUType(name, typ) {
			continue
		}
		if n, m := len(wordsOf(name)), len(wordsOf(best)); !ok || n > m || n == m && strings.Compare(name, best) < 0 {
			best, price, ok = name, v, true
		}
	}
	return price, ok
}

// OfGPUs is what an hour of all of them costs; nil: of at least one it is not known.
func (p *Prices) OfGPUs(c ClusterName, partition string, shares []Share, nodes map[NodeName]Node) *float64 {
	sum := 0.0
	for _, s := range shares {
		n, ok := nodes[s.Node]
		if !ok {
			return nil
		}
		for _, slot := range s.Slots {
			i := slices.IndexFunc(n.GPUs, func(g GPU) bool { return g.Slot == slot })
			if i < 0 {
				return nil
			}
			v, known := p.Of(c, partition, n.GPUs[i].Kind, n.GPUs[i].Type)
			if !known {
				return nil
			}
			sum += v
		}
	}
	return &sum
}
