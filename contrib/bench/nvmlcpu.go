package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

const (
	nvmlGPUs  = 8
	nvmlEvery = 5 * time.Second
	nvmlTime  = time.Minute
	nvmlAsked = 1000 // looks for the price of one
	tick      = 10 * time.Millisecond
	nvmlLimit = 0.5 // % of a core
)

// nvmlCPU is what the child that watches eight busy GPUs, each with 18 NVLinks and four processes, takes of a core: user and system time of
// the real process, by /proc/PID/stat, over a minute of looks every 5 s with the waits for events between them. The library is the fake one,
// whose part is a stat(2) and a table look-up a call: what a real driver takes for the same calls comes on top and is its own. The price of one look is
// that of a full one, NVLink counters included, which otherwise are read every 30 s.
func nvmlCPU(ctx context.Context, e env) (figures []figure, err error) {
	dir, err := os.MkdirTemp("", "nvmlcpu")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if out, err := exec.CommandContext(ctx, "contrib/fake-nvml/build", dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("contrib/fake-nvml/build: %w\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "state.txt"), []byte(busyGPUs()), 0o600); err != nil {
		return nil, err
	}
	bin, err := filepath.Abs(filepath.Join(e.bin, "forged"))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, bin, "nvml", "watch", "--every", nvmlEvery.String())
	cmd.Env = []string{"LD_LIBRARY_PATH=" + dir}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stdin.Close(), cmd.Wait()) }()
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	// looks reads so many looks, each of them whole.
	looks := func(n int, ask bool) error {
		for range n {
			if ask {
				if _, err := io.WriteString(stdin, "look\n"); err != nil {
					return err
				}
			}
			if !lines.Scan() {
				return fmt.Errorf("the child ended: %w", lines.Err())
			}
			var m struct{ Look forge.GPULook }
			if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
				return err
			}
			if g := m.Look.GPUs; len(g) != nvmlGPUs || g[7].Problem != "" || len(g[7].Processes) != 4 || *g[7].LinksUp != 18 || *g[7].TemperatureC != 67 {
				return fmt.Errorf("a look of %+v", m.Look)
			}
		}
		return nil
	}
	if err := looks(1, false); err != nil {
		return nil, err
	}
	before, err := cpuTicks(cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := looks(int(nvmlTime/nvmlEvery), false); err != nil {
		return nil, err
	}
	took := time.Since(began)
	after, err := cpuTicks(cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	if err := looks(nvmlAsked, true); err != nil {
		return nil, err
	}
	end, err := cpuTicks(cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	one := time.Duration(end-after) * tick / nvmlAsked
	fmt.Printf("  one full look at %d GPUs takes %s of CPU time (%d looks); %s of looks every %s took %s\n", nvmlGPUs, one, nvmlAsked, took.Round(time.Second),
		nvmlEvery, time.Duration(after-before)*tick)
	percent := 100 * float64(after-before) * tick.Seconds() / took.Seconds()
	return []figure{atMost("nvml_cpu", percent, "% of a core", "limit", nvmlLimit, 1)}, nil
}

func busyGPUs() string {
	var b strings.Builder
	fmt.Fprintf(&b, "count %d\n", nvmlGPUs)
	for gpu := range nvmlGPUs {
		at := fmt.Sprintf("gpu.%d.", gpu)
		fmt.Fprintf(&b, "%suuid GPU-%d\n%stemp %d\n%sutil.gpu 97\n%sprocs 101:1048576,102:1048576,103:1048576,104:1048576\n", at, gpu, at, 60+gpu, at, at)
		for link := range 18 {
			fmt.Fprintf(&b, "%slink.%d 0:%x:0\n", at, link, 0x80+link%4)
		}
	}
	return b.String()
}
