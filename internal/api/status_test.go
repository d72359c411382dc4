package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func TestEveryKindHasItsOwnStatus(t *testing.T) {
	seen := map[int]forge.Kind{}
	for _, k := range forge.Kinds {
		s := api.StatusOf(k)
		if other, taken := seen[s]; taken {
			t.Errorf("%s and %s are both %d", k, other, s)
		}
		seen[s] = k
		if back := api.KindOfStatus(s); back != k {
			t.Errorf("%s is %d, which is %s", k, s, back)
		}
	}
	for status, k := range map[int]forge.Kind{http.StatusTeapot: forge.KindInvalid, http.StatusBadGateway: forge.KindUnavailable, 599: forge.KindInternal} {
		if got := api.KindOfStatus(status); got != k {
			t.Errorf("%d is %s, want %s", status, got, k)
		}
	}
}

func TestProblemsCrossTheWire(t *testing.T) {
	for _, k := range forge.Kinds {
		b, err := json.Marshal(api.ProblemOf(fmt.Errorf("wrapped: %w", &forge.Error{Kind: k, Field: "f", Err: errors.New("text"), Hint: "hint"}), "id"))
		if err != nil {
			t.Fatal(err)
		}
		var p api.Problem
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatal(err)
		}
		e := p.Forge()
		if k == forge.KindInternal {
			if e.Kind != k || e.Field != "" || e.Err.Error() == "text" || p.RequestID != "id" {
				t.Errorf("got %s", b)
			}
			continue
		}
		if e.Kind != k || e.Field != "f" || e.Err.Error() != "text" || e.Hint != "hint" {
			t.Errorf("%s: got %s", k, b)
		}
	}
	t.Run("a problem of somebody else's is known by its status", func(t *testing.T) {
		if e := (&api.Problem{Status: 404, Title: "gone"}).Forge(); e.Kind != forge.KindNotFound || e.Err.Error() != "gone" {
			t.Errorf("got %+v", e)
		}
	})
}
