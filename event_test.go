package forge

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"
)

func TestEventTypesListsEveryConstant(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	consts, listed := 0, slices.Clone(EventTypes)
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "EventType" {
				consts += len(v.Names)
			}
		}
		return true
	})
	slices.Sort(listed)
	if n := len(slices.Compact(listed)); consts == 0 || n != consts || n != len(EventTypes) {
		t.Errorf("%d constants, %d listed, %d of them different", consts, len(EventTypes), n)
	}
}
