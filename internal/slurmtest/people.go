package slurmtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

const amongPeople = "FORGE_TEST_AMONG_PEOPLE"

// The accounts that there are among people. Alice and Bob are in the group that forged may act as, Mallory is not.
const (
	ForgeUID   = 971
	AliceUID   = 4301
	BobUID     = 4302
	MalloryUID = 4303
)

// AmongPeople runs the test again in a view of this machine with accounts and a sudo of its own, where forged is installed as
// contrib/sudoers/install does it; true: we are there.
func AmongPeople(t testing.TB, forged string) bool {
	t.Helper()
	if os.Getenv(amongPeople) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Fatal("this test makes accounts in a mount namespace of its own, and needs root for it")
	}
	_, file, _, _ := runtime.Caller(0)
	here := filepath.Dir(file)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(here, "testdata", "people"), filepath.Join(here, "..", ".."), forged, self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), amongPeople+"=1")
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}
