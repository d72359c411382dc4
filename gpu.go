package forge

import "time"

// NVMLState says how far what was seen of a node's GPUs can be relied on.
type NVMLState string

// The states. Only ok says anything of GPUs that are not in the list.
const (
	NVMLOK       NVMLState = "ok"
	NVMLNoDriver NVMLState = "no_driver" // no NVML library: a machine without NVIDIA GPUs, or one whose driver is gone
	NVMLError    NVMLState = "error"     // the driver is there and does not do, or the asking process died
	NVMLHung     NVMLState = "hung"      // the driver did not answer in time
	NVMLBlind    NVMLState = "blind"     // the asking process died again and again: it is tried rarely, and nothing is placed on guesses
)

// GPULook is one look at the GPUs of a node, or at those of a run where forged sees no more of the node.
type GPULook struct {
	At     time.Time    `json:"at" doc:"When it was begun, by the clock of the node that looked"`
	State  NVMLState    `json:"state"`
	Detail string       `json:"detail,omitempty" doc:"In words, when the state is not ok"`
	Driver string       `json:"driver,omitempty"`
	Boot   string       `json:"boot,omitempty" doc:"Id that the machine has from one start to the next; absent: not known"`
	GPUs   []GPUReading `json:"gpus" doc:"By PCI address; complete only when the state is ok"`
}

// GPUReading is what NVML said of one GPU at one moment. What is absent was not said: by this GPU, this driver, or this time.
type GPUReading struct {
	UUID      string `json:"uuid"`
	Index     int    `json:"index" doc:"NVML's, which a lost GPU renumbers; nvidia-smi shows it"`
	Minor     int    `json:"minor" doc:"N of /dev/nvidiaN"`
	PCI       string `json:"pci,omitempty" doc:"Bus address, as in 00000000:3B:00.0"`
	Type      string `json:"type" doc:"Model name without the maker's; of a MIG instance with its profile"`
	MIG       string `json:"mig,omitempty" doc:"Profile of the MIG instance, as in 1g.10gb"`
	Parent    string `json:"parent,omitempty" doc:"UUID of the GPU that a MIG instance is a part of"`
	MIGID     *int   `json:"mig_id,omitempty" doc:"Id of its GPU instance"`
	Problem   string `json:"problem,omitempty" doc:"Why it does not answer: lost, needs a reset, hung"`
	Lost      bool   `json:"lost,omitempty" doc:"The driver no longer reaches it"`
	Reset     bool   `json:"reset_required,omitempty" doc:"The driver wants it reset before it is used again"`
	HungSince int64  `json:"hung_s,omitempty" doc:"Seconds that a call about it has not returned"`
	HungCall  string `json:"hung_call,omitempty"`

	UtilPercent       *int   `json:"util_percent,omitempty"`
	MemoryUtilPercent *int   `json:"memory_util_percent,omitempty" doc:"Time in which memory was read or written"`
	MemoryMiB         int64  `json:"memory_mib,omitempty"`
	MemoryUsedMiB     *int64 `json:"memory_used_mib,omitempty" doc:"Without what the driver reserves"`
	MemoryReservedMiB *int64 `json:"memory_reserved_mib,omitempty"`

	TemperatureC       *int `json:"temperature_c,omitempty"`
	MemoryTemperatureC *int `json:"memory_temperature_c,omitempty"`
	MarginC            *int `json:"margin_c,omitempty" doc:"Degrees that are left below the slowdown"`
	SlowdownC          *int `json:"slowdown_c,omitempty" doc:"Where the hardware slows down"`
	ShutdownC          *int `json:"shutdown_c,omitempty" doc:"Where the hardware switches off"`
	MaxC               *int `json:"max_c,omitempty" doc:"Highest temperature that it is made to work at"`
	MemoryMaxC         *int `json:"memory_max_c,omitempty"`

	PowerWatts      *float64 `json:"power_watts,omitempty"`
	PowerLimitWatts *float64 `json:"power_limit_watts,omitempty"`
	EnergyJoules    *float64 `json:"energy_joules,omitempty" doc:"Since the driver was loaded"`
	SMClockMHz      *int     `json:"sm_clock_mhz,omitempty"`
	MemoryClockMHz  *int     `json:"memory_clock_mhz,omitempty"`

	Throttle []ThrottleReason `json:"throttle,omitempty" doc:"Why its clocks are below the highest"`

	ECCCorrected   *int64 `json:"ecc_corrected,omitempty" doc:"Since the driver was loaded"`
	ECCUncorrected *int64 `json:"ecc_uncorrected,omitempty" doc:"Since the driver was loaded"`
	RemapCorrected *int   `json:"remap_corrected,omitempty" doc:"Memory rows that were replaced after corrected errors"`
	RemapUncorrect *int   `json:"remap_uncorrected,omitempty" doc:"Memory rows that were replaced after uncorrected errors"`
	RemapPending   *bool  `json:"remap_pending,omitempty" doc:"A row is replaced at the next reset"`
	RemapFailure   *bool  `json:"remap_failure,omitempty" doc:"A row could not be replaced: the GPU has to be"`
	RetiredPages   *int   `json:"retired_pages,omitempty" doc:"GPUs before Ampere"`
	RetirePending  *bool  `json:"retire_pending,omitempty"`

	LinksUp       *int   `json:"nvlinks_up,omitempty"`
	LinksDown     *int   `json:"nvlinks_down,omitempty" doc:"That could be up"`
	LinkReplays   *int64 `json:"nvlink_replays,omitempty"`
	LinkRecovered *int64 `json:"nvlink_recoveries,omitempty"`
	LinkCRC       *int64 `json:"nvlink_crc_errors,omitempty"`
	PCIeReplays   *int64 `json:"pcie_replays,omitempty"`

	Recovery *int `json:"recovery_action,omitempty" doc:"What the driver wants done: 0 nothing, 1 GPU reset, 2 node reboot, 3 drain P2P, 4 drain and reset, 5 IMEX, 6 bus reset, 7 system reboot"`

	Processes []GPUProcess `json:"processes,omitempty"`
	Told      bool         `json:"processes_told,omitempty" doc:"The list of processes is complete; else not known"`
}

