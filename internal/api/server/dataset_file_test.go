package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/internal/api/client"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

// owned is a fake site that keeps a copy of one file, as kept@1, and references another, as there@1.
func owned(t *testing.T, content string) (*apitest.Fake, forge.File) {
	t.Helper()
	f := apitest.New(now)
	ada := forge.Principal{Tenant: "T1", Role: forge.RoleMember}
	sum := sha256.Sum256([]byte(content))
	file := forge.File{Path: ".", Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
	if _, err := f.AddDatasetFile(t.Context(), ada, file.SHA256, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	for name, kept := range map[string]bool{"kept": true, "there": false} {
		r := api.AddDatasetRequest{Name: name, Paths: []string{"/data/a.jsonl"}, Copy: kept,
			Scanned: &forge.Scanned{Kind: forge.KindText, Rows: 1, Manifest: forge.Manifest{Root: "/data/a.jsonl", Files: []forge.File{file}}}}
		if _, err := f.AddDataset(t.Context(), ada, r); err != nil {
			t.Fatal(err)
		}
	}
	return f, file
}

func TestAFileOfForgesOwnCopyIsGivenOutToItsTenantAlone(t *testing.T) {
	const content = "{\"text\":\"x\"}\n"
	f, file := owned(t, content)
	stop := make(chan struct{})
	ts := httptest.NewServer(server.New(f.Services(), server.Options{Stop: stop}))
	t.Cleanup(func() { close(stop); ts.Close() })
	as := func(key string) *client.Client {
		c, err := client.New(client.Options{Address: ts.URL, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	var got bytes.Buffer
	ada := as(apitest.MemberSecret)
	if err := ada.OwnedFile(t.Context(), "kept@1", file, &got); err != nil || got.String() != content {
		t.Fatalf("%v: %q", err, got.String())
	}
	resp, err := ts.Client().Do(asking(t, ts.URL+"/v1/datasets/kept/versions/latest/files/"+file.SHA256))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != api.BytesType || resp.Header.Get("Content-Length") != strconv.Itoa(len(content)) {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	other := file
	other.SHA256 = strings.Repeat("0", 64)
	for what, c := range map[string]struct {
		as   *client.Client
		ref  string
		file forge.File
		want forge.Kind
	}{
		"another tenant":                 {as(apitest.StrangerSecret), "kept@1", file, forge.KindNotFound},
		"a version that lies elsewhere":  {ada, "there@1", file, forge.KindPrecondition},
		"a file that is not of it":       {ada, "kept@1", other, forge.KindNotFound},
		"a version that there never was": {ada, "kept@2", file, forge.KindNotFound},
	} {
		got.Reset()
		if err := c.as.OwnedFile(t.Context(), c.ref, c.file, &got); err == nil || forge.KindOf(err) != c.want || got.Len() > 0 {
			t.Errorf("%s: %v, %d bytes", what, err, got.Len())
		}
	}
	t.Run("its reader sees that it is another one", func(t *testing.T) {
		f.ChangeOwned(bytes.ToUpper)
		if err := ada.OwnedFile(t.Context(), "kept@1", file, io.Discard); forge.KindOf(err) != forge.KindConflict || err == nil {
			t.Errorf("%v", err)
		}
		f.ChangeOwned(func([]byte) []byte { return bytes.Repeat([]byte("x"), 1<<20) })
		var n size
		if err := ada.OwnedFile(t.Context(), "kept@1", file, &n); forge.KindOf(err) != forge.KindConflict || int64(n) > file.Size+1 {
			t.Errorf("%v after %d bytes", err, n)
		}
	})
	t.Run("a disk that is full is said to be one", func(t *testing.T) {
		full := errors.New("the disk is full")
		if err := ada.OwnedFile(t.Context(), "kept@1", file, fails{full}); !errors.Is(err, full) {
			t.Errorf("%v", err)
		}
	})
}

// endless is a file without end, which says when it was closed.
type endless struct{ closed chan struct{} }

func (e endless) Read(b []byte) (int, error) { return len(b), nil }
func (e endless) Close() error               { close(e.closed); return nil }

// withFile is a site whose copies are what they are made here.
type withFile struct {
	*apitest.Fake
	file io.ReadCloser
}

func TestAFileIsNotReadAnyFurtherWhenNobodyTakesIt(t *testing.T) {
	f, file := owned(t, "x")
	e := endless{make(chan struct{})}
	s := f.Services()
	s.Datasets = withFile{f, e}
	stop := make(chan struct{})
	ts := httptest.NewServer(server.New(s, server.Options{Stop: stop}))
	t.Cleanup(func() { close(stop); ts.Close() })
	resp, err := ts.Client().Do(asking(t, ts.URL+"/v1/datasets/kept/versions/1/files/"+file.SHA256))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	select {
	case <-e.closed:
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on")
	}
}

func (w withFile) OwnedFile(context.Context, forge.Principal, forge.Ref, string) (io.ReadCloser, int64, error) {
	return w.file, 1 << 50, nil
}

func asking(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(api.HeaderKey, apitest.MemberSecret)
	return r
}

type size int64

func (n *size) Write(b []byte) (int, error) { *n += size(len(b)); return len(b), nil }

type fails struct{ why error }

func (f fails) Write([]byte) (int, error) { return 0, f.why }
