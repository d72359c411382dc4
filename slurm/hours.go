package slurm

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// account is what the accounting says of one job of forge's.
type account struct {
	run     forge.RunID
	attempt int
	gpus    int
	elapsed time.Duration
}

func (a account) hours() float64 { return float64(a.gpus) * a.elapsed.Hours() }

// accountsOf asks the accounting for the jobs of this cluster that ended since then.
func accountsOf(ctx context.Context, o Options, since time.Time) ([]account, error) {
	out, err := o.Tools.Run(ctx, "", "sacct", "-n", "-P", "-X", "-a", "-S", since.UTC().Format("2006-01-02T15:04:05"), "-o", "End,ElapsedRaw,AllocTRES,JobName")
	if err != nil {
		return nil, err
	}
	return parseAccounts(out, o.Cluster, since)
}

func parseAccounts(out string, cluster forge.ClusterName, since time.Time) ([]account, error) {
	var list []account
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimRight(line, "\r\n"), "|", 4)
		if len(f) != 4 {
			continue
		}
		run, attempt, ours := ParseJobName(cluster, f[3])
		end, err := strconv.ParseInt(f[0], 10, 64) // SLURM_TIME_FORMAT=%s; what still runs has a word here
		if !ours || err != nil || end < since.Unix() {
			continue
		}
		seconds, err := strconv.ParseInt(f[1], 10, 32)
		if err != nil || seconds < 0 {
			return nil, fmt.Errorf("sacct said %.200q: %.50q is no number of seconds", line, f[1])
		}
		a := account{run: run, attempt: attempt, elapsed: time.Duration(seconds) * time.Second}
		for _, kv := range strings.Split(f[2], ",") {
			if n, ok := strings.CutPrefix(kv, "gres/gpu="); ok { // and not the typed ones beside it, which count the same GPUs
				if a.gpus, err = count(n); err != nil {
					return nil, fmt.Errorf("sacct said %.200q: %w", line, err)
				}
			}
		}
		list = append(list, a)
	}
	return list, nil
}

// Hours is forge's own count of GPU-hours beside that of Slurm's accounting.
type Hours struct {
	Ours, Theirs float64
	Both         int // attempts that both know
	OnlyOurs     int // attempts that the accounting does not know
	OnlyTheirs   int // jobs that forge does not know, or not as ended
	Worst        string
	WorstBy      float64 // GPU-hours
}

func compareHours(uses []forge.GPUUse, accounts []account) Hours {
	type key struct {
		run     forge.RunID
		attempt int
	}
	var h Hours
	theirs := map[key]account{}
	for _, a := range accounts {
		theirs[key{a.run, a.attempt}] = a
		h.Theirs += a.hours()
	}
	for _, u := range uses {
		h.Ours += u.Hours()
		k := key{u.Run, u.Attempt}
		a, ok := theirs[k]
		if !ok {
			h.OnlyOurs++
			continue
		}
		delete(theirs, k)
		h.Both++
		if by := math.Abs(u.Hours() - a.hours()); by > h.WorstBy {
			h.Worst, h.WorstBy = forge.AttemptKey(u.Run, u.Attempt), by
		}
	}
	h.OnlyTheirs = len(theirs)
	return h
}

// How far the two counts may be apart before it is worth a look.
const (
	hoursShare = 0.02
	hoursSlack = 0.1 // GPU-hours
)

func judgeHours(h Hours, since time.Time) Finding {
	f := found("gpu_hours", FindingOK, "since %s: forge %.2f GPU-hours, accounting %.2f, difference %+.2f; %d attempts in both, %d only in forge, %d only in the accounting",
		since.UTC().Format(time.RFC3339), h.Ours, h.Theirs, h.Ours-h.Theirs, h.Both, h.OnlyOurs, h.OnlyTheirs)
	f = f.means("forge counts an attempt's GPUs from their allocation until its processes are proven gone; Slurm until its job has completed")
	if math.Abs(h.Ours-h.Theirs) > hoursSlack+hoursShare*max(h.Ours, h.Theirs) {
		f.Status = FindingWarn
		if h.Worst != "" {
			f.Found += fmt.Sprintf("; most by attempt %s: %.2f", h.Worst, h.WorstBy)
		}
		f = f.fix("look at the attempts that only one side knows: sacct -X -S ... -o JobName,ElapsedRaw,AllocTRES; EXCLUSIVE partitions and jobs requeued by hand count more in Slurm")
	}
	return f
}
