package health_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/health"
)

func TestEveryRuleIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range builtin().Rules() {
		if r.Name == "" || r.Class == "" || r.Run == "" || r.Hold == "" || r.Words == "" || r.Source == "" || r.ClearFor <= 0 {
			t.Errorf("something is missing: %+v", r)
		}
		if seen[r.Name] {
			t.Errorf("%s stands there twice", r.Name)
		}
		seen[r.Name] = true
		if got, ok := builtin().Rule(r.Name); !ok || got.Name != r.Name {
			t.Errorf("%s is not found by its name", r.Name)
		}
		if r.Run == forge.RunElsewhere && (r.Hold == forge.HoldNothing || r.Hold == forge.HoldWarn) {
			t.Errorf("%s sends a run away and lets the next one have the GPU", r.Name)
		}
		if r.Clear != nil && *r.Clear >= *r.Above {
			t.Errorf("%s is over at %g and begins at %g", r.Name, *r.Clear, *r.Above)
		}
	}
	if _, ok := builtin().Rule("no_such"); ok {
		t.Error("a rule that is none was found")
	}
}

func TestThereIsARuleForEveryXID(t *testing.T) {
	for n := 1; n <= 400; n++ {
		if r := builtin().XID(n); r.Run == "" || r.Hold == "" {
			t.Errorf("XID %d: %+v", n, r)
		}
	}
	if r := builtin().XID(399); r.Name != "xid_unknown" || r.Run != forge.RunGoesOn || r.Hold != forge.HoldDrain || r.Class != "warn" {
		t.Errorf("a number that is not in the table: %+v", r)
	}
	if r, ok := builtin().Rule("xid_399"); !ok || r.Name != "xid_unknown" {
		t.Errorf("%+v", r)
	}
}

func TestAChangeKeepsWhatItDoesNotSay(t *testing.T) {
	was, _ := builtin().Rule("xid_31")
	got := table(t, forge.HealthRule{Name: "xid_31", Hold: forge.HoldDrain}).XID(31)
	if got.Hold != forge.HoldDrain || got.Run != was.Run || got.Class != was.Class || got.Words != was.Words || got.ClearFor != was.ClearFor || got.Source != "this site" {
		t.Errorf("%+v", got)
	}
	got = table(t, forge.HealthRule{Name: "xid_31", Run: forge.RunGoesOn, Class: "warn", Words: "ours", ClearFor: time.Second, Source: "me"}).XID(31)
	if got.Run != forge.RunGoesOn || got.Hold != was.Hold || got.Class != "warn" || got.Words != "ours" || got.ClearFor != time.Second || got.Source != "me" {
		t.Errorf("%+v", got)
	}
	if was, _ := builtin().Rule("xid_31"); was.Hold != forge.HoldWarn {
		t.Error("the change of one table is in another")
	}
}

func TestAChangeOfSeveralXIDs(t *testing.T) {
	tb := table(t, forge.HealthRule{XIDs: []int{1, 13, 9999}, Hold: forge.HoldNode})
	for _, n := range []int{1, 13, 9999} {
		if r := tb.XID(n); r.Hold != forge.HoldNode || r.Name != "xid_"+map[int]string{1: "1", 13: "13", 9999: "9999"}[n] || len(r.XIDs) != 1 || r.XIDs[0] != n {
			t.Errorf("%d: %+v", n, r)
		}
	}
	if tb.XID(1).Run != forge.RunGoesOn || tb.XID(13).Run != forge.RunFails {
		t.Error("a run's fate was not kept")
	}
	if r := table(t, forge.HealthRule{Name: "xid_unknown", Hold: forge.HoldWarn}).XID(500); r.Hold != forge.HoldWarn {
		t.Errorf("%+v", r)
	}
}

func TestAThresholdThatIsMovedTakesItsWayBackAlong(t *testing.T) {
	r, _ := table(t, forge.HealthRule{Name: "temperature_max", Above: ptr(5.), For: time.Minute}).Rule("temperature_max")
	if *r.Above != 5 || *r.Clear != 2 || r.For != time.Minute {
		t.Errorf("%+v", r)
	}
	r, _ = table(t, forge.HealthRule{Name: "temperature_max", Above: ptr(5.), Clear: ptr(4.), ClearFor: time.Hour}).Rule("temperature_max")
	if *r.Clear != 4 || r.ClearFor != time.Hour {
		t.Errorf("%+v", r)
	}
	if r, _ := builtin().Rule("temperature_max"); *r.Above != 0 || *r.Clear != -3 {
		t.Errorf("the change of one table is in another: %+v", r)
	}
}

