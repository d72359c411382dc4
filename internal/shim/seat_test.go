package shim

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

func TestCPUsAreSplitIntoNeighboursAndWholeCores(t *testing.T) {
	two := func(cpu int) []int { return []int{cpu % 4, cpu%4 + 4} } // 4 cores of 2 threads: 0+4, 1+5, ...
	mask := func(cpus ...int) *unix.CPUSet {
		var m unix.CPUSet
		for _, c := range cpus {
			m.Set(c)
		}
		return &m
	}
	none := func(int) []int { return nil }
	for _, c := range []struct {
		name     string
		mask     *unix.CPUSet
		siblings func(int) []int
		ranks    int
		want     string
	}{
		{"two ranks on four cores", mask(0, 1, 2, 3, 4, 5, 6, 7), two, 2, "[[0 4 1 5] [2 6 3 7]]"},
		{"three ranks on four cores", mask(0, 1, 2, 3, 4, 5, 6, 7), two, 3, "[[0 4] [1 5] [2 6 3 7]]"},
		{"more ranks than cores share cores and no thread", mask(0, 1, 4, 5), two, 3, "[[0] [4] [1 5]]"},
		{"never more than the mask", mask(1, 5, 6), two, 2, "[[1 5] [6]]"},
		{"topology not known", mask(2, 3, 64, 65), none, 2, "[[2 3] [64 65]]"},
		{"more ranks than CPUs: nobody is bound", mask(0, 1), none, 3, "[[] [] []]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fmt.Sprint(splitCPUs(cores(c.mask, c.siblings), c.ranks)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestARankInheritsItsCPUsAndTheShimKeepsItsOwn(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	last := -1
	for cpu := range 1024 {
		if before.IsSet(cpu) {
			last = cpu
		}
	}
	var out []byte
	err := withCPUs([]int{last}, func() (err error) {
		out, err = exec.Command("grep", "Cpus_allowed_list", "/proc/self/status").Output()
		return err
	})
	if err != nil || strings.Fields(string(out))[1] != fmt.Sprint(last) {
		t.Errorf("the child may use %q, %v; want %d", out, err, last)
	}
	if err := unix.SchedGetaffinity(0, &after); err != nil || after != before {
		t.Errorf("the shim's own CPUs are %v, were %v", after, before)
	}
}

func TestThreadsOfARankFitItsCPUs(t *testing.T) {
	for _, c := range []struct{ asked, bound, want int }{{4, 2, 2}, {4, 8, 4}, {0, 6, 6}, {0, 0, 1}, {4, 0, 4}} {
		l := twoNodes()
		l.Spec.Gang.CPUsPerGPU = c.asked
		got := environment(l, seat{perNode: []int{2, 2}, job: &job{}, cpus: c.bound})
		if want := fmt.Sprintf("OMP_NUM_THREADS=%d", c.want); !slices.Contains(got, want) {
			t.Errorf("%+v: not %s", c, want)
		}
	}
}

func TestTheMasterIsAnAddressThatOthersReach(t *testing.T) {
	ip := net.ParseIP
	own := []iface{{"lo", ip("127.0.0.1")}, {"docker0", ip("172.17.0.1")}, {"eth0", ip("10.0.0.5")}, {"ib0", ip("10.9.0.5")}}
	for _, c := range []struct {
		name  string
		own   []iface
		site  string
		named []net.IP
		want  string
	}{
		{"the one that a name of the node leads to", own, "", []net.IP{ip("127.0.1.1"), ip("10.9.0.5")}, "10.9.0.5"},
		{"the site's interface before that", own, "eth0", []net.IP{ip("10.9.0.5")}, "10.0.0.5"},
		{"a prefix, as NCCL takes it", own, "ib", nil, "10.9.0.5"},
		{"a name that leads elsewhere, or to loopback, is no help", own, "", []net.IP{ip("192.0.2.1"), ip("127.0.1.1"), nil}, "10.0.0.5"},
		{"loopback where there is nothing else", own[:1], "", nil, "127.0.0.1"},
		{"IPv6 where there is nothing else", []iface{{"lo", ip("::1")}, {"eth0", ip("fe80::1")}, {"eth0", ip("2001:db8::5")}}, "", nil, "2001:db8::5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := chooseMaster(c.own, c.site, c.named); got != c.want || err != nil {
				t.Errorf("got %s, %v; want %s", got, err, c.want)
			}
		})
	}
	if got, err := chooseMaster(nil, "", nil); err == nil {
		t.Errorf("got %s of a host without addresses", got)
	}
	s := &shim{launch: rundir.LaunchFile{Options: rundir.LaunchOptions{Env: map[string]string{"NCCL_SOCKET_IFNAME": "=ib0,ib1"}}}}
	if got := s.siteInterface(); got != "ib0" {
		t.Errorf("the site's interface is %q", got)
	}
	s.launch.Options.Env["NCCL_SOCKET_IFNAME"] = "^docker0"
	if got := s.siteInterface(); got != "" {
		t.Errorf("the site's interface is %q", got)
	}
}

func TestTwoShimsOfAHostNeverPromiseTheSamePort(t *testing.T) {
	free, err := bindable(0)
	if err != nil {
		t.Fatal(err)
	}
	first, err := reservePort(free, free+1, 0)
	if err != nil {
		t.Fatal(err)
	}
	second, err := reservePort(free, free+1, 0)
	if err != nil || second == first {
		t.Fatalf("promised %d, then %d: %v", first, second, err)
	}
	if third, err := reservePort(free, free+1, 0); err == nil {
		t.Errorf("promised %d a second time", third)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first))
	if err != nil {
		t.Fatalf("the promise keeps rank 0 from its port: %v", err)
	}
	l.Close()
}

