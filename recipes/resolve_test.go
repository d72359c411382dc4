package recipes_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/recipes"
)

func loraSFT(t testing.TB) recipes.Recipe {
	t.Helper()
	r, err := library(t).Get("lora_sft")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestResolve(t *testing.T) {
	r := loraSFT(t)
	t.Run("sets go over the run file, the run file over the defaults, and origins say so", func(t *testing.T) {
		params, origins, err := r.Resolve(
			map[string]any{"lora": map[string]any{"r": 16, "alpha": 32}, "train.seed": 7},
			[]string{"lora.r=64", "train.lr_scheduler=cosine"})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name, origin string
			value        any
		}{
			{"lora.r", recipes.OriginSet, int64(64)},
			{"lora.alpha", recipes.OriginFile, 32.0},
			{"train.seed", recipes.OriginFile, int64(7)},
			{"train.lr_scheduler", recipes.OriginSet, "cosine"},
			{"train.learning_rate", recipes.OriginDefault, 2e-4},
			{"train.packing", recipes.OriginDefault, false},
			{"train.epochs", recipes.OriginDefault, 1.0},
		} {
			if params[c.name] != c.value || origins[c.name] != c.origin {
				t.Errorf("%s = %#v from %s, want %#v from %s", c.name, params[c.name], origins[c.name], c.value, c.origin)
			}
		}
		if len(params) != len(r.Params) || len(origins) != len(r.Params) {
			t.Errorf("%d params, %d origins of %d", len(params), len(origins), len(r.Params))
		}
	})
	t.Run("whole numbers arrive whole however they were sent", func(t *testing.T) {
		for _, v := range []any{16, int64(16), uint64(16), 16.0, json.Number("16"), json.Number("16.0")} {
			params, _, err := r.Resolve(map[string]any{"lora.r": v, "lora.alpha": v}, nil)
			if err != nil || params["lora.r"] != int64(16) || params["lora.alpha"] != 16.0 {
				t.Errorf("%T: got %#v, %#v, %v", v, params["lora.r"], params["lora.alpha"], err)
			}
		}
	})
	t.Run("text keeps what looks like something else", func(t *testing.T) {
		params, _, err := r.Resolve(nil, []string{"lora.target_modules=q=1,true"})
		if err != nil || params["lora.target_modules"] != "q=1,true" {
			t.Errorf("got %#v, %v", params["lora.target_modules"], err)
		}
	})
	t.Run("lists come comma-separated or as JSON", func(t *testing.T) {
		l, err := library(t).With(site(t, map[string]string{"x.yaml": minimal + "params:\n  - {name: tags, type: list, default: [a, 1], doc: Tags}\n"}))
		if err != nil {
			t.Fatal(err)
		}
		lr, _ := l.Get("mine")
		for text, want := range map[string][]any{"tags=x, y": {"x", "y"}, `tags=["x",2,2.5,true]`: {"x", int64(2), 2.5, true}, "tags=": {}} {
			params, _, err := lr.Resolve(nil, []string{text})
			if err != nil || !reflect.DeepEqual(params["tags"], want) {
				t.Errorf("%s: got %#v, %v", text, params["tags"], err)
			}
		}
		first, _, _ := lr.Resolve(nil, nil)
		first["tags"].([]any)[0] = "broken"
		if again, _, _ := lr.Resolve(nil, nil); !reflect.DeepEqual(again["tags"], []any{"a", int64(1)}) {
			t.Errorf("a caller changed the default: %v", again["tags"])
		}
	})
}

