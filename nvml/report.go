package nvml

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// State says how far a Report can be relied on.
type State = forge.NVMLState

// The states of a report; doc.go says what each means.
const (
	StateOK       = forge.NVMLOK
	StateNoDriver = forge.NVMLNoDriver
	StateError    = forge.NVMLError
	StateHung     = forge.NVMLHung
	StateBlind    = forge.NVMLBlind
)

// Report is what one look at the machine's GPUs found.
type Report struct {
	State  State       `json:"state"`
	Driver string      `json:"driver,omitempty"` // version of the driver
	GPUs   []forge.GPU `json:"gpus"`             // by slot; complete only when State is ok
	Detail string      `json:"detail,omitempty"` // in words, when State is not ok
}

// Reader is an open NVML library. Its calls may hang, crash or end the process: use it in a
// child only (Prober does).
type Reader interface {
	// Driver returns the version of the driver.
	Driver() (string, error)
	// Inventory lists the GPUs by slot. A GPU that does not answer is in the list, with Sick
	// saying why; an error means that the driver as a whole does not answer.
	Inventory(ctx context.Context) ([]forge.GPU, error)
	// Close gives the library back.
	Close() error
}
