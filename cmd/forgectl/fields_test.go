package main

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/apitest"
	"github.com/forge-ml/forge-ml/scheduler/sim"
)

// jsonForms are what -o json prints, by the command line that prints it against the site of the
// scripts. Listings print an array of them.
var jsonForms = []struct {
	line string
	form reflect.Type
}{
	{"run list", reflect.TypeFor[forge.Run]()}, {"run show 3", reflect.TypeFor[api.RunDetail]()}, {"run why 4", reflect.TypeFor[api.Why]()},
	{"run priority 4 20 --dry-run", reflect.TypeFor[api.PriorityEffect]()},
	{"run logs 3", reflect.TypeFor[api.LogChunk]()}, {"run metrics 3", reflect.TypeFor[api.Metrics]()}, {"run checkpoints 3", reflect.TypeFor[forge.Checkpoint]()},
	{"run events 3", reflect.TypeFor[forge.Event]()}, {"run submit lora_sft", reflect.TypeFor[api.Submitted]()}, {"run estimate lora_sft --base tiny", reflect.TypeFor[api.Estimate]()}, {"run cancel 4", reflect.TypeFor[forge.Run]()},
	{"dataset list", reflect.TypeFor[forge.Dataset]()}, {"dataset show chat", reflect.TypeFor[forge.Dataset]()},
	{"dataset show chat@1", reflect.TypeFor[forge.DatasetVersion]()}, {"dataset add far /nowhere/far.jsonl", reflect.TypeFor[addedOut]()}, {"dataset edit chat@1 --license MIT", reflect.TypeFor[forge.DatasetVersion]()},
	{"dataset verify chat@1", reflect.TypeFor[api.DatasetVerified]()}, {"dataset lineage chat@1", reflect.TypeFor[forge.LineageGraph]()}, {"dataset diff chat@1 chat@1", reflect.TypeFor[datasetDiffOut]()},
	{"model list", reflect.TypeFor[forge.Model]()}, {"model show tiny", reflect.TypeFor[forge.Model]()},
	{"queue", reflect.TypeFor[api.Queue]()}, {"top", reflect.TypeFor[api.NodeGPUs]()}, {"top --history 24h gpu-1/0", reflect.TypeFor[api.GPUHistory]()}, {"node list", reflect.TypeFor[api.NodeView]()}, {"cluster list", reflect.TypeFor[api.ClusterView]()},
	{"recipe list", reflect.TypeFor[api.RecipeRow]()}, {"recipe show lora_sft", reflect.TypeFor[api.Recipe]()},
	{"suite list", reflect.TypeFor[api.SuiteRow]()}, {"suite show default-offline", reflect.TypeFor[api.Suite]()},
	{"eval list", reflect.TypeFor[forge.Eval]()}, {"eval show 9", reflect.TypeFor[api.EvalDetail]()},
	{"cost", reflect.TypeFor[forge.Costs]()}, {"run list --cost", reflect.TypeFor[api.RunRow]()},
	{"schedule list", reflect.TypeFor[api.Schedule]()}, {"schedule show nightly", reflect.TypeFor[api.ScheduleDetail]()}, {"schedule add @daily --name other --eval --suite default-offline --model tiny", reflect.TypeFor[api.ScheduleAdded]()},
	{"node show box", reflect.TypeFor[api.NodeDetail]()},
	{"tenant list", reflect.TypeFor[forge.Tenant]()}, {"tenant show default", reflect.TypeFor[forge.Tenant]()},
	{"user list", reflect.TypeFor[forge.User]()}, {"user show ada", reflect.TypeFor[forge.User]()},
	{"key list", reflect.TypeFor[forge.Key]()}, {"key show K1", reflect.TypeFor[forge.Key]()}, {"key create --user ada", reflect.TypeFor[api.CreatedKey]()},
	{"hook list", reflect.TypeFor[forge.Hook]()}, {"hook show chat", reflect.TypeFor[forge.Hook]()}, {"hook add new --on hold --webhook https://example.org/forge", reflect.TypeFor[api.CreatedHook]()},
	{"hook test chat", reflect.TypeFor[forge.HookDelivery]()}, {"hook deliveries chat", reflect.TypeFor[forge.HookDelivery]()},
	{"context list", reflect.TypeFor[contextOut]()}, {"context show site", reflect.TypeFor[contextOut]()},
	{"whoami", reflect.TypeFor[whoamiOut]()}, {"doctor", reflect.TypeFor[api.Check]()}, {"version", reflect.TypeFor[api.Version]()},
	{"simulate --live --add-nodes 1x8:h100", reflect.TypeFor[api.WhatIf]()},
	{"simulate --trace testdata/trace.csv --policy fifo", reflect.TypeFor[sim.Figures]()},
}

