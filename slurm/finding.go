package slurm

import (
	"fmt"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// FindingStatus is how one look came out.
type FindingStatus string

// The outcomes, best first. Unknown could not be looked at.
const (
	FindingOK      FindingStatus = "ok"
	FindingWarn    FindingStatus = "warn"
	FindingFail    FindingStatus = "fail"
	FindingUnknown FindingStatus = "unknown"
)

// Finding is one thing that a check of a cluster looked at: what it is, what that means for runs, and what to do.
type Finding struct {
	Name   string
	Status FindingStatus
	Found  string
	Means  string
	Fix    string
}

// CheckedBy is what a check is held against.
type CheckedBy struct {
	Version   string // of the forged that asks
	Since     time.Time
	Uses      []forge.GPUUse // of attempts that ended since then, by forge's own records
	Account   string         // of the person who asks, where jobs belong to people; "": there is none, NoAccount says why
	NoAccount string
}

func found(name string, status FindingStatus, format string, args ...any) Finding {
	return Finding{Name: name, Status: status, Found: fmt.Sprintf(format, args...)}
}

func (f Finding) means(format string, args ...any) Finding {
	f.Means = fmt.Sprintf(format, args...)
	return f
}

func (f Finding) fix(format string, args ...any) Finding {
	f.Fix = fmt.Sprintf(format, args...)
	return f
}
