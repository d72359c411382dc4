//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// TestAKillAroundADeliveryLosesNoEvent kills forged at every named point of a delivery to a real receiver. The next forged delivers what is owed, and what
// comes twice comes under the same id.
func TestAKillAroundADeliveryLosesNoEvent(t *testing.T) {
	for _, point := range crash.HookPoints {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			came := make(chan api.HookBody, 100)
			in := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				var body api.HookBody
				if json.Unmarshal(b, &body) == nil && body.ID == r.Header.Get("X-Forge-Delivery") {
					came <- body
				}
			}))
			defer in.Close()
			mark := filepath.Join(t.TempDir(), "fired")
			ctx, s := open(t, func(o *forgedtest.Options) {
				o.Forged = filepath.Join(o.Bin, "forged-crash")
				o.ServeEnv = []string{"FORGE_CRASH_AT=" + point, "FORGE_CRASH_MARK=" + mark}
				o.Extra = fmt.Sprintf("hooks: {allow_hosts: [%q]}\n", in.URL)
			})
			_, err := s.Ctl(ctx, "hook", "add", "chat", "--on", "user.created", "--webhook", in.URL)
			must(t, err)
			_, _ = s.Ctl(ctx, "user", "create", "eve") // its answer may be lost in the kill
			select {
			case <-s.Exited():
			case <-ctx.Done():
				t.Fatal("forged outlived its crash point")
			}
			must(t, s.Start(ctx))
			var all []forge.HookDelivery
			for len(all) != 1 || all[0].State != forge.DeliveryDone {
				must(t, ctx.Err())
				must(t, s.CtlJSON(ctx, &all, "hook", "deliveries", "chat"))
			}
			sent := len(came)
			if want := map[bool]int{true: 2, false: 1}[point == "hook.sent" || point == "hook.tried.before_commit"]; sent != want {
				t.Errorf("it came %d times, want %d", sent, want)
			}
			for range sent {
				if b := <-came; b.ID != all[0].ID || b.Event.Type != forge.EventUserCreated || !strings.Contains(b.Text, "default") {
					t.Errorf("got %+v, want delivery %s", b, all[0].ID)
				}
			}
		})
	}
}
