//go:build linux && cgo

package nvml

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxb200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"

	forge "github.com/forge-ml/forge-ml"
)

// The buses of a DGX H100 in the order of its own indexes, and its four NVSwitches.
var (
	buses    = []uint32{0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf}
	switches = []uint32{0x05, 0x06, 0x07, 0x08}
)

// theirs are the functions that go-nvml's mock servers have, or that furnish gives them; a call of another one panics.
var theirs = []string{"nvmlDeviceGetMinorNumber", "nvmlDeviceGetMigMode", "nvmlDeviceGetNvLinkState", "nvmlDeviceGetNvLinkRemotePciInfo_v2", "nvmlDeviceGetMaxMigDeviceCount",
	"nvmlDeviceGetMigDeviceHandleByIndex", "nvmlDeviceGetGpuInstanceId", "nvmlDeviceGetComputeInstanceId", "nvmlDeviceGetAttributes_v2", "nvmlDeviceGetCpuAffinity",
	"nvmlDeviceGetMemoryAffinity", "nvmlDeviceGetTemperature", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetComputeRunningProcesses_v3"}

// furnish sets what the servers leave out: addresses, links to every switch, NUMA nodes and a few readings.
func furnish(s *server.Server) {
	for i := range s.Devices {
		d := s.Devices[i].(*server.Device)
		d.UUID = fmt.Sprintf("GPU-%d", i)
		d.GetPciInfoFunc = func() (nv.PciInfo, nv.Return) { return nv.PciInfo{Bus: buses[i]}, nv.SUCCESS }
		d.GetNvLinkStateFunc = func(link int) (nv.EnableState, nv.Return) {
			if link >= 18 {
				return 0, nv.ERROR_INVALID_ARGUMENT
			}
			return nv.FEATURE_ENABLED, nv.SUCCESS
		}
		d.GetNvLinkRemotePciInfoFunc = func(link int) (nv.PciInfo, nv.Return) {
			return nv.PciInfo{Bus: switches[link%len(switches)]}, nv.SUCCESS
		}
		d.GetCpuAffinityFunc = func(int) ([]uint, nv.Return) {
			return []uint{0xffff << (16 * uint(i/4)), 0xff}, nv.SUCCESS
		}
		d.GetMemoryAffinityFunc = func(int, nv.AffinityScope) ([]uint, nv.Return) { return []uint{1 << (i / 4)}, nv.SUCCESS }
		d.GetTemperatureFunc = func(nv.TemperatureSensors) (uint32, nv.Return) { return uint32(40 + i), nv.SUCCESS }
		d.GetPowerUsageFunc = func() (uint32, nv.Return) { return 100500, nv.SUCCESS }
		d.GetComputeRunningProcessesFunc = func() ([]nv.ProcessInfo, nv.Return) { return nil, nv.SUCCESS }
	}
}

func readerOf(s *server.Server) *reader {
	return &reader{lib: s, has: func(name string) bool { return slices.Contains(theirs, name) }}
}

func TestInventoriesOfNVIDIAsOwnMachines(t *testing.T) {
	for name, c := range map[string]struct {
		server *server.Server
		kind   string
		memory int64
	}{
		"DGX A100": {dgxa100.New(), "Mock NVIDIA A100-SXM4-40GB", 40960},
		"DGX H100": {dgxh100.New(), "H100 80GB HBM3", 81920},
		"DGX H200": {dgxh200.New(), "H200 141GB HBM3e", 144384},
		"DGX B200": {dgxb200.New(), "B200 180GB HBM3e", 184320},
	} {
		t.Run(name, func(t *testing.T) {
			furnish(c.server)
			gpus, err := readerOf(c.server).Inventory(t.Context())
			if err != nil || len(gpus) != 8 {
				t.Fatalf("%v, %+v", err, gpus)
			}
			for i, g := range gpus {
				cpus := "0-15,64-71"
				if i >= 4 {
					cpus = "16-31,64-71"
				}
				want := forge.GPU{Slot: i, Kind: forge.GPUDevice, UUID: fmt.Sprintf("GPU-%d", i), Type: c.kind, MemoryMiB: c.memory, Island: 1,
					PCI: fmt.Sprintf("00000000:%02X:00.0", buses[i]), NUMA: fmt.Sprint(i / 4), CPUs: cpus}
				if g != want {
					t.Errorf("got  %+v\nwant %+v", g, want)
				}
			}
			r := (&sampler{lib: c.server, ask: &asker{has: readerOf(c.server).has}, index: 5}).read(true)
			if len(r) != 1 || *r[0].TemperatureC != 45 || *r[0].PowerWatts != 100.5 || !r[0].Told || *r[0].LinksUp != 18 || r[0].UUID != "GPU-5" || r[0].Problem != "" {
				t.Errorf("its readings: %+v", r)
			}
		})
	}
}

func TestMIGInstancesOfNVIDIAsOwnMachinesHaveTheNamesOfTheirProfiles(t *testing.T) {
	for name, c := range map[string]struct {
		server  *server.Server
		profile int
		want    string
	}{
		"A100 of 40 GB, a seventh":   {dgxa100.New(), nv.GPU_INSTANCE_PROFILE_1_SLICE, "1g.5gb"},
		"A100 of 40 GB, three of 7":  {dgxa100.New(), nv.GPU_INSTANCE_PROFILE_3_SLICE, "3g.20gb"},
		"H100 of 80 GB, a seventh":   {dgxh100.New(), nv.GPU_INSTANCE_PROFILE_1_SLICE, "1g.10gb"},
		"H100 of 80 GB, all":         {dgxh100.New(), nv.GPU_INSTANCE_PROFILE_7_SLICE, "7g.80gb"},
		"H200 of 141 GB, two of 7":   {dgxh200.New(), nv.GPU_INSTANCE_PROFILE_2_SLICE, "2g.35gb"},
		"B200 of 180 GB, three of 7": {dgxb200.New(), nv.GPU_INSTANCE_PROFILE_3_SLICE, "3g.90gb"},
	} {
		t.Run(name, func(t *testing.T) {
			furnish(c.server)
			whole := c.server.Devices[3].(*server.Device)
			info := whole.Config.MIGProfiles.GpuInstanceProfiles[c.profile]
			part := server.NewDeviceFromConfig(whole.Config, 3)
			part.UUID = "MIG-0"
			part.MemoryInfo.Total = info.MemorySizeMB << 20
			part.GetGpuInstanceIdFunc = func() (int, nv.Return) { return 7, nv.SUCCESS }
			part.GetComputeInstanceIdFunc = func() (int, nv.Return) { return 0, nv.SUCCESS }
			part.GetAttributesFunc = func() (nv.DeviceAttributes, nv.Return) {
				return nv.DeviceAttributes{GpuInstanceSliceCount: info.SliceCount, ComputeInstanceSliceCount: info.SliceCount, MemorySizeMB: info.MemorySizeMB}, nv.SUCCESS
			}
			whole.MigMode = nv.DEVICE_MIG_ENABLE
			whole.GetMaxMigDeviceCountFunc = func() (int, nv.Return) { return 7, nv.SUCCESS }
			whole.GetMigDeviceHandleByIndexFunc = func(i int) (nv.Device, nv.Return) {
				if i != 4 {
					return nil, nv.ERROR_NOT_FOUND
				}
				return part, nv.SUCCESS
			}
			gpus, err := readerOf(c.server).Inventory(t.Context())
			if err != nil || len(gpus) != 8 {
				t.Fatalf("%v, %+v", err, gpus)
			}
			if g := gpus[3]; g.MIG != c.want || g.Type != gpus[2].Type+" MIG "+c.want || g.UUID != "MIG-0" || g.Parent != "GPU-3" || g.MemoryMiB != int64(info.MemorySizeMB) || g.Island != 0 {
				t.Errorf("got %+v, want the profile %s", g, c.want)
			}
		})
	}
}

func TestLinuxSaysWhereAGPUIsWhenNVMLDoesNot(t *testing.T) {
	root := t.TempDir()
	write := func(dev, file, text string) {
		t.Helper()
		dir := filepath.Join(root, dev)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("0000:3b:00.0", "numa_node", "1\n")
	write("0000:3b:00.0", "local_cpulist", "16-31,48-63\n")
	write("0001:e3:00.0", "numa_node", "-1\n")
	for _, c := range []struct {
		pci        pciAddress
		numa, cpus string
	}{
		{pciAddress{0, 0x3b, 0}, "1", "16-31,48-63"},
		{pciAddress{1, 0xe3, 0}, "", ""},
		{pciAddress{0, 0x99, 0}, "", ""},
	} {
		if numa, cpus := placeOf(root, c.pci); numa != c.numa || cpus != c.cpus {
			t.Errorf("%s: got %q, %q", c.pci, numa, cpus)
		}
	}
	for want, set := range map[string][]uint{"": {0, 0}, "0": {1}, "63-64": {1 << 63, 1}, "0,2-3,127": {0b1101, 1 << 63}} {
		if got := cpuList(set); got != want {
			t.Errorf("%b: got %q, want %q", set, got, want)
		}
	}
}
