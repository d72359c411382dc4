package slurm

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Limits is what Slurm says that a partition allows. Zero and nil mean: no limit.
type Limits struct {
	Name            string
	Default         bool
	State           string // "UP", "DOWN", "DRAIN", "INACTIVE"
	MaxTime         time.Duration
	DefaultTime     time.Duration
	MinNodes        int
	MaxNodes        int
	TotalNodes      int
	MaxCPUsPerNode  int
	DefMemPerCPUMiB int64
	MaxMemPerCPUMiB int64
	MaxMemPerNode   int64 // MiB
	AllowAccounts   []string
	DenyAccounts    []string
	AllowQOS        []string
	DenyQOS         []string
	Exclusive       bool // a job takes whole nodes
	GraceTime       time.Duration
	PreemptMode     string
	TRES            map[string]string
}

// parsePartitions reads `scontrol -o show partition`.
func parsePartitions(out string) ([]Limits, error) {
	var all []Limits
	for line := range strings.Lines(out) {
		f := pairs(line)
		if f.get("PartitionName") == "" {
			continue
		}
		l, err := parsePartition(f)
		if err != nil {
			return nil, fmt.Errorf("partition %.100s: %w", f.get("PartitionName"), err)
		}
		all = append(all, l)
	}
	return all, nil
}

func parsePartition(f pairList) (l Limits, err error) {
	number := func(key string) int {
		n, e := limitNumber(f.get(key))
		if e != nil && err == nil {
			err = fmt.Errorf("%s: %w", key, e)
		}
		return n
	}
	span := func(key string) time.Duration {
		d, e := limitTime(f.get(key))
		if e != nil && err == nil {
			err = fmt.Errorf("%s: %w", key, e)
		}
		return d
	}
	l = Limits{Name: f.get("PartitionName"), Default: f.get("Default") == "YES", State: f.get("State"),
		MaxTime: span("MaxTime"), DefaultTime: span("DefaultTime"),
		MinNodes: number("MinNodes"), MaxNodes: number("MaxNodes"), TotalNodes: number("TotalNodes"), MaxCPUsPerNode: number("MaxCPUsPerNode"),
		DefMemPerCPUMiB: int64(number("DefMemPerCPU")), MaxMemPerCPUMiB: int64(number("MaxMemPerCPU")), MaxMemPerNode: int64(number("MaxMemPerNode")),
		AllowAccounts: allowList(f.get("AllowAccounts")), DenyAccounts: allowList(f.get("DenyAccounts")),
		AllowQOS: allowList(f.get("AllowQos")), DenyQOS: allowList(f.get("DenyQos")),
		Exclusive: f.get("OverSubscribe") == "EXCLUSIVE", PreemptMode: f.get("PreemptMode")}
	if grace := f.get("GraceTime"); grace != "" {
		seconds, e := strconv.ParseUint(grace, 10, 31)
		if e != nil && err == nil {
			err = fmt.Errorf("GraceTime: %w", e)
		}
		l.GraceTime = time.Duration(seconds) * time.Second
	}
	for _, kv := range strings.Split(f.get("TRES"), ",") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			if l.TRES == nil {
				l.TRES = map[string]string{}
			}
			l.TRES[k] = v
		}
	}
	return l, err
}

// limitNumber reads "8", "UNLIMITED" and what is absent.
func limitNumber(s string) (int, error) {
	switch strings.ToUpper(s) {
	case "", "UNLIMITED", "INFINITE", "(NULL)", "N/A", "NONE":
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%.50q is no number", s)
	}
	return int(n), nil
}

// limitTime reads "1-12:00:00", "00:30:00", "UNLIMITED".
func limitTime(s string) (time.Duration, error) {
	switch strings.ToUpper(s) {
	case "", "UNLIMITED", "INFINITE", "NONE", "N/A", "(NULL)", "PARTITION_LIMIT", "NOT_SET":
		return 0, nil
	}
	d, err := forge.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%.50q is no time", s)
	}
	return d, nil
}

// allowList reads a list of accounts or QOS; nil is everybody.
func allowList(s string) []string {
	if s == "ALL" {
		return nil
	}
	return featureList(s)
}

// settings is what `scontrol show config` says, by name.
type settings map[string]string

func parseConfig(out string) settings {
	c := settings{}
	for line := range strings.Lines(out) {
		key, value, ok := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); ok && key != "" && !strings.Contains(key, " ") {
			if _, had := c[key]; !had { // what follows it may be the dump of a plugin, with names of its own
				c[key] = strings.TrimSpace(value)
			}
		}
	}
	return c
}

// seconds of a setting such as "30 sec"; ok is false where it is not said.
func (c settings) seconds(key string) (time.Duration, bool) {
	n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSuffix(c[key], " sec"), " secs"), 10, 31)
	return time.Duration(n) * time.Second, err == nil
}

// has looks for one word of a list such as SlurmctldParameters.
func (c settings) has(key, word string) bool {
	return slices.ContainsFunc(strings.Split(c[key], ","), func(s string) bool {
		name, _, _ := strings.Cut(strings.TrimSpace(s), "=")
		return strings.EqualFold(name, word)
	})
}

// How long what Slurm said of its partitions is good for, and how long a submission waits for it at most. A controller that
// does not answer is asked again after a while, not by every submission.
const (
	rulesFor   = time.Minute
	rulesStale = time.Hour
	rulesWait  = 3 * time.Second
	rulesAgain = 20 * time.Second
)

// rules knows the partitions of one cluster.
type rules struct {
	mu    sync.Mutex
	known []Limits
	at    time.Time // of the last answer
	asked time.Time
}

// partitions answers from what is known while it is fresh. ok is false when nothing is known that could be relied on.
func (r *rules) partitions(ctx context.Context, t Tools) (list []Limits, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.at) > rulesFor && now.Sub(r.asked) > rulesAgain {
		r.asked = now
		t.Timeout = rulesWait
		if list, err := partitionsOf(ctx, t); err == nil {
			r.known, r.at, r.asked = list, now, time.Time{}
		}
	}
	return r.known, len(r.known) > 0 && now.Sub(r.at) < rulesStale
}

func partitionsOf(ctx context.Context, t Tools) ([]Limits, error) {
	out, err := t.Run(ctx, "", "scontrol", "-a", "-o", "show", "partition")
	if err != nil {
		return nil, err
	}
	list, err := parsePartitions(out)
	if err == nil && len(list) == 0 {
		err = forge.Errorf(forge.KindUnavailable, "slurm.partitions", "scontrol names no partition")
	}
	return list, err
}

func configOf(ctx context.Context, t Tools) (settings, error) {
	out, err := t.Run(ctx, "", "scontrol", "show", "config")
	if err != nil {
		return nil, err
	}
	c := parseConfig(out)
	if c["SLURM_VERSION"] == "" {
		return nil, forge.Errorf(forge.KindUnavailable, "slurm.config", "scontrol show config does not say SLURM_VERSION")
	}
	return c, nil
}
