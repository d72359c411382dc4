package sim

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// GenerateOptions say what a made trace is like.
type GenerateOptions struct {
	Jobs    int
	Seed    uint64
	Cluster Cluster
	Load    float64 // GPU time that is asked for, as part of all there is while jobs arrive
}

// What traces of training have in common: most runs are small and short, most of the work is in the few long ones; a third comes as sweeps of like
// runs; days are busier than nights; now and then everybody submits at once; sizes are powers of two but for a few.
var (
	sizes = []struct {
		gpus int
		part float64
	}{{1, 0.45}, {2, 0.11}, {4, 0.14}, {8, 0.18}, {16, 0.06}, {32, 0.02}, {64, 0.01}, {3, 0.01}, {6, 0.01}, {12, 0.005}, {24, 0.005}}
	baseModels = []string{"llama3-8b", "qwen2-7b", "mistral-7b", "gemma2-9b", "phi3-mini", "llama3-70b"}
)

const (
	medianRun   = 1500.0 // s
	spreadRun   = 1.9    // of its logarithm: the mean is six times the median
	shortestRun = 20.0
	longestRun  = 20 * 86400.0
	longestPart = 0.125 // of the time over which jobs arrive
	sweepPart   = 0.08  // of the submits; with 4 to 32 runs each that is a third and more of the runs
	sweepSpread = 0.08
	burstPart   = 0.1
	burstLength = 600.0
	dayDepth    = 0.7 // how much emptier the night is than the mean
	maxMade     = 1_000_000
)

// Generate makes a trace. The same options give the same trace.
func Generate(o GenerateOptions) ([]Job, error) {
	if o.Jobs < 1 || o.Jobs > maxMade {
		return nil, forge.Invalidf("generate", "%d is out of range; want 1 to %d jobs", o.Jobs, maxMade)
	}
	if !(o.Load > 0 && o.Load <= 100) {
		return nil, forge.Invalidf("load", "%v is out of range; want more than 0 and at most 100; 0.9 keeps a cluster busy, more than 1 is more than it can do", o.Load)
	}
	if err := o.Cluster.validate(); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(o.Seed, 0x5eed))
	jobs := make([]Job, 0, o.Jobs)
	var at []float64 // of each job, as a part of the whole time
	var inBurst []bool
	bursts := make([]float64, 1+o.Jobs/500)
	for i := range bursts {
		bursts[i] = rng.Float64()
	}
	for len(jobs) < o.Jobs {
		when, burst := rng.Float64(), rng.Float64() < burstPart
		if burst {
			when = bursts[rng.IntN(len(bursts))]
		}
		gpus := drawSize(rng, o.Cluster)
		d := medianRun * math.Exp(spreadRun*rng.NormFloat64())
		model := baseModels[min(len(baseModels)-1, int(rng.ExpFloat64()*1.5))]
		n := 1
		if rng.Float64() < sweepPart {
			n = min(4<<rng.IntN(4), o.Jobs-len(jobs))
		}
		for range n {
			took := max(shortestRun, d*math.Exp(sweepSpread*rng.NormFloat64()))
			jobs = append(jobs, Job{GPUs: gpus, Duration: int64(took * 1000), Model: model})
			at, inBurst = append(at, when), append(inBurst, burst)
		}
	}
	span := bound(jobs, float64(o.Cluster.Total())*o.Load)
	for i := range jobs {
		t := daytime(at[i], span)
		if inBurst[i] {
			t += rng.Float64() * burstLength
		} else if i > 0 && at[i] == at[i-1] { // a sweep is submitted by a loop
			t = float64(jobs[i-1].Submit)/1000 + 1 + rng.Float64()*4
		}
		jobs[i].Submit = int64(t * 1000)
	}
	slices.SortStableFunc(jobs, func(a, b Job) int { return cmp.Compare(a.Submit, b.Submit) })
	first := jobs[0].Submit
	for i := range jobs {
		jobs[i].ID = strconv.Itoa(i)
		jobs[i].Submit -= first
	}
	return jobs, nil
}

// bound cuts the longest runs to a part of the time over which jobs arrive, and gives that time: else the end of a
// short trace would be one run on an empty cluster.
func bound(jobs []Job, rate float64) (span float64) {
	longest := longestRun
	for range 20 {
		work := 0.0
		for i := range jobs {
			work += min(seconds(jobs[i].Duration), longest) * float64(jobs[i].GPUs)
		}
		span = work / rate
		longest = min(longest, max(span*longestPart, medianRun))
	}
	for i := range jobs {
		jobs[i].Duration = min(jobs[i].Duration, int64(longest*1000))
	}
	return span
}

// drawSize takes sizes that are at most half of the cluster, where there are such.
func drawSize(rng *rand.Rand, c Cluster) int {
	fits := func(gpus int) bool {
		_, ok := c.gang(gpus)
		return ok && (gpus == 1 || 2*gpus <= c.Total())
	}
	sum := 0.0
	for _, s := range sizes {
		if fits(s.gpus) {
			sum += s.part
		}
	}
	x := rng.Float64() * sum
	for _, s := range sizes {
		if fits(s.gpus) {
			if x -= s.part; x < 0 {
				return s.gpus
			}
		}
	}
	return 1
}

// daytime spreads arrivals over the span so that days are busier than nights: part u of all has come by then.
func daytime(u, span float64) float64 {
	const day = 86400.0
	came := func(t float64) float64 { return t - dayDepth*day/(2*math.Pi)*math.Sin(2*math.Pi*t/day) }
	lo, hi := 0.0, span
	want := u * came(span)
	for range 60 {
		if mid := (lo + hi) / 2; came(mid) < want {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// WriteTrace writes jobs in the form that ReadTrace reads.
func WriteTrace(w io.Writer, jobs []Job) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, strings.Join(columns, ","))
	for i := range jobs {
		j := &jobs[i]
		fmt.Fprintf(b, "%s,%s,%d,%s,%s\n", j.ID, decimal(j.Submit), j.GPUs, decimal(j.Duration), j.Model)
	}
	return b.Flush()
}

func decimal(ms int64) string { return fmt.Sprintf("%d.%03d", ms/1000, ms%1000) }
