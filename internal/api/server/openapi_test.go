package server_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/internal/api/server"
)

func description(t *testing.T, s *site) *huma.OpenAPI {
	t.Helper()
	o := server.Describe(s.Services(), server.Options{})
	want, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	_, _, body := s.call(t, "GET", "/openapi.json", "")
	if len(body) < len(want)-len("1.2.3") { // the served one knows its version
		t.Errorf("%d bytes are served, want %d", len(body), len(want))
	}
	return o
}

func operations(o *huma.OpenAPI) map[string]*huma.Operation {
	out := map[string]*huma.Operation{}
	for path, item := range o.Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "DELETE": item.Delete, "PATCH": item.Patch} {
			if op != nil {
				out[method+" "+path] = op
			}
		}
	}
	return out
}

func TestOpenAPI(t *testing.T) {
	s := start(t)
	o := description(t, s)
	if o.OpenAPI != "3.1.0" {
		t.Errorf("version %q", o.OpenAPI)
	}
	want := []string{
		"GET /healthz", "GET /readyz", "GET /v1/version", "GET /v1/nodes", "GET /v1/nodes/{node}", "GET /v1/nodes/{node}/events", "POST /v1/nodes/{node}/drain", "POST /v1/nodes/{node}/undrain", "GET /v1/queue", "GET /v1/events", "GET /v1/events/list",
		"POST /v1/snapshots", "GET /v1/recipes", "GET /v1/recipes/{name}", "GET /v1/suites", "GET /v1/suites/{name}", "GET /v1/evals", "GET /v1/evals/{run}", "GET /v1/evals/{run}/samples", "GET /v1/costs", "GET /v1/gpus", "GET /v1/gpus/{uuid}/history", "GET /v1/evals/{run}/compare", "POST /v1/evals", "POST /v1/schedules", "GET /v1/schedules", "GET /v1/schedules/{schedule}", "POST /v1/schedules/{schedule}/remove", "POST /v1/schedules/{schedule}/pause",
		"POST /v1/schedules/{schedule}/resume", "POST /v1/schedules/{schedule}/run", "POST /v1/schedules/{schedule}/clear", "POST /v1/datasets", "GET /v1/datasets", "GET /v1/datasets/{name}",
		"GET /v1/datasets/{name}/versions/{version}", "PATCH /v1/datasets/{name}/versions/{version}", "POST /v1/datasets/{name}/versions/{version}/delete", "POST /v1/datasets/{name}/versions/{version}/waive",
		"POST /v1/datasets/{name}/versions/{version}/verify", "POST /v1/datasets/{name}/versions/{version}/rows", "GET /v1/datasets/{name}/versions/{version}/lineage", "GET /v1/datasets/{name}/versions/{version}/files/{sha256}", "GET /v1/dataset-impact", "POST /v1/dataset-files/{sha256}", "POST /v1/dataset-scans",
		"POST /v1/models/import", "POST /v1/models/register", "POST /v1/models/{name}/versions/{version}/verify", "GET /v1/gc", "POST /v1/gc", "GET /v1/models", "GET /v1/models/{name}", "GET /v1/progress/{key}",
		"POST /v1/models/{name}/versions/{version}/promote", "POST /v1/models/{name}/versions/{version}/archive", "POST /v1/models/{name}/rollback", "GET /v1/models/{name}/history", "GET /v1/models/{name}/history/check",
		"GET /v1/models/{name}/aliases", "POST /v1/models/{name}/versions/{version}/aliases", "POST /v1/models/{name}/aliases/{alias}/remove", "GET /v1/gates", "GET /v1/gates/{name}",
		"POST /v1/estimates", "POST /v1/pipelines", "POST /v1/runs", "GET /v1/runs", "GET /v1/runs/rows", "GET /v1/runs/{run}", "POST /v1/runs/{run}/cancel", "POST /v1/runs/{run}/retry",
		"POST /v1/runs/{run}/hold", "POST /v1/runs/{run}/release", "GET /v1/clusters", "POST /v1/clusters/{cluster}/resume", "GET /v1/clusters/{cluster}/check",
		"GET /v1/runs/{run}/why", "GET /v1/runs/{run}/log", "GET /v1/runs/{run}/metrics", "POST /v1/runs/{run}/metrics", "GET /v1/runs/{run}/samples", "GET /v1/runs/{run}/checkpoints", "GET /v1/runs/{run}/events",
		"POST /v1/keys", "GET /v1/keys", "GET /v1/keys/{key}", "POST /v1/keys/{key}/rotate", "POST /v1/keys/{key}/revoke", "POST /v1/login/munge",
		"POST /v1/tenants", "GET /v1/tenants", "GET /v1/tenants/{tenant}", "PATCH /v1/tenants/{tenant}", "GET /v1/runs/{run}/priority", "POST /v1/runs/{run}/priority", "GET /v1/whoami", "GET /v1/doctor",
		"POST /v1/runs/{run}/interrupt", "GET /v1/runs/{run}/seat", "GET /v1/runs/{run}/bundle", "GET /v1/runs/{run}/source", "GET /v1/queue/what-if",
		"POST /v1/hooks", "GET /v1/hooks", "GET /v1/hooks/{hook}", "POST /v1/hooks/{hook}/remove", "POST /v1/hooks/{hook}/pause", "POST /v1/hooks/{hook}/resume", "POST /v1/hooks/{hook}/test", "GET /v1/hooks/{hook}/deliveries",
		"POST /v1/users", "GET /v1/users", "GET /v1/users/{user}", "PATCH /v1/users/{user}", "POST /v1/users/{user}/disable", "POST /v1/users/{user}/enable",
	}
	ops := operations(o)
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(ops)); !slices.Equal(got, want) {
		t.Errorf("operations are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for name, op := range ops {
		t.Run(name+" is described", func(t *testing.T) {
			if op.Summary == "" || op.Description == "" || op.OperationID == "" || len(op.Tags) != 1 {
				t.Errorf("summary %q, description %q, id %q, tags %v", op.Summary, op.Description, op.OperationID, op.Tags)
			}
			errs := 0
			for status, r := range op.Responses {
				if status[0] >= '4' && (r.Content[api.ProblemType] != nil) {
					errs++
				}
			}
			if errs == 0 {
				t.Error("no error is described")
			}
			if strings.HasPrefix(name[strings.Index(name, "/"):], "/v1/") {
				for _, k := range []forge.Kind{forge.KindUnauthorized, forge.KindForbidden, forge.KindUnavailable, forge.KindInternal} {
					if op.Responses[fmt.Sprint(api.StatusOf(k))] == nil {
						t.Errorf("%s is not described", k)
					}
				}
				if open := name == "POST /v1/login/munge"; open != (len(op.Security) == 0) || open != (op.Extensions[server.RoleExtension] == nil) {
					t.Error("it does not say that it needs a key, and of which role")
				}
			}
			for _, p := range op.Parameters {
				if p.Description == "" && len(p.Schema.Enum) == 0 {
					t.Errorf("parameter %s says nothing of itself", p.Name)
				}
			}
		})
	}
	for name, units := range map[string][]string{
		"POST /v1/runs": {"MiB", "minutes"}, "GET /v1/nodes": {"MiB"}, "POST /v1/datasets": {"bytes"}, "GET /v1/runs/{run}/log": {"bytes"},
		"GET /v1/runs/{run}/metrics": {"steps"}, "GET /v1/runs/{run}/checkpoints": {"bytes"}, "GET /v1/progress/{key}": {"bytes"}, "GET /v1/models/{name}": {"bytes"}, "GET /v1/gc": {"bytes"},
	} {
		for _, u := range units {
			if op := ops[name]; op != nil && !strings.Contains(op.Description, u) {
				t.Errorf("%s does not say that it speaks of %s", name, u)
			}
		}
	}
	t.Run("the YAML says the same", func(t *testing.T) {
		_, _, body := s.call(t, "GET", "/openapi.yaml", "")
		if !strings.Contains(body, "openapi: 3.1.0") || !strings.Contains(body, "/v1/runs/{run}/why:") {
			t.Errorf("got %.200s", body)
		}
	})
	t.Run("bodies refuse what they do not know", func(t *testing.T) {
		for _, name := range []string{"SubmitRunRequest", "AddDatasetRequest", "CreateKeyRequest", "CancelRequest", "HoldRequest", "PriorityRequest", "UpdateTenantRequest", "InterruptRequest", "CreateHookRequest", "AddMetricsRequest", "MetricPoint"} {
			sc := o.Components.Schemas.Map()[name]
			if sc == nil || sc.AdditionalProperties != false {
				t.Errorf("%s is open", name)
			}
		}
	})
}

