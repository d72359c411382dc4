package server

import (
	"encoding/json"
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/forge-ml/forge-ml/internal/api"
)

const description = `Drives forge-ml: datasets, models, runs and what became of them.

Send the key in X-API-Key. Errors are RFC 9457 problems with kind, field and hint.
Times are RFC 3339 in UTC; durations are Go's form ("1h30m0s") and are accepted in Slurm's as well
("90" is minutes, "1-12:00:00"); memory is MiB, sizes are bytes, steps are optimizer steps.
Listings answer items and next; pass next as cursor.
Every POST takes an Idempotency-Key, by which it may be repeated: what was done is answered and not done twice. PATCH needs
none: it sets what it names, and twice is as good as once. Operators may act in another tenant with X-Tenant-ID.
Requests are counted by key: 429 with Retry-After says when to come again.`

// config is huma's, without what we do not want: links to schemas in every body, a documentation
// page that loads scripts from the internet, and huma's own /openapi.json, whose lazy cache is
// a data race.
func config(version string) huma.Config {
	c := huma.DefaultConfig("forge-ml", version)
	c.Info.Description = description
	c.CreateHooks = nil
	c.DocsPath, c.SchemasPath, c.OpenAPIPath = "", "", ""
	c.RejectUnknownQueryParameters = true
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"key": {Type: "apiKey", In: "header", Name: api.HeaderKey, Description: "Made by forged init or forgectl key create. On the unix socket the kernel says who asks, where no key is given"},
	}
	return c
}

// serveOpenAPI serves the description, made once at first use.
func serveOpenAPI(mux *http.ServeMux, o *huma.OpenAPI) {
	asJSON := sync.OnceValues(func() ([]byte, error) { return json.Marshal(o) })
	asYAML := sync.OnceValues(o.YAML)
	serve := func(contentType string, make func() ([]byte, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			b, err := make()
			if err != nil {
				writeProblem(w, api.ProblemOf(err, requestID(r.Context())))
				return
			}
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write(b)
		}
	}
	mux.HandleFunc("GET /openapi.json", serve("application/openapi+json", asJSON))
	mux.HandleFunc("GET /openapi.yaml", serve("application/openapi+yaml", asYAML))
}
