package main

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// The pages below are made from the command tree and from exit.go, so that they cannot say anything
// else. UPDATE=1 go test ./cmd/forgectl -run TestPages writes them.

const (
	cliPage  = "../../docs/cli.md"
	exitPage = "../../docs/exit-codes.md"
	manDir   = "../../contrib/man"
	compDir  = "../../contrib/completion"
)

func pages(t *testing.T) map[string]string {
	t.Helper()
	tree := quiet().tree()
	out := map[string]string{cliPage: markdown(tree), exitPage: exitMarkdown(t)}
	out[filepath.Join(manDir, "forgectl.1")] = manTop(tree)
	for _, c := range tree.Commands {
		out[filepath.Join(manDir, "forgectl-"+c.Name+".1")] = manNoun(c)
	}
	for _, file := range shells {
		b, err := completionScripts.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Join(compDir, filepath.Base(file))] = string(b)
	}
	return out
}

func TestPagesAreThoseOfTheCommandTree(t *testing.T) {
	want := pages(t)
	for path, text := range want {
		if os.Getenv("UPDATE") != "" {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Errorf("%s is not what the command tree says (%v); UPDATE=1 go test ./cmd/forgectl -run TestPages", path, err)
		}
	}
	for _, dir := range []string{manDir, compDir} {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if _, known := want[filepath.Join(dir, f.Name())]; !known {
				t.Errorf("%s/%s belongs to no command", dir, f.Name())
			}
		}
	}
}

func TestManPagesAreSetWithoutAWarning(t *testing.T) {
	files, err := filepath.Glob(manDir + "/*.1")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d pages, %v", len(files), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, f := range files {
		cmd := exec.CommandContext(ctx, "groff", "-man", "-Tutf8", "-ww", "-rLL=100n", f)
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		if err := cmd.Run(); err != nil || errOut.Len() > 0 || out.Len() < 200 {
			t.Errorf("%s: %v, %d bytes, %s", f, err, out.Len(), errOut.String())
		}
	}
}

// kindMeaning says when a kind comes; exit codes and the page about them rest on it.
var kindMeaning = map[forge.Kind]string{
	forge.KindInternal:     "forged met an error of its own, or a check of `forgectl doctor` failed; forged's log has the rest",
	forge.KindInvalid:      "what was given is wrong: an argument, a flag, a file; nothing was done",
	forge.KindUnauthorized: "no key, or one that is wrong, expired or revoked",
	forge.KindForbidden:    "the key is good, and its role may not do this",
	forge.KindNotFound:     "there is no such thing, or it is another tenant's",
	forge.KindConflict:     "it exists already, or changed meanwhile",
	forge.KindPrecondition: "it is not in a state that allows this",
	forge.KindUnavailable:  "nobody answers, or forged cannot do it now; try again later",
}

type exitLine struct {
	code          int
	name, meaning string
}

func exitLines() []exitLine {
	lines := []exitLine{{0, "", "done; a warning is no failure"}}
	for k, code := range exitCodes {
		lines = append(lines, exitLine{code, string(k), kindMeaning[k]})
	}
	lines = append(lines, exitLine{exitRunFailed, "", "the run that was waited for (`run submit --wait`) failed"},
		exitLine{exitRunCancelled, "", "the run that was waited for was cancelled"},
		exitLine{exitRegressed, "", "a model is worse than its baseline (`eval compare`, `eval run --baseline --wait`)"}, exitLine{exitIncomparable, "", "two evals cannot be compared: they did not ask the same, or something is missing"}, exitLine{exitInterrupted, "", "interrupted: ^C, SIGTERM"})
	slices.SortFunc(lines, func(a, b exitLine) int { return a.code - b.code })
	return lines
}

// daemonMeaning is about the constants of cmd/forged.
var daemonMeaning = map[string]string{
	"exitOK": "done; `serve` was stopped in an orderly way", "exitFailed": "it failed; its last lines on standard error say why",
	"exitInvalid": "the configuration or an argument is wrong; starting it again changes nothing", "exitDamaged": "the database is not whole: restore a backup", "exitBusy": "another forged serves this state directory",
}

