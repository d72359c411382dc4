package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func TestRulesOfGPUHealthTravelWithAttemptsAndAreCheckedBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	read := func(text string) (forge.HealthRules, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return GPUConfig{RulesFile: path, AppPatience: forge.Duration(9 * time.Second)}.healthRules()
	}
	rules, err := read("rules:\n  - {name: xid_63, run: elsewhere}\n")
	if err != nil || len(rules.Rules) != 1 || rules.Rules[0].Run != forge.RunElsewhere || rules.Patience != 9*time.Second {
		t.Fatalf("%+v, %v", rules, err)
	}
	w := GPUConfig{SampleEvery: forge.Duration(time.Second), LibraryPath: "/opt/nvml"}.shims(rules)
	if w.SampleEvery != time.Second || w.LibraryPath != "/opt/nvml" || len(w.Rules.Rules) != 1 {
		t.Errorf("%+v", w)
	}
	for _, bad := range []string{"rules:\n  - {name: xid_63, run: nowhere}\n", "rulez: []\n", "patterns:\n  - {name: mine, match: '(', action: retry}\n"} {
		if _, err := read(bad); forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), "gpus.rules_file") || !strings.Contains(err.Error(), "rules.yaml") {
			t.Errorf("%q: %v", bad, err)
		} else {
			t.Log(err, "|", forge.HintOf(err))
		}
	}
	if _, err := (GPUConfig{RulesFile: "/no/such/file"}).healthRules(); forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), "/no/such/file") {
		t.Error(err)
	}
}
