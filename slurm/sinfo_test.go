package slurm

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

// captured is what sinfo 22.05 printed of a cluster with typed, untyped and several types of GPU, one node drained and one gone.
const captured = `n1|mixed|mixed|main|gpu:h100:4|gpu:h100:2(IDX:0-1)|rack1,ib|1/15/0/16|64000|none
n1|mixed|mixed|low|gpu:h100:4|gpu:h100:2(IDX:0-1)|rack1,ib|1/15/0/16|64000|none
n2|drained|idle+drain|main|gpu:h100:4|gpu:h100:0(IDX:N/A)|rack1,ib|0/0/16/16|64000|xid 79, look | here
n2|drained|idle+drain|low|gpu:h100:4|gpu:h100:0(IDX:N/A)|rack1,ib|0/0/16/16|64000|xid 79, look | here
n3|down*|down+not_responding|main|gpu:a100:2(S:0-7),gpu:v100:2(S:8-15)|gpu:a100:1(IDX:0),gpu:v100:1(IDX:2)|rack2,ib|0/0/16/16|64000|Not responding
n4|mixed|mixed|main*|gpu:4|gpu:3|(null)|2/14/0/16|64000|none
n4|mixed|mixed|off|gpu:4|gpu:3|(null)|2/14/0/16|64000|none
`

func TestALineOfSinfoIsReadAsSlurmMeansIt(t *testing.T) {
	lines, err := parseSinfo(captured)
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != 7 {
		t.Fatalf("%d lines; want 7", len(lines))
	}
	if got := lines[2]; got.Reason != "xid 79, look | here" || got.State != "drained" || got.CPUs != 16 || got.MemoryMiB != 64000 {
		t.Errorf("a reason with a separator in it: %+v", got)
	}
	if got := lines[5]; got.Partition != "main" || got.Features != nil || got.Reason != "" {
		t.Errorf("the default partition, no features, no reason: %+v", got)
	}
	if got := lines[4].Used; len(got) != 2 || !slices.Equal(got[1].Index, []int{2}) || got[1].Type != "v100" {
		t.Errorf("two types in use: %+v", got)
	}
}

func TestABrokenAnswerOfSinfoIsAnError(t *testing.T) {
	for name, out := range map[string]string{
		"a line that was cut":      "n1|mixed|mixed|main|gpu:h100:4\n",
		"an error on its way":      "sinfo: error: something\n",
		"a name that is an option": "-n1|idle|idle|main|gpu:4|gpu:0||0/16/0/16|64000|none\n",
		"GRES that do not close":   "n1|idle|idle|main|gpu:4(S:0|gpu:0||0/16/0/16|64000|none\n",
		"no CPUs":                  "n1|idle|idle|main|gpu:4|gpu:0||many|64000|none\n",
		"no memory":                "n1|idle|idle|main|gpu:4|gpu:0||0/16/0/16|lots|none\n",
	} {
		if lines, err := parseSinfo(captured + out); err == nil {
			t.Errorf("%s: taken as %+v", name, lines[len(lines)-1])
		}
	}
}

