package slurm

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// entry is one job as Slurm lists it.
type entry struct {
	ID        string
	Name      string
	State     string // Slurm's word, without additions
	Reason    string // "" for none
	Status    int    // wait status
	Restarts  int
	Submitted time.Time
	Started   time.Time // of a job that waits: Slurm's estimate
	Ended     time.Time // of a job that runs: when its limit comes
	Preempted time.Time // when its preemption began: a job that ends by itself in the grace is COMPLETED up to 22.05
	Partition string
	Nodes     string
	User      string
	ByUID     int // who cancelled it; -1: not known. Only the accounting says that
}

// squeueFormat: text with explicit separators is the same in every version. The two fields that may hold anything come
// last, and our own names hold no separator.
const squeueFormat = "JobID:|,State:|,exit_code:|,RestartCnt:|,SubmitTime:|,StartTime:|,EndTime:|,PreemptTime:|,Partition:|,UserName:|,NodeList:|,Reason:|,Name:"

const squeueFields = 13

// listing is one answer of squeue.
type listing struct {
	jobs   map[string][]entry // ours, by name
	garble int                // lines that could not be read: what is absent from such an answer is not even hinted at
	lines  int
}

// squeue asks for all jobs of the users at once, those that ended a while ago included.
func squeue(ctx context.Context, t Tools, users []string, more ...string) (string, error) {
	args := []string{"--noheader", "--all", "--states=all", "--Format=" + squeueFormat}
	if len(users) > 0 {
		args = append(args, "--user="+strings.Join(users, ","))
	}
	return t.Run(ctx, "", "squeue", append(args, more...)...)
}

// parseSqueue reads an answer. Jobs that are not ours are left out. A line that cannot be read changes nothing, and a job id
// that appears twice is not believed either time: somebody's job has a name with a line break in it.
func parseSqueue(out string, ours func(name string) bool) listing {
	l := listing{jobs: map[string][]entry{}}
	var all []entry
	ids := map[string]int{}
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		l.lines++
		e, ok := parseSqueueLine(line)
		if !ok {
			l.garble++
			continue
		}
		ids[e.ID]++
		if ours(e.Name) {
			all = append(all, e)
		}
	}
	for _, e := range all {
		if ids[e.ID] > 1 {
			l.garble++
			continue
		}
		l.jobs[e.Name] = append(l.jobs[e.Name], e)
	}
	return l
}

func parseSqueueLine(line string) (entry, bool) {
	f := strings.SplitN(line, "|", squeueFields-1)
	if len(f) < squeueFields-1 {
		return entry{}, false
	}
	i := strings.LastIndexByte(f[squeueFields-2], '|')
	if i < 0 {
		return entry{}, false
	}
	reason, name := f[squeueFields-2][:i], f[squeueFields-2][i+1:]
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	e := entry{ID: f[0], State: f[1], Partition: f[8], User: f[9], Nodes: f[10], Reason: strings.TrimSpace(reason), Name: strings.TrimSpace(name), ByUID: -1}
	if base, _, ok := strings.Cut(e.ID, "_"); ok { // a task of an array, which is nobody of ours
		if !isJobID(base) {
			return entry{}, false
		}
	} else if base, _, ok := strings.Cut(e.ID, "+"); ok { // a part of a heterogeneous job
		if !isJobID(base) {
			return entry{}, false
		}
	} else if !isJobID(e.ID) {
		return entry{}, false
	}
	if e.State == "" || strings.ToUpper(e.State) != e.State {
		return entry{}, false
	}
	var ok [2]bool
	e.Status, ok[0] = exitCode(f[2])
	e.Restarts, ok[1] = number(f[3])
	if !ok[0] || !ok[1] {
		return entry{}, false
	}
	for i, to := range []*time.Time{&e.Submitted, &e.Started, &e.Ended, &e.Preempted} {
		if *to, ok[0] = instant(f[4+i]); !ok[0] {
			return entry{}, false
		}
	}
	if e.Reason == "None" || e.Reason == "(null)" {
		e.Reason = ""
	}
	return e, true
}

// exitCode reads how the script ended: up to 22.05 a wait status, later "code:signal".
func exitCode(s string) (int, bool) {
	if strings.Contains(s, ":") {
		return statusOf(s), true
	}
	return number(s)
}

func number(s string) (int, bool) {
	if s == "" || s == "N/A" || s == "NONE" || s == "(null)" {
		return 0, true
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// instant reads seconds, as SLURM_TIME_FORMAT=%s makes Slurm print them.
func instant(s string) (time.Time, bool) {
	switch s {
	case "", "N/A", "NONE", "None", "Unknown", "(null)":
		return time.Time{}, true
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return time.Time{}, false
	}
	if n == 0 {
		return time.Time{}, true
	}
	return time.Unix(n, 0).UTC(), true
}

// phase is what a state means for an attempt.
type phase int

const (
	phaseUnknown phase = iota // a word that is not known here: nothing follows from it
	phaseWaiting              // nothing is allocated
	phaseActive               // allocated
	phaseEnding               // its processes are being ended
	phaseOver                 // nothing of it runs any more, and nothing will
)

var phases = map[string]phase{
	"PENDING": phaseWaiting, "REQUEUED": phaseWaiting, "REQUEUE_HOLD": phaseWaiting, "REQUEUE_FED": phaseWaiting,
	"SPECIAL_EXIT": phaseWaiting, "RESV_DEL_HOLD": phaseWaiting,

	"RUNNING": phaseActive, "CONFIGURING": phaseActive, "SUSPENDED": phaseActive, "RESIZING": phaseActive, "SIGNALING": phaseActive,
	"STOPPED": phaseActive, "STAGE_OUT": phaseActive, "POWER_UP_NODE": phaseActive, "UPDATE_DB": phaseActive,

	"COMPLETING": phaseEnding,

	"COMPLETED": phaseOver, "FAILED": phaseOver, "CANCELLED": phaseOver, "TIMEOUT": phaseOver, "NODE_FAIL": phaseOver,
	"PREEMPTED": phaseOver, "OUT_OF_MEMORY": phaseOver, "BOOT_FAIL": phaseOver, "DEADLINE": phaseOver,
	"LAUNCH_FAILED": phaseOver, "RECONFIG_FAIL": phaseOver, "REVOKED": phaseOver, "EXPIRED": phaseOver,
}

func (e *entry) phase() phase {
	if e == nil {
		return phaseUnknown
	}
	return phases[e.State]
}

// exitWords says how the script ended, as Slurm's other programs print it: code and signal.
func (e *entry) exitWords() string {
	return strconv.Itoa(e.Status>>8&0xff) + ":" + strconv.Itoa(e.Status&0x7f)
}
