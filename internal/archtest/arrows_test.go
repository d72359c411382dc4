package archtest_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// arrows is who may import whom, room by room. A room is a directory with all below it, up to
// the next room; every room may import the root package and itself. docs/journey.md carries
// the same table for people.
var arrows = map[string][]string{
	".":                   {},
	"scheduler":           {},
	"scheduler/sim":       {"scheduler"},
	"slurm":               {"internal/artefact", "internal/crash", "internal/rundir"},
	"nvml":                {},
	"store":               {"internal/crash"},
	"recipes":             {},
	"web":                 {},
	"internal/rundir":     {},
	"internal/workdir":    {},
	"internal/crash":      {},
	"internal/artefact":   {"internal/crash"},
	"internal/cron":       {},
	"internal/dataset":    {},
	"internal/footprint":  {},
	"internal/license":    {},
	"internal/gate":       {},
	"internal/health":     {},
	"internal/direct":     {"internal/rundir", "internal/crash", "nvml"},
	"internal/agent":      {"internal/rundir"},
	"internal/shim":       {"internal/rundir", "internal/crash", "internal/workdir", "internal/health", "nvml"},
	"internal/api":        {"internal/gate", "recipes"},
	"internal/api/server": {"internal/api"},
	"internal/api/client": {"internal/api"},
	"internal/daemon": {
		"internal/agent", "internal/api", "internal/api/server", "internal/artefact", "internal/crash", "internal/cron", "internal/dataset", "internal/direct", "internal/footprint", "internal/gate", "internal/health", "internal/license",
		"internal/workdir", "nvml", "recipes", "scheduler", "scheduler/sim", "slurm", "store", "web",
	},
	"cmd/forged":   {"internal/daemon", "internal/dataset", "internal/shim", "nvml", "slurm"},
	"cmd/forgectl": {"internal/api", "internal/api/client", "internal/dataset", "internal/license", "internal/workdir", "recipes", "scheduler/sim"},
}

// free are the rooms that may import anything and that nothing else may import: tests and
// what surrounds the product. internal/invariant judges runs after the fact, and reads the
// tables itself instead of through the store that it judges.
func free(room string) bool {
	if inRoom(room, "contrib") || inRoom(room, "internal/e2e") || inRoom(room, "internal/invariant") {
		return true
	}
	return slices.ContainsFunc(strings.Split(room, "/"), func(part string) bool { return strings.HasSuffix(part, "test") })
}

// homeRoom is the room that a package lies in: the longest row that holds it.
func homeRoom(path string, table map[string][]string) (string, bool) {
	for r := path; r != ""; {
		if _, ok := table[r]; ok {
			return r, true
		}
		i := strings.LastIndex(r, "/")
		if i < 0 {
			break
		}
		r = r[:i]
	}
	return "", false
}

// checkArrows looks at what is shipped: imports of test files may cross rooms.
func checkArrows(packages []goPackage, table map[string][]string) []string {
	var found []string
	for _, p := range packages {
		if p.Error != nil && len(p.Imports) == 0 && !strings.Contains(p.Error.Err, "no non-test Go files") {
			found = append(found, fmt.Sprintf("%s cannot be read: %s", p.ImportPath, p.Error.Err))
			continue
		}
		if free(p.room()) {
			continue
		}
		from, ok := homeRoom(p.room(), table)
		if !ok {
			found = append(found, fmt.Sprintf("%s is in no room of the table of arrows; add a row here and in docs/journey.md, with the reason in the commit", p.room()))
			continue
		}
		for _, imported := range p.Imports {
			if !ours(imported) || imported == module {
				continue
			}
			to, known := homeRoom(roomOf(imported), table)
			switch {
			case free(roomOf(imported)):
				found = append(found, fmt.Sprintf("%s imports %s, which is for tests", p.room(), roomOf(imported)))
			case !known, to == from: // an unknown room has its own finding
			case !slices.Contains(table[from], to):
				found = append(found, fmt.Sprintf("%s imports %s; %s may import %s", p.room(), roomOf(imported), from, orNothing(table[from])))
			}
		}
	}
	return found
}

func orNothing(rooms []string) string {
	if len(rooms) == 0 {
		return "the root package only"
	}
	return "the root package and " + strings.Join(rooms, ", ")
}

func TestArrows(t *testing.T) {
	t.Run("rooms import only whom the table allows", func(t *testing.T) {
		report(t, checkArrows(goList(t, "1", "./..."), arrows))
	})

	t.Run("the table in docs/journey.md is the same table", func(t *testing.T) {
		inDocs := map[string][]string{}
		for _, r := range table(t, "docs/journey.md", "Rooms and arrows") {
			to := words(r[2])
			slices.Sort(to)
			inDocs[word(r[0])] = to
		}
		for _, room := range slices.Sorted(maps.Keys(arrows)) {
			want := slices.Sorted(slices.Values(arrows[room]))
			got, ok := inDocs[room]
			if !ok {
				t.Errorf("docs/journey.md has no row for %s", room)
			} else if !slices.Equal(got, want) {
				t.Errorf("docs/journey.md: %s may import %q, the test says %q", room, got, want)
			}
			delete(inDocs, room)
		}
		for room := range inDocs {
			t.Errorf("docs/journey.md has a row for %s, the test has none", room)
		}
	})

	t.Run("a planted arrow is found", func(t *testing.T) {
		plant := func(from string, imports ...string) []goPackage {
			p := goPackage{ImportPath: module + "/" + from}
			for _, i := range imports {
				p.Imports = append(p.Imports, module+"/"+i)
			}
			return []goPackage{p}
		}
		want1(t, checkArrows(plant("scheduler", "store"), arrows), "scheduler imports store")
		want1(t, checkArrows(plant("store/rows", "scheduler"), arrows), "store/rows imports scheduler")
		want1(t, checkArrows(plant("internal/daemon", "internal/executortest"), arrows), "which is for tests")
		want1(t, checkArrows(plant("internal/novel"), arrows), "in no room")
		if found := checkArrows(plant("store", "store/rows"), arrows); len(found) != 0 {
			t.Fatalf("a room may import itself: %q", found)
		}
	})
}
