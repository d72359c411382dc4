package main

import (
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func TestABundleSaysHowItsDataIsRegistered(t *testing.T) {
	for want, l := range map[string]*forge.DatasetLayout{
		"forgectl dataset add %s PATH":                                                        {Format: forge.FormatCSV},
		"forgectl dataset add %s PATH --preset 'sharegpt' --kind 'messages'":                  {Preset: "sharegpt"},
		"forgectl dataset add %s PATH --map 'completion=a b,prompt=q'\\''' --kind 'messages'": {Map: map[string]string{"prompt": "q'", "completion": "a b"}},
	} {
		b := bundleFile{Bundle: api.Bundle{Kind: forge.KindMessages, Layout: l}}
		if got := b.dataHint(); got != want {
			t.Errorf("it says %s, want %s", got, want)
		}
	}
}
