package forge_test

import (
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

func TestParseRef(t *testing.T) {
	for in, want := range map[string]forge.Ref{
		"chat": {Name: "chat"}, "chat@3": {Name: "chat", Number: 3}, "chat-bot.v2@production": {Name: "chat-bot.v2", Label: "production"},
	} {
		got, err := forge.ParseRef(in)
		if err != nil || got != want || got.String() != in {
			t.Errorf("%q: %+v (%s), %v", in, got, got, err)
		}
	}
	for _, in := range []string{"", "@1", "chat@", "chat@0", "chat@-1", "Chat", "a b", "../etc", "chat@1@2", ".hidden", "a\x00b", strings.Repeat("x", 65)} {
		if r, err := forge.ParseRef(in); err == nil {
			t.Errorf("%q was accepted as %+v", in, r)
		}
	}
}

func TestAManifestDigestDependsOnContentAlone(t *testing.T) {
	a := forge.Manifest{Root: "/x", Files: []forge.File{{Path: "b", Size: 2, SHA256: "22", Inode: 7}, {Path: "a", Size: 1, SHA256: "11"}}}
	b := forge.Manifest{Root: "/y", Files: []forge.File{{Path: "a", Size: 1, SHA256: "11", Inode: 9}, {Path: "b", Size: 2, SHA256: "22"}}}
	if a.Digest() != b.Digest() {
		t.Error("order, root and inode must not matter")
	}
	for name, change := range map[string]func(*forge.File){
		"path": func(f *forge.File) { f.Path = "c" }, "size": func(f *forge.File) { f.Size++ }, "sha256": func(f *forge.File) { f.SHA256 = "33" },
		"a path with a newline": func(f *forge.File) { f.Path = "a\" 1 11\n\"b" },
	} {
		c := forge.Manifest{Files: []forge.File{b.Files[0], b.Files[1]}}
		change(&c.Files[1])
		if c.Digest() == a.Digest() {
			t.Errorf("a changed %s left the digest as it was", name)
		}
	}
}
