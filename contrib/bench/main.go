// Command bench is `make bench`: the project's figures, one line each, that anyone can run.
//
//	BENCH <name> <value> <unit> vs <peer or limit> <value> ratio <r> target <t> ok|short
//
// ratio is value ÷ peer. "short" is an honest word and no error: the exit code is 0 when every
// figure was measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// figure is one measured line.
type figure struct {
	name   string
	value  float64
	unit   string
	peer   string
	limit  float64
	target string // shown
	ok     bool
}

// atMost and atLeast judge a value against a factor of its peer.
func atMost(name string, value float64, unit, peer string, limit, factor float64) figure {
	return figure{name, value, unit, peer, limit, fmt.Sprintf("<=%g", factor), value <= factor*limit}
}

func atLeast(name string, value float64, unit, peer string, limit, factor float64) figure {
	return figure{name, value, unit, peer, limit, fmt.Sprintf(">=%g", factor), value >= factor*limit}
}

func (f figure) String() string {
	verdict := "short"
	if f.ok {
		verdict = "ok"
	}
	return fmt.Sprintf("BENCH %s %.4g %s vs %s %.4g ratio %.3f target %s %s", f.name, f.value, f.unit, f.peer, f.limit, f.value/f.limit, f.target, verdict)
}

// bench measures one or more figures that share their set-up.
type bench struct {
	names []string
	f     func(context.Context, env) ([]figure, error)
}

// env is where the binaries are, whether parts of a figure are printed too, and what those that leave something to chance go by.
type env struct {
	bin, python string
	verbose     bool
	seed        uint64
	kills       int
	shrink      int // kueue_load has that many times fewer tenants and nodes
}

var benches = []bench{
	{[]string{"submit_rate", "submit_group"}, submitRate},
	{[]string{"launch_p50"}, launchP50},
	{[]string{"cli_start"}, cliStart},
	{[]string{"cli_list", "idle_cpu", "idle_rss"}, withManyPending},
	{[]string{"sse_lag_p99"}, sseLag},
	{[]string{"read_p99"}, readP99},
	{[]string{"restart_ready"}, restartReady},
	{[]string{"completion_ms"}, completionMS},
	{[]string{"forecast_median_error", "forecast_coverage"}, forecasts},
	{[]string{"slurm_rate"}, slurmRate},
	{[]string{"slurm_accept"}, slurmAccept},
	{[]string{"slurm_start_ms"}, slurmStart},
	{[]string{"slurm_foreign"}, slurmForeign},
	{[]string{"slurm_poll_cpu", "slurm_ctld_load"}, slurmPoll},
	{[]string{"slurm_poll_cpu_10k"}, slurmPollMany},
	{[]string{"slurm_failover_s"}, slurmFailover},
	{[]string{"slurm_torture"}, slurmTorture},
	{[]string{"plan_full"}, planFull},
	{[]string{"plan_incremental"}, planIncremental},
	{[]string{"placements"}, placements},
	{[]string{"preempt_decide"}, preemptDecide},
	{[]string{"plan_curve"}, planCurve},
	{[]string{"replay_16k"}, replay16k},
	{[]string{"kueue_load"}, kueueLoad},
	{[]string{"verify_rate"}, verifyRate},
	{[]string{"scan_rate", "scan_rss"}, scanRate},
	{[]string{"lineage_ms", "lineage_worst_ms"}, lineageMS},
	{[]string{"estimate_error"}, estimateError},
	{[]string{"fidelity_sft"}, fidelitySFT},
	{[]string{"fidelity_dpo"}, fidelityDPO},
	{[]string{"fidelity_ppo"}, fidelityPPO},
	{[]string{"overhead_cpu"}, overheadCPU},
	{[]string{"eval_overhead"}, evalOverhead},
	{[]string{"restart_exec_s"}, restartExec},
	{[]string{"lost_steps_kill", "lost_steps_signal"}, lostSteps},
	{[]string{"ppo_resume_exact"}, ppoResume},
	{[]string{"grpo_resume_exact"}, grpoResume},
	{[]string{"rloo_resume_exact"}, rlooResume},
	{[]string{"kills_50"}, kills50},
	{[]string{"kills_1000"}, kills1000},
	{[]string{"pii_precision", "pii_recall"}, piiAccuracy},
	{[]string{"pii_speed"}, piiSpeed},
	{[]string{"scan_vs_grep"}, scanVsGrep},
	{[]string{"xid_to_kill_ms", "xid_decide_ms"}, xidToKill},
	{[]string{"nvml_child_restart_s"}, childRestart},
	{[]string{"sampler_overhead"}, samplerOverhead},
	{[]string{"gate_type1"}, gateType1},
	{[]string{"gate_power"}, gatePower},
	{[]string{"stats_error"}, statsError},
	{[]string{"compare_ms"}, compareMS},
	{[]string{"ingest_rate"}, ingestRate},
	{[]string{"plot_ms"}, plotMS},
	{[]string{"mlflow_metrics"}, mlflowMetrics},
	{[]string{"mlflow_registry"}, mlflowRegistry},
	{[]string{"health_matrix"}, healthMatrix},
	{[]string{"nvml_cpu"}, nvmlCPU},
}

