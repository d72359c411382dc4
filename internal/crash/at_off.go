//go:build !crashpoints

package crash

// At does nothing in a normal build.
func At(string) {}

// Env is what a child needs to be armed too: nothing in a normal build.
func Env() []string { return nil }
