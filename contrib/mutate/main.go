// Command mutate breaks a package in many small ways, one at a time, and says which of them its tests do not notice. It is run by hand:
//
//	go run ./contrib/mutate -n 60 -seed 1 ./scheduler
//
// Conditions are negated, + and - swapped, comparisons shifted by one, numbers off by one, statements dropped. The package's own files stay as they
// are: the compiler is given the broken one in an overlay.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// mutant is one way to break a file.
type mutant struct {
	file string
	line int
	what string
	text []byte
}

var swaps = map[token.Token]token.Token{
	token.ADD: token.SUB, token.SUB: token.ADD, token.ADD_ASSIGN: token.SUB_ASSIGN, token.SUB_ASSIGN: token.ADD_ASSIGN,
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR, token.EQL: token.NEQ, token.NEQ: token.EQL,
	token.LAND: token.LOR, token.LOR: token.LAND,
}

func main() {
	n := flag.Int("n", 60, "how many mutants to try, a sample of all; 0: all")
	seed := flag.Uint64("seed", 1, "what the sample is drawn from")
	limit := flag.Duration("timeout", 90*time.Second, "of the tests of one mutant; one that hangs is noticed")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: mutate [-n N] [-seed S] [-timeout D] ./PACKAGE")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *n, *seed, *limit); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(pkg string, n int, seed uint64, limit time.Duration) error {
	files, err := filepath.Glob(filepath.Join(pkg, "*.go"))
	if err != nil {
		return err
	}
	var all []mutant
	for _, f := range files {
		if !strings.HasSuffix(f, "_test.go") {
			m, err := mutants(f)
			if err != nil {
				return err
			}
			all = append(all, m...)
		}
	}
	total := len(all)
	rng := rand.New(rand.NewPCG(seed, 1))
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if n > 0 && n < len(all) {
		all = all[:n]
	}
	if len(all) > 0 { // what fails unbroken would notice everything
		whole, err := os.ReadFile(all[0].file)
		if err != nil {
			return err
		}
		if noticed, err := try(pkg, mutant{file: all[0].file, text: whole}, limit); err != nil || noticed {
			return errors.Join(err, fmt.Errorf("the tests of %s fail as they are", pkg))
		}
	}
	survived := 0
	for _, m := range all {
		noticed, err := try(pkg, m, limit)
		if err != nil {
			return err
		}
		if !noticed {
			survived++
			fmt.Printf("%s:%d: %s\n", m.file, m.line, m.what)
		}
	}
	fmt.Printf("%d of %d mutants tried (seed %d), %d survived\n", len(all), total, seed, survived)
	return nil
}

// mutants are all ways to break a file. Each is printed from the tree while it is broken.
func mutants(file string) ([]mutant, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var out []mutant
	add := func(pos token.Pos, what string) {
		var b bytes.Buffer
		if format.Node(&b, fset, tree) == nil {
			out = append(out, mutant{file, fset.Position(pos).Line, what, b.Bytes()})
		}
	}
	ast.Inspect(tree, func(node ast.Node) bool {
		switch x := node.(type) {
		case *ast.BinaryExpr:
			if to, ok := swaps[x.Op]; ok {
				from := x.Op
				x.Op = to
				add(x.OpPos, fmt.Sprintf("%s becomes %s", from, to))
				x.Op = from
			}
		case *ast.AssignStmt:
			if to, ok := swaps[x.Tok]; ok {
				from := x.Tok
				x.Tok = to
				add(x.TokPos, fmt.Sprintf("%s becomes %s", from, to))
				x.Tok = from
			}
		case *ast.IfStmt:
			was := x.Cond
			x.Cond = &ast.UnaryExpr{Op: token.NOT, X: &ast.ParenExpr{X: was}}
			add(x.If, "the condition is negated")
			x.Cond = was
		case *ast.BasicLit:
			if v, err := strconv.Atoi(x.Value); err == nil && x.Kind == token.INT {
				was := x.Value
				x.Value = strconv.Itoa(v + 1)
				add(x.ValuePos, fmt.Sprintf("%s becomes %s", was, x.Value))
				x.Value = was
			}
		case *ast.BlockStmt:
			for i, s := range x.List {
				if droppable(s) {
					was := x.List[i]
					x.List[i] = &ast.EmptyStmt{Semicolon: s.Pos(), Implicit: true}
					add(s.Pos(), "the statement is dropped")
					x.List[i] = was
				}
			}
		}
		return true
	})
	return out, nil
}

// droppable are statements that compile without: calls, assignments to what is there, steps.
func droppable(s ast.Stmt) bool {
	switch x := s.(type) {
	case *ast.ExprStmt, *ast.IncDecStmt:
		return true
	case *ast.AssignStmt:
		return x.Tok != token.DEFINE
	case *ast.BranchStmt:
		return x.Tok == token.CONTINUE || x.Tok == token.BREAK
	}
	return false
}

// try runs the tests on one mutant. One that does not compile is noticed.
func try(pkg string, m mutant, limit time.Duration) (noticed bool, err error) {
	dir, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	broken, overlay := filepath.Join(dir, "broken.go"), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(broken, m.text, 0o600); err != nil {
		return false, err
	}
	at, err := filepath.Abs(m.file)
	if err != nil {
		return false, err
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {at: broken}})
	if err != nil {
		return false, err
	}
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		return false, err
	}
	args := []string{"test", "-short", "-count=1", "-failfast", "-vet=off", "-timeout", limit.String(), "-overlay", overlay, pkg}
	if tests, err := filepath.Glob(filepath.Join(pkg, "*_test.go")); err == nil && slices.ContainsFunc(tests, importsRapid) {
		args = append(args, "-rapid.nofailfile", "-rapid.shrinktime=0s", "-rapid.checks=300")
	}
	return exec.Command("go", args...).Run() != nil, nil
}

// importsRapid: only tests with properties know rapid's flags; others would fail for the flag, and every mutant seem noticed.
func importsRapid(file string) bool {
	text, err := os.ReadFile(file)
	return err == nil && bytes.Contains(text, []byte(`"pgregory.net/rapid"`))
}
