package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/nvml"
)

// smi asks the driver by NVIDIA's own program, which is what forge is held against.
func smi(ctx context.Context, query string) ([][]string, error) {
	out, err := exec.CommandContext(ctx, "nvidia-smi", query, "--format=csv,noheader,nounits").Output()
	if err != nil {
		return nil, fmt.Errorf("nvidia-smi %s: %w", query, err)
	}
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" {
			rows = append(rows, strings.Split(line, ", "))
		}
	}
	return rows, nil
}

func (c *check) child(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "forged"), append([]string{"nvml"}, args...)...)
	if c.library != "" {
		cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+c.library)
	}
	return cmd
}

func (c *check) inventory(ctx context.Context) error {
	rows, err := smi(ctx, "--query-gpu=uuid,name,memory.total,pci.bus_id,driver_version")
	if err != nil {
		return err
	}
	out, err := c.child(ctx, "inventory").Output()
	if err != nil {
		return err
	}
	var r nvml.Report
	if err := json.Unmarshal(out, &r); err != nil {
		return err
	}
	fmt.Printf("  %s", out)
	c.claim(r.State == forge.NVMLOK && len(r.GPUs) == len(rows), "forged sees %d GPUs, nvidia-smi %d", len(r.GPUs), len(rows))
	for i := range min(len(rows), len(r.GPUs)) {
		g, row := r.GPUs[i], rows[i]
		total, _ := strconv.ParseInt(row[2], 10, 64)
		c.claim(g.UUID == row[0] && strings.HasSuffix(row[1], g.Type) && g.MemoryMiB == total && strings.EqualFold(g.PCI, row[3]) && g.Sick == "" && r.Driver == row[4],
			"slot %d is %s, %s, %d MiB, at %s, driver %s", g.Slot, g.UUID, g.Type, g.MemoryMiB, g.PCI, r.Driver)
	}
	return nil
}

// look is one look of a child of its own.
func (c *check) look(ctx context.Context) (forge.GPULook, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := c.child(ctx, "watch", "--every", "1s")
	in, err := cmd.StdinPipe()
	if err != nil {
		return forge.GPULook{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return forge.GPULook{}, err
	}
	var words bytes.Buffer
	cmd.Stderr = &words
	if err := cmd.Start(); err != nil {
		return forge.GPULook{}, err
	}
	defer func() {
		_ = in.Close()
		_ = cmd.Wait()
	}()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 4<<20)
	for seen := 0; lines.Scan(); {
		var n nvml.News
		if err := json.Unmarshal(lines.Bytes(), &n); err != nil {
			return forge.GPULook{}, err
		}
		if n.Look == nil {
			continue
		}
		if seen++; seen == 2 || n.Look.State != forge.NVMLOK { // the second: some values need two
			return *n.Look, nil
		}
	}
	return forge.GPULook{}, fmt.Errorf("the child said nothing: %s", words.String())
}

// figure is one value of nvidia-smi and of forge.
type figure struct {
	field string
	ours  func(forge.GPUReading) (float64, bool)
	slack float64 // what may change between two looks
}

func number[T int | int64 | float64](v *T) (float64, bool) {
	if v == nil {
		return 0, false
	}
	return float64(*v), true
}

var figures = []figure{
	{"memory.total", func(g forge.GPUReading) (float64, bool) { return float64(g.MemoryMiB), true }, 0},
	{"memory.reserved", func(g forge.GPUReading) (float64, bool) { return number(g.MemoryReservedMiB) }, 1},
	{"memory.used", func(g forge.GPUReading) (float64, bool) { return number(g.MemoryUsedMiB) }, 1},
	{"temperature.gpu", func(g forge.GPUReading) (float64, bool) { return number(g.TemperatureC) }, 1},
	{"temperature.memory", func(g forge.GPUReading) (float64, bool) { return number(g.MemoryTemperatureC) }, 1},
	{"power.draw", func(g forge.GPUReading) (float64, bool) { return number(g.PowerWatts) }, 10},
	{"power.limit", func(g forge.GPUReading) (float64, bool) { return number(g.PowerLimitWatts) }, 0.01},
	{"clocks.sm", func(g forge.GPUReading) (float64, bool) { return number(g.SMClockMHz) }, 60},
	{"clocks.mem", func(g forge.GPUReading) (float64, bool) { return number(g.MemoryClockMHz) }, 0},
	{"utilization.gpu", func(g forge.GPUReading) (float64, bool) { return number(g.UtilPercent) }, 10},
	{"ecc.errors.corrected.volatile.total", func(g forge.GPUReading) (float64, bool) { return number(g.ECCCorrected) }, 0},
	{"ecc.errors.uncorrected.volatile.total", func(g forge.GPUReading) (float64, bool) { return number(g.ECCUncorrected) }, 0},
	{"index", func(g forge.GPUReading) (float64, bool) { return float64(g.Index), true }, 0},
}

func (c *check) readings(ctx context.Context) error {
	var names []string
	for _, f := range figures {
		names = append(names, f.field)
	}
	query := "--query-gpu=uuid,clocks_event_reasons.active," + strings.Join(names, ",")
	before, err := smi(ctx, query)
	if err != nil {
		return err
	}
	l, err := c.look(ctx)
	if err != nil {
		return err
	}
	after, err := smi(ctx, query)
	if err != nil {
		return err
	}
	text, _ := json.Marshal(l)
	fmt.Printf("  %s\n", text)
	c.claim(l.State == forge.NVMLOK, "the look is %s", l.State)
	for _, g := range l.GPUs {
		at := slices.IndexFunc(before, func(r []string) bool { return r[0] == g.UUID })
		if at < 0 || len(after) <= at {
			c.claim(false, "nvidia-smi knows %s", g.UUID)
			continue
		}
		for i, f := range figures {
			ours, said := f.ours(g)
			lo, err1 := strconv.ParseFloat(strings.TrimSpace(before[at][i+2]), 64)
			hi, err2 := strconv.ParseFloat(strings.TrimSpace(after[at][i+2]), 64)
			if err1 != nil || err2 != nil || !said {
				if said != (err1 == nil) {
					c.claim(false, "%s: nvidia-smi says %q, forge %v (%v)", f.field, before[at][i+2], ours, said)
				} else {
					c.notSeen("%s: neither says it (%q)", f.field, before[at][i+2])
				}
				continue
			}
			// nvidia-smi cuts bytes to MiB where forge may round: a unit is a unit.
			c.claim(ours >= math.Min(lo, hi)-f.slack && ours <= math.Max(lo, hi)+f.slack, "%s: %v; nvidia-smi %v before and %v after", f.field, ours, lo, hi)
		}
		mask, err := strconv.ParseUint(strings.TrimPrefix(before[at][1], "0x"), 16, 64)
		if err == nil {
			c.claim((mask&0x1 != 0) == slices.Contains(g.Throttle, forge.ThrottleIdle) || before[at][1] != after[at][1], "throttle reasons %v; nvidia-smi %s", g.Throttle, before[at][1])
		}
	}
	return nil
}
