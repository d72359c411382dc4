package main

import (
	"context"
	"io"
	"net/http/httptest"
	"testing"

	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

// BenchmarkList10000 is forgectl's and the wire's share of cli_list: 10,000 runs over HTTP
// into a table, with a store that answers at once.
func BenchmarkList10000(b *testing.B) {
	f := apitest.New(scriptNow)
	for n := range int64(10000) {
		addPlainRun(f, n+1)
	}
	ts := httptest.NewServer(server.New(f.Services(), server.Options{}))
	defer ts.Close()
	streams := quiet().Streams
	streams.Out, streams.OutTTY = io.Discard, true
	for b.Loop() {
		if code := run(context.Background(), []string{"forgectl", "run", "list", "--limit", "0", "--server", ts.URL, "--key", apitest.MemberSecret}, streams); code != 0 {
			b.Fatal(code)
		}
	}
}