func exitMarkdown(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Exit codes\n\nMade from `cmd/forgectl/exit.go` and `cmd/forged`; a number is never used again for something else.\n\n" +
		"## forgectl\n\n| code | kind | HTTP | when |\n|---|---|---|---|\n")
	for _, l := range exitLines() {
		kind, status := "", ""
		if l.name != "" {
			kind, status = "`"+l.name+"`", strconv.Itoa(api.StatusOf(forge.Kind(l.name)))
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", l.code, kind, status, l.meaning)
	}
	b.WriteString("\nThe kind is what the API says in a problem (`kind`), and HTTP the status that it comes with. An error is said on standard error: what was being done, what is wrong,\n" +
		"and on a line that begins with `hint:` what to do next.\n\n## forged\n\n| code | when |\n|---|---|\n")
	for _, l := range daemonExits(t) {
		fmt.Fprintf(&b, "| %d | %s |\n", l.code, l.meaning)
	}
	b.WriteString("\nThe unit file in `contrib/systemd` starts it again after all of them but 0 and 6.\n")
	return b.String()
}

// daemonExits reads the constants exit… of cmd/forged, so that a new one is missed here.
func daemonExits(t *testing.T) []exitLine {
	t.Helper()
	files, err := filepath.Glob("../forged/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var lines []exitLine
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Names) != 1 || len(v.Values) != 1 || !strings.HasPrefix(v.Names[0].Name, "exit") {
				return true
			}
			if lit, ok := v.Values[0].(*ast.BasicLit); ok {
				code, err := strconv.Atoi(lit.Value)
				if err == nil && daemonMeaning[v.Names[0].Name] == "" {
					t.Errorf("%s: nothing says what %s means", path, v.Names[0].Name)
				}
				lines = append(lines, exitLine{code, "", daemonMeaning[v.Names[0].Name]})
			}
			return true
		})
	}
	slices.SortFunc(lines, func(a, b exitLine) int { return a.code - b.code })
	return lines
}

// A verb of the tree, or a noun that has none.
type verb struct {
	*cli.Command
	path string
}

func verbs(c *cli.Command) []verb {
	if len(c.Subcommands) == 0 {
		return []verb{{c, "forgectl " + c.Name}}
	}
	var out []verb
	for _, s := range c.Subcommands {
		out = append(out, verb{s, "forgectl " + c.Name + " " + s.Name})
	}
	return out
}

func (v verb) synopsis() string {
	s := strings.TrimSpace(v.path + " " + v.ArgsUsage)
	if len(v.Flags) > 0 {
		s += " [FLAGS]"
	}
	return s
}

// flagForms are a flag as it is typed, and what it does.
func flagForms(f cli.Flag) (forms, about string) {
	var names []string
	for _, n := range f.Names() {
		if len(n) == 1 {
			names = append(names, "-"+n)
		} else {
			names = append(names, "--"+n)
		}
	}
	forms = strings.Join(names, ", ")
	if d, ok := f.(cli.DocGenerationFlag); ok {
		about = d.GetUsage()
		if d.TakesValue() {
			forms += " VALUE"
		}
		if text := d.GetDefaultText(); text != "" && d.TakesValue() {
			about += " (default: " + strings.Trim(text, `"`) + ")"
		}
	}
	return forms, about
}

var environment = [][2]string{
	{"FORGE_SERVER", "where the server is: unix:///path/forged.sock or https://host:port"},
	{"FORGE_API_KEY", "the key; forgectl login keeps one better"},
	{"FORGE_TENANT", "the tenant to act in; for operators"},
	{"FORGE_CONTEXT", "the context to use, instead of the current one"},
	{"FORGE_CONFIG", "the configuration file, instead of ~/.config/forge/config.yaml"},
	{"FORGE_STATE", "the state directory of a forged on this host"},
	{"NO_COLOR", "no colours, whatever it is set to"},
}

const precedence = "Flags go before the environment, the environment before the current context, and that before a forged on this host. " +
	"A context that is named with --context goes before the environment as a whole. The key of a context is sent to the server of that context only."

