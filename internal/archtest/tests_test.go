package archtest_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// checkGoTest finds what makes a suite lie: a test that skips itself where it cannot run, and
// one that sleeps on the real clock and hopes. Inside a synctest bubble the clock is not real,
// and sleeping is how time is moved on. A test may leave itself out of make test-fast for its
// length; the words it says are those that contrib/testreport takes for that, and for nothing else.
func checkGoTest(f file) []string {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, f.path, f.text, parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error()}
	}
	bubbles, leftOut := bubblesOf(parsed), leftOutOf(parsed)
	var found []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		id, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		at := set.Position(call.Pos())
		switch {
		case slices.Contains([]string{"t", "tb", "b", "f"}, id.Name) && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) && !leftOut[call]:
			found = append(found, fmt.Sprintf("%s:%d: a test skips itself; let it fail and say what is missing, mark it long, or say if testing.Short() { t.Skip(\"not in test-fast: why\") }", f.path, at.Line))
		case id.Name == "time" && sel.Sel.Name == "Sleep" && !slices.ContainsFunc(bubbles, func(b ast.Node) bool { return b.Pos() <= call.Pos() && call.Pos() < b.End() }):
			found = append(found, fmt.Sprintf("%s:%d: a test sleeps on the real clock; wait for the condition, with a deadline", f.path, at.Line))
		}
		return true
	})
	return found
}

// bubblesOf are the arguments of synctest.Test and the functions named there in the same file.
func bubblesOf(parsed *ast.File) []ast.Node {
	var bubbles []ast.Node
	named := map[string]bool{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && isName(sel.X, "synctest") && sel.Sel.Name == "Test" {
			for _, arg := range call.Args {
				if id, ok := arg.(*ast.Ident); ok {
					named[id.Name] = true
				}
				bubbles = append(bubbles, arg)
			}
		}
		return true
	})
	for _, d := range parsed.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && named[fn.Name.Name] {
			bubbles = append(bubbles, fn)
		}
	}
	return bubbles
}

// leftOutOf are the skips that stand alone in `if testing.Short() { }`, or in one that asks for more besides, and give their reason.
func leftOutOf(parsed *ast.File) map[*ast.CallExpr]bool {
	leftOut := map[*ast.CallExpr]bool{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		branch, ok := n.(*ast.IfStmt)
		if !ok || branch.Init != nil || branch.Else != nil || len(branch.Body.List) != 1 || !asksForShort(branch.Cond) {
			return true
		}
		statement, ok := branch.Body.List[0].(*ast.ExprStmt)
		if !ok {
			return true
		}
		call, ok := statement.X.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); !ok || sel.Sel.Name != "Skip" {
			return true
		}
		if why, ok := call.Args[0].(*ast.BasicLit); ok && strings.HasPrefix(why.Value, `"not in test-fast: `) {
			leftOut[call] = true
		}
		return true
	})
	return leftOut
}

// asksForShort says that a condition is never true without -short.
func asksForShort(cond ast.Expr) bool {
	switch e := cond.(type) {
	case *ast.BinaryExpr:
		return e.Op == token.LAND && (asksForShort(e.X) || asksForShort(e.Y))
	case *ast.CallExpr:
		sel, ok := e.Fun.(*ast.SelectorExpr)
		return ok && isName(sel.X, "testing") && sel.Sel.Name == "Short"
	}
	return false
}

var pythonSkip = regexp.MustCompile(`pytest\.(skip|mark\.skip|mark\.xfail|xfail|importor` + `skip)|unittest\.skip`)

// checkPythonTest leaves sleeps alone: Python has no other way to poll for a condition.
func checkPythonTest(f file) []string {
	var found []string
	for i, line := range f.lines() {
		if w := pythonSkip.FindString(line); w != "" {
			found = append(found, fmt.Sprintf("%s:%d: %s", f.path, i+1, w))
		}
	}
	return found
}

func TestTests(t *testing.T) {
	t.Run("no test skips itself or sleeps on the real clock", func(t *testing.T) {
		for _, f := range sources(t, func(p string) bool { return strings.HasSuffix(p, "_test.go") }) {
			report(t, checkGoTest(f))
		}
		for _, f := range sources(t, hasExt(".py", ".go")) {
			base := f.path[strings.LastIndex(f.path, "/")+1:]
			if strings.HasPrefix(base, "test_") || base == "conftest.py" {
				report(t, checkPythonTest(f))
			}
		}
	})

	t.Run("planted ones are found", func(t *testing.T) {
		src := func(body string) file {
			return file{path: "x_test.go", text: "package x\nimport (\"testing\"; \"testing/synctest\"; \"time\")\nfunc TestX(t *testing.T) { " + body + " }\n"}
		}
		want1(t, checkGoTest(src(`t.Sk`+`ip("no")`)), "skips itself")
		for _, lie := range []string{
			`if !testing.Short() { t.Sk` + `ip("not in test-fast: takes long") }`,
			`if testing.Short() || slow { t.Sk` + `ip("not in test-fast: takes long") }`,
			`if testing.Short() { t.Sk` + `ip("no root") }`,
			`if testing.Short() { } else { t.Sk` + `ip("not in test-fast: takes long") }`,
		} {
			want1(t, checkGoTest(src(lie)), "skips itself")
		}
		for _, fine := range []string{
			`if testing.Short() { t.Sk` + `ip("not in test-fast: takes long") }`,
			`if testing.Short() && slow { t.Sk` + `ip("not in test-fast: takes long") }`,
		} {
			if found := checkGoTest(src(fine)); len(found) != 0 {
				t.Fatalf("a test may leave itself out of test-fast: %q", found)
			}
		}
		want1(t, checkGoTest(src(`time.Sl`+`eep(time.Second)`)), "real clock")
		want1(t, checkGoTest(src(`synctest.Test(t, func(t *testing.T) {}); time.Sl`+`eep(1)`)), "real clock")
		if found := checkGoTest(src(`synctest.Test(t, func(t *testing.T) { time.Sl` + `eep(1) })`)); len(found) != 0 {
			t.Fatalf("inside a bubble sleeping is fine: %q", found)
		}
		want1(t, checkPythonTest(file{path: "test_x.py", text: "pytest.sk" + "ip('no')\n"}), "test_x.py:1")
	})
}
