package main

import (
	"errors"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// jobOption is what a run makes of one option of sbatch.
type jobOption struct {
	bare bool // it takes no value
	do   func(*jobScript, directive) error
}

var shortOptions = map[byte]string{
	'N': "nodes", 'n': "ntasks", 'c': "cpus-per-task", 'G': "gpus", 't': "time", 'p': "partition", 'A': "account", 'q': "qos", 'C': "constraint", 'x': "exclude",
	'w': "nodelist", 'J': "job-name", 'o': "output", 'e': "error", 'i': "input", 'a': "array", 'd': "dependency", 'D': "chdir", 'M': "clusters", 'W': "wait", 'H': "hold", 'Q': "quiet", 'v': "verbose",
}

// jobOptions are the options that mean something to forge; all others are sbatch's own.
var jobOptions = map[string]jobOption{
	"nodes":           {do: (*jobScript).nodesOption},
	"ntasks":          counted(func(j *jobScript) *int { return &j.tasks }),
	"ntasks-per-node": counted(func(j *jobScript) *int { return &j.tasksPerNode }),
	"tasks-per-node":  counted(func(j *jobScript) *int { return &j.tasksPerNode }),
	"cpus-per-task":   counted(func(j *jobScript) *int { return &j.cpusPerTask }),
	"cpus-per-gpu":    counted(func(j *jobScript) *int { return &j.request.CPUsPerGPU }),
	"gpus":            gpusOption(func(j *jobScript) *int { return &j.request.GPUs }),
	"gpus-per-node":   gpusOption(func(j *jobScript) *int { return &j.request.GPUsPerNode }),
	"gpus-per-task":   gpusOption(func(j *jobScript) *int { return &j.gpusPerTask }),
	"gres":            {do: (*jobScript).gresOption},
	"mem":             sized(func(j *jobScript) *int64 { return &j.memory }),
	"mem-per-cpu":     sized(func(j *jobScript) *int64 { return &j.memoryPerCPU }),
	"mem-per-gpu":     sized(func(j *jobScript) *int64 { return &j.request.MemoryMiBPerGPU }),
	"time":            {do: (*jobScript).timeOption},
	"partition":       worded(func(j *jobScript) *string { return &j.batch().Partition }),
	"account":         worded(func(j *jobScript) *string { return &j.batch().Account }),
	"qos":             worded(func(j *jobScript) *string { return &j.batch().QOS }),
	"constraint":      worded(func(j *jobScript) *string { return &j.batch().Constraint }),
	"reservation":     worded(func(j *jobScript) *string { return &j.batch().Reservation }),
	"nodelist":        worded(func(j *jobScript) *string { return &j.batch().Nodelist }),
	"mail-type":       worded(func(j *jobScript) *string { return &j.batch().MailType }),
	"exclude": {do: func(j *jobScript, d directive) error {
		j.where().Exclude = []forge.NodeName{forge.NodeName(d.value)}
		return nil
	}},
	"job-name": {do: func(j *jobScript, d directive) error {
		if err := forge.CheckName(d.value); err != nil {
			return j.note(d, "is not the run's name: %v", err)
		}
		j.request.Name = d.value
		return nil
	}},
	"output": noted(false, "is not used: forge keeps what the ranks write, forgectl run logs shows it"),
	"error":  noted(false, "is not used: forge keeps what the ranks write, forgectl run logs --stderr shows it"),
	"signal": noted(false, "is not used: forge sends TERM before the limit and waits for --grace (docs/run-contract.md)"),
	"chdir":  noted(false, "is not used: the script starts in the copy of --workdir"),
	"export": noted(false, "is not used: a run begins with a clean environment; set what it needs in the script"), "export-file": noted(false, "is not used: set what the run needs in the script"),
	"open-mode": noted(false, "is not used: every attempt has logs of its own"), "no-requeue": noted(true, "is what forge does anyway"),
	"parsable": noted(true, "means nothing here"), "quiet": noted(true, "means nothing here"), "verbose": noted(true, "means nothing here"),
	"array":      refused(false, "a run is one gang", "submit a run for each: for i in 0 1 2; do forgectl run submit script … -- python train.py --index $i; done"),
	"dependency": refused(false, "it names jobs, and forge knows runs", "run submit --after RUN"),
	"requeue":    refused(true, "forge goes on by itself after a failure of a node, and tries a failure of the program as often as it is told", "run submit --max-retries N"),
	"wrap":       refused(false, "the script is the command", "forgectl run submit script --workdir . -- PROGRAM"),
	"input":      refused(false, "ranks read nothing from standard input", "read the file in the script"),
	"clusters":   refused(false, "forge has names of its own for clusters", "run submit --cluster NAME"),
	"wait":       refused(true, "it is forgectl that waits", "run submit --wait"),
	"hold":       refused(true, "a run is held by forge", "forgectl run hold RUN"),
	"hetjob":     refused(true, "every node of a gang has the same", "a run for each part, or one with the larger of the two"),
}

func noted(bare bool, text string) jobOption {
	return jobOption{bare, func(j *jobScript, d directive) error { return j.note(d, "%s", text) }}
}

func refused(bare bool, why, instead string) jobOption {
	return jobOption{bare, func(j *jobScript, d directive) error { return j.bad(d, "%s", why).WithHint("%s", instead) }}
}

func counted(to func(*jobScript) *int) jobOption {
	return jobOption{do: func(j *jobScript, d directive) error {
		n, err := strconv.Atoi(d.value)
		if err != nil || n < 1 {
			return j.bad(d, "want a number, 1 or more")
		}
		*to(j) = n
		return nil
	}}
}

func worded(to func(*jobScript) *string) jobOption {
	return jobOption{do: func(j *jobScript, d directive) error {
		*to(j) = d.value
		return nil
	}}
}

func sized(to func(*jobScript) *int64) jobOption {
	return jobOption{do: func(j *jobScript, d directive) error {
		if d.value == "0" {
			return j.note(d, "asks for all memory of a node, and is not used; --mem-per-gpu says how much")
		}
		m, err := forge.ParseMemoryMiB(d.value)
		if err != nil {
			return j.bad(d, "%w", err)
		}
		*to(j) = m
		return nil
	}}
}

func gpusOption(to func(*jobScript) *int) jobOption {
	return jobOption{do: func(j *jobScript, d directive) error { return j.takeGPUs(d, d.value, to(j)) }}
}

func (j *jobScript) takeGPUs(d directive, v string, to *int) error {
	kind, n, err := gpuCount(v)
	if err != nil {
		return j.bad(d, "%w", err)
	}
	if *to = n; kind != "" {
		j.where().GPUTypes = []string{kind}
	}
	return nil
}

func (j *jobScript) gresOption(d directive) error {
	for part := range strings.SplitSeq(d.value, ",") {
		what, rest, more := strings.Cut(strings.TrimPrefix(part, "gres/"), ":")
		switch {
		case what != "gpu":
			return j.bad(d, "forge asks for GPUs only, and %s is something else", part)
		case !more:
			j.request.GPUsPerNode = 1
		default:
			if err := j.takeGPUs(d, rest, &j.request.GPUsPerNode); err != nil {
				return err
			}
		}
	}
	return nil
}

func (j *jobScript) nodesOption(d directive) error {
	low, high, ranged := strings.Cut(d.value, "-")
	n, err := strconv.Atoi(low)
	switch {
	case err != nil || n < 1:
		return j.bad(d, "want a number, 1 or more")
	case ranged && high != low:
		return j.bad(d, "a gang has one size").WithHint("--nodes=%s", low)
	}
	j.nodes = n
	return nil
}

func (j *jobScript) timeOption(d directive) error {
	t, err := forge.ParseDuration(d.value)
	if err != nil {
		var e *forge.Error
		if errors.As(err, &e) {
			err = e.Err
		}
		return j.bad(d, "%w", err)
	}
	j.request.TimeLimit = forge.Duration(t)
	return nil
}
