package server_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

func TestAnArchiveIsTheOneBodyThatIsNoJSON(t *testing.T) {
	s := start(t, func(o *server.Options) { o.MaxBody, o.MaxSnapshot = 1024, 1<<20 })
	body := strings.Repeat("\x1f\x8b\x00 not looked into", 1000)
	sum := sha256.Sum256([]byte(body))
	path := api.SnapshotPath + "?sha256=" + hex.EncodeToString(sum[:])
	post := func(path, body string, headers ...string) (int, string) {
		t.Helper()
		status, _, text := s.call(t, "POST", path, body, append([]string{"Content-Type", api.SnapshotType}, headers...)...)
		return status, text
	}
	if status, text := post(path, body); status != 201 || !strings.Contains(text, hex.EncodeToString(sum[:])) {
		t.Errorf("larger than any other body may be: %d %s", status, text)
	}
	for name, c := range map[string]struct {
		path, body string
		headers    []string
		status     int
	}{
		"as JSON":                 {path, body, []string{"Content-Type", "application/json"}, 415},
		"as nothing":              {path, body, []string{"Content-Type", ""}, 415},
		"without a digest":        {api.SnapshotPath, body, nil, 422},
		"with a digest too short": {api.SnapshotPath + "?sha256=abc", body, nil, 422},
		"with another digest":     {api.SnapshotPath + "?sha256=" + strings.Repeat("0", 64), body, nil, 422},
		"without a key":           {path, body, []string{api.HeaderKey, ""}, 401},
		"to another operation":    {"/v1/runs", body, nil, 413},
	} {
		if status, text := post(c.path, c.body, c.headers...); status != c.status {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if n := s.Calls("AddSnapshot"); n != 2 { // the first, and the one with another digest
		t.Errorf("%d requests got through", n)
	}
	t.Run("more than the site takes is cut off", func(t *testing.T) {
		if status, text := post(path, strings.Repeat("x", 3<<20)); status/100 == 2 {
			t.Errorf("%d %s", status, text)
		}
	})
	t.Run("a repeated one is answered and not carried out", func(t *testing.T) {
		before := s.Calls("AddSnapshot")
		for range 2 {
			if status, text := post(path, body, api.HeaderOnce, "k1"); status != 201 {
				t.Errorf("%d %s", status, text)
			}
		}
		if n := s.Calls("AddSnapshot") - before; n != 1 {
			t.Errorf("carried out %d times", n)
		}
	})
}