func main() {
	var e env
	flag.StringVar(&e.bin, "bin", "bin", "directory of the binaries")
	flag.BoolVar(&e.verbose, "v", false, "print the parts of a figure too")
	flag.StringVar(&e.python, "python", "", "interpreter of the training environment; empty installs one, or finds it")
	flag.Uint64Var(&e.seed, "seed", 0, "what chance follows from; 0 is the clock")
	flag.IntVar(&e.kills, "kills", 0, "so many kills instead of kills_50's and kills_1000's own number")
	flag.IntVar(&e.shrink, "shrink", 1, "kueue_load with this many times fewer tenants and nodes, to look at it: it prints no figure then")
	profile := flag.String("cpuprofile", "", "write a CPU profile of this process to a file")
	only := flag.String("only", "", "comma-separated names; empty means all")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, e, *only)
	pprof.StopCPUProfile()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, e env, only string) error {
	var err error
	if e.bin, err = filepath.Abs(e.bin); err != nil {
		return err
	}
	var want []string
	if only != "" {
		want = strings.Split(only, ",")
	}
	var all []string
	for _, b := range benches {
		all = append(all, b.names...)
	}
	for _, w := range want {
		if !slices.ContainsFunc(all, func(n string) bool { return names(all, w, n) }) {
			return fmt.Errorf("no figure is called %q; there are %s", w, strings.Join(all, ", "))
		}
	}
	var errs []error
	for _, b := range benches {
		asked := func(n string) bool {
			return len(want) == 0 || slices.ContainsFunc(want, func(w string) bool { return names(all, w, n) })
		}
		if !slices.ContainsFunc(b.names, asked) {
			continue
		}
		figures, err := b.f(ctx, e)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", strings.Join(b.names, ","), err))
		}
		for _, f := range figures {
			if asked(f.name) {
				fmt.Println(f)
			}
		}
	}
	return errors.Join(errs...)
}

// names says whether a word names a figure: by its whole name, or as the beginning of several when it is no whole name (forecast).
func names(all []string, word, figure string) bool {
	return figure == word || !slices.Contains(all, word) && strings.HasPrefix(figure, word+"_")
}

// options are those of a forged whose one CPU slot can be kept busy, so that what is submitted waits.
// It counts no requests and no followers: one key stands here for all of a site's users.
func options(e env) forgedtest.Options {
	return forgedtest.Options{Bin: e.bin, CPUSlots: 1, WithProbe: true, Extra: "limits:\n  requests_per_second: 0\n  streams_per_key: 0\n"}
}

// site starts such a forged.
func site(ctx context.Context, e env) (*forgedtest.Site, error) {
	s, err := forgedtest.New(ctx, options(e))
	if err != nil {
		return nil, err
	}
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