func markdown(t *cli.App) string {
	var b strings.Builder
	b.WriteString("# forgectl\n\nMade from the command tree (`cmd/forgectl`). `forgectl NOUN VERB --help` says the same, `man forgectl-NOUN` too; `forgectl completion SHELL` prints completion\n" +
		"for bash, zsh and fish.\n\nOn a terminal the answer is a table that fits it (`--wide` leaves nothing out); in a pipe it is tab-separated without a header, with times in RFC 3339,\n" +
		"and columns are only ever appended. `-o json` prints the API's own forms everywhere. Progress, warnings and hints go to standard error.\n\n" +
		"## Where to, and as whom\n\n" + precedence + "\n\n| variable | meaning |\n|---|---|\n")
	for _, e := range environment {
		fmt.Fprintf(&b, "| `%s` | %s |\n", e[0], e[1])
	}
	b.WriteString("\n## Flags of every command\n\n")
	flagTable(&b, t.Flags)
	b.WriteString("## Commands\n\n")
	for _, c := range t.Commands {
		fmt.Fprintf(&b, "### %s\n\n%s.\n\n", c.Name, upper(c.Usage))
		for _, v := range verbs(c) {
			fmt.Fprintf(&b, "#### `%s`\n\n", v.synopsis())
			if v.Command != c {
				fmt.Fprintf(&b, "%s.\n\n", upper(v.Usage))
			}
			if v.Description != "" {
				fmt.Fprintf(&b, "```text\n%s\n```\n\n", v.Description)
			}
			if len(v.Flags) > 0 {
				flagTable(&b, v.Flags)
			}
		}
	}
	b.WriteString("## Exit codes\n\nThey are in [exit-codes.md](exit-codes.md).\n")
	return b.String()
}

func flagTable(b *strings.Builder, flags []cli.Flag) {
	b.WriteString("| flag | meaning |\n|---|---|\n")
	for _, f := range flags {
		forms, about := flagForms(f)
		fmt.Fprintf(b, "| `%s` | %s |\n", forms, strings.ReplaceAll(about, "|", `\|`))
	}
	b.WriteString("\n")
}

func upper(s string) string {
	return strings.ToUpper(s[:1]) + s[1:]
}

// roff writes text so that the formatter prints it as it is.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", "").Replace(s)
	var lines []string
	for l := range strings.SplitSeq(s, "\n") {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			l = `\&` + l
		}
		lines = append(lines, l)
	}
	var b strings.Builder
	for _, r := range strings.Join(lines, "\n") { // troff reads bytes
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\[u%04X]`, r)
		}
	}
	return b.String()
}

func manHead(b *strings.Builder, name, about string) {
	fmt.Fprintf(b, ".TH %s 1 \"\" \"forge-ml\" \"forge-ml\"\n.nh\n.ad l\n.SH NAME\n%s \\- %s\n", strings.ToUpper(name), roff(name), roff(about))
}

func manFlags(b *strings.Builder, flags []cli.Flag) {
	for _, f := range flags {
		forms, about := flagForms(f)
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(forms), roff(about))
	}
}

func manTop(t *cli.App) string {
	var b strings.Builder
	manHead(&b, "forgectl", t.Usage)
	b.WriteString(".SH SYNOPSIS\n.B forgectl\nNOUN VERB [ARGUMENTS] [FLAGS]\n.SH DESCRIPTION\n" + roff(precedence) + "\n.SH COMMANDS\n")
	for _, c := range t.Commands {
		fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s\n", roff("forgectl-"+c.Name), roff(c.Usage))
	}
	b.WriteString(".SH FLAGS OF EVERY COMMAND\n")
	manFlags(&b, t.Flags)
	b.WriteString(".SH ENVIRONMENT\n")
	for _, e := range environment {
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", e[0], roff(e[1]))
	}
	b.WriteString(".SH FILES\n.TP\n.I ~/.config/forge/config.yaml\nservers and keys, mode 0600; written by\n.BR forgectl\\-login (1)\n.SH EXIT STATUS\n")
	for _, l := range exitLines() {
		fmt.Fprintf(&b, ".TP\n.B %d\n%s\n", l.code, roff(l.meaning))
	}
	return b.String()
}

func manNoun(c *cli.Command) string {
	var b strings.Builder
	manHead(&b, "forgectl-"+c.Name, c.Usage)
	b.WriteString(".SH SYNOPSIS\n")
	for i, v := range verbs(c) {
		if i > 0 {
			b.WriteString(".br\n")
		}
		fmt.Fprintf(&b, ".B %s\n", roff(v.synopsis()))
	}
	b.WriteString(".SH DESCRIPTION\n")
	for _, v := range verbs(c) {
		fmt.Fprintf(&b, ".SS %s\n%s.\n", roff(v.synopsis()), roff(upper(v.Usage)))
		if v.Description != "" {
			fmt.Fprintf(&b, ".PP\n.nf\n%s\n.fi\n", roff(v.Description))
		}
		manFlags(&b, v.Flags)
	}
	b.WriteString(".SH EXIT STATUS\nAs in\n.BR forgectl (1).\n.SH SEE ALSO\n.BR forgectl (1)\n")
	return b.String()
}
