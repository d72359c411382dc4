package slurm

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The bounds of a probe. A job with a GPU on each node that does not start soon gives way to one without.
const (
	probeGPUWait  = 20 * time.Second
	probeWait     = 60 * time.Second
	probeTalk     = 75 * time.Second // network filesystems may keep "there is no such file" for a minute
	probeSoftware = 90 * time.Second // a cold filesystem takes its time over torch
	probeClean    = 15 * time.Second
	probeEvery    = 200 * time.Millisecond
	probeStale    = 24 * time.Hour
	probeLimit    = "10" // minutes: the job ends by itself if nobody is left to remove it

	probePrefix = ".forge-check-"
	plantedName = "FORGE_CHECK_PLANTED"
)

// probe is one job on one or two nodes, which answers in files of a directory below the run root.
type probe struct {
	o     Options
	p     Partition
	nodes int
	gpus  bool
	dir   string
	nonce string
	name  string

	id      string
	started time.Duration // how long it waited
	state   string        // Slurm's last word
	reason  string
	exit    string
	answers map[int]map[string]string // by node index
	skew    map[int]time.Duration     // how far outside of the exchange a node's time lay
	talked  bool                      // every node saw what forged wrote while the job ran
	python  map[int]string
}

// runRootOf is where forged itself may write: of a run root by account, its own.
func runRootOf(o Options) string {
	me := "root"
	if u, err := user.Current(); err == nil {
		me = u.Username
	}
	return strings.ReplaceAll(o.RunRoot, "{account}", me)
}

// newProbe makes the directory. What is there was left by a check that was killed.
func newProbe(o Options, p Partition, nodes int) (*probe, error) {
	root := runRootOf(o)
	old, _ := filepath.Glob(filepath.Join(root, probePrefix+"*"))
	for _, dir := range old {
		if st, err := os.Lstat(dir); err == nil && st.IsDir() && time.Since(st.ModTime()) > probeStale {
			_ = os.RemoveAll(dir)
		}
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	x := &probe{o: o, p: p, nodes: nodes, nonce: hex.EncodeToString(b[:])}
	x.dir = filepath.Join(root, probePrefix+x.nonce)
	x.name = "forge-check-" + x.nonce
	if err := os.MkdirAll(root, 0o750); err != nil {
		return nil, err
	}
	if err := os.Mkdir(x.dir, 0o700); err != nil {
		return nil, err
	}
	return x, os.WriteFile(filepath.Join(x.dir, "nonce"), []byte(x.nonce+"\n"), 0o600)
}

// remove takes the job and the directory away, whatever became of ctx.
func (x *probe) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeClean)
	defer cancel()
	err := x.cancel(ctx)
	return errors.Join(err, os.RemoveAll(x.dir))
}

