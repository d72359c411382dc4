package main

import (
	"context"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func yamlNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if n, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ","); n != "" && n != "-" {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

func TestTheRunFileHasTheFieldsOfTheRequest(t *testing.T) {
	want := append(yamlNames(reflect.TypeFor[api.SubmitRunRequest]()), "mem_per_gpu")
	slices.Sort(want)
	if got := yamlNames(reflect.TypeFor[runFile]()); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	t.Run("and its hint names them all", func(t *testing.T) {
		_, err := parseRunFile("x", []byte("nonsense: 1"))
		for _, n := range want {
			if n != "memory_mib_per_gpu" && !strings.Contains(forge.HintOf(err), n) {
				t.Errorf("%s is not in it", n)
			}
		}
	})
}

func TestRunFileForms(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90": 90 * time.Minute, `"90"`: 90 * time.Minute, "1:30:00": 90 * time.Minute, "1-12:00:00": 36 * time.Hour, "36h": 36 * time.Hour, "45:30": 45*time.Minute + 30*time.Second, "90s": 90 * time.Second,
	} {
		r, err := parseRunFile("x", []byte("recipe: r\ntime_limit: "+text+"\n"))
		if err != nil || r.TimeLimit.D() != want {
			t.Errorf("time_limit: %s is %s, %v; want %s", text, r.TimeLimit, err, want)
		}
	}
	for text, want := range map[string]int64{"512": 512, "2G": 2048, "1.5G": 1536, `"1T"`: 1 << 20, "512MiB": 512} {
		for _, key := range []string{"mem_per_gpu", "memory_mib_per_gpu"} {
			r, err := parseRunFile("x", []byte("recipe: r\n"+key+": "+text+"\n"))
			if err != nil || r.MemoryMiBPerGPU != want {
				t.Errorf("%s: %s is %d, %v; want %d", key, text, r.MemoryMiBPerGPU, err, want)
			}
		}
	}
	r, err := parseRunFile("x", []byte("recipe: r\nafter: [12, 01JABC, \"7\"]\nparams: {lora: {r: 8}, train.epochs: 2}\n"))
	if err != nil || !slices.Equal(r.After, []string{"12", "01JABC", "7"}) || r.Params["lora"] == nil {
		t.Errorf("got %+v, %v", r, err)
	}
	for _, bad := range []string{"mem_per_gpu: 1G\nmemory_mib_per_gpu: 2", "time_limit: [1, 2]", "time_limit: {a: 1}", "after: 3: 4", "- a", "recipe: [a]", "\trecipe: x", "params: 3"} {
		if r, err := parseRunFile("x", []byte(bad)); err == nil {
			t.Errorf("%q is accepted: %+v", bad, r)
		}
	}
	if _, err := parseRunFile("x", nil); err != nil {
		t.Errorf("an empty file is no run, and no error of its own: %v", err)
	}
}

// forgectl must stay pure Go and start at once: a heavy import would undo both in silence.
func TestImports(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	banned := []string{"huma", "zerolog", "sqlite", "go-nvml", "uptrace", "internal/api/server", "internal/api/apitest", "internal/daemon", "forge-ml/store", "forge-ml/nvml"}
	for d := range strings.FieldsSeq(string(out)) {
		if d == "testing" || slices.ContainsFunc(banned, func(b string) bool { return strings.Contains(d, b) }) {
			t.Errorf("forgectl imports %s", d)
		}
	}
}
