package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func readHeader(t *testing.T, lines ...string) (*jobScript, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "job.sh")
	if err := os.WriteFile(path, []byte("#!/bin/bash\n"+strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := readJobScript(path)
	if j != nil {
		j.request.Launch = "" // always node
	}
	return j, err
}

func TestAJobScriptsHeaderIsReadAsSbatchDoes(t *testing.T) {
	gpus := func(nodes, perNode int) api.SubmitRunRequest {
		return api.SubmitRunRequest{Nodes: nodes, GPUsPerNode: perNode}
	}
	with := func(r api.SubmitRunRequest, change func(*api.SubmitRunRequest)) api.SubmitRunRequest {
		change(&r)
		return r
	}
	batch := func(b forge.BatchOptions) api.SubmitRunRequest { return api.SubmitRunRequest{Nodes: 1, Batch: &b} }
	for header, want := range map[string]api.SubmitRunRequest{
		"#SBATCH -N 2 --gpus-per-node=4":                            gpus(2, 4),
		"#SBATCH -N2 --gpus-per-node 4":                             gpus(2, 4),
		"#SBATCH --nodes=2-2\n#SBATCH --gres=gpu:4":                 gpus(2, 4),
		"#SBATCH --gres gpu":                                        gpus(1, 1),
		"# a comment\n\n#SBATCH -N 3 # three\n#SBATCH -G 6":         {Nodes: 3, GPUs: 6},
		"echo\n#SBATCH -N 9":                                        {Nodes: 1},
		" #SBATCH -N 9\n##SBATCH -N 8\n#SBATCHES -N 7":              {Nodes: 1},
		"#SBATCH\t--gpus-per-task=2\t--ntasks-per-node=4":           gpus(1, 8),
		"#SBATCH -n 8 -N 2 --gpus-per-task=1":                       gpus(2, 4),
		"#SBATCH --gpus-per-node=h100:2":                            with(gpus(1, 2), func(r *api.SubmitRunRequest) { r.Where = &forge.Constraints{GPUTypes: []string{"h100"}} }),
		"#SBATCH --gpus-per-node=2 -c 7":                            with(gpus(1, 2), func(r *api.SubmitRunRequest) { r.CPUsPerGPU = 4 }),
		"#SBATCH --gpus-per-node=4 -c 2 --ntasks-per-node=4":        with(gpus(1, 4), func(r *api.SubmitRunRequest) { r.CPUsPerGPU = 2 }),
		"#SBATCH --gpus-per-node=2 --mem=100G":                      with(gpus(1, 2), func(r *api.SubmitRunRequest) { r.MemoryMiBPerGPU = 50 << 10 }),
		"#SBATCH --gpus-per-node=2 --mem=3":                         with(gpus(1, 2), func(r *api.SubmitRunRequest) { r.MemoryMiBPerGPU = 2 }),
		"#SBATCH --gpus-per-node=2 --mem=0":                         gpus(1, 2),
		"#SBATCH --cpus-per-gpu=8 --mem-per-cpu=2G":                 {Nodes: 1, CPUsPerGPU: 8, MemoryMiBPerGPU: 16 << 10},
		"#SBATCH --mem-per-gpu=80G":                                 {Nodes: 1, MemoryMiBPerGPU: 80 << 10},
		"#SBATCH -t 30":                                             {Nodes: 1, TimeLimit: forge.Duration(30 * time.Minute)},
		"#SBATCH --time=2-0":                                        {Nodes: 1, TimeLimit: forge.Duration(48 * time.Hour)},
		"#SBATCH -p gpu -A lab -q long -C 'a&b'":                    batch(forge.BatchOptions{Partition: "gpu", Account: "lab", QOS: "long", Constraint: "a&b"}),
		"#SBATCH --comment=\"a # b\" --exclusive --nice 5":          batch(forge.BatchOptions{Raw: []string{"--comment=a # b", "--exclusive", "--nice", "5"}}),
		"#SBATCH --mail-type=END --mail-user=a@b":                   batch(forge.BatchOptions{MailType: "END", Raw: []string{"--mail-user=a@b"}}),
		"#SBATCH -w gpu-[1-2] --reservation=r -x gpu-3":             with(batch(forge.BatchOptions{Nodelist: "gpu-[1-2]", Reservation: "r"}), func(r *api.SubmitRunRequest) { r.Where = &forge.Constraints{Exclude: []forge.NodeName{"gpu-3"}} }),
		"#SBATCH -J good-name -o x.out -e x.err --signal=B:USR1@60": {Nodes: 1, Name: "good-name"},
		"#SBATCH -J 'not a name'":                                   {Nodes: 1},
	} {
		j, err := readHeader(t, header)
		if err != nil || !reflect.DeepEqual(j.request, want) {
			t.Errorf("%q\ngot  %+v, %v\nwant %+v", header, j, err, want)
		}
	}
}

func TestWhatAJobScriptCannotHaveIsRefusedByItsLine(t *testing.T) {
	for header, says := range map[string][2]string{
		"\n#SBATCH --array=1-4":        {"line 3: --array=1-4: a run is one gang", "for each"},
		"#SBATCH -a 1-4":               {"line 2: -a 1-4: a run is one gang", ""},
		"#SBATCH -d afterok:12":        {"it names jobs", "run submit --after RUN"},
		"#SBATCH --requeue":            {"goes on by itself", "--max-retries"},
		"#SBATCH --nodes=1-4":          {"a gang has one size", "--nodes=1"},
		"#SBATCH --nodes=many":         {"want a number", ""},
		"#SBATCH --gres=gpu:2,shard:1": {"shard:1 is something else", ""},
		"#SBATCH --gpus=0":             {"want [TYPE:]NUMBER", ""},
		"#SBATCH -N 2 --gpus=3":        {"3 GPUs do not divide by 2 nodes", ""},
		"#SBATCH --time=soon":          {"line 2: --time=soon:", ""},
		"#SBATCH --mem=lots":           {"line 2: --mem=lots:", ""},
		"#SBATCH --nodes":              {"needs a value", ""},
		"#SBATCH -Z":                   {"-Z: is no option", "long name"},
		"#SBATCH nodes=2":              {"is no option", ""},
		"#SBATCH --comment='open":      {"a quote is not closed", ""},
		"#SBATCH --wrap=hostname":      {"the script is the command", ""},
	} {
		_, err := readHeader(t, header)
		if forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), says[0]) || !strings.Contains(forge.HintOf(err), says[1]) {
			t.Errorf("%q: %v (%s)", header, err, forge.HintOf(err))
		}
	}
	for name, text := range map[string]string{"no interpreter": "echo\n", "line ends of DOS": "#!/bin/sh\r\n#SBATCH -N 2\r\n", "no text": "#!/bin/sh\n\x00"} {
		path := filepath.Join(t.TempDir(), "job.sh")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readJobScript(path); forge.KindOf(err) != forge.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestARefusedOptionOfAJobScriptIsSaidWithItsLine(t *testing.T) {
	j, err := readHeader(t, "", "#SBATCH -N 1 --licenses=matlab")
	if err != nil {
		t.Fatal(err)
	}
	from := forge.Invalidf("batch.raw", "--licenses is not on this cluster's list; it has --comment").WithHint("an operator adds it")
	got := sourceOptions{sbatch: j}.lineOf(from)
	if !strings.Contains(got.Error(), "job.sh line 3: --licenses is not on") || forge.HintOf(got) != "an operator adds it" {
		t.Errorf("%v (%s)", got, forge.HintOf(got))
	}
}

func TestOptionsOfSbatchAndAProgramAreToldApart(t *testing.T) {
	for line, want := range map[string][2]string{
		"":                                      {},
		"python train.py --lr 1":                {"", "python train.py --lr 1"},
		"--comment=x --nice 5":                  {"--comment=x --nice 5", ""},
		"--comment=x -- python train.py -- --y": {"--comment=x", "python train.py -- --y"},
		"env -- x":                              {"", "env -- x"},
	} {
		raw, command := behindDashes(strings.Fields(line))
		if got := [2]string{strings.Join(raw, " "), strings.Join(command, " ")}; got != want {
			t.Errorf("%q is %q, want %q", line, got, want)
		}
	}
}
