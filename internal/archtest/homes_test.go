package archtest_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// homes are the libraries that one room hides from all others, so that replacing one touches
// one room. A home is a room with all below it.
var homes = map[string][]string{
	"github.com/uptrace/bun":                       {"store"},
	"github.com/mattn/go-sqlite3":                  {"store"},
	"modernc.org/sqlite":                           {}, // measured against in tests, never shipped
	"github.com/oklog/ulid":                        {"store"},
	"github.com/NVIDIA/go-nvml":                    {"nvml"},
	"github.com/coreos/go-systemd":                 {"internal/daemon"},
	"github.com/danielgtaylor/huma":                {"internal/api"},
	"github.com/prometheus/client_golang":          {"internal/daemon"},
	"github.com/klauspost/compress":                {"internal/dataset"},
	"github.com/pierrec/lz4":                       {"internal/dataset/columnar"},
	"golang.org/x/time":                            {"internal/api"},
	"github.com/robfig/cron":                       {"internal/cron"},
	"github.com/urfave/cli":                        {"cmd"},
	"github.com/rogpeppe/go-internal":              {},
	"pgregory.net/rapid":                           {},
	"honnef.co/go/tools":                           {},
	"github.com/uptrace/bun/dialect/sqlitedialect": {"store"},
}

// silent are the rooms that never log: they are functions, or the words everyone uses.
var silent = []string{".", "scheduler", "recipes", "internal/gate", "internal/health", "internal/rundir", "internal/crash", "internal/cron"}

func inRoom(path, room string) bool { return path == room || strings.HasPrefix(path, room+"/") }

func checkHomes(packages []goPackage) []string {
	var found []string
	for _, p := range packages {
		if free(p.room()) {
			continue
		}
		for _, imported := range p.Imports {
			if imported == "github.com/rs/zerolog" && slices.Contains(silent, p.room()) {
				found = append(found, p.room()+" imports zerolog; it has nothing to log")
			}
			for library, rooms := range homes {
				if inRoom(imported, library) || strings.HasPrefix(imported, library+"/v") {
					if !slices.ContainsFunc(rooms, func(r string) bool { return inRoom(p.room(), r) }) {
						found = append(found, fmt.Sprintf("%s imports %s, whose home is %v", p.room(), imported, rooms))
						break
					}
				}
			}
		}
	}
	return found
}

func TestHomes(t *testing.T) {
	packages := goList(t, "1", "./...")
	t.Run("libraries stay at home", func(t *testing.T) { report(t, checkHomes(packages)) })
	t.Run("a planted stray is found", func(t *testing.T) {
		want1(t, checkHomes([]goPackage{{ImportPath: module + "/internal/daemon", Imports: []string{"github.com/mattn/go-sqlite3"}}}), "go-sqlite3")
		want1(t, checkHomes([]goPackage{{ImportPath: module + "/scheduler", Imports: []string{"github.com/rs/zerolog"}}}), "zerolog")
	})
	t.Run("the root package imports the standard library only", func(t *testing.T) {
		for _, p := range packages {
			for _, imported := range p.Imports {
				if p.room() == "." && !stdlib(imported) {
					t.Errorf("the root package imports %s", imported)
				}
			}
		}
	})
}

// TestForgectl: it is copied to login nodes as one file; cgo or the server's libraries in it
// would break that, or make it tens of megabytes.
func TestForgectl(t *testing.T) {
	for _, p := range goList(t, "0", "./cmd/forgectl") {
		if p.Error != nil {
			t.Fatalf("cmd/forgectl: %s", p.Error.Err)
		}
		for _, dep := range p.Deps {
			for _, banned := range []string{
				"github.com/danielgtaylor/huma", "github.com/uptrace/bun", "github.com/mattn/go-sqlite3", "modernc.org/sqlite",
				"github.com/NVIDIA/go-nvml", "runtime/cgo",
			} {
				if inRoom(dep, banned) {
					t.Errorf("forgectl depends on %s", dep)
				}
			}
		}
	}
}

// pure are the rooms whose answer depends on their input only (invariant 10).
var pure = []string{"scheduler", "internal/gate", "internal/health"}

var impureImports = []string{"os", "net", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog", "os/exec", "io/fs", "database/sql"}

// checkPure finds the clock, chance and the outside world in a file of a pure room.
func checkPure(f file) []string {
	parsed, err := parser.ParseFile(token.NewFileSet(), f.path, f.text, parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, i := range parsed.Imports {
		if path := strings.Trim(i.Path.Value, `"`); slices.Contains(impureImports, path) {
			found = append(found, fmt.Sprintf("%s imports %s", f.path, path))
		}
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && isName(sel.X, "time") {
			if slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "Tick", "NewTimer", "NewTicker", "AfterFunc"}, sel.Sel.Name) {
				found = append(found, fmt.Sprintf("%s reads the clock: time.%s", f.path, sel.Sel.Name))
			}
		}
		return true
	})
	return found
}

func isName(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

func TestPureRooms(t *testing.T) {
	t.Run("planning reads no clock, no chance and no outside", func(t *testing.T) {
		for _, f := range sources(t, hasExt(".go")) {
			room := f.path[:max(strings.LastIndex(f.path, "/"), 0)]
			if strings.HasSuffix(f.path, "_test.go") || free(room) || inRoom(room, "scheduler/sim") {
				continue // the simulator reads traces and prints; it plans through scheduler.Plan
			}
			if slices.ContainsFunc(pure, func(r string) bool { return inRoom(room, r) }) {
				report(t, checkPure(f))
			}
		}
	})
	t.Run("a planted clock is found", func(t *testing.T) {
		want1(t, checkPure(file{path: "scheduler/x.go", text: "package s\nimport \"time\"\nvar x = time.Now()\n"}), "time.Now")
		want1(t, checkPure(file{path: "scheduler/x.go", text: "package s\nimport \"math/rand\"\nvar x = rand.Int()\n"}), "math/rand")
	})
}
