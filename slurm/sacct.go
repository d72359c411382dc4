package slurm

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// sacctFormat: like squeue's, the name last.
const sacctFormat = "JobIDRaw,State,ExitCode,Submit,Start,End,Partition,NodeList,User,JobName"

const sacctFields = 10

// jobs are those of one name.
type jobs []entry

// latest is the one with the id; without an id, the one that was submitted last. An id alone would not do: they are used again, so
// that only jobs of the name are here.
func (l jobs) latest(id string) *entry {
	var best *entry
	for i := range l {
		if (id == "" || l[i].ID == id) && (best == nil || l[i].Submitted.After(best.Submitted)) {
			best = &l[i]
		}
	}
	return best
}

// sacct asks the accounting for jobs by name. known false: it did not answer, or there is none.
func (e *Executor) sacct(names []string, now time.Time) (byName map[string]jobs, known bool) {
	e.mu.Lock()
	may := e.books()
	e.mu.Unlock()
	if !may {
		return nil, false
	}
	// Without a start it would look at today only.
	since := now.Add(-30 * 24 * time.Hour).UTC().Format("2006-01-02T15:04:05")
	out, err := e.o.Tools.Run(e.ctx, "", "sacct", "--noheader", "--parsable2", "--allocations", "--duplicates", "--user="+strings.Join(e.users(), ","),
		"--starttime="+since, "--name="+strings.Join(names, ","), "--format="+sacctFormat)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.asker.noBooks = now
		e.log.Debug().Err(err).Msg("no answer from the accounting")
		return nil, false
	}
	e.asker.noBooks = time.Time{}
	byName = map[string]jobs{}
	for _, j := range parseSacct(out) {
		if slices.Contains(names, j.Name) {
			byName[j.Name] = append(byName[j.Name], j)
		}
	}
	return byName, true
}

// parseSacct reads the lines that can be read.
func parseSacct(out string) []entry {
	var all []entry
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimRight(line, "\r\n"), "|", sacctFields)
		if len(f) < sacctFields || !isJobID(f[0]) {
			continue
		}
		j := entry{ID: f[0], Partition: f[6], Nodes: f[7], User: f[8], Name: f[9], ByUID: -1}
		var by string
		j.State, by, _ = strings.Cut(f[1], " ")
		if uid, err := strconv.Atoi(strings.TrimPrefix(by, "by ")); err == nil && j.State == "CANCELLED" {
			j.ByUID = uid
		}
		if phases[j.State] == phaseUnknown {
			continue
		}
		if j.Nodes == "None assigned" {
			j.Nodes = ""
		}
		j.Status = statusOf(f[2])
		ok := true
		for i, to := range []*time.Time{&j.Submitted, &j.Started, &j.Ended} {
			var good bool
			*to, good = instant(f[3+i])
			ok = ok && good
		}
		if ok {
			all = append(all, j)
		}
	}
	return all
}

// statusOf reads "code:signal" back into a wait status.
func statusOf(s string) int {
	code, signal, _ := strings.Cut(s, ":")
	c, _ := strconv.Atoi(code)
	n, _ := strconv.Atoi(signal)
	return c&0xff<<8 | n&0x7f
}