// Every operation is called on a site where there is something of everything, and its answer
// checked against its own schema.
func TestAnswersKeepTheirSchema(t *testing.T) {
	s := start(t)
	loss := 2.25
	id := s.addRun(1, forge.RunRunning)
	s.ChangeRun(1, func(d *api.RunDetail) {
		d.Loss, d.Attempt, d.ETA = &loss, 1, now
		d.Spec.Dataset = &forge.InputRef{Name: "chat@1"}
		d.Hold = &forge.Hold{By: "ada", Reason: "later", At: now}
		d.Attempts = []forge.Attempt{{Number: 1, State: forge.AttemptRunning, Placement: []forge.Share{{Node: "n1", Slots: []int{0, 1}}},
			Exits: []forge.RankExit{{Rank: 1, Node: "n1", Code: 137, Signal: 9}}}}
	})
	s.addRun(2, forge.RunCompleted)
	s.WriteLog(id, 1, 0, "stdout", "step 1\n")
	s.SetMetrics(id, api.Metrics{Step: 1, TotalSteps: 2, Keys: []string{"loss"}, Last: map[string]float64{"loss": loss},
		Curves: map[string][]forge.MetricBucket{"loss": {{Step: 1, Span: 1, Min: loss, Max: loss, Last: loss}}}})
	s.SetCheckpoints(id, forge.Checkpoint{Step: 1, Attempt: 1, Verdict: forge.VerdictVerified, SavedAt: now})
	s.SetQueue(api.Queue{Entries: []api.QueueEntry{{Run: 1, State: forge.RunRunning, Since: now}}, Others: api.OthersLoad{Running: 1, GPUs: 8}})
	s.SetGPUs(api.NodeGPUs{Node: "n1", Cluster: "local", State: forge.NodeReady, NVML: forge.NVMLOK, At: time.Now(), GPUs: []api.GPUView{{Slot: new(0), UUID: "GPU-1", Type: "H200", Run: &api.GPURun{Number: 1, User: "ada"}, Stalled: new(forge.Duration(time.Hour)),
		Reading: &forge.GPUReading{UUID: "GPU-1", UtilPercent: new(0), Throttle: []forge.ThrottleReason{forge.ThrottleBrake}, Processes: []forge.GPUProcess{{PID: 1, Kind: "compute"}}}, XID: &api.GPUXID{Number: 79, At: time.Now()}, Recent: []int{0, -1}, Foreign: []api.GPUForeign{{PID: 1}}}}})
	s.SetGPUHistory(api.GPUHistory{UUID: "GPU-1", Steps: []forge.GPUSample{{At: time.Now(), Seconds: 60, UtilPercent: new(1.5)}}})
	s.SetNodes(api.NodeView{Node: forge.Node{Name: "n1", Cluster: "local", State: forge.NodeReady, SeenAt: now,
		GPUs: []forge.GPU{{Slot: 0, Kind: forge.GPUCPUSlot, Type: "cpu"}}}})
	s.SetClusters(api.ClusterView{Cluster: forge.Cluster{Name: "local", Kind: "direct", Paused: &forge.Pause{Reason: "five runs held", Since: now}}, Nodes: 1, GPUs: 1})
	s.addRun(3, forge.RunPending)
	s.AddEvent(forge.Event{Type: forge.EventRunRunning, Run: id, Number: 1, Message: "running", Data: map[string]any{"step": 1}})

	s.SetSeat(api.RunSeat{Attempt: 1, Cluster: "hpc", Job: "71", Owner: "ada", Node: "gpu-1", Env: "/runs/R/attempts/0001/ranks/0001/env.sh"})
	s.UnderWay(forge.Principal{Tenant: "T1", UserID: "U2", Once: forge.Once{Op: "add-dataset", Key: "once 1"}})
	s.SetProgress(1<<20, 2<<20)

	s.AddEval(forge.Eval{Run: "R2", RunNumber: 2, Model: "bot@1", ModelID: "V1", Suite: "default-offline", SuiteSHA256: "ab", CreatedAt: time.Now(),
		Facts:  forge.EvalFacts{Harness: map[string]string{"lm_eval": "0.4.13"}, Tasks: []forge.EvalTask{{Task: "forge_reading", Version: "1.0", Original: 30, Effective: 30}}},
		Scores: []forge.EvalScore{{Task: "forge_reading", Filter: "none", Metric: "acc", Value: 0.5, StdErr: new(0.1), N: 30, Higher: new(true), Aggregation: "mean"}}},
		api.EvalSample{DocID: 0, DocHash: "a", PromptHash: "b", TargetHash: "c", Metrics: map[string]float64{"acc": 1}, Target: "0", Response: "x", Prompt: "y"})

	o := description(t, s)
	registry, ops := o.Components.Schemas, operations(o)
	calls := []struct{ op, path, body string }{
		{"GET /healthz", "", ""}, {"GET /readyz", "", ""}, {"GET /v1/version", "", ""}, {"GET /v1/nodes", "", ""}, {"GET /v1/queue", "", ""},
		{"POST /v1/datasets", "", `{"name":"chat","paths":["/data/chat.jsonl"],"license":"MIT"}`}, {"GET /v1/datasets", "", ""}, {"GET /v1/datasets/{name}", "/v1/datasets/chat", ""},
		{"GET /v1/datasets/{name}/versions/{version}", "/v1/datasets/chat/versions/latest", ""}, {"PATCH /v1/datasets/{name}/versions/{version}", "/v1/datasets/chat/versions/1", `{"license":"MIT"}`},
		{"GET /v1/datasets/{name}/versions/{version}/lineage", "/v1/datasets/chat/versions/1/lineage?direction=down", ""}, {"POST /v1/datasets/{name}/versions/{version}/verify", "/v1/datasets/chat/versions/1/verify", ""},
		{"POST /v1/datasets", "", scanned}, {"POST /v1/dataset-scans", "", `{"name":"read","paths":["/data/read"],"threads":2,"dry_run":true}`}, {"POST /v1/datasets/{name}/versions/{version}/waive", "/v1/datasets/found/versions/1/waive", `{"reason":"made up"}`},
		{"POST /v1/datasets/{name}/versions/{version}/delete", "/v1/datasets/found/versions/1/delete", `{"purge":true}`}, {"GET /v1/dataset-impact", "/v1/dataset-impact?digest=" + strings.Repeat("0", 64), ""},
		{"POST /v1/dataset-files/{sha256}", "/v1/dataset-files/2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", "x"},
		{"POST /v1/datasets/{name}/versions/{version}/rows", "/v1/datasets/chat/versions/1/rows?sha256=2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", "x"},
		{"POST /v1/models/import", "", `{"name":"tiny","path":"/models/tiny"}`}, {"POST /v1/models/register", "", `{"name":"bot","run":"2"}`}, {"POST /v1/models/{name}/versions/{version}/verify", "/v1/models/bot/versions/latest/verify", ""},
		{"GET /v1/gc", "/v1/gc?older_than=30-0&site=true", ""}, {"POST /v1/gc", "", `{"older_than":"720h"}`},
		{"GET /v1/models", "", ""}, {"GET /v1/models/{name}", "/v1/models/bot", ""}, {"GET /v1/progress/{key}", "/v1/progress/once%201", ""},
		{"GET /v1/gates", "", ""}, {"GET /v1/gates/{name}", "/v1/gates/default", ""},
		{"POST /v1/models/{name}/versions/{version}/promote", "/v1/models/bot/versions/1/promote", `{"to":"candidate"}`},
		{"POST /v1/models/{name}/versions/{version}/aliases", "/v1/models/bot/versions/candidate/aliases", `{"alias":"best"}`}, {"GET /v1/models/{name}/aliases", "/v1/models/bot/aliases", ""},
		{"POST /v1/models/{name}/aliases/{alias}/remove", "/v1/models/bot/aliases/best/remove", ""},
		{"POST /v1/models/{name}/versions/{version}/archive", "/v1/models/bot/versions/1/archive", `{"reason":"worse"}`}, {"POST /v1/models/{name}/rollback", "/v1/models/bot/rollback", `{"to":1,"reason":"it was not"}`},
		{"GET /v1/models/{name}/history", "/v1/models/bot/history", ""}, {"GET /v1/models/{name}/history/check", "/v1/models/bot/history/check", ""},
		{"POST /v1/runs", "", `{"recipe":"lora_sft","params":{"lora.r":16},"time_limit":"1-12:00:00","priority":60}`},
		{"POST /v1/estimates", "", `{"recipe":"lora_sft","base":"tiny"}`},
		{"GET /v1/runs", "/v1/runs?state=running,completed,pending&limit=2", ""}, {"GET /v1/runs/rows", "/v1/runs/rows?limit=2", ""},
		{"GET /v1/runs/{run}", "/v1/runs/1", ""}, {"GET /v1/runs/{run}/why", "/v1/runs/1/why", ""}, {"GET /v1/runs/{run}/log", "/v1/runs/1/log?rank=1", ""},
		{"GET /v1/runs/{run}/metrics", "/v1/runs/1/metrics?keys=loss,lr", ""}, {"POST /v1/runs/{run}/metrics", "/v1/runs/1/metrics", `{"attempt":1,"points":[{"step":1,"values":{"loss":1,"nan":null}}]}`}, {"GET /v1/runs/{run}/checkpoints", "/v1/runs/1/checkpoints", ""},
		{"GET /v1/runs/{run}/events", "/v1/runs/1/events", ""}, {"GET /v1/events/list", "/v1/events/list?type=run.ended&limit=2", ""}, {"POST /v1/runs/{run}/cancel", "/v1/runs/1/cancel", `{"mode":"save"}`},
		{"POST /v1/runs/{run}/retry", "/v1/runs/2/retry", ""}, {"GET /v1/runs/{run}/samples", "/v1/runs/1/samples?last=3", ""},
		{"POST /v1/pipelines", "", `{"name":"chain","steps":[{"step":"one","run":{"recipe":"lora_sft"}},{"step":"two","run":{"recipe":"lora_sft","after":["step:one"]}}]}`}, {"POST /v1/keys", "", `{"user":"carl"}`}, {"GET /v1/keys", "", ""},
		{"GET /v1/keys/{key}", "/v1/keys/K1", ""}, {"POST /v1/keys/{key}/rotate", "/v1/keys/K1/rotate", `{"overlap":"24h"}`},
		{"POST /v1/keys/{key}/revoke", "/v1/keys/K1/revoke", `{"reason":"leaked"}`},
		{"POST /v1/users", "", `{"name":"muna","unix_uid":1000}`}, {"POST /v1/login/munge", "", `{"credential":"MUNGE:1000:"}`}, {"PATCH /v1/users/{user}", "/v1/users/muna", `{"unix_uid":-1}`},
		{"POST /v1/tenants", "", `{"name":"physics"}`}, {"GET /v1/tenants", "", ""}, {"GET /v1/tenants/{tenant}", "/v1/tenants/physics", ""},
		{"PATCH /v1/tenants/{tenant}", "/v1/tenants/physics", `{"weight":2.5,"gpus":16,"max_gpus":32,"max_running":10,"max_queued":1000,"eval_gpus":4}`},
		{"GET /v1/runs/{run}/priority", "/v1/runs/3/priority?priority=70", ""}, {"POST /v1/runs/{run}/priority", "/v1/runs/3/priority", `{"priority":70}`},
		{"GET /v1/whoami", "", ""}, {"GET /v1/doctor", "", ""}, {"GET /v1/queue/what-if", "/v1/queue/what-if?add_nodes=4x8:h100&policy=srsf", ""},
		{"POST /v1/users", "", `{"name":"carla","role":"admin","max_priority":80,"unix_uid":1000}`}, {"GET /v1/users", "", ""},
		{"GET /v1/users/{user}", "/v1/users/carla", ""}, {"PATCH /v1/users/{user}", "/v1/users/carla", `{"role":"viewer"}`},
		{"POST /v1/users/{user}/disable", "/v1/users/carla/disable", `{"reason":"left"}`}, {"POST /v1/users/{user}/enable", "/v1/users/carla/enable", ""},
		{"POST /v1/runs/{run}/hold", "/v1/runs/3/hold", `{"reason":"the data is late"}`}, {"POST /v1/runs/{run}/release", "/v1/runs/3/release", ""},
		{"GET /v1/runs/{run}/seat", "/v1/runs/1/seat?rank=1", ""}, {"GET /v1/runs/{run}/bundle", "/v1/runs/2/bundle", ""}, {"POST /v1/runs/{run}/interrupt", "/v1/runs/1/interrupt", `{"as":"timeout"}`},
		{"GET /v1/costs", "/v1/costs?by=user&since=2026-11-01T00:00:00Z", ""}, {"GET /v1/suites", "", ""}, {"GET /v1/suites/{name}", "/v1/suites/default-offline", ""}, {"GET /v1/evals", "/v1/evals?suite=default-offline", ""},
		{"GET /v1/evals/{run}", "/v1/evals/2", ""}, {"GET /v1/evals/{run}/samples", "/v1/evals/2/samples?task=forge_reading", ""}, {"GET /v1/evals/{run}/compare", "/v1/evals/2/compare?baseline=2", ""},
		{"POST /v1/evals", "/v1/evals?sha256=2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", "x"},
		{"POST /v1/schedules", "", `{"name":"nightly","cron":"0 3 * * *","tz":"Europe/Berlin","run":{"recipe":"eval","suite":"default-offline","model":"bot@production"},"baseline":"bot@previous","on_regression":"block"}`},
		{"POST /v1/schedules/{schedule}/pause", "/v1/schedules/nightly/pause", ""}, {"POST /v1/schedules/{schedule}/resume", "/v1/schedules/nightly/resume", ""}, {"POST /v1/schedules/{schedule}/run", "/v1/schedules/nightly/run", ""},
		{"GET /v1/schedules", "", ""}, {"GET /v1/schedules/{schedule}", "/v1/schedules/nightly?firings=3", ""}, {"POST /v1/schedules/{schedule}/clear", "/v1/schedules/nightly/clear", `{"reason":"looked at"}`},
		{"POST /v1/schedules/{schedule}/remove", "/v1/schedules/nightly/remove", ""}, {"POST /v1/hooks", "", `{"name":"chat","on":["stage","run.held"],"url":"https://example.org/forge","match":"bot*","failures":true}`}, {"GET /v1/hooks", "/v1/hooks?limit=5", ""}, {"GET /v1/hooks/{hook}", "/v1/hooks/chat", ""},
		{"POST /v1/hooks/{hook}/test", "/v1/hooks/chat/test", ""}, {"GET /v1/hooks/{hook}/deliveries", "/v1/hooks/chat/deliveries?state=delivered", ""},
		{"POST /v1/hooks/{hook}/pause", "/v1/hooks/chat/pause", ""}, {"POST /v1/hooks/{hook}/resume", "/v1/hooks/chat/resume", ""}, {"POST /v1/hooks/{hook}/remove", "/v1/hooks/chat/remove", ""},
		{"GET /v1/recipes", "", ""}, {"GET /v1/recipes/{name}", "/v1/recipes/lora_sft", ""},
		{"POST /v1/snapshots", "/v1/snapshots?sha256=2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", "x"},
		{"GET /v1/clusters", "", ""}, {"POST /v1/clusters/{cluster}/resume", "/v1/clusters/local/resume", ""}, {"GET /v1/clusters/{cluster}/check", "/v1/clusters/local/check?days=3", ""},
		{"GET /v1/gpus", "/v1/gpus?node=n1", ""}, {"GET /v1/gpus/{uuid}/history", "/v1/gpus/GPU-1/history?since=2026-11-01T00:00:00Z", ""},
		{"GET /v1/nodes/{node}", "/v1/nodes/n1", ""}, {"GET /v1/nodes/{node}/events", "/v1/nodes/n1/events?since=2026-11-01T00:00:00Z", ""}, {"POST /v1/nodes/{node}/drain", "/v1/nodes/n1/drain", `{"reason":"a fan is loud"}`}, {"POST /v1/nodes/{node}/undrain", "/v1/nodes/n1/undrain", ""},
	}
	seen := map[string]bool{"GET /v1/events": true, "GET /v1/runs/{run}/source": true, "GET /v1/datasets/{name}/versions/{version}/files/{sha256}": true} // streams: events_test.go, bundle_test.go, dataset_file_test.go
	for _, c := range calls {
		seen[c.op] = true
		t.Run(c.op, func(t *testing.T) {
			method, path, _ := strings.Cut(c.op, " ")
			if c.path != "" {
				path = c.path
			}
			headers := []string{api.HeaderKey, apitest.OperatorSecret}
			if strings.HasPrefix(path, api.SnapshotPath) || strings.HasPrefix(path, api.EvalsPath+"?sha256") {
				headers = append(headers, "Content-Type", api.SnapshotType)
			}
			if strings.HasPrefix(path, api.DatasetFilesPath) || strings.Contains(path, api.DatasetRowsEnd+"?") {
				headers = append(headers, "Content-Type", api.BytesType)
			}
			status, _, body := s.call(t, method, path, c.body, headers...)
			r := ops[c.op].Responses[fmt.Sprint(status)]
			if status/100 != 2 || r == nil {
				t.Fatalf("got %d: %s", status, body)
			}
			var v any
			if err := json.Unmarshal([]byte(body), &v); err != nil {
				t.Fatal(err)
			}
			res := &huma.ValidateResult{}
			sc := r.Content["application/json"].Schema
			sc.PrecomputeMessages()
			huma.Validate(registry, sc, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, v, res)
			for _, err := range res.Errors {
				t.Error(err)
			}
		})
	}
	for op := range ops {
		if !seen[op] {
			t.Errorf("%s was not called", op)
		}
	}
}

