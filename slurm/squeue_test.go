package slurm

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// What squeue really printed: jobs that failed, wait, run and are held, one with the separator in its name and one with a line break.
const (
	squeue2205 = `2|FAILED|768|0|1795648537|1795648538|1795648538|N/A|main|root|n1|NonZeroExitCode|forge-hpc-01ABC.1
3|PENDING|0|0|1795648537|N/A|N/A|N/A|main|root||PartitionNodeLimit|forge-hpc-01ABC.2
5|PENDING|0|0|1795648537|N/A|N/A|N/A|main|root||JobHeldUser|arr
4|PENDING|0|0|1795648537|N/A|N/A|N/A|main|root||JobHeldUser|x
y
1|RUNNING|0|0|1795648537|1795648538|1827184538|N/A|main|root|n[1-2]|None|a|b
6|PENDING|0|1|1795648537|1795649000|1795649060|N/A|main|root||Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions|forge-hpc-01ABC.3
7|RUNNING|9|0|1795648537|1795648538|1827184538|N/A|main|root|n[1-2]|None|forge-other-01ABC.3
`
	squeue2411 = `2|FAILED|3:0|0|1795649341|1795649342|1795649342|N/A|main|root|n1|NonZeroExitCode|forge-hpc-01ABC.1
3|FAILED|0:1|0|1795649341|1795649341|1795649341|N/A|main|root||BadConstraints|forge-hpc-01ABC.2
5|PENDING|0:0|0|1795649341|N/A|N/A|N/A|main|root||JobHeldUser|arr
4|PENDING|0:0|0|1795649341|N/A|N/A|N/A|main|root||JobHeldUser|x
y
1|RUNNING|0:0|0|1795649341|1795649342|1827185342|N/A|main|root|n[1-2]|None|a|b
`
)

func oursHere(name string) bool { return strings.HasPrefix(name, "forge-hpc-") }

