//go:build e2e && long

package e2e

import "testing"

// TestWhatMayGoToProduction is `make demo-gates`.
func TestWhatMayGoToProduction(t *testing.T) { tell(t, "gates") }
