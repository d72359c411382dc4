// Command api-check holds the API of a real forged against the description that it serves: schemathesis calls
// every operation with what the description allows and with what it does not, follows the links between operations,
// and looks for answers that the description does not know and for failures of the server.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// checks are those of schemathesis. Left out are the ones that fight with what we mean: refusals without a key
// (they are throttled; internal/e2e/matrix_test.go tries them all), and negative and positive data (whether a
// name exists is not in a schema).
var checks = []string{
	"not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
	"response_schema_conformance", "use_after_free", "ensure_resource_availability", "allow_header_conformance",
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	venv := flag.String("venv", "", "what contrib/api-check/install printed")
	bin := flag.String("bin", "bin", "directory with forged, forgectl and proberank")
	limit := flag.Duration("for", 45*time.Second, "how long to look")
	junit := flag.String("junit", "", "where to leave the JUnit report")
	seed := flag.String("seed", "1", "of what is generated")
	flag.Parse()
	if err := check(ctx, *venv, *bin, *limit, *junit, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "api-check:", err)
		stop()
		os.Exit(1)
	}
}

func check(ctx context.Context, venv, bin string, limit time.Duration, junit, seed string) (err error) {
	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	s, err := forgedtest.New(ctx, forgedtest.Options{Bin: bin, CPUSlots: 2, WithProbe: true, Network: "none", Extra: "limits: {requests_per_second: 0, streams_per_key: 0}\n"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.Start(ctx); err != nil {
		return err
	}
	url, err := s.TCP()
	if err != nil {
		return err
	}
	// A key of its own: the operator's stays whole, and the hooks know which one must live.
	var u forge.User
	var k api.CreatedKey
	if err := post(ctx, url, s.Key, "/v1/users", `{"name":"api-check","role":"operator"}`, &u); err != nil {
		return err
	}
	if err := post(ctx, url, s.Key, "/v1/keys", `{"user":"api-check"}`, &k); err != nil {
		return err
	}
	out, err := os.MkdirTemp("", "api-check")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(out)) }()
	config := filepath.Join(out, "schemathesis.toml")
	// In a file of ours alone: a key has no business in a command line.
	text := fmt.Sprintf("headers = { %s = %q }\n", api.HeaderKey, k.Secret)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	hooks, err := filepath.Abs("contrib/api-check/hooks.py")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(venv, "bin", "python"), "-m", "schemathesis.cli", "--config-file", config,
		"run", url+"/openapi.json", "--url", url, "--checks", strings.Join(checks, ","),
		"--exclude-operation-id", "stream-events", // has no end; followed in internal/api/server
		"--max-time", fmt.Sprint(int(limit.Seconds())), "--continue-on-failure", "--seed", seed, "--generation-database", "none",
		"--report", "junit", "--report-junit-path", filepath.Join(out, "junit.xml"), "--no-color")
	cmd.Dir = out
	cmd.Env = append(os.Environ(), "SCHEMATHESIS_HOOKS="+hooks, "API_CHECK_KEY_ID="+string(k.ID), "API_CHECK_USER="+string(u.ID)+",api-check")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.WaitDelay = 10 * time.Second
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	runErr := cmd.Run()
	if junit != "" {
		b, err := os.ReadFile(filepath.Join(out, "junit.xml"))
		if err == nil {
			err = os.WriteFile(junit, b, 0o600)
		}
		runErr = errors.Join(runErr, err)
	}
	// A check that lost its key half-way would have looked at refusals only.
	return errors.Join(runErr, post(ctx, url, k.Secret, "/v1/keys", `{}`, &api.CreatedKey{}), healthy(s))
}

// healthy: the daemon still serves, and never met an internal error.
func healthy(s *forgedtest.Site) error {
	log, err := os.ReadFile(s.LogFile())
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, `"level":"error"`) {
			return fmt.Errorf("forged met an error: %s", line)
		}
	}
	return nil
}

func post(ctx context.Context, url, key, path, body string, v any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set(api.HeaderKey, key)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	}
	return json.Unmarshal(b, v)
}
