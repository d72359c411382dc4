// Command gpu-check holds forge against a real NVIDIA driver and GPU: inventory and readings against nvidia-smi, a CUDA program pinned by UUID, an error that
// it makes on the GPU, a process that is not forge's. `make gpu-check`; nothing is downloaded, nothing on the GPU is reset or reconfigured. Each claim is
// printed with what shows it; a claim that is false ends the check with exit code 1. What a machine does not let be seen is said as such, and is no claim.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

const budget = 7 * time.Minute

func main() {
	c := &check{}
	flag.StringVar(&c.bin, "bin", "bin", "directory of forged, forgectl and hold")
	flag.StringVar(&c.library, "library", "", "directory of libnvidia-ml.so.1, where the loader does not find it")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), budget)
	defer cancel()
	if err := c.run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "\ngpu-check: FAILED: %v\n", err)
		os.Exit(1)
	}
	fmt.Printf("\n%d claims shown, %d things not to be seen here\n", c.claims, c.unseen)
}

type check struct {
	bin, library   string
	site           *forgedtest.Site
	claims, unseen int
	faults         []error
}

// claim prints what was shown. A false one does not end the check: all there is to see on a machine that is lent for minutes is seen.
func (c *check) claim(ok bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !ok {
		fmt.Printf("  ✗ %s\n", text)
		c.faults = append(c.faults, errors.New("this is false: "+text))
		return
	}
	c.claims++
	fmt.Printf("  ✓ %s\n", text)
}

// notSeen is for what a machine does not let be seen, as a sandbox that has no processes' numbers.
func (c *check) notSeen(format string, args ...any) {
	c.unseen++
	fmt.Printf("  – not seen here: %s\n", fmt.Sprintf(format, args...))
}

func (c *check) run(ctx context.Context) error {
	var err error
	if c.bin, err = filepath.Abs(c.bin); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"the GPUs, as nvidia-smi has them", c.inventory},
		{"readings, to the unit", c.readings},
		{"forged on this host", c.start},
		{"a CUDA program, pinned by UUID", c.pinned},
		{"an error of the program's own", c.fault},
		{"a process that is not forge's", c.stranger},
		{"what looking costs", c.cost},
	} {
		fmt.Printf("\n== %s\n", part.name)
		if err := part.do(ctx); err != nil {
			c.faults = append(c.faults, fmt.Errorf("%s: %w", part.name, err))
			fmt.Printf("  ✗ %v\n", err)
		}
	}
	if c.site != nil {
		if len(c.faults) > 0 {
			fmt.Printf("\nforged's log:\n%s\n", c.site.LogTail())
		}
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		c.faults = append(c.faults, c.site.Stop(stop))
	}
	return errors.Join(c.faults...)
}