func sec(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

func TestParseSqueue(t *testing.T) {
	t.Run("22.05", func(t *testing.T) {
		l := parseSqueue(squeue2205, oursHere)
		want := map[string][]entry{
			"forge-hpc-01ABC.1": {{ID: "2", Name: "forge-hpc-01ABC.1", State: "FAILED", Reason: "NonZeroExitCode", Status: 768, Submitted: sec(1795648537),
				Started: sec(1795648538), Ended: sec(1795648538), Partition: "main", Nodes: "n1", User: "root", ByUID: -1}},
			"forge-hpc-01ABC.2": {{ID: "3", Name: "forge-hpc-01ABC.2", State: "PENDING", Reason: "PartitionNodeLimit", Submitted: sec(1795648537),
				Partition: "main", User: "root", ByUID: -1}},
			"forge-hpc-01ABC.3": {{ID: "6", Name: "forge-hpc-01ABC.3", State: "PENDING", Restarts: 1, Submitted: sec(1795648537), Started: sec(1795649000),
				Ended: sec(1795649060), Partition: "main", User: "root", ByUID: -1,
				Reason: "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"}},
		}
		if !reflect.DeepEqual(l.jobs, want) {
			t.Errorf("%+v\nwant %+v", l.jobs, want)
		}
		if l.garble != 1 {
			t.Errorf("%d lines could not be read, want the one of the name with a line break", l.garble)
		}
	})
	t.Run("24.11 writes exit codes another way", func(t *testing.T) {
		l := parseSqueue(squeue2411, oursHere)
		if j := l.jobs["forge-hpc-01ABC.1"]; len(j) != 1 || j[0].Status != 768 || j[0].exitWords() != "3:0" {
			t.Errorf("%+v", j)
		}
		if j := l.jobs["forge-hpc-01ABC.2"]; len(j) != 1 || j[0].Reason != "BadConstraints" || j[0].exitWords() != "0:1" || j[0].Nodes != "" {
			t.Errorf("%+v", j)
		}
	})
	t.Run("a job that appears twice is not believed either time", func(t *testing.T) {
		// Somebody's name has a line break and the rest of a line behind it.
		forged := "9|PENDING|0|0|1795648537|N/A|N/A|N/A|main|eve||None|x\n" +
			"2|COMPLETED|0|0|1795648537|1795648538|1795648538|N/A|main|root|n1|None|forge-hpc-01ABC.1\n"
		if l := parseSqueue(squeue2205+forged, oursHere); len(l.jobs["forge-hpc-01ABC.1"]) != 0 || len(l.jobs["forge-hpc-01ABC.2"]) != 1 {
			t.Errorf("%+v", l.jobs)
		}
	})
	for name, line := range map[string]string{
		"too few fields":          "2|FAILED|768|0|1795648537|n1|NonZeroExitCode|forge-hpc-01ABC.1",
		"cut in the middle":       "2|FAILED|768|0|17956",
		"no id":                   "|FAILED|768|0|1795648537|1795648538|1795648538|main|root|n1|None|forge-hpc-01ABC.1",
		"an id of letters":        "x|FAILED|768|0|1795648537|1795648538|1795648538|main|root|n1|None|forge-hpc-01ABC.1",
		"a state in small":        "2|failed|768|0|1795648537|1795648538|1795648538|main|root|n1|None|forge-hpc-01ABC.1",
		"a time that is none":     "2|FAILED|768|0|yesterday|1795648538|1795648538|main|root|n1|None|forge-hpc-01ABC.1",
		"a restart count of junk": "2|FAILED|768|?|1795648537|1795648538|1795648538|main|root|n1|None|forge-hpc-01ABC.1",
		"an error on stdout":      "slurm_load_jobs error: Socket timed out on send/recv operation",
	} {
		t.Run("a line with "+name+" changes nothing", func(t *testing.T) {
			if l := parseSqueue(line+"\n", oursHere); len(l.jobs) != 0 || l.garble != 1 {
				t.Errorf("%+v", l)
			}
		})
	}
}

func TestParseSacct(t *testing.T) {
	out := `1|RUNNING|0:0|1795649341|1795649342|Unknown|main|n[1-2]|ann|a|b
2|FAILED|3:0|1795649341|1795649342|1795649342|main|n1|ann|forge-hpc-01ABC.1
3|CANCELLED by 1000|0:15|1795649341|None|1795649341|main|None assigned|ann|forge-hpc-01ABC.2
2|CANCELLED|0:0|1795000000|1795000001|1795000002|main|n4|ann|forge-hpc-01ABC.1
4|WHATEVER|0:0|1795649341|None|1795649341|main|None assigned|ann|forge-hpc-01ABC.4
nonsense
`
	all := parseSacct(out)
	if len(all) != 4 {
		t.Fatalf("%+v", all)
	}
	if j := all[0]; j.Name != "a|b" || !j.Ended.IsZero() || j.phase() != phaseActive {
		t.Errorf("%+v", j)
	}
	if j := all[2]; j.State != "CANCELLED" || j.User != "ann" || j.ByUID != 1000 || j.Nodes != "" || j.exitWords() != "0:15" {
		t.Errorf("%+v", j)
	}
	if all[1].ByUID != -1 || all[3].ByUID != -1 {
		t.Errorf("a canceller was made up: %+v", all)
	}
	t.Run("of a job id that was used twice the later one counts", func(t *testing.T) {
		if j := (jobs{all[1], all[3]}).latest("2"); j == nil || j.State != "FAILED" {
			t.Errorf("%+v", j)
		}
	})
}

func TestChooseTheJobThatCounts(t *testing.T) {
	// Kept in the order of Slurm's answer, which says nothing.
	running := entry{ID: "7", State: "RUNNING", Submitted: sec(20)}
	waiting := entry{ID: "5", State: "PENDING", Submitted: sec(10)}
	old := entry{ID: "5", State: "COMPLETED", Submitted: sec(5)}
	for _, c := range []struct {
		name   string
		holder string
		all    []entry
		want   string
		strays int
	}{
		{"none", "", nil, "", 0},
		{"the only one", "", []entry{waiting}, "5", 0},
		{"before a claim the one that is furthest on, and none is a stray", "", []entry{waiting, running}, "7", 0},
		{"the holder of the claim, and the other is a stray", "5.0", []entry{running, waiting}, "5", 1},
		{"one that is over is no stray", "7.0", []entry{running, old}, "7", 0},
		{"none when the holder is not there", "9.0", []entry{running, waiting}, "", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := attempt{}
			if c.holder != "" {
				a.records.Claim = claimOf(c.holder)
			}
			job, strays := a.choose(c.all)
			got := ""
			if job != nil {
				got = job.ID
			}
			if got != c.want || len(strays) != c.strays {
				t.Errorf("job %q, strays %+v", got, strays)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{squeue2205, squeue2411, "1|RUNNING|0:0|1795649341|1795649342|Unknown|main|n[1-2]|a|b\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l := parseSqueue(s, oursHere)
		for name, jobs := range l.jobs {
			for _, j := range jobs {
				if j.Name != name || !oursHere(name) || j.ID == "" || j.State == "" || strings.ContainsAny(name, "|\n") {
					t.Errorf("%q gave %+v", s, j)
				}
			}
		}
		for _, j := range parseSacct(s) {
			if !isJobID(j.ID) || j.phase() == phaseUnknown {
				t.Errorf("%q gave %+v", s, j)
			}
		}
		if id, ok := jobIDIn(s); ok && !isJobID(id) {
			t.Errorf("%q is no id", id)
		}
	})
}
