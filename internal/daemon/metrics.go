package daemon

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

const (
	scrapeTimeout = 5 * time.Second
	scrapes       = 2 // at one time; the page needs no key
)

// meter counts what /metrics shows. All of it is of the site as a whole: no tenant, user, run or
// model has a name or a series there, so that whoever may read the page learns of nobody. gpus.job_metrics
// alone breaks that, and is off.
type meter struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	plan     prometheus.Histogram
	gpuTime  *prometheus.CounterVec
	follow   atomic.Int64
	gpus     func() []*dto.MetricFamily // of GPUs; nil: none

	regressions prometheus.Counter
	hooks       *prometheus.CounterVec
}

func newMeter(version string) *meter {
	m := &meter{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "forge_http_requests_total", Help: "Requests answered, by operation of the API and class of status."}, []string{"op", "class"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "forge_http_request_seconds", Help: "How long requests took, by operation; event streams are left out.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, 1, 10}}, []string{"op"}),
		plan: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "forge_plan_seconds", Help: "How long a turn of planning took, with what it committed.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5}}),
		regressions: prometheus.NewCounter(prometheus.CounterOpts{Name: "forge_eval_regressions_total", Help: "Evals of schedules that were found worse than their baseline, since forged has started."}),
	}
	m.hooks = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "forge_hook_deliveries_total",
		Help: "Tries to tell hooks of events, by result: delivered, retried (failed, and is tried again), given_up, test."}, []string{"result"})
	m.gpuTime = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "forge_gpu_seconds_total", Help: "GPU time of attempts that ended since this forged began, by what it was for; useful over all is the goodput. A CPU slot counts as one."}, []string{"class"})
	for _, c := range forge.CostClasses {
		m.gpuTime.WithLabelValues(string(c))
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "forge_build_info", Help: "1; the labels say which forged this is.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()}})
	build.Set(1)
	m.registry.MustRegister(m.hooks, m.requests, m.took, m.plan, m.regressions, m.gpuTime, build, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector())
	return m
}

// observe is told of every request by the API.
func (m *meter) observe(o server.Observation) {
	op := o.Op
	if op == "" {
		op = "none" // paths are whatever somebody typed
	}
	m.requests.WithLabelValues(op, fmt.Sprintf("%dxx", o.Status/100)).Inc()
	if op != "stream-events" {
		m.took.WithLabelValues(op).Observe(o.Took.Seconds())
	}
}

// ended counts what an attempt had that has ended. What a later resume takes back of it is in forgectl cost alone: a counter only grows.
func (m *meter) ended(a *forge.Attempt) {
	for _, s := range a.Stretches(a.ExitedAt) {
		m.gpuTime.WithLabelValues(string(s.Class)).Add(s.To.Sub(s.From).Seconds() * float64(a.GPUs()))
	}
}

func (m *meter) followers(delta int) { m.follow.Add(int64(delta)) }

// gather is all that the page has, by name.
func (m *meter) gather() ([]*dto.MetricFamily, error) {
	all, err := m.registry.Gather()
	if m.gpus != nil {
		all = append(all, m.gpus()...)
		slices.SortStableFunc(all, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	}
	return all, err
}

// handler answers GET /metrics.
func (m *meter) handler() http.Handler {
	return promhttp.HandlerFor(prometheus.GathererFunc(m.gather), promhttp.HandlerOpts{MaxRequestsInFlight: scrapes, Timeout: scrapeTimeout, ErrorHandling: promhttp.ContinueOnError})
}

// siteFacts is read anew at every scrape.
type siteFacts struct{ d *Daemon }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descRuns      = desc("forge_runs", "Runs that have not ended, by state.", "state")
	descQueue     = desc("forge_queue_depth", "Runs that wait to be placed.")
	descGPUs      = desc("forge_gpus", "GPUs, by cluster, type and whether they are free; a CPU slot counts as one.", "cluster", "type", "free")
	descUnknown   = desc("forge_attempts_unknown", "Open attempts whose executor does not answer.")
	descOutbox    = desc("forge_outbox_rows", "Launches, signals and endings that are decided and not yet done.")
	descOutboxAge = desc("forge_outbox_oldest_seconds", "Age of the oldest of them.")
	descCommits   = desc("forge_store_commits_total", "Transactions committed.")
	descClosures  = desc("forge_store_closures_total", "Writes in them; per commit it is how well writes group.")
	descCommitSec = desc("forge_store_commit_seconds_total", "Time that committing took; per commit it is the latency.")
	descFollowers = desc("forge_event_followers", "Event streams that are open.")
	descHooks     = desc("forge_hook_backlog", "Deliveries to hooks that are still to be made.")
	descReady     = desc("forge_ready", "1 when the daemon can work; /readyz says why it cannot.")
	descCertEnd   = desc("forge_tls_certificate_end_timestamp_seconds", "When the certificate that is served ends.")
)