// GPUProcess is one process that uses a GPU, as the driver numbers it.
type GPUProcess struct {
	PID       int    `json:"pid" doc:"In the host's numbering"`
	MemoryMiB *int64 `json:"memory_mib,omitempty"`
	Kind      string `json:"kind" doc:"compute, graphics or mps"`
}

// ThrottleReason is one reason for clocks below the highest.
type ThrottleReason string

// The reasons that NVML tells apart.
const (
	ThrottleIdle       ThrottleReason = "idle"          // 0x1
	ThrottleClocks     ThrottleReason = "clocks_set"    // 0x2
	ThrottlePowerCap   ThrottleReason = "power_cap"     // 0x4: normal under load
	ThrottleHWSlowdown ThrottleReason = "hw_slowdown"   // 0x8
	ThrottleSync       ThrottleReason = "sync_boost"    // 0x10
	ThrottleSWThermal  ThrottleReason = "sw_thermal"    // 0x20
	ThrottleHWThermal  ThrottleReason = "hw_thermal"    // 0x40
	ThrottleBrake      ThrottleReason = "power_brake"   // 0x80
	ThrottleDisplay    ThrottleReason = "display_clock" // 0x100
)

// GPUEventKind is what a driver tells by itself.
type GPUEventKind string

// The events.
const (
	GPUEventXID      GPUEventKind = "xid"
	GPUEventRecovery GPUEventKind = "recovery_action" // what the driver wants done has changed
)

// GPUEvent is a word of the driver about a GPU. Equal ones that come within a second are one, with a count: a storm of ten thousand is a line.
type GPUEvent struct {
	At    time.Time    `json:"at"`
	UUID  string       `json:"uuid" doc:"Of the GPU; of a MIG instance its parent's"`
	Kind  GPUEventKind `json:"kind"`
	XID   int          `json:"xid,omitempty"`
	MIGID *int         `json:"mig_id,omitempty" doc:"GPU instance that it is about; absent: the whole GPU"`
	Count int          `json:"count"`
}