func TestResolveRefuses(t *testing.T) {
	r := loraSFT(t)
	long := strings.Repeat("x", 5000)
	for _, c := range []struct {
		name  string
		file  map[string]any
		set   []string
		field string
		want  []string
	}{
		{"an unknown parameter", nil, []string{"lora.rr=8"}, "params.lora.rr", []string{"did you mean lora.r", "train.learning_rate", "checkpoint.keep_last"}},
		{"the last part of a name alone", nil, []string{"learning_rate=1e-4"}, "params.learning_rate", []string{"did you mean train.learning_rate"}},
		{"a misspelt last part", map[string]any{"train": map[string]any{"learning_rat": 1e-4}}, nil, "params.train.learning_rat", []string{"did you mean train.learning_rate"}},
		{"an unknown group", map[string]any{"optimizer": map[string]any{"lr": 1}}, nil, "params.optimizer", []string{"no such parameter"}},
		{"a group given a value", map[string]any{"lora": 8}, nil, "params.lora", []string{"no such parameter"}},
		{"a parameter given a group", map[string]any{"lora.r": map[string]any{"x": 1}}, nil, "params.lora.r", []string{"a map", "whole number"}},
		{"text for a whole number", map[string]any{"lora.r": "8"}, nil, "params.lora.r", []string{`"8" is text`, "from 1 to 1024"}},
		{"a fraction for a whole number", map[string]any{"lora.r": 1.5}, nil, "params.lora.r", []string{"1.5 is not whole", "from 1 to 1024"}},
		{"a bool for a number", map[string]any{"train.learning_rate": true}, nil, "params.train.learning_rate", []string{"true is a bool", "want a number"}},
		{"a number for a bool", map[string]any{"train.packing": 1}, nil, "params.train.packing", []string{"true or false"}},
		{"yes for a bool", nil, []string{"train.packing=yes"}, "params.train.packing", []string{`"yes"`, "true or false"}},
		{"a number for text", map[string]any{"lora.target_modules": 3}, nil, "params.lora.target_modules", []string{"3 is a number", "want text"}},
		{"null", map[string]any{"lora.r": nil}, nil, "params.lora.r", []string{"leave it out for the default 8"}},
		{"a value above the range, with the range and the unit", nil, []string{"train.max_length=99999999"}, "params.train.max_length", []string{"99999999 is out of range", "from 8 to 1048576 (tokens)"}},
		{"a value below the range", nil, []string{"checkpoint.keep_last=1"}, "params.checkpoint.keep_last", []string{"1 is out of range", "from 2"}},
		{"a number too large for JSON", map[string]any{"train.seed": uint64(1) << 63}, nil, "params.train.seed", []string{"out of range"}},
		{"not a number", nil, []string{"lora.alpha=NaN"}, "params.lora.alpha", []string{"out of range"}},
		{"infinity", nil, []string{"lora.alpha=inf"}, "params.lora.alpha", []string{"out of range"}},
		{"words for a number", nil, []string{"lora.r=many"}, "params.lora.r", []string{`"many" is not understood`, "from 1 to 1024"}},
		{"an empty number", nil, []string{"lora.r="}, "params.lora.r", []string{"not understood"}},
		{"a value outside an enum", nil, []string{"train.precision=fp8"}, "params.train.precision", []string{"auto, fp32, bf16, fp16"}},
		{"text without end", nil, []string{"lora.target_modules=" + long}, "params.lora.target_modules", []string{"5000 bytes", "at most 4096"}},
		{"bytes that are not text", nil, []string{"lora.target_modules=\xff"}, "params.lora.target_modules", []string{"not text"}},
		{"the same in nested and dotted form", map[string]any{"lora": map[string]any{"r": 4}, "lora.r": 8}, nil, "params.lora.r", []string{"twice", "as 4 and as 8"}},
		{"two sets of one parameter, both shown", nil, []string{"lora.r=4", "lora.r=8"}, "params.lora.r", []string{`"4"`, `"8"`}},
		{"a set without =", nil, []string{"lora.r"}, "set", []string{"KEY=VALUE"}},
		{"a set without a key", nil, []string{"=8"}, "set", []string{"KEY=VALUE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			params, origins, err := r.Resolve(c.file, c.set)
			var fe *forge.Error
			if !errors.As(err, &fe) || fe.Kind != forge.KindInvalid || params != nil || origins != nil {
				t.Fatalf("got %v, %v, %v", params, origins, err)
			}
			if fe.Field != c.field {
				t.Errorf("field %q, want %q", fe.Field, c.field)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
	t.Run("all faults at once, in a fixed order", func(t *testing.T) {
		_, _, err := r.Resolve(map[string]any{"lora.r": 0, "lora.alpha": "x"}, []string{"nope=1"})
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != 3 || !strings.HasPrefix(lines[0], "params.lora.alpha") || !strings.HasPrefix(lines[1], "params.lora.r") || !strings.HasPrefix(lines[2], "params.nope") {
			t.Errorf("got %q", lines)
		}
	})
}

func TestCanonicalDigest(t *testing.T) {
	r := loraSFT(t)
	params, _, err := r.Resolve(map[string]any{"train.learning_rate": 1e-5}, []string{"lora.r=16"})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("is the same after storage as JSON", func(t *testing.T) {
		b, err := json.Marshal(params)
		if err != nil {
			t.Fatal(err)
		}
		var back map[string]any
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if recipes.CanonicalDigest(params) != recipes.CanonicalDigest(back) {
			t.Error("differs")
		}
		again, _, err := r.Resolve(back, nil)
		if err != nil || !reflect.DeepEqual(again, params) {
			t.Errorf("stored values resolve to others: %v, %v", again, err)
		}
	})
	t.Run("differs by any value", func(t *testing.T) {
		seen := map[string]string{}
		for _, set := range []string{"lora.r=17", "train.packing=true", "train.learning_rate=2e-5", "lora.target_modules=q_proj"} {
			other, _, err := r.Resolve(nil, []string{set})
			if err != nil {
				t.Fatal(err)
			}
			d := recipes.CanonicalDigest(other)
			if prev, dup := seen[d]; dup || len(d) != 64 {
				t.Errorf("%s and %s: %s", set, prev, d)
			}
			seen[d] = set
		}
	})
	t.Run("is the SHA-256 of sorted JSON without white space", func(t *testing.T) {
		got := recipes.CanonicalDigest(map[string]any{"b": int64(1), "a": "x<y"})
		if got != sha(`{"a":"x<y","b":1}`) {
			t.Errorf("got %s", got)
		}
	})
}

func FuzzResolveSet(f *testing.F) {
	for _, s := range []string{"lora.r=8", "train.learning_rate=1e-4", "train.packing=true", "lora.target_modules=a,b", "=", "lora.r=8=9", "train.seed=9007199254740993"} {
		f.Add(s, s)
	}
	r := loraSFT(f)
	f.Fuzz(func(t *testing.T, a, b string) {
		params, origins, err := r.Resolve(nil, []string{a, b})
		if err != nil {
			if forge.KindOf(err) != forge.KindInvalid {
				t.Fatalf("kind %s: %v", forge.KindOf(err), err)
			}
			return
		}
		if len(params) != len(r.Params) || len(origins) != len(r.Params) {
			t.Fatal("a parameter is missing")
		}
		// What was accepted must be accepted again, from JSON, and mean the same.
		text, err := json.Marshal(params)
		if err != nil {
			t.Fatal(err)
		}
		var back map[string]any
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		again, _, err := r.Resolve(back, nil)
		if err != nil || !reflect.DeepEqual(again, params) || recipes.CanonicalDigest(back) != recipes.CanonicalDigest(params) {
			t.Fatalf("%v became %v: %v", params, again, err)
		}
	})
}
