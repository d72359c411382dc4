package direct

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

func TestSilenceIsCountedFromTheLastAnswerThatWasOne(t *testing.T) {
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	well := forge.GPULook{State: forge.NVMLOK, GPUs: []forge.GPUReading{{UUID: "GPU-a", Told: true}}}
	hangs := forge.GPULook{State: forge.NVMLOK, GPUs: []forge.GPUReading{{UUID: "GPU-a", Told: true}, {UUID: "GPU-b", Problem: "hung: nvmlX"}}}
	v := emptying{since: at, heard: at}
	for _, c := range []struct {
		name  string
		look  forge.GPULook
		err   error
		heard bool
	}{
		{"every GPU is told of", well, nil, true},
		{"the driver hangs", forge.GPULook{State: forge.NVMLHung}, nil, false},
		{"one GPU of two hangs", hangs, nil, false},
		{"nobody can ask", well, errors.New("the child died"), false},
		{"the driver is back", well, nil, true},
	} {
		before := v.heard
		at = at.Add(time.Minute)
		v.answered(at, c.look, c.err)
		if want := map[bool]time.Time{true: at, false: before}[c.heard]; !v.heard.Equal(want) || !v.asked.Equal(at) {
			t.Errorf("%s: heard at %s, asked at %s; want %s, %s", c.name, v.heard, v.asked, want, at)
		}
	}
}

func TestAnAttemptIsOverWhenTheDriverShowsNothingOfIt(t *testing.T) {
	const mine, stranger, masked, other, gone, unreadable = 10, 20, 30, 40, 50, 60
	of := func(pid int) (rundir.Holder, error) {
		h := rundir.Holder{Process: rundir.Process{PID: pid, StartTime: 7, BootID: "b"}}
		switch pid {
		case mine:
			h.Ours, h.Run, h.Attempt = true, "R", 2
		case stranger:
			h.UID = 1000
		case masked: // another user's, who writes what we would
			h.UID, h.Run, h.Attempt = 1000, "R", 2
		case other:
			h.Ours, h.Run, h.Attempt = true, "R", 1
		case gone:
			return rundir.Holder{}, os.ErrProcessDone
		default:
			return rundir.Holder{}, errors.New("permission denied")
		}
		return h, nil
	}
	gpu := func(used int64, pids ...int) *forge.GPUReading {
		g := &forge.GPUReading{UUID: "GPU-a", Told: true, MemoryUsedMiB: &used}
		for _, p := range pids {
			g.Processes = append(g.Processes, forge.GPUProcess{PID: p, Kind: "compute"})
		}
		return g
	}
	look := func(g *forge.GPUReading) forge.GPULook {
		l := forge.GPULook{State: forge.NVMLOK, GPUs: []forge.GPUReading{{UUID: "GPU-b", Told: true, Processes: []forge.GPUProcess{{PID: mine}}}}}
		if g != nil {
			l.GPUs = append(l.GPUs, *g)
		}
		return l
	}
	for _, c := range []struct {
		name  string
		look  forge.GPULook
		waits bool // while there is patience for what is shown
		hears bool // while there is patience for what says nothing
		stays bool // and when there is none of either
		says  string
		ends  bool
	}{
		{"nothing is on it", look(gpu(3)), false, false, false, "", false},
		{"a process of its own, which is ended however long it takes", look(gpu(900, mine)), true, true, true, "process 10 of the attempt", true},
		{"a stranger, who is left alone", look(gpu(900, stranger)), false, false, false, "", false},
		{"a stranger with our marker, who is left alone", look(gpu(900, masked)), false, false, false, "", false},
		{"a process of another attempt, which is not this one's to end", look(gpu(900, other)), false, false, false, "", false},
		{"a process of which nothing can be learned", look(gpu(900, unreadable)), false, false, false, "", false},
		{"a process that has ended and is still shown", look(gpu(900, gone)), true, false, false, "still shows process 50", false},
		{"memory that no process has", look(gpu(900)), true, false, false, "900 MiB are in use, and no process has them", false},
		{"a driver that hangs", forge.GPULook{State: forge.NVMLHung, Detail: "for 12 s"}, true, true, false, "NVML is hung: for 12 s", false},
		{"a driver that nobody sees", forge.GPULook{State: forge.NVMLBlind}, true, true, false, "is not known", false},
		{"a driver that does not do", forge.GPULook{State: forge.NVMLError}, true, true, false, "is not known", false},
		{"a machine without a driver", forge.GPULook{State: forge.NVMLNoDriver}, false, false, false, "", false},
		{"a GPU that hangs", look(&forge.GPUReading{UUID: "GPU-a", Problem: "hung: nvmlX has not returned for 12 s"}), true, true, false, "hung: nvmlX", false},
		{"a GPU that is lost", look(&forge.GPUReading{UUID: "GPU-a", Problem: "lost", Lost: true}), false, false, false, "", false},
		{"a GPU that wants a reset", look(&forge.GPUReading{UUID: "GPU-a", Problem: "reset", Reset: true}), false, false, false, "", false},
		{"a GPU that is not there any more", look(nil), false, false, false, "", false},
		{"a GPU that does not tell of processes", look(&forge.GPUReading{UUID: "GPU-a"}), false, false, false, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, p := range []struct{ patient, hears, held bool }{{true, true, c.waits}, {false, true, c.hears}, {false, false, c.stays}} {
				v := vacant{of: of, run: "R", attempt: 2, patient: p.patient, hears: p.hears}.judge(c.look, nil, []string{"GPU-a"})
				if v.free == p.held || (v.why != "") != p.held || p.held && !strings.Contains(v.why, c.says) {
					t.Errorf("%+v: free %v, %q; it should say %q", p, v.free, v.why, c.says)
				}
				if !p.held && c.hears && !strings.Contains(v.note, c.says) {
					t.Errorf("it is over without the driver's word, and notes %q; want %q", v.note, c.says)
				}
				want := []rundir.Process{}
				if c.ends {
					want = append(want, rundir.Process{PID: mine, StartTime: 7, BootID: "b"})
				}
				if !slices.Equal(v.end, want) {
					t.Errorf("ends %v, want %v", v.end, want)
				}
			}
		})
	}
}
