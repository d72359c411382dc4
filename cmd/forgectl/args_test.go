package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func quiet() *app {
	return &app{Streams: Streams{In: strings.NewReader(""), Out: new(strings.Builder), Err: new(strings.Builder), Width: 80,
		Now: func() time.Time { return scriptNow }, Getenv: func(string) string { return "" }}}
}

func TestArrange(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"flags after positionals come first", "run cancel 12 --now", "run cancel --now -- 12"},
		{"a value stays with its flag", "run submit lora_sft --dataset chat -f x.yaml", "run submit --dataset=chat -f=x.yaml -- lora_sft"},
		{"a value with = stays", "run submit r --set a=b", "run submit --set=a=b -- r"},
		{"a value may start with a dash", "run submit r --priority -5", "run submit --priority=-5 -- r"},
		{"a single dash is a value", "run submit -f -", "run submit -f=-"},
		{"a single dash is an argument", "run show -", "run show -- -"},
		{"global flags are hoisted", "run list --limit 3 -o json", "-o=json run list --limit=3"},
		{"-- ends the flags", "run show -- --now", "run show -- --now"},
		{"a flag means what its command says", "run logs 3 -f", "run logs -f -- 3"},
		{"help anywhere", "run cancel 12 -h", "run cancel --help -- 12"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := arrange(quiet().tree(), strings.Fields("forgectl "+c.in))
			if err != nil || strings.Join(got.args[1:], " ") != c.want {
				t.Errorf("got %q, %v; want %q", strings.Join(got.args[1:], " "), err, c.want)
			}
		})
	}
	for _, in := range []string{"run cancel 12 --nwo", "run cancel -n 12", "run submit r --dataset", "run submit r --dataset --base x", "run list 3 -l", "nonsense", "run nonsense"} {
		t.Run("refused: "+in, func(t *testing.T) {
			if _, err := arrange(quiet().tree(), strings.Fields("forgectl "+in)); forge.KindOf(err) != forge.KindInvalid {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	var codes []int
	for _, k := range forge.Kinds {
		c, ok := exitCodes[k]
		if !ok || c == 0 || slices.Contains(codes, c) || c >= exitRunFailed {
			t.Errorf("%s: %d, there: %v, taken: %v", k, c, ok, codes)
		}
		codes = append(codes, c)
		if got := exitCode(forge.Errorf(k, "", "x")); got != c {
			t.Errorf("%s exits %d", k, got)
		}
	}
	if exitCode(nil) != 0 || exitCode(errors.New("x")) != 1 {
		t.Error("no error is 0, an unknown one is 1")
	}
}
