package archtest_test

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/forge-ml/forge-ml/internal/crash"
)

var (
	atPoint   = regexp.MustCompile(`crash\.At\(([^)\n]*)\)`)
	crashList = regexp.MustCompile(`(?m)^var (\w+) = \[\]string`)
)

// TestEveryCrashPointIsWalked: forged is killed at every point that stands in the code, by a test that ranges over the list
// that names it. The writer's two are made from the name of the write, which has to be one of the store's.
func TestEveryCrashPointIsWalked(t *testing.T) {
	lists := map[string][]string{"Points": crash.Points, "PreemptPoints": crash.PreemptPoints, "PurgePoints": crash.PurgePoints, "HookPoints": crash.HookPoints, "SlurmPoints": crash.SlurmPoints, "SchedulePoints": crash.SchedulePoints,
		"StagePoints": crash.StagePoints, "RollbackPoints": crash.RollbackPoints, "GCPoints": crash.GCPoints, "CopyPoints": crash.CopyPoints}
	for _, m := range crashList.FindAllStringSubmatch(read(t, "internal/crash/crash.go"), -1) {
		if lists[m[1]] == nil {
			t.Errorf("the list crash.%s is not known to this test", m[1])
		}
	}
	listed := slices.Concat(slices.Collect(maps.Values(lists))...)
	stand := map[string]bool{}
	var store, tests strings.Builder
	for _, f := range sources(t, hasExt(".go")) {
		switch test := strings.HasSuffix(f.path, "_test.go"); {
		case test && strings.HasPrefix(f.path, "internal/e2e/"):
			tests.WriteString(f.text)
			continue
		case test:
			continue
		case strings.HasPrefix(f.path, "store/"):
			store.WriteString(f.text)
		}
		for _, m := range atPoint.FindAllStringSubmatch(f.text, -1) {
			point, err := strconv.Unquote(m[1])
			switch {
			case err != nil && f.path != "store/writer.go":
				t.Errorf("%s: crash.At(%s): want the point by its name, so that a list can hold it", f.path, m[1])
			case err == nil && !slices.Contains(listed, point):
				t.Errorf("%s: no test kills forged at %q, which no list of internal/crash has", f.path, point)
			}
			stand[point] = true
		}
	}
	for name, points := range lists {
		if !strings.Contains(tests.String(), "range crash."+name+" ") {
			t.Errorf("no test of internal/e2e ranges over crash.%s", name)
		}
		for _, p := range points {
			op, write := strings.CutSuffix(strings.Replace(p, ".before_commit", ".after_commit", 1), ".after_commit")
			if write && !strings.Contains(store.String(), strconv.Quote(op)) || !write && !stand[p] {
				t.Errorf("crash.%s has %q, and nothing in the code is called that", name, p)
			}
		}
	}
}