func TestStatesBecomeOneOfThree(t *testing.T) {
	for _, c := range []struct {
		long, complete string
		reason         string
		want           forge.NodeState
		why            string
	}{
		{"idle", "idle", "", forge.NodeReady, ""},
		{"mixed", "mixed", "an old reason that stays", forge.NodeReady, ""},
		{"allocated+", "allocated+completing", "", forge.NodeReady, ""},
		{"mixed-", "mixed+planned", "", forge.NodeReady, ""},
		{"idle~", "idle+cloud+powered_down", "", forge.NodeReady, ""},
		{"idle#", "idle+cloud+powering_up", "", forge.NodeReady, ""},
		{"reserved", "idle+reserved", "", forge.NodeReady, ""},
		{"idle@", "idle+reboot_requested", "", forge.NodeReady, ""},
		{"draining", "allocated+drain", "xid 79", forge.NodeDrained, "draining: xid 79"},
		{"drained*", "idle+drain+not_responding", "xid 79", forge.NodeUnknown, "drained (not responding): xid 79"},
		{"draining@", "mixed+drain+reboot_requested", "kernel", forge.NodeDrained, "draining: kernel"},
		{"maint", "idle+maint", "", forge.NodeDrained, "maint"},
		{"idle$", "idle+maint", "", forge.NodeDrained, "idle (maint)"},
		{"down", "down", "by hand", forge.NodeDrained, "down: by hand"},
		{"down*", "down+not_responding", "Not responding", forge.NodeUnknown, "down (not responding): Not responding"},
		{"idle*", "idle+not_responding", "", forge.NodeUnknown, "idle (not responding)"},
		{"idle^", "idle+reboot_issued", "", forge.NodeUnknown, "idle (reboot issued)"},
		{"inval", "inval+drain", "gres/gpu count reported lower than configured (0 < 4)", forge.NodeDrained, "inval: gres/gpu count reported lower than configured (0 < 4)"},
		{"unknown", "unknown", "", forge.NodeUnknown, "unknown"},
		{"a_word_of_2031", "a_word_of_2031", "", forge.NodeUnknown, "a_word_of_2031"},
		{"", "", "", forge.NodeUnknown, ""},
	} {
		line := "n1|" + c.long + "|" + c.complete + "|main|gpu:4|gpu:0||0/16/0/16|64000|" + c.reason
		n, err := parseNodeLine(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got, why := n.nodeState(); got != c.want || why != c.why {
			t.Errorf("%s: %s, %q; want %s, %q", line, got, why, c.want, c.why)
		}
	}
}

func TestGRESAreReadInEveryFormThatSlurmHasForThem(t *testing.T) {
	for s, want := range map[string][]gresItem{
		"":                                     nil,
		"(null)":                               nil,
		"N/A":                                  nil,
		"gpu:4":                                {{"gpu", "", 4, nil}},
		"gpu:h100:4(S:0-1)":                    {{"gpu", "h100", 4, nil}},
		"gpu:h100:0(IDX:N/A)":                  {{"gpu", "h100", 0, nil}},
		"gpu:a100:2(S:0-7),gpu:v100:2(S:8-15)": {{"gpu", "a100", 2, nil}, {"gpu", "v100", 2, nil}},
		"gpu:a100:2(IDX:0,3),shard:8(IDX:0-3),mps:2K": {{"gpu", "a100", 2, []int{0, 3}}, {"shard", "", 8, []int{0, 1, 2, 3}}, {"mps", "", 2048, nil}},
		"gpu:(null):2(IDX:0-1)":                       {{"gpu", "", 2, []int{0, 1}}},
		"gres:gpu:h100:2":                             {{"gpu", "h100", 2, nil}},
		"gres/gpu:h100:2":                             {{"gpu", "h100", 2, nil}},
		"gpu:1g.10gb:7":                               {{"gpu", "1g.10gb", 7, nil}},
		"gpu:tesla:no_consume:2":                      {{"gpu", "tesla", 2, nil}},
		"gpu":                                         {{"gpu", "", 1, nil}},
		"gpu:h100":                                    {{"gpu", "h100", 1, nil}},
	} {
		if got, err := parseGRES(s); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v; want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"gpu:4(S:0", "gpu:4)", ":4", "gpu:", "gpu:a:b:c:d", "gpu:4(IDX:9-1)", "gpu:4(IDX:0-70000)", "gpu:-1:x:y:z"} {
		if got, err := parseGRES(s); err == nil {
			t.Errorf("%q was taken as %+v", s, got)
		}
	}
}

func TestNodesAreListedOnceWithWhatIsConfiguredOfTheirPartition(t *testing.T) {
	lines, err := parseSinfo(captured)
	if err != nil {
		t.Fatal(err)
	}
	b := newNodeBook(Options{Cluster: "hpc", Labels: map[string]string{"rack": "rack*", "net": "ib", "none": "x*"}, With: With{Partitions: []Partition{{Name: "low", GPUMemoryMiB: 81920}, {Name: "off", GPUType: "l4"}}}})
	for _, l := range lines {
		b.add(l)
	}
	nodes := b.result(map[string][]string{"n1": {"spine", "leaf1"}})
	if len(nodes) != 3 || nodes[0].Name != "n1" || nodes[1].Name != "n2" || nodes[2].Name != "n4" {
		t.Fatalf("%+v", nodes)
	}
	n1 := nodes[0]
	if len(n1.GPUs) != 4 || n1.GPUs[3].Slot != 3 || n1.GPUs[3].Type != "h100" || n1.GPUs[0].MemoryMiB != 81920 || n1.Batch.GPUsUsed != 2 || n1.Batch.Foreign != 2 {
		t.Errorf("n1: %+v %+v", n1.GPUs, n1.Batch)
	}
	if n1.Labels[LabelTopology] != "spine/leaf1" || n1.Labels[LabelSwitch] != "leaf1" {
		t.Errorf("labels of n1: %v", n1.Labels)
	}
	if _, ok := n1.Labels["none"]; ok || n1.Labels["rack"] != "rack1" || n1.Labels["net"] != "ib" {
		t.Errorf("labels of n1: %v", n1.Labels)
	}
	if got := nodes[2]; got.GPUs[0].Type != "l4" || got.GPUs[0].Sick != "" || !slices.Equal(got.Batch.Partitions, []string{"off"}) {
		t.Errorf("n4: %+v %+v", got.GPUs, got.Batch)
	}
}

func TestALateClusterKeepsAwayFromWhatOthersUse(t *testing.T) {
	sick := func(own int, ownIndex []int, used string) (out []int) {
		l, err := parseNodeLine("n1|mixed|mixed|main|gpu:h100:4|" + used + "||1/15/0/16|64000|none")
		if err != nil {
			t.Fatal(err)
		}
		b := newNodeBook(Options{Cluster: "hpc", Binding: BindLate})
		b.add(l)
		b.nodes["n1"].own, b.nodes["n1"].ownIndex = own, ownIndex
		for _, g := range b.result(nil)[0].GPUs {
			if g.Sick == ForeignUse {
				out = append(out, g.Slot)
			}
		}
		return out
	}
	for _, c := range []struct {
		name     string
		own      int
		ownIndex []int
		used     string
		want     []int
	}{
		{"theirs alone", 0, nil, "gpu:h100:2(IDX:0-1)", []int{0, 1}},
		{"ours alone", 2, nil, "gpu:h100:2(IDX:0-1)", nil},
		{"beside each other", 2, []int{2, 3}, "gpu:h100:3(IDX:0,2-3)", []int{0}},
		{"not said which", 1, nil, "gpu:3", []int{2, 3}},
		{"nobody", 0, nil, "gpu:h100:0(IDX:N/A)", nil},
	} {
		if got := sick(c.own, c.ownIndex, c.used); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v; want %v", c.name, got, c.want)
		}
	}
}