// cancel ends every job of this name, also one whose submission was not answered, and waits until Slurm knows of none that runs.
func (x *probe) cancel(ctx context.Context) error {
	for {
		_, err := x.o.Tools.Run(ctx, "", "scancel", "--name="+x.name)
		out, err2 := x.o.Tools.Run(ctx, "", "squeue", "-h", "--name="+x.name, "-o", "%i")
		if err == nil && err2 == nil && strings.TrimSpace(out) == "" {
			return nil
		}
		if wait(ctx, probeEvery) != nil {
			return fmt.Errorf("job %s may be there still: scancel --name=%s", x.id, x.name)
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// talk is what each node runs: it reads the nonce, says who it is, waits for forged's word, and says what time it is then.
const talk = `cd "$FORGE_CHECK_DIR" || exit 71
n=${SLURM_NODEID:-0}; out=node-$n
say() { printf '%s=%s\n' "$1" "$2" >>"$out.part"; }
: >"$out.part" || exit 72
say node "${SLURMD_NODENAME:-$(hostname)}"
say nonce "$(cat nonce 2>/dev/null)"
say arch "$(uname -m)"
say planted "${` + plantedName + `-}"
say gpus "${CUDA_VISIBLE_DEVICES-}"
say uid "$(id -u)"
say forged "$("$FORGE_CHECK_SHIM" --version 2>&1 | head -n 1 | tr -d '\000-\037')"
if command -v flock >/dev/null 2>&1; then (flock -n 9 && echo ok >"flocked-$n") 9>"lock-$n" 2>/dev/null; [ -s "flocked-$n" ] && say flock yes || say flock no; else say flock unknown; fi
mv "$out.part" "hello-$n" || exit 73
i=0
while [ ! -s ask ] && [ $i -lt 700 ]; do sleep 0.1; ls >/dev/null; i=$((i+1)); done
printf '%s %s\n' "$(date +%s.%N)" "$(cat ask 2>/dev/null)" >"now-$n.part" && mv "now-$n.part" "now-$n"
`

// pythonCode prints what a rank would find, one line.
const pythonCode = `import sys, platform
import torch
print("python", platform.python_version(), "torch", torch.__version__, "cuda", torch.version.cuda, "gpus", torch.cuda.device_count())
`

// script of the job. srun's steps get everything by argument, so that nothing of forged's environment has to.
func (x *probe) script() string {
	srun := "srun"
	if x.o.Tools.Bin != "" {
		srun = filepath.Join(x.o.Tools.Bin, "srun")
	}
	step := []string{srun, "--nodes=" + strconv.Itoa(x.nodes), "--ntasks-per-node=1", "--export=ALL", "--mpi=none"}
	var b strings.Builder
	b.WriteString("#!/bin/bash\nset -u\n" + minimal + "\n")
	fmt.Fprintf(&b, "export FORGE_CHECK_DIR=%s FORGE_CHECK_SHIM=%s\n", quote(x.dir), quote(x.o.Shim))
	fmt.Fprintf(&b, "%s || exit $?\n", quoteAll(append(slices.Clone(step), "bash", "-c", talk)))
	if soft, ok := x.software(); ok {
		lines := append([]string{"set -e"}, soft.source...)
		lines = append(lines, quoteAll(append(append(slices.Clone(soft.wrap), soft.python), "-c", pythonCode)))
		inner := fmt.Sprintf("n=${SLURM_NODEID:-0}; cd %s || exit 71\n( %s\n) >python-$n.part 2>&1 </dev/null; echo \"rc=$?\" >>python-$n.part; mv python-$n.part python-$n\n", quote(x.dir), strings.Join(lines, "\n"))
		fmt.Fprintf(&b, "exec %s\n", quoteAll(append(append(slices.Clone(step), soft.srun...), "bash", "-c", inner)))
	}
	return b.String()
}

// software is what the cluster's configuration starts ranks in; ok is false where it names none.
func (x *probe) software() (software, bool) {
	s := softwareOf(x.o.With.Runtime, x.o.With.Python, []string{x.dir}, nil)
	return s, s.python != ""
}

func (x *probe) args() []string {
	args := []string{"--parsable", "--job-name=" + x.name, "--nodes=" + strconv.Itoa(x.nodes), "--ntasks-per-node=1", "--time=" + probeLimit, "--export-file=/dev/null", "--no-requeue",
		"--chdir=/", "--output=" + filepath.Join(x.dir, "job.out"), "--error=" + filepath.Join(x.dir, "job.out"), "--input=/dev/null"}
	for _, o := range [][2]string{{"--partition", x.p.Name}, {"--account", x.p.Account}, {"--qos", x.p.QOS}} {
		if o[1] != "" {
			args = append(args, o[0]+"="+o[1])
		}
	}
	if x.gpus {
		gres := cmp.Or(x.o.With.GRES, DefaultGRES)
		if x.p.GPUType != "" {
			gres += ":" + x.p.GPUType
		}
		args = append(args, "--gres="+gres+":1")
	}
	return args
}

// run submits and listens until the job has said all that it can. Its error is that of the submission.
func (x *probe) run(ctx context.Context, patience time.Duration) error {
	t := x.o.Tools
	t.extra = []string{plantedName + "=a secret of forged's"}
	out, err := t.Run(ctx, x.script(), "sbatch", x.args()...)
	if err != nil {
		return err
	}
	x.id, _, _ = strings.Cut(strings.TrimSpace(out), ";")
	x.answers, x.skew, x.python = map[int]map[string]string{}, map[int]time.Duration{}, map[int]string{}
	begin := time.Now()
	var asked, softFrom time.Time
	for {
		x.look(begin)
		x.listen(asked)
		switch {
		case x.started == 0 && time.Since(begin) > patience:
			return nil
		case len(x.answers) == x.nodes && asked.IsZero():
			asked = time.Now()
			if err := x.ask(); err != nil {
				return nil
			}
		case len(x.skew) == x.nodes:
			x.talked = true
			if softFrom.IsZero() {
				softFrom = time.Now()
			}
			if _, has := x.software(); !has || len(x.python) == x.nodes || time.Since(softFrom) > probeSoftware {
				return nil
			}
		}
		if x.over() || x.started > 0 && softFrom.IsZero() && time.Since(begin) > x.started+probeTalk {
			x.listen(asked)
			x.talked = len(x.skew) == x.nodes
			return nil
		}
		if wait(ctx, probeEvery) != nil {
			return nil
		}
	}
}

// ask is forged's word, whole or not there.
func (x *probe) ask() error {
	tmp := filepath.Join(x.dir, "ask.part")
	if err := os.WriteFile(tmp, []byte(x.nonce+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(x.dir, "ask"))
}

// look asks Slurm what became of the job. No answer changes nothing.
func (x *probe) look(begin time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := x.o.Tools.Run(ctx, "", "squeue", "-h", "-a", "-t", "all", "--name="+x.name, "-O", "JobID:|,State:|,exit_code:|,Reason:")
	if err != nil {
		return
	}
	for line := range strings.Lines(out) {
		if f := strings.SplitN(strings.TrimRight(line, "\r\n"), "|", 4); len(f) == 4 && f[0] == x.id {
			x.state, x.exit, x.reason = f[1], f[2], strings.TrimSpace(f[3])
		}
	}
	if x.started == 0 && x.state != "" && x.state != "PENDING" && x.state != "CONFIGURING" {
		x.started = max(time.Since(begin), time.Millisecond)
	}
}

func (x *probe) over() bool {
	switch x.state {
	case "", "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STAGE_OUT":
		return false
	}
	return true
}

// listen reads what has come. asked is when forged gave its word: a node's time must lie between that and now.
func (x *probe) listen(asked time.Time) {
	entries, err := os.ReadDir(x.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		kind, index, ok := strings.Cut(e.Name(), "-")
		n, err := strconv.Atoi(index)
		if !ok || err != nil || n < 0 || n >= x.nodes {
			continue
		}
		switch kind {
		case "hello":
			if x.answers[n] == nil {
				x.answers[n] = keyValues(x.read(e.Name()))
			}
		case "now":
			if _, have := x.skew[n]; !have && !asked.IsZero() {
				x.hear(n, x.read(e.Name()), asked, time.Now())
			}
		case "python":
			x.python[n] = x.read(e.Name())
		}
	}
}

func (x *probe) hear(n int, said string, asked, now time.Time) {
	at, nonce, _ := strings.Cut(strings.TrimSpace(said), " ")
	if nonce != x.nonce {
		return
	}
	seconds, err := strconv.ParseFloat(at, 64)
	if err != nil {
		return
	}
	t := time.Unix(0, int64(seconds*1e9))
	switch {
	case t.Before(asked):
		x.skew[n] = t.Sub(asked)
	case t.After(now):
		x.skew[n] = t.Sub(now)
	default:
		x.skew[n] = 0
	}
}

// read is bounded: the files are written on other machines.
func (x *probe) read(name string) string {
	f, err := os.Open(filepath.Join(x.dir, name))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 16<<10))
	return string(b)
}

func keyValues(s string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(s) {
		if k, v, ok := strings.Cut(strings.TrimRight(line, "\n"), "="); ok {
			m[k] = v
		}
	}
	return m
}

// names of the nodes that answered, in order.
func (x *probe) where() []string {
	var out []string
	for n := range x.nodes {
		if a := x.answers[n]; a != nil {
			out = append(out, cmp.Or(a["node"], "node "+strconv.Itoa(n)))
		}
	}
	return out
}

func (x *probe) node(n int) string {
	return cmp.Or(x.answers[n]["node"], "node "+strconv.Itoa(n))
}