func TestASaveBeginsBeforeSlurmsLimit(t *testing.T) {
	min := time.Minute
	for _, c := range []struct {
		name        string
		limit, lead time.Duration
		ends        time.Time
		after       time.Duration
	}{
		{"no limit", 0, min, time.Time{}, 0},
		{"the lead before the limit", 60 * min, 3 * min, time.Time{}, 57 * min},
		{"a minute where nobody has measured", 60 * min, 0, time.Time{}, 59 * min},
		{"half of a short limit at most", 2 * min, 5 * min, time.Time{}, min},
		{"the end that Slurm knows, where it is sooner", 60 * min, 3 * min, t0.Add(30 * min), 27 * min},
		{"the limit, where Slurm's end is later", 60 * min, 3 * min, t0.Add(90 * min), 57 * min},
		{"Slurm's end where the run has no limit", 0, 3 * min, t0.Add(30 * min), 27 * min},
		{"an end in the past is a wrong clock", 60 * min, 3 * min, t0.Add(-min), 57 * min},
	} {
		t.Run(c.name, func(t *testing.T) {
			after, grace := saveIn(c.limit, c.lead, t0, c.ends)
			if after != c.after {
				t.Errorf("after %s, want %s", after, c.after)
			}
			end := c.limit
			if left := c.ends.Sub(t0); !c.ends.IsZero() && left > 0 && (end == 0 || left < end) {
				end = left
			}
			if after > 0 && (grace <= 0 || after+grace >= end) {
				t.Errorf("the save may go on for %s, to %s of %s", grace, after+grace, end)
			}
		})
	}
	g := testGang(1)
	g.limit, g.limitGrace, g.grace = 10*time.Second, 40*time.Second, time.Second
	g.tick(signs{}, at(10))
	if g.cause != forge.StopTimeLimit || !g.killAt.Equal(at(50)) {
		t.Errorf("%s, KILL at %s: the run's grace cut the save short", g.cause, g.killAt.Sub(t0))
	}
}

func TestWordsOfSlurmAboutGPUs(t *testing.T) {
	for _, c := range []struct {
		env     map[string]string
		want    int
		slots   string
		visible string
	}{
		{map[string]string{"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_STEP_GPUS": "4,5"}, 2, "[4 5]", "0,1"}, // confined: numbered anew
		{map[string]string{"CUDA_VISIBLE_DEVICES": "2,3", "SLURM_JOB_GPUS": "0,1"}, 2, "[2 3]", "2,3"},  // the job's are the first node's
		{map[string]string{"SLURM_STEP_GPUS": "0-2,7"}, 4, "[0 1 2 7]", "0,1,2,7"},
		{map[string]string{"CUDA_VISIBLE_DEVICES": "GPU-aa,MIG-GPU-bb/1/0"}, 2, "[0 1]", "GPU-aa,MIG-GPU-bb/1/0"},
	} {
		j := &job{}
		get := slurmEnv(func(name string) (string, bool) { v, ok := c.env[name]; return v, ok })
		if err := j.readGPUs(get, c.want); err != nil || fmt.Sprint(j.slots) != c.slots || j.visible != c.visible {
			t.Errorf("%v: %v %q, %v", c.env, j.slots, j.visible, err)
		}
	}
}

func TestWhatASetupScriptMadeIsInheritedAndNothingOfSlurm(t *testing.T) {
	l := twoNodes()
	l.Options.Inherit = true
	got := environment(l, seat{perNode: []int{2, 2}, job: &job{}, own: []string{
		"LD_LIBRARY_PATH=/opt/cuda/lib", "SLURM_PROCID=3", "PMI_RANK=1", "FORGED_SECRET=x", "PWD=/", "LOADEDMODULES=cuda/12", "RANK=7",
	}})
	for _, kv := range []string{"LD_LIBRARY_PATH=/opt/cuda/lib", "LOADEDMODULES=cuda/12", "RANK=0", "PATH=/opt/bin"} {
		if !slices.Contains(got, kv) {
			t.Errorf("missing: %s", kv)
		}
	}
	for _, kv := range got {
		if strings.HasPrefix(kv, "SLURM_") || strings.HasPrefix(kv, "PMI") || strings.HasPrefix(kv, "FORGED") || strings.HasPrefix(kv, "PWD") {
			t.Errorf("inherited: %s", kv)
		}
	}
}

func TestUnderSlurmAFreeLockIsNoEvidence(t *testing.T) {
	a := rundir.At(filepath.Join(t.TempDir(), "R"), 1)
	if err := os.MkdirAll(a.NodeDir(1), 0o750); err != nil {
		t.Fatal(err)
	}
	dead := rundir.Process{PID: 1 << 22, StartTime: 1}
	lock, _, err := rundir.MarkLock(a.LockPath(1), dead)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	if l, words := (&peers{at: a, n: 2, zero: true, locks: true}).look(t0); l != levelEnd {
		t.Fatalf("on one host a dead shim ends the gang: %v %q", l, words)
	}
	if l, words := (&peers{at: a, n: 2, zero: true}).look(t0); l != levelNone {
		t.Errorf("judged by the lock: %v %q", l, words)
	}
	if err := rundir.WriteJSON(a.ExitPath(1), rundir.Exit{Ranks: []forge.RankExit{{Code: 7}}, Detail: "rank 1 exited 7"}); err != nil {
		t.Fatal(err)
	}
	if l, words := (&peers{at: a, n: 2, zero: true}).look(t0); l != levelEnd || !strings.Contains(words, "rank 1 exited 7") {
		t.Errorf("its record is not read: %v %q", l, words)
	}
}
