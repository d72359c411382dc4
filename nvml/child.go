package nvml

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	forge "github.com/forge-ml/forge-ml"
)

// errNoLibrary says that the machine has no NVML at all.
var errNoLibrary = errors.New("no NVML library (libnvidia-ml.so.1) on this machine")

// childArgs make forged's main call ChildMain with what follows the first.
var childArgs = []string{"nvml", "inventory"}

// ChildMain is `forged nvml inventory`, one Report as JSON on out, and `forged nvml watch`, a line of JSON for each look and for what the driver
// says by itself, until stdin ends. The exit code is 0 when the document was written, whatever it says. Whoever starts it must expect it to die or
// to hang.
func ChildMain(args []string, out io.Writer) int {
	if len(args) > 0 && args[0] == "watch" {
		return watchMain(args[1:], os.Stdin, out)
	}
	if len(args) != 1 || args[0] != childArgs[1] {
		fmt.Fprintf(os.Stderr, "forged nvml: want %q, which prints the GPUs of this machine as JSON, or \"watch\", which goes on telling of them\n", childArgs[1])
		return 64
	}
	if err := json.NewEncoder(out).Encode(look(context.Background())); err != nil {
		fmt.Fprintf(os.Stderr, "forged nvml: %v\n", err)
		return 1
	}
	return 0
}

// look makes the report in this very process.
func look(ctx context.Context) Report {
	failed := func(err error) Report {
		return Report{State: StateError, GPUs: []forge.GPU{}, Detail: err.Error()}
	}
	r, err := Open()
	if errors.Is(err, errNoLibrary) {
		return Report{State: StateNoDriver, GPUs: []forge.GPU{}, Detail: err.Error()}
	}
	if err != nil {
		return failed(err)
	}
	// Close is left out on purpose: the process ends here, and nvmlShutdown is one more call
	// that can hang after everything is known.
	driver, err := r.Driver()
	if err != nil {
		return failed(err)
	}
	gpus, err := r.Inventory(ctx)
	if err != nil {
		rep := failed(err)
		rep.Driver = driver
		return rep
	}
	return Report{State: StateOK, Driver: driver, GPUs: gpus}
}