// Describe implements prometheus.Collector.
func (siteFacts) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descRuns, descQueue, descGPUs, descUnknown, descOutbox, descOutboxAge, descCommits, descClosures, descCommitSec, descFollowers, descHooks, descReady, descCertEnd} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. What cannot be read is left out rather than shown as none.
func (s siteFacts) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v)
	}
	t := s.d.world.tally()
	for state, n := range t.runs {
		gauge(descRuns, float64(n), string(state))
	}
	gauge(descQueue, float64(t.waiting))
	gauge(descUnknown, float64(t.silent))
	if nodes, err := site(s).Nodes(ctx, forge.Principal{}); err == nil {
		type kind struct{ cluster, gpu, free string }
		sum := map[kind]int{}
		for _, n := range nodes {
			free := n.FreeGPUs
			for _, g := range n.GPUs {
				k := kind{string(n.Cluster), g.Type, "no"}
				if free > 0 {
					k.free, free = "yes", free-1
				}
				sum[k]++
			}
		}
		for k, n := range sum {
			gauge(descGPUs, float64(n), k.cluster, k.gpu, k.free)
		}
	}
	if rows, err := s.d.db.Outbox(ctx); err == nil {
		gauge(descOutbox, float64(len(rows)))
		age := 0.0
		if len(rows) > 0 {
			age = max(0, time.Since(rows[0].CreatedAt).Seconds())
		}
		gauge(descOutboxAge, age)
	}
	st := s.d.db.Stats()
	count(descCommits, float64(st.Commits))
	count(descClosures, float64(st.Closures))
	count(descCommitSec, st.Spent.Seconds())
	gauge(descFollowers, float64(s.d.meter.follow.Load()))
	if n, err := s.d.db.HookBacklog(ctx); err == nil {
		gauge(descHooks, float64(n))
	}
	ready := 1.0
	if len(site(s).Ready(ctx)) > 0 {
		ready = 0
	}
	gauge(descReady, ready)
	if c := s.d.live().certificate; c != nil {
		gauge(descCertEnd, float64(c.Leaf.NotAfter.Unix()))
	}
}

// tally is the world in numbers.
type tally struct {
	runs    map[forge.RunState]int
	waiting int
	silent  int                             // open attempts whose executor does not answer
	unknown map[forge.ClusterName]time.Time // since when, by cluster
}

func (d *world) tally() tally {
	d.mu.RLock()
	defer d.mu.RUnlock()
	t := tally{runs: map[forge.RunState]int{forge.RunPending: 0, forge.RunProvisioning: 0, forge.RunRunning: 0}, waiting: len(d.pending), unknown: map[forge.ClusterName]time.Time{}}
	for _, r := range d.runs {
		t.runs[r.State]++
	}
	for _, a := range d.attempts {
		if a.State.Open() && !a.Unknown.IsZero() {
			t.silent++
			if since, ok := t.unknown[a.Cluster]; !ok || a.Unknown.Before(since) {
				t.unknown[a.Cluster] = a.Unknown
			}
		}
	}
	return t
}
