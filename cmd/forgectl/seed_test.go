package main

import (
	"context"
	"math"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/apitest"
)

// seed makes the site of the scripts: run 1 completed, 2 failed, 3 running in its second
// attempt, 4 pending; one dataset, one base model, one node of CPU slots and one of GPUs in a
// cluster that is paused.
func seed(f *apitest.Fake) {
	f.SetNodeFailures("gpu-1", "two runs failed there within a day", api.NodeFailures{Reason: forge.EndNodeLost, Count: 3, Runs: 2, LastAt: scriptNow})
	hours := 60.0
	f.SetNodeHealth("gpu-1", &api.NodeNVML{State: forge.NVMLOK, Driver: "570.86.15", At: scriptNow},
		[]api.GPUDetail{{Slot: 0, UUID: "GPU-aa", Type: "L40S", Health: api.GPUWell}, {Slot: 1, UUID: "GPU-bb", Type: "L40S", Health: api.GPUHeld, Why: "XID 79",
			Holds: []api.GPUHold{{NodeHold: forge.NodeHold{UUID: "GPU-bb", Rule: "xid_79", Act: forge.HoldGPU, By: "forged", Reason: "XID 79: the GPU has fallen off the bus", At: scriptNow}, Waits: "a reset"}},
			XIDs:  []api.XIDCount{{XID: 79, Count: 2, LastAt: scriptNow, Words: "the GPU has fallen off the bus"}}}},
		&api.NodeUse{GPUHours: 120, Failures: 2, MTBFHours: &hours},
		forge.NodeEvent{Seq: 1, At: scriptNow.Add(-time.Hour), Cluster: "hpc", Node: "gpu-1", Kind: forge.NodeEventFound, UUID: "GPU-bb", Rule: "xid_79", XID: 79, Count: 2, Words: "XID 79: the GPU has fallen off the bus"})
	ctx, ada := context.Background(), forge.Principal{Tenant: "T1", User: "ada"}
	data, _ := f.AddDataset(ctx, ada, api.AddDatasetRequest{Name: "chat", Paths: []string{"/data/chat.jsonl"}, License: "Apache-2.0"})
	base, _ := f.ImportModel(ctx, ada, api.ImportModelRequest{Name: "tiny", Path: "/models/tiny", License: "MIT"})
	at := func(minutes int) time.Time { return scriptNow.Add(time.Duration(-minutes) * time.Minute) }
	spec := forge.RunSpec{Recipe: "lora_sft", Launch: forge.LaunchRank, Entry: forge.Entry{Module: "forge_train.lora_sft"},
		Params:   map[string]any{"lora.r": 16, "train.learning_rate": 1e-4, "train.epochs": 1},
		Origins:  map[string]string{"lora.r": "set", "train.learning_rate": "file", "train.epochs": "default"},
		Dataset:  &forge.InputRef{Name: "chat@1", ID: "V1", SHA256: data.SHA256, Path: "/data/chat.jsonl"},
		Base:     &forge.InputRef{Name: "tiny@1", ID: "W1", SHA256: base.SHA256, Path: "/models/tiny"},
		Gang:     forge.Gang{Nodes: 1, GPUsPerNode: 2, CPUsPerGPU: 1, MemoryMiBPerGPU: 2048},
		Priority: 60, TimeLimit: forge.Duration(30 * time.Minute), Grace: forge.Duration(30 * time.Second)}
	_, _ = f.CreateHook(ctx, ada, api.CreateHookRequest{Name: "chat", On: []string{"stage", "run_end"}, URL: "https://example.org/forge", Match: "bot*", Failures: true})
	_, _ = f.TestHook(ctx, ada, api.HookName{Hook: "chat"})
	loss := []float64{1.125, 2.5}
	done, named := spec, spec
	done.Name, done.Register = "first", "chat-bot"
	f.AddRun(api.RunDetail{Run: forge.Run{ID: runID(1), Number: 1, User: "ada", Spec: done, State: forge.RunCompleted, Reason: forge.EndCompleted, Attempt: 1,
		Step: 60, TotalSteps: 60, SavedStep: 60, Loss: &loss[0], Model: "chat-bot@1", SubmittedAt: at(120), StartedAt: at(119), EndedAt: at(90)},
		Attempts: []forge.Attempt{{Number: 1, State: forge.AttemptEnded, Reason: forge.EndCompleted, Detail: "all ranks exited 0", Placement: share(0, 1),
			LastStep: 60, SavedStep: 60, PlacedAt: at(120), StartedAt: at(119), EndedAt: at(90)}}})
	f.AddEval(forge.Eval{Run: runID(9), RunNumber: 9, Model: "bot@1", ModelID: "V9", Suite: "reasoning-offline", SuiteSHA256: strings.Repeat("ab", 32), CreatedAt: scriptNow.Add(-time.Hour),
		Facts: forge.EvalFacts{SuiteVersion: 1, Harness: map[string]string{"lm_eval": "0.4.13"}, ModelSHA256: strings.Repeat("cd", 32), BaseSHA256: strings.Repeat("ef", 32), DType: "float32", Device: "cpu", BatchSize: 8, Seed: 1234,
			MaxLength: 256, ChatTemplate: strings.Repeat("01", 32), Samples: 60, SamplesSHA: strings.Repeat("23", 32), Seconds: 4.5,
			Tasks: []forge.EvalTask{{Task: "forge_logic", Version: "1.0", Hash: "h", Original: 30, Effective: 30}, {Task: "forge_story", Version: "1.0", Hash: "h", Original: 30, Effective: 30}}},
		Scores: []forge.EvalScore{{Task: "forge_logic", Filter: "none", Metric: "acc", Value: 0.7, StdErr: new(0.085), N: 30, Higher: new(true), Aggregation: "mean"},
			{Task: "forge_story", Filter: "number", Metric: "exact_match", Value: 0.1, N: 30, Higher: new(true), Aggregation: "mean"}}})
	_, _ = f.AddSchedule(ctx, ada, api.AddScheduleRequest{Name: "nightly", Cron: "0 3 * * *", Run: api.SubmitRunRequest{Recipe: "eval", Suite: "reasoning-offline", Model: "bot@production"}, Baseline: "bot@previous", OnRegression: forge.RegressionBlock})
	f.AddFiring("nightly", forge.Firing{Due: at(1440), DecidedAt: at(1440), State: forge.FiringSkipped, Words: "run 8 of the firing before is running"})
	f.AddFiring("nightly", forge.Firing{Due: at(60), DecidedAt: at(60), State: forge.FiringFired, Run: 9, RunState: forge.RunCompleted, Model: "bot@1", Baseline: "bot@2", BaselineEval: "7", Verdict: forge.FiringVerdict(forge.CompareRegressed),
		VerdictWords: "forge_logic acc 0.8 → 0.7", JudgedAt: at(50)})
	f.AddRun(api.RunDetail{Run: forge.Run{ID: runID(2), Number: 2, User: "bob", Spec: spec, State: forge.RunFailed, Reason: forge.EndNaN, Attempt: 1,
		Step: 12, TotalSteps: 60, SubmittedAt: at(80), StartedAt: at(79), EndedAt: at(75)},
		Attempts: []forge.Attempt{{Number: 1, State: forge.AttemptEnded, Reason: forge.EndNaN, Detail: "rank 0 on box exited 90 (nan): loss is nan at step 12",
			Placement: share(0, 1), LastStep: 12, PlacedAt: at(80), StartedAt: at(79), EndedAt: at(75)}}})
	named.Name = "evil\x1b[2J\u202ename"
	f.AddRun(api.RunDetail{ETA: scriptNow.Add(5 * time.Minute), Run: forge.Run{ID: runID(3), Number: 3, User: "ada", Spec: named, State: forge.RunRunning, Attempt: 2,
		Step: 34, TotalSteps: 60, SavedStep: 20, Loss: &loss[1], SubmittedAt: at(10), StartedAt: at(9)},
		Attempts: []forge.Attempt{
			{Number: 1, State: forge.AttemptEnded, Reason: forge.EndKilledExternally, Detail: "rank 1 on box was killed with SIGKILL", Placement: share(0, 1),
				LastStep: 24, SavedStep: 20, PlacedAt: at(10), StartedAt: at(9), EndedAt: at(5)},
			{Number: 2, State: forge.AttemptRunning, Placement: share(0, 1), ResumeStep: 20, LastStep: 34, SavedStep: 20, PlacedAt: at(5), StartedAt: at(4)}}})
	addPlainRun(f, 4)
	f.WriteLog(runID(3), 1, 0, "stdout", "attempt one\nstep 24\n")
	f.WriteLog(runID(3), 2, 0, "stdout", "resumed at 20\n\x1b]0;title\x07progress\rmore\n")
	f.WriteLog(runID(3), 2, 1, "stderr", "a warning of rank 1\n")
	f.SetMetrics(runID(3), seedMetrics())
	f.SetSamples(runID(3), seedSamples()...)
	f.SetCheckpoints(runID(3),
		forge.Checkpoint{Step: 30, Attempt: 2, World: 2, Bytes: 26440, Verdict: forge.VerdictTorn, Why: "shard-1 is short", Path: "/runs/3/attempts/0002/checkpoints/checkpoint-30", SavedAt: at(1)},
		forge.Checkpoint{Step: 20, Attempt: 1, World: 2, Bytes: 26440, Verdict: forge.VerdictVerified, Path: "/runs/3/attempts/0001/checkpoints/checkpoint-20", SavedAt: at(6),
			Took: forge.Duration(4 * time.Second), Signal: forge.Duration(4200 * time.Millisecond), Loss: new(1.25), Best: true, Kept: true},
		forge.Checkpoint{Step: 10, Attempt: 1, World: 2, Bytes: 26440, Verdict: forge.VerdictVerified, Path: "/runs/3/attempts/0001/checkpoints/checkpoint-10", SavedAt: at(8), Removed: at(5)})
	f.SetWhy(runID(4), api.Why{Sentence: "needs 1 GPU on one node: 0 free on box", Code: forge.HoldCapacity, Position: 1, Waiting: 1,
		Evidence: []string{"run 3 holds 2 GPUs on box, ends by 12:21"}, Next: []string{"forgectl queue", "forgectl run cancel 4"},
		Start: &api.Start{At: at(-21), Low: at(-18), High: at(-95)}, Sooner: []string{"a smaller gang: 1 GPU on one node would start now"},
		Terms: &forge.Terms{Position: 1, Waiting: 1, Tier: forge.TierBorrows, Share: 1.5, UsedGPUH: 12, Band: 1, Class: 50, Lane: forge.LaneRest, Rank: 2.5, Left: forge.Duration(150 * time.Minute), Source: forge.WorkHistory,
			Waited: forge.Duration(time.Minute), Filters: []forge.Filter{{Why: "too few GPUs free", Nodes: 1}, {Why: "GPUs of another type", Nodes: 2, Free: 8}}}})
	f.SetQueue(api.Queue{Entries: []api.QueueEntry{
		{Run: 3, Name: "evil\x1b[2J", User: "ada", Recipe: "lora_sft", State: forge.RunRunning, Priority: 60, GPUs: 2, Since: at(9)},
		{Position: 1, Run: 4, User: "ada", Recipe: "lora_sft", State: forge.RunPending, Priority: 50, GPUs: 1, Since: at(1), Why: "needs 1 GPU on one node: 0 free on box",
			Start: &api.Start{At: at(-21), Low: at(-18), High: at(-95)}}},
		Others: api.OthersLoad{Waiting: 2, Running: 1, GPUs: 8}})
	slot := forge.GPU{Kind: forge.GPUCPUSlot, Type: "cpu"}
	h := forge.GPU{Kind: forge.GPUDevice, Type: "NVIDIA H200", MemoryMiB: 143771}
	sick := h
	sick.Slot, sick.Sick = 1, "XID 79: fallen off the bus"
	h.Island, sick.Island = 1, 1
	f.SetNodes(api.NodeView{Node: forge.Node{Name: "box", Cluster: "local", State: forge.NodeReady, CPUs: 4, MemoryMiB: 16384, GPUs: []forge.GPU{slot, slot}, SeenAt: at(0)}, FreeCPUs: 2, FreeMemoryMiB: 12288},
		api.NodeView{Node: forge.Node{Name: "gpu-1", Cluster: "local", State: forge.NodeReady, CPUs: 64, Labels: map[string]string{"rack": "r1", "room": "a"}, Failures: 2, MemoryMiB: 1 << 20, GPUs: []forge.GPU{h, sick}, SeenAt: at(1)}, FreeGPUs: 1, FreeCPUs: 64, FreeMemoryMiB: 1 << 20})
	f.SetClusters(api.ClusterView{Cluster: forge.Cluster{Name: "local", Kind: "direct",
		Paused: &forge.Pause{Reason: "5 runs were put on hold within 10m", Since: at(3)}}, Nodes: 2, FreeGPUs: 1, GPUs: 4},
		api.ClusterView{Cluster: forge.Cluster{Name: "old"}, Nodes: 1, GPUs: 8})
	f.SetChecks(api.Check{Name: "kill_wait", Status: api.CheckWarn, Found: "KillWait=3s", Means: "little time to save", Fix: "KillWait=30 in slurm.conf"},
		api.Check{Name: "shared_directory", Status: api.CheckFail, Found: "nothing came back", Means: "every run would be lost", Fix: "mount it"})
	seedGPUs(f)
	f.AddEvent(forge.Event{Time: at(10), Run: runID(3), Number: 3, Actor: "ada", Type: forge.EventRunSubmitted, Message: "submitted"})
	f.AddEvent(forge.Event{Time: at(5), Run: runID(3), Number: 3, Actor: "forged", Type: forge.EventAttemptEnded, Attempt: 1, Reason: "killed_externally", Message: "rank 1 on box was killed\x1b[2J"})
	f.AddEvent(forge.Event{Time: at(4), Run: runID(3), Number: 3, Actor: "forged", Type: forge.EventRunResumed, Attempt: 2, Message: "resumed from step 20"})
}

