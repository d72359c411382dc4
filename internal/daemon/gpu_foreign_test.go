package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/direct"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/store"
)

// onGPUs is a look at GPUs a, b, … with these processes on them.
func onGPUs(pids ...[]int) forge.GPULook {
	l := forge.GPULook{State: forge.NVMLOK}
	for i, on := range pids {
		g := forge.GPUReading{UUID: string(rune('a' + i)), Told: true}
		for _, p := range on {
			g.Processes = append(g.Processes, forge.GPUProcess{PID: p, Kind: "compute"})
		}
		l.GPUs = append(l.GPUs, g)
	}
	return l
}

func TestAProcessOnAGPUThatItWasNotGivenIsTold(t *testing.T) {
	of := func(pid int) (direct.Holder, error) {
		h := direct.Holder{Ours: true, UID: 0, Command: "python train.py"}
		h.PID, h.StartTime = pid, 1
		switch pid {
		case 1: // of the attempt that has GPU a
			h.Run, h.Attempt = "R1", 2
		case 2: // of one that runs elsewhere
			h.Run, h.Attempt = "R2", 1
		case 3: // of one that is over
			h.Run, h.Attempt = "R1", 1
		case 4: // of another forged
			h.Run, h.Attempt = "X", 1
		case 5: // a stranger's
			h.Ours = false
		case 6:
			return direct.Holder{}, os.ErrProcessDone
		default:
			return direct.Holder{}, errors.New("not allowed")
		}
		return h, nil
	}
	active := func(h direct.Holder) bool { return h.Run == "R2" || h.Run == "R1" && h.Attempt == 2 }
	over := func(h direct.Holder) bool { return h.Run == "R1" && h.Attempt == 1 }
	have := map[string][]attemptKey{"a": {{"R1", 2}}}
	for _, c := range []struct {
		name string
		look forge.GPULook
		want string
	}{
		{"its own", onGPUs([]int{1}), ""},
		{"its own on a GPU that nobody was given", onGPUs(nil, []int{1}), "b 1 astray"},
		{"another run's beside it", onGPUs([]int{1, 2}), "a 2 astray"},
		{"what an earlier attempt of it left", onGPUs([]int{1, 3}), "a 3 leftover"},
		{"another forged's", onGPUs(nil, []int{4}), "b 4 stranger"},
		{"a stranger's", onGPUs([]int{5}, []int{5}), "a 5 stranger, b 5 stranger"},
		{"one that cannot be looked at", onGPUs([]int{7}), "a 7 stranger"},
		{"one that is not here, on a GPU of nobody", onGPUs(nil, []int{6}), "b 6 unseen"},
		{"one that is not here, where it may be the attempt's in a container", onGPUs([]int{6}), ""},
		{"nothing is known", forge.GPULook{State: forge.NVMLHung, GPUs: onGPUs([]int{5}).GPUs}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, u := range foreign(c.look, have, of, active, over) {
				got = append(got, fmt.Sprintf("%s %d %s", u.UUID, u.PID, u.Kind))
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
		})
	}
}

