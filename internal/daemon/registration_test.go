package daemon

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// lookedAt is the context of a request whose reading is looked at between any two chunks, before each of which
// it is asked whether to go on.
type lookedAt struct {
	context.Context
	look func()
}

func (c lookedAt) Err() error {
	c.look()
	return c.Context.Err()
}

const chunksRead = 6

func TestARegistrationSaysHowFarItIsToItsOwnerAlone(t *testing.T) {
	r := start(t, 1)
	lab, err := r.db.CreateTenant(t.Context(), "lab")
	if err != nil {
		t.Fatal(err)
	}
	secret := func(tenant forge.TenantID, name string, role forge.Role) string {
		_, s, err := r.db.CreateKey(t.Context(), tenant, name, role, "test")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	max := secret(r.op.Tenant, "max", forge.RoleMember)
	others := map[string]string{"another member": secret(r.op.Tenant, "moe", forge.RoleMember), "an admin": secret(r.op.Tenant, "ann", forge.RoleAdmin),
		"the operator": r.secret, "another tenant's member": secret(lab.ID, "max", forge.RoleMember)}

	call := func(ctx context.Context, method, path, secret, once, body string, into any) int {
		q := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
		q.Header.Set(api.HeaderKey, secret)
		if body != "" {
			q.Header.Set("Content-Type", "application/json")
			q.Header.Set(api.HeaderOnce, once)
		}
		w := httptest.NewRecorder()
		r.live().handler.ServeHTTP(w, q)
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Errorf("%s %s: %d %v in %s", method, path, w.Code, err, w.Body.String())
		}
		return w.Code
	}
	refusal := func(secret, key string) api.Problem {
		var p api.Problem
		if status := call(t.Context(), "GET", "/v1/progress/"+key, secret, "", "", &p); status != http.StatusNotFound {
			t.Errorf("%s: %d %+v", key, status, p)
		}
		p.RequestID = ""
		return p
	}
	absent := fmt.Sprint(refusal(max, "nobody-s"))

	for _, c := range []struct{ op, path, data string }{
		{"add-dataset", "/v1/datasets", fmt.Sprintf(`"paths":[%q]`, longRows(t))}, {"import-model", "/v1/models/import", fmt.Sprintf(`"path":%q`, longModel(t))},
	} {
		t.Run(c.op, func(t *testing.T) {
			began := time.Now().Add(-time.Second)
			var mu sync.Mutex // several files are read at once
			var seen []api.Progress
			ctx := lookedAt{t.Context(), func() {
				mu.Lock()
				defer mu.Unlock()
				var g api.Progress
				if call(t.Context(), "GET", "/v1/progress/once-"+c.op, max, "", "", &g) != http.StatusOK || g.BytesDone == 0 {
					return // not begun yet, or not read anything yet
				}
				seen = append(seen, g)
				for who, secret := range others {
					if got := fmt.Sprint(refusal(secret, "once-"+c.op)); got != absent {
						t.Errorf("%s is told %s; of what is not there %s", who, got, absent)
					}
				}
			}}
			var made map[string]any
			if status := call(ctx, "POST", c.path, max, "once-"+c.op, `{"name":"long",`+c.data+`}`, &made); status != http.StatusCreated {
				t.Fatalf("%d %v", status, made)
			}
			if len(seen) < chunksRead-1 {
				t.Fatalf("it said %d times how far it was", len(seen))
			}
			last := api.Progress{}
			for _, g := range seen {
				if g.Op != c.op || g.BytesDone < last.BytesDone || g.BytesDone > g.BytesTotal || g.StartedAt.Before(began) || g.StartedAt.After(time.Now()) {
					t.Errorf("%+v after %+v", g, last)
				}
				last = g
			}
			if seen[0].BytesDone >= last.BytesDone || seen[0].BytesTotal < chunksRead<<18 || last.BytesDone != last.BytesTotal {
				t.Errorf("from %+v to %+v", seen[0], last)
			}
			if got := fmt.Sprint(refusal(max, "once-"+c.op)); got != absent {
				t.Errorf("afterwards it is %s", got)
			}
			if len(r.reading.of) != 0 {
				t.Errorf("%d users are remembered", len(r.reading.of))
			}
		})
	}
	t.Run("one that fails is gone as well", func(t *testing.T) {
		var p api.Problem
		bad := filepath.Join(t.TempDir(), "bad.jsonl")
		if err := os.WriteFile(bad, []byte("no JSON\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if status := call(t.Context(), "POST", "/v1/datasets", max, "once-bad", fmt.Sprintf(`{"name":"bad","paths":[%q]}`, bad), &p); status != http.StatusUnprocessableEntity {
			t.Errorf("%d %+v", status, p)
		}
		if len(r.reading.of) != 0 {
			t.Errorf("%d users are remembered", len(r.reading.of))
		}
	})
}

// longRows is a dataset that is read in several chunks.
func longRows(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	row := fmt.Sprintf("{\"text\":%q}\n", strings.Repeat("x", 1000))
	if err := os.WriteFile(path, []byte(strings.Repeat(row, chunksRead<<18/len(row)+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// longModel is a base model whose weights are.
func longModel(t *testing.T) string {
	dir := t.TempDir()
	header := fmt.Sprintf(`{"w":{"dtype":"U8","shape":[%d],"data_offsets":[0,%[1]d]}}`, chunksRead<<18)
	weights := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	for name, data := range map[string][]byte{"model.safetensors": append(weights, make([]byte, chunksRead<<18)...),
		"config.json": []byte(`{"model_type":"llama","architectures":["LlamaForCausalLM"],"hidden_size":1,"vocab_size":1}`), "tokenizer.json": []byte(`{}`)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRegistrationsAreKeptApartAndBounded(t *testing.T) {
	as := func(tenant forge.TenantID, user forge.UserID, key string) forge.Principal {
		return forge.Principal{Tenant: tenant, UserID: user, Once: forge.Once{Op: "add-dataset", Key: key}}
	}
	done := func(s *registrations, p forge.Principal) int64 {
		g, err := s.Progress(t.Context(), p, p.Once.Key)
		if err != nil {
			if forge.KindOf(err) != forge.KindNotFound {
				t.Error(err)
			}
			return -1
		}
		return g.BytesDone
	}
	t.Run("the same key is another one for another user, and for the same user in another tenant", func(t *testing.T) {
		var s registrations
		for i, p := range []forge.Principal{as("T1", "U1", "k"), as("T1", "U2", "k"), as("T2", "U1", "k")} {
			if got := done(&s, p); got != -1 {
				t.Errorf("%d: finds somebody's, %d", i, got)
			}
			read, _ := s.begin(p, time.Now())
			read(int64(i), 10)
			if got := done(&s, p); got != int64(i) {
				t.Errorf("%d: finds %d", i, got)
			}
		}
	})
	t.Run("a request without a key is nobody's to find", func(t *testing.T) {
		var s registrations
		read, end := s.begin(as("T1", "U1", ""), time.Now())
		read(1, 2)
		if len(s.of) != 0 {
			t.Error("it is kept")
		}
		end()
	})
	t.Run("a request sent again takes the place of its first one, whose end does not end it", func(t *testing.T) {
		var s registrations
		p := as("T1", "U1", "k")
		first, endFirst := s.begin(p, time.Now())
		second, endSecond := s.begin(p, time.Now())
		first(9, 10)
		second(1, 10)
		endFirst()
		if got := done(&s, p); got != 1 {
			t.Errorf("finds %d", got)
		}
		endSecond()
		if got := done(&s, p); got != -1 || len(s.of) != 0 {
			t.Errorf("finds %d, keeps %d", got, len(s.of))
		}
	})
	t.Run("a user's flood is bounded and takes nobody else's place", func(t *testing.T) {
		var s registrations
		var ends []func()
		for i := range 3 * maxRegistrations {
			_, end := s.begin(as("T1", "U1", fmt.Sprint(i)), time.Now())
			ends = append(ends, end)
		}
		s.begin(as("T1", "U2", "k"), time.Now())
		if n := len(s.of[owner{"T1", "U1"}]); n != maxRegistrations {
			t.Errorf("%d are kept", n)
		}
		if got := done(&s, as("T1", "U2", "k")); got != 0 {
			t.Errorf("another user's is %d", got)
		}
		for _, end := range ends {
			end()
		}
		if len(s.of) != 1 {
			t.Errorf("%d users are remembered", len(s.of))
		}
	})
}
