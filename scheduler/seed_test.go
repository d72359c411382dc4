//go:build !long

package scheduler_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain has `make test` draw the same worlds every time, so that it says the same of the same code; `make test-long` draws others, and -rapid.seed
// any. A world that breaks a property is then found by whoever looks for it, not by whoever comes by.
func TestMain(m *testing.M) {
	flag.Parse()
	drawn := false
	flag.Visit(func(f *flag.Flag) { drawn = drawn || f.Name == "rapid.seed" || f.Name == "rapid.checks" })
	if !drawn {
		if err := flag.Set("rapid.seed", "20261126"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