func TestForeignUseIsToldOncePerProcessAndIsOverWhenItIsGone(t *testing.T) {
	var s strangers
	at, now := nodeKey{"local", "n1"}, time.Now()
	use := func(kind useKind, pid int, start uint64) gpuUse {
		u := gpuUse{Kind: kind, UUID: "a", PID: pid, Holder: direct.Holder{UID: 4294967294, Command: "blender", Run: "R", Attempt: 3}}
		u.Holder.PID, u.StartTime = pid, start
		return u
	}
	take := func(after time.Duration, uses ...gpuUse) []forge.Event {
		return s.take(at, uses, map[string]int{"a": 5}, now.Add(after))
	}
	e := take(0, use(useStranger, 10, 1))
	if len(e) != 1 || e[0].Tenant != "" || e[0].Run != "" || e[0].Type != forge.EventGPUForeign || !strings.Contains(e[0].Message, "process 10 of uid 4294967294 (blender) uses GPU 5 (a) of node n1 and is not forge's") || e[0].Data["command"] != "blender" {
		t.Errorf("%+v", e)
	}
	if e := take(time.Second, use(useStranger, 10, 1)); len(e) != 0 || s.words(at)["a"] != "process 10, which is not forge's, uses it" {
		t.Errorf("again: %+v, %v", e, s.words(at))
	}
	if e := take(time.Second, use(useStranger, 10, 2), use(useAstray, 11, 1)); len(e) != 2 || !strings.Contains(e[1].Message, "attempt 3 of run R") || e[1].Data["run"] != "R" {
		t.Errorf("another with its number, and one that strayed: %+v", e)
	}
	if e := take(2 * time.Second); len(e) != 0 || len(s.words(at)) != 0 {
		t.Errorf("gone: %+v, %v", e, s.words(at))
	}
	unseen := gpuUse{Kind: useUnseen, UUID: "a", PID: 12}
	if e := take(3*time.Second, unseen); len(e) != 0 || len(s.words(at)) != 0 {
		t.Errorf("it may just have ended: %+v", e)
	}
	if e := take(3*time.Second+unseenPatience, unseen); len(e) != 1 || !strings.Contains(e[0].Message, "another pid namespace") || s.words(at)["a"] == "" {
		t.Errorf("it stays: %+v", e)
	}
}

// TestWhatAnAttemptLeftOnAGPUIsEndedAndNothingElse, with processes that are real.
func TestWhatAnAttemptLeftOnAGPUIsEndedAndNothingElse(t *testing.T) {
	node := fakeNode(2)
	for i := range node.GPUs {
		node.GPUs[i].Kind, node.GPUs[i].UUID, node.GPUs[i].Type = forge.GPUDevice, string(rune('a'+i)), "H100"
	}
	fake := executortest.NewFake(node)
	r := start(t, 0, func(o *Options) { o.Clusters[0].Executor, o.Clusters[0].Files = fake, fake })
	r.fake = fake
	c := r.live().clusters["local"]
	run := r.submit(t, script(1))
	key := r.running(t, run)
	fake.Finish(key, 0)
	r.await(t, run.ID, "over", func(x forge.Run) bool { return x.State.Terminal() })

	mark := func(id forge.RunID, root string) []string {
		return []string{"FORGE_RUN_ID=" + string(id), "FORGE_ATTEMPT=1", "FORGE_RUN_DIR=" + filepath.Join(root, string(id))}
	}
	process := func(uid int, env []string) (pid int, ended chan struct{}) {
		cmd := exec.Command("sleep", "600")
		cmd.Env = env
		if uid != os.Getuid() {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended = make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
		return cmd.Process.Pid, ended
	}
	left, gone := process(os.Getuid(), mark(run.ID, c.RunRoot))
	elsewhere, _ := process(os.Getuid(), mark(run.ID, "/other/forged"))
	unknown, _ := process(os.Getuid(), mark("01ZZZZZZZZZZZZZZZZZZZZZZZZ", c.RunRoot))
	spared := []int{elsewhere, unknown}
	if os.Getuid() == 0 {
		other, _ := process(65534, mark(run.ID, c.RunRoot)) // another user may write what we would
		spared = append(spared, other)
	}
	at := nodeKey{"local", "n1"}
	look := onGPUs([]int{left}, spared)
	words := r.foreignUse(t.Context(), c, at, look)
	if !strings.Contains(words["a"], "a run that has ended") || !strings.Contains(words["b"], "not forge's") {
		t.Errorf("%v", words)
	}
	<-gone
	r.foreignUse(t.Context(), c, at, onGPUs(nil, spared))
	for _, pid := range spared {
		if _, err := direct.HolderOf(pid); err != nil {
			t.Errorf("process %d was not ours to end: %v", pid, err)
		}
	}
	events, err := r.db.For(r.op).Events(t.Context(), store.EventFilter{Types: []forge.EventType{forge.EventGPUForeign}}, 100)
	if err != nil || len(events) != 1+len(spared) {
		t.Errorf("%d events of %d processes: %+v, %v", len(events), 1+len(spared), events, err)
	}
}
