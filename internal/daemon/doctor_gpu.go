package daemon

import (
	"fmt"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// gpusSeen says what NVML shows of this host, which a cluster of kind direct places runs on: without a word of it a host whose driver is not found
// looks like one without GPUs.
func (d *Daemon) gpusSeen(c *Cluster) finding {
	look := d.gpus.watch()
	there, out := 0, []string{}
	for _, n := range d.world.nodesOf(c.Name) {
		for _, g := range n.GPUs {
			if g.Kind != forge.GPUDevice {
				continue
			}
			there++
			if g.Sick != "" {
				out = append(out, fmt.Sprintf("%d (%s)", g.Slot, g.Sick))
			}
		}
	}
	switch {
	case look.State == "":
		return finding{status: api.CheckUnknown, found: "NVML was not looked at yet", fix: "ask again in some seconds"}
	case look.State == forge.NVMLNoDriver && there == 0:
		return fine("no GPUs here, and no NVML: %s (a host that has GPUs needs the driver, or gpus.library_path)", look.Detail)
	case look.State == forge.NVMLNoDriver:
		return fine("no NVML: %s; this host is to have %s", look.Detail, plural(there, "GPU")).but(api.CheckFail, "install the NVIDIA driver, or set gpus.library_path to the directory of libnvidia-ml.so.1")
	case look.State != forge.NVMLOK:
		return fine("NVML is %s: %s", look.State, look.Detail).but(api.CheckFail, "try nvidia-smi; when it hangs as well, restart the machine once its runs have saved")
	}
	f := fine("%s, driver %s", plural(there, "GPU"), look.Driver)
	if len(out) > 0 {
		f.found += "; nothing new goes to " + strings.Join(out, ", ")
		return f.but(api.CheckWarn, "forgectl node show NODE says what each waits for")
	}
	return f
}
