package server

import (
	"net/http"
	"net/http/httptest"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

func TestAFloodOfReportsIsAnsweredAlikeAndNotHeard(t *testing.T) {
	heard := 0
	h := heardAtMost(newMeters(0.001, 2), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		heard++
		w.WriteHeader(http.StatusNoContent)
	}))
	for range 9 {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, forge.ReportPath, nil))
		if w.Code != http.StatusNoContent || w.Body.Len() > 0 {
			t.Errorf("answered %d %q", w.Code, w.Body)
		}
	}
	if heard != 2 {
		t.Errorf("heard %d of 9, want 2", heard)
	}
}
