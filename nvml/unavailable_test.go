//go:build !linux || !cgo

package nvml_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/nvml"
)

func TestBuiltWithoutNVML(t *testing.T) {
	_, err := nvml.Inventory(t.Context(), "/proc/self/exe", time.Second)
	if forge.KindOf(err) != forge.KindUnavailable || !strings.Contains(err.Error(), "built without NVML") || forge.HintOf(err) == "" {
		t.Errorf("Inventory: got %v, want KindUnavailable and a hint", err)
	}
	if _, err := nvml.Open(); forge.KindOf(err) != forge.KindUnavailable {
		t.Errorf("Open: got %v, want KindUnavailable", err)
	}
	var out bytes.Buffer
	if code := nvml.ChildMain([]string{"inventory"}, &out); code != 0 || !strings.Contains(out.String(), "built without NVML") {
		t.Errorf("ChildMain: exit code %d, %s", code, out.String())
	}
}
