package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// ofGPUs is a node of GPUs with UUIDs.
func ofGPUs(name string, n int) forge.Node {
	x := forge.Node{Name: forge.NodeName(name), Cluster: "local", CPUs: 64, MemoryMiB: 1 << 20, State: forge.NodeReady}
	for i := range n {
		x.GPUs = append(x.GPUs, forge.GPU{Slot: i, Kind: forge.GPUDevice, Type: "H100 80GB HBM3", MemoryMiB: 81559, UUID: "GPU-" + name + "-" + string(rune('a'+i))})
	}
	return x
}

func (r *rig) gpusSeenBy(t *testing.T, p forge.Principal, q api.GPUQuery) []api.NodeGPUs {
	t.Helper()
	nodes, err := gpus{r.Daemon}.GPUs(t.Context(), p, q)
	if err != nil {
		t.Fatal(err)
	}
	return nodes
}

// seen puts a look on the board that is news.
func (r *rig) seen(node string, gpus ...forge.GPUReading) {
	r.board.look(nodeKey{"local", forge.NodeName(node)}, lookAt(time.Now(), gpus...))
}

func TestWhoseAGPUIsTenantsAreToldOfTheirOwnRunsOnly(t *testing.T) {
	r := startRacked(t, ofGPUs("n1", 3))
	mine := r.submit(t, script(1, func(s *forge.RunSpec) { s.Name = "my-run" }))
	r.running(t, mine)
	eve, theirs := r.other(t, script(1))
	r.running(t, theirs)
	free := gpuWith("GPU-n1-c", 20, 500)
	free.Processes = []forge.GPUProcess{{PID: os.Getpid(), MemoryMiB: new(int64(500))}}
	r.seen("n1", gpuWith("GPU-n1-a", 90, 1000), gpuWith("GPU-n1-b", 10, 2000), free)

	of := func(p forge.Principal) []api.GPUView {
		nodes := r.gpusSeenBy(t, p, api.GPUQuery{})
		if len(nodes) != 1 || len(nodes[0].GPUs) != 3 || nodes[0].NVML != forge.NVMLOK || nodes[0].Driver != "570.1" || nodes[0].Old {
			t.Fatalf("%+v", nodes)
		}
		return nodes[0].GPUs
	}
	seen := of(eve)
	if a := seen[0].Run; a == nil || *a != (api.GPURun{Other: true}) {
		t.Errorf("of another tenant's run she is told %+v", a)
	}
	if b := seen[1].Run; b == nil || b.Number != theirs.Number || b.Name != "eves-secret" || b.Other || b.Tenant != "" {
		t.Errorf("of her own run she is told %+v", b)
	}
	all, _ := json.Marshal(r.gpusSeenBy(t, eve, api.GPUQuery{}))
	for _, secret := range []string{"my-run", r.op.User, string(mine.ID), string(mine.Tenant)} {
		if strings.Contains(string(all), `"`+secret+`"`) {
			t.Errorf("she is told %q", secret)
		}
	}
	if f := seen[2].Foreign; len(f) != 1 || f[0].PID != os.Getpid() || f[0].Command != "" || f[0].User != "" || seen[2].Run != nil {
		t.Errorf("of a process that is nobody's she is told %+v", f)
	}
	byOp := of(r.op)
	if b := byOp[1].Run; b == nil || b.Tenant != "other" || b.Name != "eves-secret" || b.User != "eve" {
		t.Errorf("an operator is told %+v", b)
	}
	if f := byOp[2].Foreign; len(f) != 1 || f[0].Command == "" || f[0].User == "" {
		t.Errorf("of a process that is nobody's an operator is told %+v", f)
	}
	if u := byOp[0].Reading; u == nil || *u.UtilPercent != 90 || byOp[0].Old {
		t.Errorf("%+v", byOp[0])
	}
	t.Run("the GPUs of a run, of those that one may see", func(t *testing.T) {
		n := r.gpusSeenBy(t, eve, api.GPUQuery{Run: string(theirs.ID)})
		if len(n) != 1 || len(n[0].GPUs) != 1 || n[0].GPUs[0].UUID != "GPU-n1-b" {
			t.Errorf("%+v", n)
		}
		if _, err := (gpus{r.Daemon}).GPUs(t.Context(), eve, api.GPUQuery{Run: string(mine.ID)}); forge.KindOf(err) != forge.KindNotFound {
			t.Errorf("of another's run: %v", err)
		}
	})
	if _, err := (gpus{r.Daemon}).GPUs(t.Context(), eve, api.GPUQuery{Node: "n9"}); forge.KindOf(err) != forge.KindNotFound {
		t.Errorf("a node that is not there: %v", err)
	}
	if _, err := (gpus{r.Daemon}).GPUHistory(t.Context(), eve, "GPU-none", time.Time{}); forge.KindOf(err) != forge.KindNotFound {
		t.Errorf("a GPU that is not there: %v", err)
	}
	if _, err := (gpus{r.Daemon}).GPUHistory(t.Context(), eve, "GPU-n1-a", time.Now().Add(time.Hour)); forge.KindOf(err) != forge.KindInvalid {
		t.Errorf("a time that is ahead: %v", err)
	}
	h := gpuHistory{d: r.Daemon}
	h.step(t.Context(), time.Now())
	if got, err := (gpus{r.Daemon}).GPUHistory(t.Context(), eve, "GPU-n1-a", time.Time{}); err != nil || len(got.Steps) != 1 || *got.Steps[0].UtilPercent != 90 || got.Node != "n1" || *got.Slot != 0 {
		t.Errorf("its history: %+v, %v", got, err)
	}
}

