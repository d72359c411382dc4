package server

import (
	"net/http"
	"runtime"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/rs/zerolog"

	"github.com/forge-ml/forge-ml/internal/api"
)

// The defaults of Options.
const (
	DefaultMaxBody     = 1 << 20
	DefaultBodyTimeout = 10 * time.Second
	DefaultHeartbeat   = 15 * time.Second
)

// Options is what the server is told besides its services. Zero values mean the defaults.
type Options struct {
	Log     zerolog.Logger
	Version string
	Commit  string
	// MaxBody bounds a request body, in bytes.
	MaxBody int64
	// BodyTimeout bounds the time in which a body must have arrived.
	BodyTimeout time.Duration
	// Heartbeat is the pause between comments on a quiet event stream.
	Heartbeat time.Duration
	// Stop ends event streams when it closes, so that a graceful shutdown need not wait for
	// clients that never go. Nil: streams end with their clients.
	Stop <-chan struct{}
}

func (o Options) withDefaults() Options {
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxBody
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
	srv := &server{Services: s, opts: o.withDefaults()}
	srv.huma = humago.New(mux, config(o.Version))
	srv.site()
	srv.datasets()
	srv.models()
	srv.runs()
	srv.holds()
	srv.runData()
	srv.tenants()
	srv.users()
	srv.keys()
	srv.clusters()
	srv.events()
	serveOpenAPI(mux, srv.huma.OpenAPI())
	return srv.record(srv.key(srv.body(problems(mux)))), srv.huma.OpenAPI()
}

func (s *server) version() api.Version {
	return api.Version{Version: s.opts.Version, Commit: s.opts.Commit, Go: runtime.Version()}
}