func TestParse(t *testing.T) {
	got, err := health.Parse([]byte(`
rules:
  - xids: [13, 31]
    run: go_on
  - name: temperature_slowdown
    above: 2
    for: 90s
    clear: 1
    clear_for: 10m
    words: hot
    class: warn
    source: Ada
return_after: 30s
patterns:
  - name: nccl_timeout
    action: ignore
  - {name: ours, match: "OUR-\\d+", action: no_retry, words: ours}
`))
	if err != nil {
		t.Fatal(err)
	}
	r := got.Rules[1]
	if len(got.Rules) != 2 || got.Rules[0].Run != forge.RunGoesOn || r.For != 90*time.Second || *r.Above != 2 || *r.Clear != 1 || r.ClearFor != 10*time.Minute ||
		r.Source != "Ada" || got.Settle != 30*time.Second || len(got.Patterns) != 2 || got.Patterns[1].Match != `OUR-\d+` {
		t.Errorf("%+v", got)
	}
	for _, empty := range []string{"", "\n# nothing\n", "rules: []\n"} {
		if got, err := health.Parse([]byte(empty)); err != nil || len(got.Rules) != 0 {
			t.Errorf("%q: %+v, %v", empty, got, err)
		}
	}
}

func TestWhatIsWrongInARulesFileIsNamedWithItsLine(t *testing.T) {
	for _, tc := range []struct{ name, text, field, says string }{
		{"an unknown key", "rules:\n  - name: xid_13\n    colour: red\n", "rules_file", "[3:5] unknown field \"colour\""},
		{"an unknown key at the top", "rulez: []\n", "rules_file", "unknown field"},
		{"an unknown rule", "rules:\n  - name: xid_13\n  - name: temprature\n", "rules[1].name", `line 3: there is no rule "temprature"; there are xid_N, xid_unknown, gpu_lost`},
		{"a number that is no XID", "rules:\n  - xids: [13, 10000]\n    run: go_on\n", "rules[0].xids[1]", "line 2: 10000 is no XID; want 1 to 9999"},
		{"zero", "rules:\n  - xids: [0]\n", "rules[0].xids[0]", "is no XID"},
		{"neither name nor XIDs", "rules:\n  - run: go_on\n", "rules[0].name", "line 2: is missing"},
		{"both", "rules:\n  - name: xid_1\n    xids: [2]\n", "rules[0].xids", "line 3: stands beside a name"},
		{"a class that is none", "rules:\n  - name: xid_1\n    class: bad\n", "rules[0].class", `line 3: "bad": want one of app, warn, job, gpu, link, node`},
		{"a fate of runs that is none", "rules:\n  - name: xid_1\n    run: kill\n", "rules[0].run", `line 3: "kill": want one of go_on, fail, elsewhere`},
		{"an act on hardware that is none", "rules:\n  - name: xid_1\n    hold: burn\n", "rules[0].hold", "want one of nothing, warn, drain_gpu, cordon_gpu, cordon_node"},
		{"a reading is nobody's own fault", "rules:\n  - name: gpu_lost\n    run: fail\n", "rules[0].run", "line 3: fail is for XIDs"},
		{"a threshold of an XID", "rules:\n  - name: xid_1\n    above: 3\n", "rules[0].above", "line 3: an XID comes or does not"},
		{"a time of an XID", "rules:\n  - name: xid_1\n    for: 3m\n", "rules[0].for", "an XID comes or does not"},
		{"a way back of an XID", "rules:\n  - name: xid_1\n    clear: 3\n", "rules[0].clear", "an XID comes or does not"},
		{"a threshold of what has none", "rules:\n  - name: gpu_lost\n    above: 3\n", "rules[0].above", "line 3: gpu_lost is there or is not"},
		{"a threshold out of range", "rules:\n  - name: temperature_max\n    above: 101\n", "rules[0].above", "line 3: 101: want -50 to 100 (°C over"},
		{"a threshold below the range", "rules:\n  - name: hw_slowdown\n    above: 0\n", "rules[0].above", "0: want 1 to 1440 (minutes)"},
		{"a threshold that is no number", "rules:\n  - name: temperature_max\n    above: .nan\n", "rules[0].above", "NaN: want"},
		{"a threshold of the wrong type", "rules:\n  - name: temperature_max\n    above: hot\n", "rules_file", "[3:12] cannot unmarshal"},
		{"over while it lasts", "rules:\n  - name: temperature_max\n    clear: 1\n", "rules[0].clear", "line 3: 1 is above the threshold of 0"},
		{"a time for what does not last", "rules:\n  - name: nvlink_crc\n    for: 1m\n", "rules[0].for", "line 3: nvlink_crc grows at a moment"},
		{"a time that is none", "rules:\n  - name: temperature_max\n    for: soon\n", "rules[0].for", `line 3: duration "soon" is not understood`},
		{"no time at all", "rules:\n  - name: temperature_max\n    for: 0s\n", "rules[0].for", "want more than 0"},
		{"too long a time", "rules:\n  - name: temperature_max\n    clear_for: 8-0:00:00\n", "rules[0].clear_for", "192h0m0s: want 0 to 168h0m0s"},
		{"too long for", "rules:\n  - name: temperature_max\n    for: 8-0:00:00\n", "rules[0].for", "want 0 to 168h0m0s"},
		{"a way back that is no time", "rules:\n  - name: temperature_max\n    clear_for: x\n", "rules[0].clear_for", "not understood"},
		{"too many words", "rules:\n  - name: xid_1\n    words: " + strings.Repeat("x", 301) + "\n", "rules[0].words", "is 301 bytes long"},
		{"a return that is no time", "rules: []\nreturn_after: never\n", "return_after", "line 2: duration"},
		{"no YAML", "rules: [\n", "rules_file", "[1:8]"},
		{"two documents", "rules: []\n---\nrules: []\n", "rules_file", "more than one YAML document"},
		{"an alias", "rules: &a []\npatterns: *a\n", "rules_file", "line 1: anchors, aliases"},
		{"an alias further down", "rules:\n  - name: xid_1\n    words: &a x\n", "rules_file", "line 3: anchors"},
		{"a pattern without a name", "patterns:\n  - match: x\n    action: retry\n", "patterns[0].name", `line 2: "": want a small letter`},
		{"a pattern twice", "patterns:\n  - {name: a, match: x, action: retry}\n  - {name: a, match: y, action: retry}\n", "patterns[1].name", `line 3: "a" stands there twice`},
		{"an action that is none", "patterns:\n  - {name: a, match: x, action: explode}\n", "patterns[0].action", "want one of exclude_node, no_retry, retry, ignore"},
		{"a new pattern without a match", "patterns:\n  - {name: a, action: retry}\n", "patterns[0].match", `"a" is none of the built-in patterns: ecc_uncorrectable`},
		{"a new pattern without an action", "patterns:\n  - {name: a, match: x}\n", "patterns[0].action", "is missing"},
		{"no regular expression", "patterns:\n  - {name: a, match: '(x', action: retry}\n", "patterns[0].match", "is no regular expression of RE2"},
		{"what RE2 does not have", "patterns:\n  - {name: a, match: '(?=x)y', action: retry}\n", "patterns[0].match", "is no regular expression of RE2"},
		{"what matches every line", "patterns:\n  - {name: a, match: 'x*', action: retry}\n", "patterns[0].match", "matches every line"},
		{"a match that is too long", "patterns:\n  - {name: a, match: '" + strings.Repeat("x", 501) + "', action: retry}\n", "patterns[0].match", "is 501 bytes long"},
		{"a pattern with too many words", "patterns:\n  - {name: a, match: x, action: retry, words: '" + strings.Repeat("x", 301) + "'}\n", "patterns[0].words", "is 301 bytes long"},
		{"too many patterns", "patterns:\n" + strings.Repeat("  - {name: a, match: x, action: retry}\n", 201), "patterns", "there are 201; want at most 200"},
		{"too much of everything", strings.Repeat("# x\n", 1<<18+1), "rules_file", "want at most 1048576"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := health.Parse([]byte(tc.text))
			var e *forge.Error
			if !errors.As(err, &e) || e.Kind != forge.KindInvalid {
				t.Fatalf("%v", err)
			}
			if e.Field != tc.field || !strings.Contains(e.Err.Error(), tc.says) {
				t.Errorf("%s: %s; want %s: %s", e.Field, e.Err, tc.field, tc.says)
			}
		})
	}
}

func TestPatienceAndSettle(t *testing.T) {
	if builtin().Patience() != time.Minute || builtin().Settle() != 5*time.Minute {
		t.Error(builtin().Patience(), builtin().Settle())
	}
	got, err := health.New(forge.HealthRules{Patience: time.Second, Settle: 2 * time.Second})
	if err != nil || got.Patience() != time.Second || got.Settle() != 2*time.Second {
		t.Error(got, err)
	}
	for _, bad := range []forge.HealthRules{{Patience: -1}, {Settle: -1}} {
		if _, err := health.New(bad); forge.KindOf(err) != forge.KindInvalid {
			t.Error(err)
		}
	}
}