func share(slots ...int) []forge.Share {
	return []forge.Share{{Node: "box", Slots: slots, CPUs: 2, MemoryMiB: 4096}}
}

func seedMetrics() api.Metrics {
	m := api.Metrics{Step: 34, TotalSteps: 60, Keys: []string{"loss", "learning_rate", "num_tokens"}, Curves: map[string][]forge.MetricBucket{}, Last: map[string]float64{"loss": 2.5, "learning_rate": 1e-4, "num_tokens": 3400},
		Units: map[string]string{"loss": "", "num_tokens": "tokens", "tokens_per_second": "tokens/s"}}
	for step := int64(1); step <= 34; step++ {
		l := 2 + 2*math.Exp(-float64(step)/8)
		m.Curves["loss"] = append(m.Curves["loss"], forge.MetricBucket{Step: step, Span: 1, Min: l, Max: l, Last: l})
		m.Curves["learning_rate"] = append(m.Curves["learning_rate"], forge.MetricBucket{Step: step, Span: 1, Min: 1e-4, Max: 1e-4, Last: 1e-4})
		m.Curves["num_tokens"] = append(m.Curves["num_tokens"], forge.MetricBucket{Step: step, Span: 1, Min: float64(step) * 100, Max: float64(step) * 100, Last: float64(step) * 100})
	}
	return m
}

