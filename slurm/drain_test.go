package slurm

import "testing"

func TestWhoseADrainIsStandsInItsReason(t *testing.T) {
	const head = "NodeName=n2 Arch=x86_64 OS=Linux 6.18 #1 SMP  RealMemory=64000 "
	for _, c := range []struct {
		name, line string
		want       slurmDrain
	}{
		{"ours", head + "State=IDLE+DRAIN ThreadsPerCore=1 AllocTRES= Reason=forge: a fan | is = loud (ana) [root@2026-11-25T23:15:47]\n", slurmDrain{true, "forge: a fan | is = loud (ana)", "root@2026-11-25T23:15:47"}},
		{"somebody's", head + "State=MIXED+DRAIN Reason=xid 79 [bob@2026-11-25T23:15:47] Comment=a b", slurmDrain{true, "xid 79", "bob@2026-11-25T23:15:47"}},
		{"one that quotes ours", head + "State=IDLE+DRAIN Reason=was forge: a fan [not me] [bob@2026-11-25T23:15:47]", slurmDrain{true, "was forge: a fan [not me]", "bob@2026-11-25T23:15:47"}},
		{"none", head + "State=IDLE ThreadsPerCore=1 ExtSensorsTemp=n/s", slurmDrain{}},
		{"down, and a reason", head + "State=DOWN* Reason=Not responding [slurm@2026-11-25T23:15:47]", slurmDrain{false, "Not responding", "slurm@2026-11-25T23:15:47"}},
	} {
		if got, err := parseDrain(c.line); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "Node n9 not found", "slurm_load_node error", head} {
		if got, err := parseDrain(bad); err == nil {
			t.Errorf("%q was taken as %+v", bad, got)
		}
	}
}

func FuzzDrain(f *testing.F) {
	f.Add("NodeName=n2 State=IDLE+DRAIN Reason=forge: x [root@now]")
	f.Fuzz(func(_ *testing.T, line string) { _, _ = parseDrain(line) })
}
