package server

import (
	"net/http"
	"runtime"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// The defaults of Options.
const (
	DefaultMaxBody     = 1 << 20
	DefaultBodyTimeout = 10 * time.Second
	DefaultHeartbeat   = 15 * time.Second
	// writeTimeout bounds how long a client may take to read an answer.
	writeTimeout = 2 * time.Minute
)

// Options is what the server is told besides its services. Zero values mean the defaults.
type Options struct {
	Log     zerolog.Logger
	Version string
	Commit  string
	// MaxBody bounds a request body, in bytes.
	MaxBody int64
	// MaxSnapshot bounds the files of an uploaded archive, in bytes.
	MaxSnapshot int64
	// MaxDataset bounds a file that is sent to be kept, in bytes.
	MaxDataset int64
	// BodyTimeout bounds the time in which a body must have arrived.
	BodyTimeout time.Duration
	// Heartbeat is the pause between comments on a quiet event stream.
	Heartbeat time.Duration
	// Stop ends event streams when it closes, so that a graceful shutdown need not wait for
	// clients that never go. Nil: streams end with their clients.
	Stop <-chan struct{}
	// Rate is how many requests a second one key may make, after Burst at once. 0: any number.
	Rate  float64
	Burst int
	// Streams is how many event streams one key may have open. 0: any number.
	Streams int
	// Report hears of shims at POST forge.ReportPath, outside of the API and without a key; nil: nobody does.
	Report http.Handler
	// Metrics answers GET /metrics; nil: there is no such page.
	Metrics http.Handler
	// Followers is told of each event stream that opens (1) and ends (-1); may be nil.
	Followers func(delta int)
	// Observe is told of every request that was answered; may be nil.
	Observe func(Observation)
}

// Observation is a request that was answered, without a word about who asked.
type Observation struct {
	Op     string // operation id; empty when it was none of ours
	Status int
	Took   time.Duration
}

func (o Options) withDefaults() Options {
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.MaxSnapshot <= 0 {
		o.MaxSnapshot = api.DefaultMaxSnapshot
	}
	if o.MaxDataset <= 0 {
		o.MaxDataset = api.DefaultMaxDataset
	}
	if o.BodyTimeout <= 0 {
		o.BodyTimeout = DefaultBodyTimeout
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = DefaultHeartbeat
	}
	return o
}

// server is what the operations share.
type server struct {
	api.Services
	opts Options
	huma huma.API

	failures *meters  // of authentication, by address
	trusted  *digests // secrets that were good
	tries    *meters  // of logins without a key, by address
	rates    *meters  // requests by key
	streams  *slots   // event streams by key
}

// New makes the handler of the whole API. The read, header and idle timeouts are those of the
// http.Server around it; it must not set a WriteTimeout, which would cut event streams and
// registrations that hash for minutes.
func New(s api.Services, o Options) http.Handler {
	h, _ := build(s, o)
	return h
}

func build(s api.Services, o Options) (http.Handler, *huma.OpenAPI) {
	mux := http.NewServeMux()
	srv := &server{Services: s, opts: o.withDefaults(), trusted: newDigests(), streams: newSlots(o.Streams),
		failures: newMeters(rate.Every(failureEvery), failureBurst), tries: newMeters(rate.Every(loginEvery), loginBurst), rates: newMeters(rate.Limit(o.Rate), o.Burst)}
	srv.huma = humago.New(mux, config(o.Version))
	srv.huma.UseMiddleware(func(c huma.Context, next func(huma.Context)) {
		if in := requestOf(c.Context()); in != nil {
			in.op = c.Operation().OperationID
		}
		next(c)
	})
	srv.site()
	srv.datasets()
	srv.models()
	srv.registry()
	srv.modelBytes()
	srv.garbage()
	srv.progress()
	srv.runs()
	srv.holds()
	srv.priorities()
	srv.nodes()
	srv.gpus()
	srv.runData()
	srv.tenants()
	srv.users()
	srv.keys()
	srv.logins()
	srv.clusters()
	srv.events()
	srv.recipes()
	srv.evals()
	srv.schedules()
	srv.costs()
	srv.snapshots()
	srv.bundles()
	srv.hooks()
	if o.Report != nil {
		mux.Handle("POST "+forge.ReportPath, heardAtMost(newMeters(reportRate, 2*reportRate), o.Report))
	}
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics)
	}
	finish(srv.huma.OpenAPI())
	serveOpenAPI(mux, srv.huma.OpenAPI())
	return srv.record(srv.key(srv.body(problems(mux)))), srv.huma.OpenAPI()
}

func (s *server) version() api.Version {
	return api.Version{Version: s.opts.Version, Commit: s.opts.Commit, Go: runtime.Version(), API: api.Level, Oldest: api.OldestLevel}
}
