package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// reloader is a daemon whose configuration file the test writes.
type reloader struct {
	*rig
	t    *testing.T
	path string
	base string // what the file says at first
	ask  chan struct{}
	log  *lines
	seq  int64
}

// lines collects what is logged.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startReloader(t *testing.T) *reloader {
	t.Helper()
	r := &reloader{t: t, ask: make(chan struct{}, 1), log: &lines{}}
	log := NewLog(r.log, LogConfig{Level: "info", Format: "json"})
	r.rig = start(t, 1, func(o *Options) {
		r.path = filepath.Join(o.Config.StateDir, configFile)
		r.base = fmt.Sprintf("listen: {socket: %s, tcp: 127.0.0.1:0}\npolicy: {preset: fair}\n", o.Config.Listen.Socket)
		r.write(r.base)
		cfg, err := LoadConfig("", o.Config.StateDir)
		if err != nil {
			t.Fatal(err)
		}
		o.Config, o.Log, o.Reload, o.Relog = cfg, log.Logger(), r.ask, log.Set
		o.ReadConfig = func() (Config, error) { return LoadConfig("", cfg.StateDir) }
	})
	r.await(t, r.submit(t, script(99)).ID, "served", func(forge.Run) bool {
		_, err := os.Stat(filepath.Join(filepath.Dir(r.path), addrFile))
		return err == nil
	})
	return r
}

func (r *reloader) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// reload asks, and waits for the verdict and for the event that came with it.
func (r *reloader) reload(text string) (ReloadVerdict, forge.Event) {
	r.t.Helper()
	r.write(text)
	before, _ := readVerdict(filepath.Dir(r.path))
	r.ask <- struct{}{}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		v, err := readVerdict(filepath.Dir(r.path))
		if err != nil || v.At.Equal(before.At) {
			continue
		}
		all, err := r.db.For(r.op).Events(r.t.Context(), store.EventFilter{After: r.seq}, 0)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, e := range all {
			r.seq = e.Seq
			if e.Type == forge.EventConfigRefused || e.Type == forge.EventConfigReloaded {
				return v, e
			}
		}
		r.t.Fatal("a verdict without an event")
	}
	r.t.Fatal("no verdict")
	return ReloadVerdict{}, forge.Event{}
}

