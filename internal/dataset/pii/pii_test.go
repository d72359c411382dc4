package pii_test

import (
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

func TestAFindingIsReplacedByItsPlaceholder(t *testing.T) {
	s, n := pii.New(pii.Options{}), 0
	got := string(s.Redact(nil, []byte("write to ann@example.org, please"), forge.ConfidenceMedium, func(pii.Finding) { n++ }))
	if got != "write to [EMAIL], please" || n != 1 {
		t.Errorf("%q with %d findings", got, n)
	}
	if m := pii.Mask(forge.PIIEmail, []byte("ann@example.org")); m != "a**@*******.***" {
		t.Errorf("masked as %q", m)
	}
}
