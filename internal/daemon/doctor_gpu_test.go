package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/nvml"
)

func TestTheDoctorAndTheNodeSayWhatNVMLShows(t *testing.T) {
	g := startGPUs(t, "GPU-a", "GPU-b")
	c := g.clusterList()[0]
	came(t, g.gpusSeen(c), api.CheckUnknown, "not looked at yet")
	g.tell(g.well(time.Second, "GPU-a", "GPU-b"))
	came(t, g.gpusSeen(c), api.CheckOK, "2 GPUs, driver 580.1")
	shows := func(want api.NodeNVML) {
		t.Helper()
		n, err := nodes{g.Daemon}.Node(t.Context(), g.op, "", "n1")
		if err != nil || n.NVML == nil || n.NVML.State != want.State || n.NVML.Detail != want.Detail || n.NVML.Driver != want.Driver || n.NVML.At.IsZero() {
			t.Errorf("%+v, %v; want %+v", n.NVML, err, want)
		}
	}
	shows(api.NodeNVML{State: forge.NVMLOK, Driver: "580.1"})
	bad := func(state forge.NVMLState, detail string) {
		g.look = g.look.Add(time.Second)
		g.tell(nvml.News{Look: &forge.GPULook{At: g.look, State: state, Detail: detail}})
	}
	bad(forge.NVMLHung, "nvmlInit has not returned for 12 s")
	came(t, g.gpusSeen(c), api.CheckFail, "NVML is hung: nvmlInit")
	shows(api.NodeNVML{State: forge.NVMLHung, Detail: "nvmlInit has not returned for 12 s"})
	bad(forge.NVMLNoDriver, "libnvidia-ml.so.1 cannot be opened")
	came(t, g.gpusSeen(c), api.CheckFail, "no NVML: libnvidia-ml.so.1 cannot be opened; this host is to have 2 GPUs")
	g.tell(g.well(time.Second, "GPU-a", "GPU-b"))
	g.tell(nvml.News{Events: []forge.GPUEvent{xid(g.look, "GPU-b", 48, 1)}})
	g.awaitNode(t, "it is held", func(n api.NodeView) bool { return n.GPUs[1].Sick != "" })
	came(t, g.gpusSeen(c), api.CheckWarn, "nothing new goes to 1 (held back by xid_48")
	for _, x := range g.list() {
		if x.name == "gpus/local" {
			return
		}
	}
	t.Error("the doctor does not look at GPUs")
}

func TestAHostWithoutGPUsIsNoFaultAndStillSaysWhatIsMissing(t *testing.T) {
	g := startGPUs(t)
	g.tell(nvml.News{Look: &forge.GPULook{At: g.look, State: forge.NVMLNoDriver, Detail: "libnvidia-ml.so.1 cannot be opened"}})
	came(t, g.gpusSeen(g.clusterList()[0]), api.CheckOK, "no GPUs here, and no NVML: libnvidia-ml.so.1 cannot be opened")
}

func TestAFileIsNoDirectoryOfTheLibrary(t *testing.T) {
	file := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var said []string
	c := GPUConfig{LibraryPath: file}
	c.resolve()
	c.check(func(field, format string, args ...any) { said = append(said, field+" "+format) })
	if len(said) != 1 || !strings.Contains(said[0], "gpus.library_path") || !strings.Contains(said[0], "is a file") {
		t.Errorf("%q", said)
	}
	c.LibraryPath = filepath.Dir(file)
	c.check(func(field, format string, args ...any) { t.Errorf("%s: "+format, append([]any{field}, args...)...) })
}
