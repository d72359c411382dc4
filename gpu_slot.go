package forge

import (
	"cmp"
	"slices"
	"strings"
)

// GPUMissing begins the words of a GPU that the driver no longer names.
const GPUMissing = "missing: "

// Missing says whether the driver no longer names it.
func (g GPU) Missing() bool { return strings.HasPrefix(g.Sick, GPUMissing) }

// KeepSlots gives the GPUs that a node has now the slots that it had them in. What a slot holds is known by its number alone, so a GPU keeps its own
// for as long as it is known by its UUID, in whatever order a driver names them. One that is new takes a free slot, or that of a GPU which has gone
// from its place on the bus: it was put there instead. One that has gone otherwise stays in the list, marked missing: what it holds stays allocated
// until it is back, or until an operator lets it go. Slots without UUIDs (CPUs that stand in) keep theirs by their order. A node that knows no UUIDs
// numbers its GPUs itself.
func KeepSlots(was, now []GPU) []GPU {
	if len(was) == 0 || !slices.ContainsFunc(slices.Concat(was, now), hasUUID) {
		return now
	}
	now = slices.Clone(now)
	slices.SortStableFunc(now, func(a, b GPU) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), strings.Compare(a.PCI, b.PCI), strings.Compare(a.UUID, b.UUID))
	})
	k := keeper{was: was, from: make([]int, len(was))}
	for i := range k.from {
		k.from[i] = -1
	}
	rest := k.take(now, allOf(now), func(w, g GPU) bool { return g.UUID != "" && w.UUID == g.UUID })
	rest = slices.DeleteFunc(rest, func(i int) bool { // said twice
		return hasUUID(now[i]) && slices.ContainsFunc(now[:i], func(g GPU) bool { return g.UUID == now[i].UUID })
	})
	rest = k.take(now, rest, func(w, g GPU) bool { return w.Kind == g.Kind && g.PCI != "" && w.PCI == g.PCI && w.MIG == g.MIG })
	rest = k.take(now, rest, func(w, g GPU) bool { return w.UUID == "" && g.UUID == "" && w.Kind == g.Kind && w.Type == g.Type })
	rest = k.take(now, rest, func(w, g GPU) bool { return w.UUID != "" && g.UUID == "" && g.Kind == GPUDevice }) // one that no longer says its name

	var out []GPU
	used := map[int]bool{}
	for i, w := range was {
		switch from := k.from[i]; {
		case from >= 0:
			g := now[from]
			if g.UUID == "" && w.UUID != "" {
				w.Sick = cmp.Or(g.Sick, GPUMissing+"the driver gives no UUID in its place")
				g = w
			}
			g.Slot = w.Slot
			out = append(out, g)
		case w.UUID != "":
			if !w.Missing() {
				w.Sick = GPUMissing + "the driver no longer names it"
			}
			out = append(out, w)
		}
		used[w.Slot] = true // that of a CPU slot which is gone too: something may still hold it
	}
	free := 0
	for _, i := range rest {
		g := now[i]
		if used[g.Slot] {
			for used[free] {
				free++
			}
			g.Slot = free
		}
		used[g.Slot] = true
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b GPU) int { return a.Slot - b.Slot })
	return out
}

func hasUUID(g GPU) bool { return g.UUID != "" }

func allOf(list []GPU) []int {
	all := make([]int, len(list))
	for i := range all {
		all[i] = i
	}
	return all
}

// keeper pairs what is there now with the slots of what was: from[i] is the index of what is in the slot of was[i] now.
type keeper struct {
	was  []GPU
	from []int
}

// take pairs those of now[open] that are the same by one rule, in order, and returns the others.
func (k *keeper) take(now []GPU, open []int, same func(was, now GPU) bool) (rest []int) {
	for _, i := range open {
		at := -1
		for j := range k.was {
			if k.from[j] < 0 && same(k.was[j], now[i]) {
				at = j
				break
			}
		}
		if at < 0 {
			rest = append(rest, i)
			continue
		}
		k.from[at] = i
	}
	return rest
}