// scanned registers what somebody else's pass found, with all that it may say.
const scanned = `{"name":"found","paths":["/data/a.jsonl"],"kind":"auto","parents":["chat@1"],"description":"of the desk","scanned":{"manifest":{"root":"/data/a.jsonl","files":[{"path":".","size":9,"sha256":"ab"}]},
"kind":"text","layout":{"format":"jsonl","map":{"text":"body"}},"columns":["body"],"rows":1,"seen":{"messages":false,"findings":[]},
"report":{"scanner":"1","by":"forgectl","at":"2026-11-26T15:00:00Z","elapsed":"1s","duplicates":{"rows":0,"first":[]},"lengths":[{"below":16,"rows":1}],
"pii":{"scanner":"1","rules_sha256":"cd","sets":["default"],"rows":1,"rows_found":1,"counts":[{"entity":"email","field":"body","confidence":"high","findings":1,"rows":1}],
"samples":[{"entity":"email","field":"body","confidence":"high","place":"a.jsonl:1","offset":0,"masked":"a@*.*"}],"note":"no names"}}}}`

func TestPaging(t *testing.T) {
	s := start(t)
	for n := int64(1); n <= 5; n++ {
		s.addRun(n, forge.RunPending)
	}
	var got []int64
	for path := "/v1/runs/rows?limit=2"; path != ""; {
		_, _, body := s.call(t, "GET", path, "")
		var l api.List[api.RunRow]
		if err := json.Unmarshal([]byte(body), &l); err != nil {
			t.Fatal(err)
		}
		for _, r := range l.Items {
			got = append(got, r.Number)
		}
		path = ""
		if l.Next != "" {
			path = "/v1/runs/rows?limit=2&cursor=" + l.Next
		}
	}
	if !slices.Equal(got, []int64{5, 4, 3, 2, 1}) {
		t.Errorf("got %v", got)
	}
}