func (r *reloader) tcp() string {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(filepath.Dir(r.path), addrFile))
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func healthy(network, addr string) error {
	hc := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}}
	resp, err := hc.Get("http://forged/healthz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

func TestABadConfigurationChangesNothingAndSaysWhy(t *testing.T) {
	r := startReloader(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	spare, err := net.Listen("tcp", "127.0.0.1:0") // an address that will be free
	if err != nil {
		t.Fatal(err)
	}
	free := spare.Addr().String()
	_ = spare.Close()
	badRecipes := t.TempDir()
	if err := os.WriteFile(filepath.Join(badRecipes, "x.yaml"), []byte("name: [1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(precious, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	sock := r.live().cfg.Listen.Socket
	addr := r.tcp()
	for name, c := range map[string]struct{ text, says string }{
		"no YAML":              {"listen: [", "listen"},
		"an unknown key":       {r.base + "colour: red\n", "colour"},
		"a value out of range": {r.base + "limits: {max_body_bytes: 1}\n", "max_body_bytes"},
		"another state_dir":    {r.base + "state_dir: /elsewhere\n", "state_dir: "},
		"a cluster is gone":    {r.base + "clusters: [{name: other}]\n", "clusters.local: is gone"},
		"another run_root":     {r.base + "clusters: [{name: local, run_root: /elsewhere}]\n", "clusters.local.run_root"},
		"a port that is taken": {strings.Replace(r.base, "127.0.0.1:0", taken.Addr().String(), 1), "address already in use"},
		"a python that is not there, beside an address that could be had": {
			strings.Replace(r.base, "127.0.0.1:0", free, 1) + "clusters: [{name: local, python: /no/python}]\n", "clusters[0].python"},
		"a recipe that is broken, beside an address that could be had": {
			strings.Replace(r.base, "127.0.0.1:0", free, 1) + "recipes_dir: " + badRecipes + "\n", "x.yaml"},
		"a socket path where a file lies, beside an address that could be had": {
			fmt.Sprintf("listen: {socket: %s, tcp: %s}\n", precious, free), "left alone"},
		"a cluster whose directory cannot be made": {r.base + "clusters: [{name: local}, {name: more, run_root: /proc/no}]\n", "clusters[1].run_root"},
	} {
		t.Run(name, func(t *testing.T) {
			before := r.live()
			v, e := r.reload(c.text)
			if v.Refused == "" || !strings.Contains(v.Refused, c.says) || len(v.Changed) != 0 {
				t.Errorf("the verdict %+v does not say %q", v, c.says)
			}
			if e.Type != forge.EventConfigRefused || e.Reason != string(forge.WhySignal) || !strings.Contains(e.Message, c.says) {
				t.Errorf("event %+v", e)
			}
			if r.live() != before || !reflect.DeepEqual(r.live().cfg, before.cfg) {
				t.Error("other settings are in force")
			}
			for network, at := range map[string]string{"tcp": addr, "unix": sock} {
				if err := healthy(network, at); err != nil {
					t.Errorf("%s is not served any more: %v", at, err)
				}
			}
			if r.tcp() != addr {
				t.Errorf("it says it serves %s", r.tcp())
			}
			if l, err := net.Listen("tcp", free); err != nil {
				t.Errorf("an address that was refused stays bound: %v", err)
			} else {
				_ = l.Close()
			}
			if !strings.Contains(r.log.String(), "configuration refused; the old one stays in force") {
				t.Error("the log says nothing")
			}
		})
	}
	if b, err := os.ReadFile(precious); err != nil || string(b) != "data" {
		t.Errorf("a file in the socket's place: %q, %v", b, err)
	}
}

func TestAGoodConfigurationIsInForceWholeAndNamesWhatChanged(t *testing.T) {
	r := startReloader(t)
	old := r.tcp()
	kept, err := net.Dial("tcp", old) // a connection that is open stays open
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	recipesDir := t.TempDir()
	if err := os.WriteFile(filepath.Join(recipesDir, "mine.yaml"), []byte("name: mine\ndoc: Mine\nlaunch: rank\nentry: {command: [/bin/true]}\ndatasets: []\nneeds_dataset: false\nneeds_base: false\noutput: false\ngang: {nodes: 1, gpus_per_node: 1, cpus_per_gpu: 1, memory_mib_per_gpu: 64}\nlimits: {time_limit: 10m, grace: 2s}\nparams: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	spare, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fresh := spare.Addr().String()
	_ = spare.Close()
	text := fmt.Sprintf(`listen: {socket: %s, tcp: %s}
log: {level: debug}
recipes_dir: %s
retry: {fruitless_limit: 7}
policy: {preset: fair, preempt_gap: 55}
limits: {max_body_bytes: 2048}
clusters:
  - {name: local, poll_every: 77ms, env: {HF_TOKEN: hunter2}, python: /bin/sh}
  - {name: second, node: host-2, cpu_slots: 3, cpus: 3, memory: 1G, run_root: %s}
`, r.live().cfg.Listen.Socket, fresh, recipesDir, filepath.Join(t.TempDir(), "runs2"))
	v, e := r.reload(text)
	if v.Refused != "" {
		t.Fatal(v.Refused)
	}
	want := []string{
		"clusters.local.env.HF_TOKEN: set", "clusters.local.poll_every: 1s → 77ms", `clusters.local.python: "" → /bin/sh`, "clusters.second: unset → direct",
		"limits.max_body_bytes: 1048576 → 2048", "listen.tcp: 127.0.0.1:0 → " + fresh, "log.level: info → debug", "policy.preempt_gap: 20 → 55", `recipes_dir: "" → ` + recipesDir,
		"retry.fruitless_limit: 3 → 7", "recipe mine added",
	}
	if !slices.Equal(v.Changed, want) {
		t.Errorf("it says %q\nwant     %q", v.Changed, want)
	}
	if e.Type != forge.EventConfigReloaded || !strings.Contains(e.Message, "log.level: info → debug") {
		t.Errorf("event %+v", e)
	}
	everywhere := r.log.String() + fmt.Sprint(v, e)
	if strings.Contains(everywhere, "hunter2") {
		t.Error("a value from the environment of ranks was told")
	}
	if err := healthy("tcp", fresh); err != nil {
		t.Errorf("the new address: %v", err)
	}
	if _, err := net.Dial("tcp", old); err == nil {
		t.Error("the old address is still served")
	}
	_ = kept.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprint(kept, "GET /healthz HTTP/1.1\r\nHost: f\r\n\r\n"); err != nil {
		t.Error(err)
	}
	answer := make([]byte, 15)
	if _, err := kept.Read(answer); err != nil || string(answer) != "HTTP/1.1 200 OK" {
		t.Errorf("a connection to the old address got %q, %v", answer, err)
	}
	live := r.live()
	if c := live.clusters["local"]; c.PollEvery != 77*time.Millisecond || !c.Modules || c.Executor != Executor(r.fake) {
		t.Errorf("cluster local is %+v", c)
	}
	if _, err := live.recipes.Get("mine"); err != nil {
		t.Error(err)
	}
	if r.policy().PreemptGap != 55 {
		t.Errorf("planning goes by %+v", r.policy())
	}
	if live.cfg.Retry.FruitlessLimit != 7 {
		t.Errorf("retry is %+v", live.cfg.Retry)
	}
	found := false
	for _, n := range r.world.nodeList() {
		found = found || n.Cluster == "second" && n.Name == "host-2" && len(n.GPUs) == 3
	}
	if !found {
		t.Errorf("the new cluster has no node: %+v", r.world.nodeList())
	}
	resp := r.post(t, fresh, strings.Repeat(" ", 4096))
	if resp != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over the new limit got %d", resp)
	}
	if !strings.Contains(r.log.String(), `"level":"debug"`) {
		t.Error("nothing was logged at the new level")
	}
	if v, e := r.reload(text); v.Refused != "" || len(v.Changed) != 0 || !strings.Contains(e.Message, "nothing in it has changed") {
		t.Errorf("the same file again: %+v %+v", v, e)
	}
	if v, _ := r.reload(strings.Replace(text, "log: {level: debug}", "log: {level: debug, format: console}", 1)); v.Refused != "" {
		t.Error(v.Refused)
	}
	out := strings.TrimSpace(r.log.String())
	if last := out[strings.LastIndexByte(out, '\n')+1:]; json.Valid([]byte(last)) {
		t.Errorf("the form did not change: %s", last)
	}
}

func (r *rig) post(t *testing.T, addr, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/v1/runs", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", r.secret)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestReloadsUnderLoadLoseNoRequest(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: seconds of load")
	}
	r := startReloader(t)
	sock := r.live().cfg.Listen.Socket
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := healthy("unix", sock); err != nil && ctx.Err() == nil {
					t.Errorf("a request failed: %v", err)
					return
				}
			}
		})
	}
	for i := range 10 {
		run := r.submit(t, script(1))
		if v, _ := r.reload(fmt.Sprintf("%slimits: {max_body_bytes: %d}\nclusters: [{name: local, poll_every: %dms}]\n", r.base, 4096+i, 50+i)); v.Refused != "" {
			t.Fatal(v.Refused)
		}
		key := r.launched(t, run.ID, 1)
		r.fake.Start(key)
		r.fake.Finish(key, 0)
		r.await(t, run.ID, "completed", inState(forge.RunCompleted))
	}
	cancel()
	wg.Wait()
}

