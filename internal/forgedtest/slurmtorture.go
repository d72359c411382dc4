package forgedtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// SlurmTorture is a Slurm cluster whose daemons, and forged with them, are killed at random under a load of gangs.
type SlurmTorture struct {
	Bin    string
	Runs   int
	Chaos  time.Duration // how long things are killed; the runs come evenly in it
	Settle time.Duration // how long what is left may take afterwards
	Seed   uint64
}

// SlurmVerdict is what became of the runs, judged from what ranks wrote and from the numbers that they came to.
type SlurmVerdict struct {
	Runs    int
	Lost    []string // acknowledged, and not completed with the right result
	Doubled []string // a rank of one attempt that began twice
	Stuck   []string // not ended when everything was healed
	Did     map[string]int
	Story   []string
	Site    *Site // still served, for whoever looks closer; close it with Close
	close   []func() error
}

// Close takes everything down.
func (v *SlurmVerdict) Close() error {
	var errs []error
	for _, f := range slices.Backward(v.close) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// tortured is one run that was acknowledged.
type tortured struct {
	id             forge.RunID
	number         string
	ranks, steps   int
	nodes, perEach int
}

type slurmTorture struct {
	o      SlurmTorture
	v      *SlurmVerdict
	ctx    context.Context
	c      *slurmtest.Cluster
	s      *Site
	rnd    *rand.Rand
	began  time.Time
	asked  int
	runs   []tortured
	forged time.Time            // dead until then
	dead   map[string]time.Time // daemons of Slurm, and when they come back
}

const slurmctld = "slurmctld"

// Run tortures and judges. An error means that nothing can be said.
func (o SlurmTorture) Run(ctx context.Context) (*SlurmVerdict, error) {
	v := &SlurmVerdict{Did: map[string]int{}}
	c, err := slurmtest.Start(ctx, slurmtest.Options{Nodes: 6, GPUs: 4})
	if err != nil {
		return v, err
	}
	v.close = append(v.close, c.Down)
	site := Options{Bin: o.Bin, WithProbe: true,
		Extra: "retry: {backoff_min: 50ms, backoff_max: 1s, fruitless_limit: 1000, pause_after: 100000}\nlimits: {requests_per_second: 0}\n"}
	if err := site.OnSlurm(Slurm{Cluster: c, Name: "torture", Poll: "1s", Settings: []string{"nodes_every: 5s", "max_pending: 1000"}}); err != nil {
		return v, err
	}
	s, err := New(ctx, site)
	if err != nil {
		return v, err
	}
	v.Site, v.close = s, append(v.close, s.Close)
	if err := s.Start(ctx); err != nil {
		return v, err
	}
	x := &slurmTorture{o: o, v: v, ctx: ctx, c: c, s: s, rnd: rand.New(rand.NewPCG(o.Seed, 2)), began: time.Now(), dead: map[string]time.Time{}}
	return v, errors.Join(x.chaos(), x.judge())
}

func (x *slurmTorture) note(what, format string, args ...any) {
	x.v.Did[what]++
	x.v.Story = append(x.v.Story, time.Now().UTC().Format("15:04:05.000 ")+what+" "+fmt.Sprintf(format, args...))
}

func (x *slurmTorture) chaos() error {
	tick, round := time.NewTicker(250*time.Millisecond), time.NewTicker(20*time.Second)
	defer tick.Stop()
	defer round.Stop()
	for {
		select {
		case <-round.C:
			if x.dead[slurmctld].IsZero() {
				x.admin()
			}
		case <-x.ctx.Done():
			return x.ctx.Err()
		case now := <-tick.C:
			if err := x.heal(now); err != nil {
				return err
			}
			passed := now.Sub(x.began)
			if passed > x.o.Chaos && x.asked >= x.o.Runs {
				return x.heal(now.Add(time.Hour))
			}
			due := min(x.o.Runs, int(float64(x.o.Runs)*float64(passed)/float64(x.o.Chaos))+1)
			if x.forged.IsZero() && x.asked < due {
				x.submit()
			}
			if passed < x.o.Chaos && x.rnd.IntN(8) == 0 { // every two seconds or so
				if err := x.strike(now); err != nil {
					return err
				}
			}
		}
	}
}

// submit asks for one more run. An answer that did not come owes nothing.
func (x *slurmTorture) submit() {
	r := tortured{nodes: 1 + x.rnd.IntN(2), perEach: 1 + x.rnd.IntN(2), steps: 40 + x.rnd.IntN(160)}
	r.ranks = r.nodes * r.perEach
	var out api.Submitted
	err := x.s.CtlJSON(x.ctx, &out, "run", "submit", "probe", "--nodes", strconv.Itoa(r.nodes), "--gpus-per-node", strconv.Itoa(r.perEach),
		"--set", fmt.Sprint("steps=", r.steps), "--set", "step_ms=20", "--set", "save_every=10", "--priority", strconv.Itoa(40+x.rnd.IntN(20)))
	if err != nil {
		x.note("submit-refused", "%v", err)
		return
	}
	x.asked++
	r.id, r.number = out.Run.ID, fmt.Sprint(out.Run.Number)
	x.runs = append(x.runs, r)
	x.note("submit", "%s: %d nodes × %d, %d steps", r.number, r.nodes, r.perEach, r.steps)
}

func (x *slurmTorture) strike(now time.Time) error {
	later := func(upTo time.Duration) time.Time { return now.Add(time.Duration(x.rnd.Int64N(int64(upTo)))) }
	node := x.c.Nodes[x.rnd.IntN(len(x.c.Nodes))]
	switch n := x.rnd.IntN(10); {
	case n < 3:
		if !x.forged.IsZero() {
			return nil
		}
		x.note("kill-forged", "%d", x.s.Pid())
		x.s.Kill()
		x.forged = later(3 * time.Second)
	case n < 6:
		if !x.dead[slurmctld].IsZero() {
			return nil
		}
		x.note("kill-slurmctld", "")
		x.dead[slurmctld] = later(6 * time.Second)
		return x.c.KillController()
	case !x.dead[node].IsZero():
	case n < 8:
		x.note("kill-slurmd", "%s", node)
		x.dead[node] = later(20 * time.Second)
		return x.c.KillNode(node)
	default:
		x.note("lose-power", "%s", node)
		x.dead[node] = later(20 * time.Second)
		return x.c.LosePower(node)
	}
	return nil
}

// heal brings back what is due.
func (x *slurmTorture) heal(now time.Time) error {
	if !x.forged.IsZero() && now.After(x.forged) {
		x.forged = time.Time{}
		if err := x.s.Start(x.ctx); err != nil {
			return err
		}
	}
	if at := x.dead[slurmctld]; !at.IsZero() && now.After(at) {
		delete(x.dead, slurmctld)
		if err := x.c.StartController(); err != nil {
			return err
		}
	}
	for node, at := range x.dead {
		if node == slurmctld || !now.After(at) {
			continue
		}
		delete(x.dead, node)
		if err := x.c.StartNode(node); err != nil {
			return err
		}
	}
	return nil
}

// admin does what people do after such days: nodes that Slurm took out of service by itself (it drains one whose jobs it found started twice
// after the controller had forgotten the first start) and that are well are given back.
func (x *slurmTorture) admin() {
	out, err := x.c.Run("sinfo", "-h", "-N", "-o", "%N %T %E")
	if err != nil {
		return // the controller is away: another time
	}
	for line := range strings.Lines(out) {
		node, state, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, dead := x.dead[node]; dead || !strings.Contains(state, "drain") && !strings.HasPrefix(state, "down") {
			continue
		}
		if _, err := x.c.Run("scontrol", "update", "nodename="+node, "state=resume"); err == nil {
			x.note("resume", "%s, which was %s", node, state)
		}
	}
}

func (x *slurmTorture) judge() error {
	deadline := time.Now().Add(x.o.Settle)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	open := slices.Clone(x.runs)
	for n := 0; ; n++ {
		if n%10 == 0 {
			x.admin()
		}
		var left []tortured
		for _, r := range open {
			var d api.RunDetail
			if err := x.s.CtlJSON(x.ctx, &d, "run", "show", r.number); err != nil {
				x.v.Lost = append(x.v.Lost, fmt.Sprintf("run %s was acknowledged, and: %v", r.number, err))
				continue
			}
			if !d.State.Terminal() && d.Hold == nil {
				left = append(left, r)
				continue
			}
			x.look(r, d)
		}
		open = left
		if len(open) == 0 || time.Now().After(deadline) {
			break
		}
		select {
		case <-x.ctx.Done():
			return x.ctx.Err()
		case <-tick.C:
		}
	}
	for _, r := range open {
		why, _ := x.s.Ctl(x.ctx, "run", "why", r.number)
		events, _ := x.s.Ctl(x.ctx, "run", "events", r.number)
		x.v.Stuck = append(x.v.Stuck, fmt.Sprintf("run %s %s: %s\n%s\n%s", r.number, r.id, why, events, x.remains(r)))
	}
	if len(open) > 0 {
		for _, args := range [][]string{{"sinfo", "-N", "-o", "%N %T %E"}, {"scontrol", "ping"}, {"squeue", "-t", "all", "-o", "%i %j %T %r %N"}} {
			out, err := x.c.Run(args[0], args[1:]...)
			x.v.Stuck[len(x.v.Stuck)-1] += fmt.Sprintf("\n%v: %v\n%s", args, err, out)
		}
		var did []string
		for _, s := range x.v.Story {
			if !strings.Contains(s, "submit") {
				did = append(did, s)
			}
		}
		x.v.Stuck[len(x.v.Stuck)-1] += strings.Join(did, "\n")
	}
	x.v.Runs = len(x.runs)
	return nil
}

// remains says what a run has left: the files of its attempts, the records in full, and the processes.
func (x *slurmTorture) remains(r tortured) string {
	var b strings.Builder
	dir := x.s.RunDir(string(r.id))
	_ = filepath.Walk(filepath.Join(dir, "attempts"), func(path string, st os.FileInfo, err error) error {
		if err != nil || st.IsDir() || strings.Contains(path, "/checkpoints/") {
			return nil
		}
		fmt.Fprintf(&b, "%s %6d %s", st.ModTime().Format(time.TimeOnly), st.Size(), strings.TrimPrefix(path, dir))
		if st.Size() < 4<<10 && (strings.HasSuffix(path, ".json") || strings.HasSuffix(path, ".log")) {
			text, _ := os.ReadFile(path)
			fmt.Fprintf(&b, " %s", text)
		}
		b.WriteByte('\n')
		return nil
	})
	all, err := Survivors(dir)
	fmt.Fprintln(&b, err)
	for _, p := range all {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.Pid))
		for v := range strings.SplitSeq(string(env), "\x00") {
			if strings.HasPrefix(v, "SLURMD_NODENAME=") || strings.HasPrefix(v, "SLURM_JOB_ID=") {
				fmt.Fprint(&b, v, " ")
			}
		}
		fmt.Fprintln(&b, p.Pid, p.Command)
	}
	return b.String()
}

