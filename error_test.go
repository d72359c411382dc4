package forge_test

import (
	"errors"
	"fmt"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

func TestAnErrorKeepsItsKindAndHintThroughWrapping(t *testing.T) {
	inner := forge.Invalidf("params.lora.r", "%d: want 1 to 1024", 0).WithHint("forgectl recipe show")
	err := fmt.Errorf("submit: %w", inner)
	if forge.KindOf(err) != forge.KindInvalid || forge.HintOf(err) != "forgectl recipe show" {
		t.Errorf("kind %s, hint %q", forge.KindOf(err), forge.HintOf(err))
	}
	if got, want := inner.Error(), "params.lora.r: 0: want 1 to 1024"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	outer := &forge.Error{Kind: forge.KindUnavailable, Err: err}
	if forge.KindOf(outer) != forge.KindUnavailable || forge.HintOf(outer) != "forgectl recipe show" {
		t.Errorf("outer kind %s, hint %q", forge.KindOf(outer), forge.HintOf(outer))
	}
	if forge.KindOf(errors.New("plain")) != forge.KindInternal || forge.HintOf(nil) != "" {
		t.Error("what is not classified is internal and has no hint")
	}
}
