package doctest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func page(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBlocksAreFoundWithTheirLines(t *testing.T) {
	got, err := Read(page(t, "# T\n\n```sh\nforged init\nforged serve &\n```\n\n```text\n$ forgectl x\n```\n```sh make\nmake demo\n```\n"))
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if got[0].Line != 4 || got[0].Text != "forged init\nforged serve &\n" || got[1].Mode != "make" {
		t.Errorf("%+v", got)
	}
	if s := Script(got[:1]); !strings.Contains(s, "page.md:4'") || !strings.Contains(s, "forged serve &\nready\n") {
		t.Errorf("script:\n%s", s)
	}
}

func TestCommandsThatNoTestWouldRunAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no language":    "```\nforgectl run list\n```\n",
		"console":        "```console\n$ forged serve\n```\n",
		"unknown mode":   "```sh later\nforgectl run list\n```\n",
		"never ends":     "```sh\nforgectl run list\n",
		"in the middle":  "```\n# first\nsudo systemctl start forged\n```\n",
		"a shell export": "```bash\nexport FORGE_SERVER=x\n```\n",
	} {
		if got, err := Read(page(t, text)); err == nil {
			t.Errorf("%s was accepted: %+v", name, got)
		}
	}
	if got, err := Read(page(t, "```\na picture ─► of boxes\n```\n")); err != nil || len(got) != 0 {
		t.Errorf("a picture is no block of commands: %+v, %v", got, err)
	}
}
