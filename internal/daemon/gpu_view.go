package daemon

import (
	"cmp"
	"context"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/health"
	"github.com/forge-ml/forge-ml/store"
)

// gpus implements api.GPUs.
type gpus struct{ d *Daemon }

// gpuRow is one GPU of a node: its place in the inventory, what is known of it, and who has it. Either of the first two may be missing.
type gpuRow struct {
	place *forge.GPU
	seen  *gpuShown
	run   forge.RunID
}

// holders says which run has what.
type holders map[nodeKey]map[int]forge.RunID

func (d *Daemon) gpuHolders() holders {
	out := holders{}
	for _, a := range d.world.open() {
		if !a.State.Open() {
			continue
		}
		for _, s := range a.Placement {
			k := nodeKey{a.Cluster, s.Node}
			if out[k] == nil {
				out[k] = map[int]forge.RunID{}
			}
			for _, slot := range s.Slots {
				out[k][slot] = a.Run
			}
		}
	}
	return out
}

// gpuRows joins the inventory of a node and what is known of its GPUs. Where the inventory has no UUIDs, as that of a batch system, a GPU is put
// to the slot that its device file is numbered by; one of a run that does not hold that slot stands by itself.
func gpuRows(n *forge.Node, known *nodeShown, holds map[int]forge.RunID) []gpuRow {
	var rows []gpuRow
	var seen []gpuShown
	if known != nil {
		seen = known.gpus
	}
	used := make([]bool, len(seen))
	take := func(ok func(*gpuShown) bool) *gpuShown {
		for i := range seen {
			if !used[i] && ok(&seen[i]) {
				used[i] = true
				return &seen[i]
			}
		}
		return nil
	}
	for i := range n.GPUs {
		g := &n.GPUs[i]
		if g.Kind != forge.GPUDevice {
			continue
		}
		r := gpuRow{place: g, run: holds[g.Slot]}
		if g.UUID != "" {
			r.seen = take(func(s *gpuShown) bool { return s.UUID == g.UUID })
		}
		rows = append(rows, r)
	}
	for i := range rows {
		r := &rows[i]
		if r.place.UUID == "" {
			r.seen = take(func(s *gpuShown) bool {
				return s.MIG == "" && s.Minor == r.place.Slot && (!s.fresh || s.Run == "" || s.Run == r.run)
			})
		}
	}
	for i := range seen {
		if !used[i] {
			r := gpuRow{seen: &seen[i]}
			if seen[i].fresh {
				r.run = seen[i].Run
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// GPUs lists what the principal may see of them.
func (s gpus) GPUs(ctx context.Context, p forge.Principal, q api.GPUQuery) ([]api.NodeGPUs, error) {
	var of forge.RunID
	if q.Run != "" {
		r, err := s.d.db.For(p).Run(ctx, q.Run)
		if err != nil {
			return nil, err
		}
		of = r.ID
	}
	known, holds := s.d.board.shown(nil), s.d.gpuHolders()
	names := tenantNames{d: s.d}
	out := []api.NodeGPUs{}
	found := false
	for _, n := range s.d.world.nodeList() {
		if q.Cluster != "" && string(n.Cluster) != q.Cluster || q.Node != "" && string(n.Name) != q.Node {
			continue
		}
		found = true
		at := nodeKey{n.Cluster, n.Name}
		v := api.NodeGPUs{Cluster: n.Cluster, Node: n.Name, State: n.State, Reason: n.Reason, GPUs: []api.GPUView{}}
		k := known[at]
		if k != nil && k.State != "" {
			v.NVML, v.Detail, v.Driver, v.At, v.Old = k.State, k.Detail, k.Driver, k.Got, !k.fresh
		}
		for _, r := range gpuRows(&n, k, holds[at]) {
			if of == "" || r.run == of {
				v.GPUs = append(v.GPUs, s.view(p, &r, k, s.d.direct(n.Cluster), &names))
			}
		}
		// A host of CPU slots has no line, but one whose driver says why there are none.
		if len(v.GPUs) > 0 || of == "" && (q.Node != "" || v.NVML != "" && v.NVML != forge.NVMLOK) {
			out = append(out, v)
		}
	}
	if !found && q.Node != "" {
		return nil, forge.Errorf(forge.KindNotFound, "gpu.list", "there is no node %.100q", q.Node).WithHint("forgectl node list")
	}
	return out, nil
}

func (s gpus) view(p forge.Principal, r *gpuRow, n *nodeShown, local bool, names *tenantNames) api.GPUView {
	var v api.GPUView
	if g := r.place; g != nil {
		v.Slot, v.UUID, v.Type, v.MIG, v.Sick = &g.Slot, g.UUID, g.Type, g.MIG, g.Sick
	}
	v.Run = s.holder(p, r.run, names)
	k := r.seen
	if k == nil {
		return v
	}
	v.UUID, v.Type, v.MIG = cmp.Or(v.UUID, k.UUID), cmp.Or(v.Type, k.Type), cmp.Or(v.MIG, k.MIG)
	if k.XID != 0 {
		v.XID = &api.GPUXID{Number: k.XID, At: s.d.board.now().Add(-k.xidAge), Words: xidWords(k.XID)}
	}
	if k.Got.IsZero() { // the driver spoke of it, and it was never looked at
		return v
	}
	reading := k.GPUReading
	v.Reading, v.At, v.Old = &reading, k.Got, !k.fresh
	for _, u := range k.recent {
		v.Recent = append(v.Recent, int(u))
	}
	if k.stalled > 0 {
		d := forge.Duration(k.stalled.Truncate(time.Second))
		v.Stalled = &d
	}
	if r.run == "" && k.fresh {
		for _, x := range k.Processes {
			f := api.GPUForeign{PID: x.PID, MemoryMiB: x.MemoryMiB}
			if local && p.Role.Includes(forge.RoleOperator) {
				f.User, f.Command = processOf(x.PID)
			}
			v.Foreign = append(v.Foreign, f)
		}
	}
	return v
}

// holder says whose a run is, to those who may know (invariant 8).
func (s gpus) holder(p forge.Principal, id forge.RunID, names *tenantNames) *api.GPURun {
	if id == "" {
		return nil
	}
	r, ok := s.d.world.run(id)
	switch own := r.Tenant == p.Tenant; {
	case !ok || !own && !p.Role.Includes(forge.RoleOperator):
		return &api.GPURun{Other: true}
	case own:
		return &api.GPURun{Number: r.Number, Name: r.Spec.Name, User: r.User}
	}
	return &api.GPURun{Other: true, Number: r.Number, Name: r.Spec.Name, User: r.User, Tenant: names.of(r.Tenant)}
}

// tenantNames looks each name up once.
type tenantNames struct {
	d *Daemon
	m map[forge.TenantID]string
}

func (n *tenantNames) of(id forge.TenantID) string {
	name, ok := n.m[id]
	if !ok {
		if n.m == nil {
			n.m = map[forge.TenantID]string{}
		}
		name = cmp.Or(n.d.tenantName(id), string(id))
		n.m[id] = name
	}
	return name
}

// direct says that a cluster is this host.
func (d *Daemon) direct(c forge.ClusterName) bool {
	return slices.ContainsFunc(d.clusterList(), func(x *Cluster) bool { return x.Name == c && x.Kind == KindDirect })
}

// processOf says whose a process of this host is, and what. What is gone by now, or hidden, has neither.
func processOf(pid int) (owner, command string) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	if st, err := os.Stat(dir); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			owner = strconv.FormatUint(uint64(sys.Uid), 10)
			if u, err := user.LookupId(owner); err == nil {
				owner = u.Username
			}
		}
	}
	b, _ := os.ReadFile(filepath.Join(dir, "comm"))
	return short(owner), short(strings.TrimSpace(string(b)))
}

var builtinRules = sync.OnceValue(func() *health.Table {
	t, err := health.New(forge.HealthRules{})
	if err != nil {
		panic(err) // the built-in rules alone
	}
	return t
})

// xidWords says what an XID is.
func xidWords(n int) string { return builtinRules().XID(n).Words }

// gpuHistorySince is how much history is shown unless asked otherwise.
const gpuHistorySince = 24 * time.Hour

// GPUHistory shows what one was like. Load is no secret between tenants.
func (s gpus) GPUHistory(ctx context.Context, _ forge.Principal, uuid string, since time.Time) (api.GPUHistory, error) {
	now := time.Now()
	switch {
	case since.IsZero():
		since = now.Add(-gpuHistorySince)
	case since.After(now):
		return api.GPUHistory{}, forge.Invalidf("since", "%s is ahead", since.Format(time.RFC3339)).WithOp("gpu.history")
	case since.Before(now.Add(-store.GPUHistoryKept)):
		since = now.Add(-store.GPUHistoryKept)
	}
	out := api.GPUHistory{UUID: uuid}
	known := s.d.board.shown(nil)
find:
	for _, n := range s.d.world.nodeList() {
		for _, r := range gpuRows(&n, known[nodeKey{n.Cluster, n.Name}], nil) {
			switch {
			case r.place != nil && r.place.UUID == uuid, r.seen != nil && r.seen.UUID == uuid:
				out.Cluster, out.Node = n.Cluster, n.Name
				if r.place != nil {
					out.Slot, out.Type = &r.place.Slot, r.place.Type
				} else {
					out.Type = r.seen.Type
				}
				break find
			}
		}
	}
	var err error
	if out.Steps, err = s.d.db.GPUHistory(ctx, uuid, since, now); err != nil {
		return out, err
	}
	if len(out.Steps) == 0 && out.Node == "" {
		return out, forge.Errorf(forge.KindNotFound, "gpu.history", "there is no GPU %.100q", uuid).WithHint("forgectl top -o tsv names them")
	}
	return out, nil
}
