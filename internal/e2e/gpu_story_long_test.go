//go:build e2e && long

package e2e

import "testing"

// TestGPUsThatFail is `make demo-gpu`.
func TestGPUsThatFail(t *testing.T) { tell(t, "gpu") }
