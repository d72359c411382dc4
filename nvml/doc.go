// Package nvml looks at the GPUs of this machine through NVIDIA's management library.
//
// # Why a child process
//
// go-nvml binds the library's functions lazily: a driver that lacks one ends the process with
// exit code 127 at the first call, without a panic and without a defer. A broken driver can
// crash inside a call or not come back from it at all. None of this may happen to a daemon that
// holds running jobs. So the daemon never calls NVML; it starts its own binary again
//
//	forged nvml inventory
//
// reads one JSON document from it and gives up after a timeout. Whatever becomes of the child,
// the daemon gets a Report:
//
//	ok         the driver answered; a GPU that did not is in the list, marked Sick
//	no_driver  there is no NVML library here: a machine without NVIDIA GPUs, nothing is wrong
//	error      the driver is there and does not do: not loaded, too old, crashed, garbage
//	hung       no answer in time; the child was killed, or cannot be (state D): then no second
//	           one is started while it lives
//
// error and hung say nothing about what GPUs there are: whoever keeps an inventory keeps it.
//
// # Watching
//
// Watcher keeps one child for as long as forged or a shim lives: `forged nvml watch`, which prints a look every few seconds and an event as
// soon as the driver tells one. A child that dies is replaced, ever more slowly; when they die again and again the watcher is blind, and says so.
// Nobody takes silence for health: each change of state is told as a look of its own, and Now gives a look that was begun after the question.
//
// # What a slot is
//
// Slots are numbered in the order of the PCI addresses, as CUDA_DEVICE_ORDER=PCI_BUS_ID and
// nvidia-smi do. A lost GPU has no address any more and keeps its place by NVML's index. A GPU
// that is gone altogether moves those behind it up: compare reports by UUID, not by slot.
//
// # What an island is
//
// GPUs that reach each other over NVLink, directly or over switches, have one Island number. 0 is "not known": a
// driver that does not say, a GPU without NVLink, a virtual machine that hides the switches. Nothing is refused by it.
//
// # Files
//
// report.go, slots.go, watch.go and child.go are plain Go; only the files that end in _cgo.go need cgo and
// Linux, and unavailable.go stands in for them elsewhere. The tests run this path against a
// library made by contrib/fake-nvml.
package nvml