// Every key is decided: whoever adds one says here or in onReload whether it may change.
func TestEachKeyOfTheConfigurationMayChangeOrNeedsARestart(t *testing.T) {
	restart := []string{
		"state_dir", "listen.socket_mode", "clusters.local.name", "clusters.local.kind", "clusters.local.node", "clusters.local.cpu_slots", "clusters.local.cpus",
		"clusters.local.memory", "clusters.local.run_root", "clusters.local.network", "clusters.local.ports",
		"gpus.sample_every", "gpus.library_path", "gpus.job_map_dir",
	}
	for _, k := range []string{"name", "kind", "node", "cpu_slots", "cpus", "memory", "run_root", "network", "ports", "slurm.bin", "slurm.conf", "slurm.shim", "slurm.share", "slurm.timeout",
		"slurm.identity", "slurm.as_user.sudo", "slurm.as_user.helper", "slurm.binding", "slurm.bind_timeout", "slurm.nice_step", "slurm.poll_every", "slurm.nodes_every",
		"slurm.labels.rack", "slurm.topology", "slurm.drain"} {
		restart = append(restart, "clusters.hpc."+k)
	}
	env := map[string]string{"A": "b"}
	cfg, err := Config{StateDir: "/s", Clusters: []ClusterConfig{{Name: "local", Env: env, Labels: env, Prices: map[string]float64{"H100": 3}}, {Name: "hpc", Prices: map[string]float64{"default": 1}, Kind: KindSlurm, RunRoot: "/r", Env: env,
		Runtime: forge.Runtime{Kind: forge.RuntimeApptainer, Image: "/i.sif", Mounts: []string{"/a"}, Modules: []string{"m"}, Setup: []string{"true"}},
		Slurm:   &SlurmConfig{Partitions: []PartitionConfig{{Name: "gpu", Env: env}}, Allow: []string{"comment"}, Owners: map[string]OwnerConfig{"lab": {Group: "g"}}, Labels: map[string]string{"rack": "rack*"}}}}}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range slices.Sorted(maps.Keys(flatten(cfg))) {
		if matches(onReload, key) == slices.Contains(restart, key) {
			t.Errorf("%s: whether a reload may change it is not decided", key)
		}
	}
}

func TestTheLogEscapesWhatCouldSteerATerminal(t *testing.T) {
	for _, format := range []string{"json", "console"} {
		var out lines
		log := NewLog(&out, LogConfig{Level: "info", Format: format}).Logger()
		evil := "\x1b[2Jgone\nlevel=fake\u009b31m\u202e"
		log.Warn().Str("name", evil).Err(fmt.Errorf("open %s", evil)).Msg("message " + evil)
		log.Debug().Msg("below the level")
		text := out.String()
		if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
			t.Errorf("%s: one message is %q", format, text)
		}
		for _, bad := range []string{"\x1b[2J", "\u009b"} {
			if format == "json" && bad == "\u009b" {
				continue // a valid character of JSON; programs read it
			}
			if strings.Contains(text, bad) {
				t.Errorf("%s: %q came through in %q", format, bad, text)
			}
		}
		if strings.Contains(text, "below") {
			t.Errorf("%s: the level is not kept", format)
		}
	}
}