// look judges one run that ended.
func (x *slurmTorture) look(r tortured, d api.RunDetail) {
	if d.State != forge.RunCompleted || d.Loss == nil || *d.Loss != ProbeLoss(r.steps) {
		events, _ := x.s.Ctl(x.ctx, "run", "events", r.number)
		x.v.Lost = append(x.v.Lost, fmt.Sprintf("run %s %s is %s (%s), hold %+v, step %d of %d\n%s", r.number, r.id, d.State, d.Reason, d.Hold, d.Step, r.steps, events))
	}
	starts, err := x.s.Starts(string(r.id))
	if err != nil {
		x.v.Lost = append(x.v.Lost, err.Error())
	}
	seen := map[[2]int]int{}
	for _, b := range starts {
		if seen[[2]int{b.Attempt, b.Rank}]++; seen[[2]int{b.Attempt, b.Rank}] == 2 {
			x.v.Doubled = append(x.v.Doubled, fmt.Sprintf("rank %d of attempt %d of run %s began twice", b.Rank, b.Attempt, r.number))
		}
	}
	for rank := range r.ranks {
		if d.State == forge.RunCompleted && seen[[2]int{d.Attempt, rank}] == 0 {
			x.v.Lost = append(x.v.Lost, fmt.Sprintf("rank %d of the attempt that completed run %s never began", rank, r.number))
		}
	}
}