func TestTopologyIsTheWayFromTheTop(t *testing.T) {
	ways, err := parseTopology(`SwitchName=leaf1 Level=0 LinkSpeed=1 Nodes=n[1-2]
SwitchName=leaf2 Level=0 LinkSpeed=1 Nodes=n[3-4]
SwitchName=spine Level=1 LinkSpeed=1 Nodes=n[1-4] Switches=leaf[1-2]
`)
	if err != nil || !slices.Equal(ways["n3"], []string{"spine", "leaf2"}) {
		t.Errorf("%v, %v", ways, err)
	}
	if ways, err := parseTopology("No topology information available.\n"); err != nil || len(ways) != 0 {
		t.Errorf("a cluster without one: %v, %v", ways, err)
	}
}

func TestListsOfHostsAreWrittenOut(t *testing.T) {
	for list, want := range map[string]string{
		"":                       "",
		"(null)":                 "",
		"n1":                     "n1",
		"n[1-3]":                 "n1 n2 n3",
		"n[08-11,20],login":      "n08 n09 n10 n11 n20 login",
		"r[1-2]n[1-2]":           "r1n1 r1n2 r2n1 r2n2",
		"gpu-a.site.example,b_1": "gpu-a.site.example b_1",
	} {
		if got, err := expandHosts(list); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %v, %v; want %q", list, got, err, want)
		}
	}
	for _, list := range []string{"n[1-", "n]1[", "n[3-1]", "n[a-b]", "n[1-999999999]", "n[0-99999]m[0-99999]", "-x", "a b", "n[]"} {
		if got, err := expandHosts(list); err == nil {
			t.Errorf("%q was taken as %d names", list, len(got))
		}
	}
}

func FuzzSinfo(f *testing.F) {
	f.Add(captured)
	f.Add("n1|idle|idle|main|gpu:h100:4(S:0-1),mps:1K|gpu:h100:2(IDX:0,2)|a=b,c|0/16/0/16|64000|none")
	f.Fuzz(func(t *testing.T, out string) {
		lines, err := parseSinfo(out)
		if err != nil {
			return
		}
		b := newNodeBook(Options{Cluster: "hpc", Binding: BindLate})
		for _, l := range lines {
			b.add(l)
		}
		for _, n := range b.result(nil) {
			if n.Name == "" || len(n.GPUs) > maxGRES || n.CPUs < 0 || n.MemoryMiB < 0 || n.Batch.Foreign < 0 {
				t.Errorf("%q gave %+v", out, n)
			}
		}
	})
}

func FuzzHosts(f *testing.F) {
	f.Add("n[1-2,05],r[1-2]n[1-3],login")
	f.Fuzz(func(t *testing.T, list string) {
		hosts, err := expandHosts(list)
		if err == nil && (len(hosts) > maxHosts || slices.ContainsFunc(hosts, func(h string) bool { return !hostName(h) })) {
			t.Errorf("%q gave %d names", list, len(hosts))
		}
	})
}

func FuzzPairs(f *testing.F) {
	f.Add("JobId=1 JobName=a b c=d Reason=x [root@now]")
	f.Fuzz(func(t *testing.T, line string) {
		for _, p := range pairs(line) {
			if !keyWord(p.key) {
				t.Errorf("%q gave the key %q", line, p.key)
			}
		}
	})
}