// seedSamples are enough to have older ones left out, and one that means ill.
func seedSamples() (out []api.Sample) {
	score := func(v float64) *float64 { return &v }
	for step := int64(11); step < 14; step++ {
		out = append(out, api.Sample{Step: step, Attempt: 1, Prompt: "q", Completion: "a", Reward: score(0)})
	}
	for range 2 {
		out = append(out, api.Sample{Step: 19, Attempt: 1, Prompt: "q", Completion: "b", Reward: score(1)})
	}
	return append(out, api.Sample{Step: 20, Attempt: 1, Prompt: "What is 2+2?", Completion: "4", Reward: score(0.25), Rewards: map[string]float64{"length": 0.25}},
		api.Sample{Step: 30, Attempt: 2, Prompt: "Say\nhello", Completion: "hello\x1b[2J", Reward: score(-1.5), Rewards: map[string]float64{"length": -2, "style": 0.5}, Tokens: 7})
}

// seedGPUs are two nodes: one of this host, with a GPU of each sort, and one of a batch system on which nothing of forge runs.
func seedGPUs(f *apitest.Fake) {
	ago := func(d time.Duration) time.Time { return scriptNow.Add(-d) }
	reading := func(i int, change func(g *forge.GPUReading)) *forge.GPUReading {
		g := &forge.GPUReading{UUID: "GPU-0000000" + string(rune('0'+i)), Index: i, Minor: i, PCI: "00000000:1B:00.0", Type: "H100 80GB HBM3", MemoryMiB: 81559, MemoryUsedMiB: new(int64(0)), MemoryReservedMiB: new(int64(600)),
			UtilPercent: new(0), TemperatureC: new(31), PowerWatts: new(71.6), PowerLimitWatts: new(700.0), SMClockMHz: new(1980), ECCUncorrected: new(int64(0)), Told: true}
		if change != nil {
			change(g)
		}
		return g
	}
	gpu := func(i int, r *forge.GPUReading, change func(g *api.GPUView)) api.GPUView {
		v := api.GPUView{Slot: new(i), UUID: "GPU-0000000" + string(rune('0'+i)), Type: "H100 80GB HBM3", Reading: r, At: ago(2 * time.Second)}
		if change != nil {
			change(&v)
		}
		return v
	}
	busy := func(g *forge.GPUReading) {
		g.UtilPercent, g.MemoryUsedMiB, g.TemperatureC, g.PowerWatts = new(98), new(int64(72900)), new(64), new(512.4)
		g.Throttle = []forge.ThrottleReason{forge.ThrottlePowerCap, forge.ThrottleHWThermal}
		g.Processes = []forge.GPUProcess{{PID: 4711, MemoryMiB: new(int64(72900)), Kind: "compute"}}
	}
	f.SetGPUs(api.NodeGPUs{Cluster: "local", Node: "gpu-1", State: forge.NodeReady, NVML: forge.NVMLOK, Driver: "570.86.15", At: ago(2 * time.Second), GPUs: []api.GPUView{
		gpu(0, reading(0, busy), func(g *api.GPUView) {
			g.Run, g.Recent = &api.GPURun{Number: 3, Name: "sft", User: "ada"}, []int{0, 20, 55, 97, 98}
		}),
		gpu(1, reading(1, busy), func(g *api.GPUView) { g.Run = &api.GPURun{Other: true} }),
		gpu(2, reading(2, nil), nil),
		gpu(3, reading(3, func(g *forge.GPUReading) {
			busy(g)
			g.UtilPercent, g.Throttle = new(0), nil
		}), func(g *api.GPUView) {
			g.Run, g.Stalled = &api.GPURun{Number: 3, Name: "sft", User: "ada"}, new(forge.Duration(25*time.Minute))
		}),
		gpu(4, reading(4, busy), func(g *api.GPUView) {
			g.Foreign = []api.GPUForeign{{PID: 812, MemoryMiB: new(int64(72900)), User: "eve", Command: "python\x1b[2J"}}
		}),
		gpu(5, reading(5, func(g *forge.GPUReading) { g.ECCUncorrected = new(int64(4)) }), func(g *api.GPUView) {
			g.Sick, g.XID = "XID 79: fallen off the bus", &api.GPUXID{Number: 79, At: ago(3 * time.Minute), Words: "fallen off the bus"}
		}),
		gpu(6, reading(6, busy), func(g *api.GPUView) { g.At, g.Old = ago(5*time.Minute), true }),
		gpu(7, nil, func(g *api.GPUView) { g.At = time.Time{} }),
	}}, api.NodeGPUs{Cluster: "hpc", Node: "n7", State: forge.NodeReady, GPUs: []api.GPUView{{Slot: new(0), Type: "a100"}}},
		api.NodeGPUs{Cluster: "hpc", Node: "n8", State: forge.NodeDrained, Reason: "drained by root: a fan is loud", NVML: forge.NVMLNoDriver, Detail: "libnvidia-ml.so.1 is not there", At: ago(4 * time.Second), GPUs: []api.GPUView{{Slot: new(0), Type: "a100", Run: &api.GPURun{Number: 12, User: "bob", Tenant: "other", Other: true}}}})
	h := api.GPUHistory{UUID: "GPU-00000000", Cluster: "local", Node: "gpu-1", Slot: new(0), Type: "H100 80GB HBM3"}
	for m := 120; m > 0; m-- {
		if m > 60 && m < 90 {
			continue // nobody looked
		}
		u := float64(100 - m%40)
		h.Steps = append(h.Steps, forge.GPUSample{At: ago(time.Duration(m) * time.Minute), Seconds: 60, UtilPercent: &u, MemoryMiB: new(72900.0), TemperatureC: new(40 + u/4), PowerWatts: new(80 + 6*u)})
	}
	f.SetGPUHistory(h)
	for i := 1; i < 8; i++ {
		f.SetGPUHistory(api.GPUHistory{UUID: "GPU-0000000" + string(rune('0'+i)), Cluster: "local", Node: "gpu-1", Slot: new(i), Type: "H100 80GB HBM3", Steps: []forge.GPUSample{}})
	}
}
