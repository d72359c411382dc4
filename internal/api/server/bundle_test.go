package server_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/apitest"
)

func TestAWorkingDirectoryIsGivenOutAsItCame(t *testing.T) {
	s := start(t)
	const archive = "not really a gzip"
	sum := sha256.Sum256([]byte(archive))
	digest := hex.EncodeToString(sum[:])
	if _, err := s.AddSnapshot(context.Background(), forge.Principal{Tenant: "T1", Role: forge.RoleMember}, digest, strings.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	s.addRun(1, forge.RunPending)
	s.ChangeRun(1, func(d *api.RunDetail) { d.Spec.Source = &forge.Source{SHA256: digest} })
	s.addRun(2, forge.RunPending)
	status, header, body := s.call(t, "GET", "/v1/runs/1/source", "", api.HeaderKey, apitest.MemberSecret)
	if status != 200 || body != archive || header.Get("Content-Type") != api.SnapshotType || header.Get("Content-Length") != strconv.Itoa(len(archive)) {
		t.Errorf("got %d, %v: %q", status, header, body)
	}
	if status, _, body := s.call(t, "GET", "/v1/runs/2/source", "", api.HeaderKey, apitest.MemberSecret); status != 412 || !strings.Contains(body, "without a working directory") {
		t.Errorf("a run without one: %d %s", status, body)
	}
	if status, _, _ := s.call(t, "GET", "/v1/runs/1/source", "", api.HeaderKey, apitest.StrangerSecret); status != 404 {
		t.Errorf("another tenant: %d", status)
	}
}