func TestGPUsWithoutAReadingAreThereByTheInventory(t *testing.T) {
	r := startRacked(t, ofGPUs("n1", 2))
	n := r.gpusSeenBy(t, r.op, api.GPUQuery{})
	if len(n) != 1 || len(n[0].GPUs) != 2 || n[0].NVML != "" || n[0].GPUs[1].Reading != nil || *n[0].GPUs[1].Slot != 1 {
		t.Errorf("%+v", n)
	}
	r.board.look(onN1, forge.GPULook{At: time.Now(), State: forge.NVMLHung, Detail: "no answer"})
	if n = r.gpusSeenBy(t, r.op, api.GPUQuery{}); n[0].NVML != forge.NVMLHung || n[0].Detail != "no answer" {
		t.Errorf("%+v", n[0])
	}
}

func TestWhereABatchSystemHasNoUUIDsAGPUIsFoundByItsDeviceFileOrByTheRunThatTold(t *testing.T) {
	node := ofGPUs("n1", 4)
	for i := range node.GPUs {
		node.GPUs[i].UUID = ""
	}
	reading := func(uuid string, minor int) gpuShown {
		g := gpuWith(uuid, 50, 100)
		g.Minor = minor
		return gpuShown{gpuSeen: gpuSeen{GPUReading: g, Run: "R1"}, fresh: true}
	}
	rows := gpuRows(&node, &nodeShown{gpus: []gpuShown{reading("GPU-x", 1), reading("GPU-y", 3)}}, map[int]forge.RunID{1: "R1", 3: "R2"})
	if len(rows) != 5 || rows[1].seen == nil || rows[1].seen.UUID != "GPU-x" || rows[1].run != "R1" {
		t.Fatalf("%+v", rows)
	}
	if rows[3].seen != nil || rows[3].run != "R2" || rows[4].place != nil || rows[4].run != "R1" {
		t.Errorf("a slot that is another run's has the reading: %+v", rows[3:])
	}
}

func TestTheJobMapIsWhatRunsHere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "map")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"0": "of a forged that was killed\n", "7": "gone\n", "2.1": "gone\n", ".forge-123": "half", "README": "mine"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	left := func() map[string]string {
		t.Helper()
		out := map[string]string{}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			b, _ := os.ReadFile(filepath.Join(dir, e.Name()))
			out[e.Name()] = string(b)
			if st, err := e.Info(); err != nil || mapped.MatchString(e.Name()) && st.Mode().Perm() != 0o644 {
				t.Errorf("%s: %v, %v", e.Name(), st.Mode(), err)
			}
		}
		return out
	}
	r := startRacked(t, ofGPUs("n1", 3))
	run := r.submit(t, script(2))
	key := r.running(t, run)
	a, b := gpuWith("GPU-n1-a", 1, 1), gpuWith("GPU-n1-b", 1, 1)
	a.Index, b.Index = 0, 5 // NVML's order is not that of the slots
	r.seen("n1", a, b)
	m := jobMap{dir: dir}
	if err := m.write(r.jobsOnGPUs()); err != nil {
		t.Fatal(err)
	}
	job := string(run.ID) + "\n"
	if got := left(); len(got) != 3 || got["0"] != job || got["5"] != job || got["README"] != "mine" {
		t.Errorf("%q", got)
	}
	r.fake.Finish(key, 0)
	r.await(t, run.ID, "completed", inState(forge.RunCompleted))
	if err := m.write(r.jobsOnGPUs()); err != nil {
		t.Fatal(err)
	}
	if got := left(); len(got) != 1 || got["README"] != "mine" {
		t.Errorf("after its end: %q", got)
	}
	t.Run("of a MIG instance by its parent's index and its own id", func(t *testing.T) {
		whole, part := gpuWith("GPU-p", 1, 1), gpuWith("MIG-p1", 1, 1)
		whole.Index, part.MIGID, part.MIG, part.Parent = 3, new(9), "1g.10gb", "GPU-p"
		r.seen("n1", whole, part)
		if got := r.indexOf(onN1, &forge.GPU{UUID: "MIG-p1", MIG: "1g.10gb", Parent: "GPU-p"}); got != "3.9" {
			t.Errorf("%q", got)
		}
	})
	t.Run("a directory that was taken away is made anew", func(t *testing.T) {
		jobs := map[string][]string{"1": {"R1", "R2"}}
		if err := m.write(jobs); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		jobs["2"] = []string{"R3"}
		if err := m.write(jobs); err == nil {
			t.Fatal("nothing is wrong")
		}
		if err := m.write(jobs); err != nil {
			t.Fatal(err)
		}
		if got := left(); got["1"] != "R1\nR2\n" || got["2"] != "R3\n" {
			t.Errorf("%q", got)
		}
	})
	if !slices.Equal(slices.Collect(func(yield func(string) bool) {
		for _, n := range []string{"0", "12", "3.10", ".forge-1", "0.", "a", "1.2.3"} {
			if mapped.MatchString(n) && !yield(n) {
				return
			}
		}
	}), []string{"0", "12", "3.10"}) {
		t.Error("names that dcgm-exporter does not read, or the other way round")
	}
}
