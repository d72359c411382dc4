package slurmtest_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// asOwner makes this program one that starts a cluster, says where it is, and stays.
const asOwner = "FORGE_SLURMTEST_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(asOwner) == "" {
		os.Exit(m.Run())
	}
	c, err := slurmtest.Start(context.Background(), slurmtest.Options{Nodes: 1})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(c.Dir)
	select {}
}

// A test binary that go test kills runs no cleanup.
func TestAClusterDoesNotOutliveTheProcessThatStartedIt(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), asOwner+"=1")
	owner.Stderr = os.Stderr
	out, err := owner.StdoutPipe()
	must(t, err)
	must(t, owner.Start())
	dir, readErr := bufio.NewReader(out).ReadString('\n')
	must(t, owner.Process.Kill())
	_ = owner.Wait()
	must(t, readErr)
	c := &slurmtest.Cluster{Dir: strings.TrimSpace(dir)}
	must(t, c.Until("the cluster is gone", func() bool { _, err := os.Stat(c.Dir); return os.IsNotExist(err) }))
}