// fieldsOf lists every field that a form can have, dotted, with a ? behind those that may be missing.
func fieldsOf(t reflect.Type, prefix string, out map[string]bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Map:
		fieldsOf(t.Elem(), prefix+"*.", out)
		return
	case t.Kind() != reflect.Struct, t == reflect.TypeFor[time.Time](), reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
			continue
		case f.Anonymous && name == "":
			fieldsOf(f.Type, prefix, out)
			continue
		}
		out[prefix+name] = strings.Contains(rest, "omit")
		fieldsOf(f.Type, prefix+name+".", out)
	}
}

const fieldsFile = "testdata/json-fields.txt"

// TestJSONFieldsStay: programs rest on them. One that is new needs UPDATE=1; one that is gone, a thought.
func TestJSONFieldsStay(t *testing.T) {
	var b strings.Builder
	for _, f := range jsonForms {
		fields := map[string]bool{}
		fieldsOf(f.form, "", fields)
		fmt.Fprintf(&b, "forgectl %s -o json\n", f.line)
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			mark := map[bool]string{true: "?"}[fields[name]]
			fmt.Fprintf(&b, "\t%s%s\n", name, mark)
		}
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(fieldsFile, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(fieldsFile)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(b.String(), "\n")
	for i, line := range strings.Split(string(want), "\n") {
		if i >= len(got) || got[i] != line {
			t.Fatalf("%s line %d: %q was there, now %q; a field that programs read must not go, a new one needs UPDATE=1", fieldsFile, i+1, line, append(got, "")[min(i, len(got))])
		}
	}
	if len(got) != len(strings.Split(string(want), "\n")) {
		t.Errorf("%s does not have all fields; UPDATE=1", fieldsFile)
	}
}

func TestJSONOutputHasTheFieldsOfItsForm(t *testing.T) {
	_, url := serveSeed(t)
	dir := t.TempDir()
	env := map[string]string{"FORGE_CONFIG": filepath.Join(dir, "config.yaml")}
	text := "current: site\ncontexts: {site: {server: " + url + ", key: " + apitest.OperatorSecret + "}}\n"
	if err := os.WriteFile(env["FORGE_CONFIG"], []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range jsonForms {
		t.Run(f.line, func(t *testing.T) {
			var out, errOut bytes.Buffer
			s := Streams{In: strings.NewReader(""), Out: &out, Err: &errOut, Width: 80, UID: os.Getuid(), Now: func() time.Time { return scriptNow }, Getenv: func(k string) string { return env[k] }}
			// Against a clock that stands still the doctor finds skew, and says 1.
			if code := run(t.Context(), append([]string{"forgectl", "-o", "json"}, strings.Fields(f.line)...), s); code != 0 && f.line != "doctor" {
				t.Fatalf("exit %d: %s", code, errOut.String())
			}
			var v any
			if err := json.Unmarshal(out.Bytes(), &v); err != nil {
				t.Fatalf("%v in %s", err, out.String())
			}
			items, listed := v.([]any)
			if !listed {
				items = []any{v}
			}
			if len(items) == 0 {
				t.Fatal("it printed nothing to look at")
			}
			fields := map[string]bool{}
			fieldsOf(f.form, "", fields)
			for _, it := range items {
				object, ok := it.(map[string]any)
				if !ok {
					t.Fatalf("%v is no object", it)
				}
				for name := range object {
					if _, known := fields[name]; !known {
						t.Errorf("%s is not a field of its form", name)
					}
				}
				for name, optional := range fields {
					if _, there := object[name]; !there && !optional && !strings.Contains(name, ".") {
						t.Errorf("%s is missing", name)
					}
				}
			}
		})
	}
}
