package main

import (
	"context"
	"embed"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
)

// completeWord is the hidden command that the shells' scripts call with the words of the line, the one
// under the cursor last. It answers a candidate a line, a tab, and what it is.
const completeWord = "__complete"

// completeTimeout is how long somebody who pressed Tab waits for names from the server; without an
// answer there are none, and never an error in the middle of the line.
const completeTimeout = 300 * time.Millisecond

// filesMark asks the script for the shell's own completion of paths.
const filesMark = ":files"

//go:embed all:completion
var completionScripts embed.FS

var shells = map[string]string{"bash": "completion/forgectl.bash", "zsh": "completion/_forgectl", "fish": "completion/forgectl.fish"}

func (a *app) completionCommand() *cli.Command {
	return &cli.Command{Name: "completion", Usage: "print a shell's completion script: bash, zsh or fish", ArgsUsage: "SHELL",
		Description: "bash:  forgectl completion bash > ~/.local/share/bash-completion/completions/forgectl\n" +
			"zsh:   forgectl completion zsh > a directory of $fpath, as _forgectl\n" +
			"fish:  forgectl completion fish > ~/.config/fish/completions/forgectl.fish\n\n" +
			"Names of runs, datasets, models, users and keys come from the server.",
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "SHELL")
			if err != nil {
				return err
			}
			file, ok := shells[args[0]]
			if !ok {
				return forge.Invalidf("", "%q is no shell that is known here; there are bash, zsh, fish", args[0])
			}
			b, err := completionScripts.ReadFile(file)
			if err != nil {
				return err
			}
			_, err = a.Out.Write(b)
			return err
		}}
}

// candidate is one way to go on.
type candidate struct{ text, about string }

// complete answers the scripts. Nothing that goes wrong is said.
func (a *app) complete(ctx context.Context, words []string) {
	if len(words) == 0 {
		words = []string{""}
	}
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	a.timeout = completeTimeout
	prefix := words[len(words)-1]
	p := a.printer()
	for _, c := range a.candidates(ctx, words) {
		if !strings.HasPrefix(c.text, prefix) && c.text != filesMark {
			continue
		}
		if c.about == "" {
			p.line("%s", clean(c.text))
		} else {
			p.line("%s\t%s", clean(c.text), clean(c.about))
		}
	}
	_ = p.done(nil)
}

// candidates walks the words as arrange does, and asks what may stand at the end.
func (a *app) candidates(ctx context.Context, words []string) []candidate {
	tree := a.tree()
	level, local := tree.Commands, []cli.Flag(nil)
	var path []string
	var command *cli.Command
	at := 0 // positionals before the cursor
	last := len(words) - 1
	for i := 0; i < last; i++ {
		word := words[i]
		switch {
		case word == "--":
			return a.argument(ctx, path, command, at+last-i-1, words[last])
		case len(word) > 1 && word[0] == '-':
			flag := findFlag(local, word)
			if flag == nil {
				flag = findFlag(tree.Flags, word)
			}
			_, bare := flag.(*cli.BoolFlag)
			if flag == nil || bare {
				continue
			}
			_, value, inline := strings.Cut(word, "=")
			if !inline {
				if i++; i == last {
					return a.flagValue(ctx, flag.Names()[0], path, words[last], "")
				}
				value = words[i]
			}
			a.heed(flag.Names()[0], value)
		case len(level) > 0:
			k := slices.IndexFunc(level, func(c *cli.Command) bool { return c.HasName(word) })
			if k < 0 {
				return nil
			}
			command = level[k]
			path = append(path, command.Name)
			local, level = command.Flags, command.Subcommands
		default:
			at++
		}
	}
	return a.wordHere(ctx, words[last], path, command, at, local, level, tree.Flags)
}

func (a *app) wordHere(ctx context.Context, word string, path []string, command *cli.Command, at int, local []cli.Flag, level []*cli.Command, global []cli.Flag) []candidate {
	if name, value, inline := strings.Cut(word, "="); inline && strings.HasPrefix(word, "--") {
		return a.flagValue(ctx, strings.TrimLeft(name, "-"), path, value, name+"=")
	}
	var out []candidate
	if strings.HasPrefix(word, "-") {
		for _, f := range slices.Concat(local, global) {
			about := ""
			if d, ok := f.(cli.DocGenerationFlag); ok {
				about = d.GetUsage()
			}
			out = append(out, candidate{"--" + f.Names()[0], about})
		}
		return append(out, candidate{"--help", "what this takes"})
	}
	if len(level) == 0 {
		return a.argument(ctx, path, command, at, word)
	}
	for _, c := range level {
		if !c.Hidden {
			out = append(out, candidate{c.Name, c.Usage})
		}
	}
	return out
}

// heed takes the flags that say which server to ask.
func (a *app) heed(name, value string) {
	switch name {
	case "server":
		a.server = value
	case "context":
		a.context = value
	case "tenant":
		a.tenant = value
	case "key":
		a.key = value
	}
}

// argument completes a positional from the word that help shows for it.
func (a *app) argument(ctx context.Context, path []string, command *cli.Command, at int, word string) []candidate {
	if command == nil || command.ArgsUsage == "" {
		return nil
	}
	names := strings.Fields(command.ArgsUsage)
	if at >= len(names) {
		if !strings.HasSuffix(names[len(names)-1], "…") {
			return nil
		}
		at = len(names) - 1
	}
	kind := strings.Trim(names[at], "[]…")
	if kind, _, _ = strings.Cut(kind, "["); kind == "NAME@VERSION" {
		kind = "NAME"
	}
	if kind == "NAME" {
		if command.Name == "add" || command.Name == "import" || command.Name == "create" {
			return nil // a new name
		}
		kind = strings.ToUpper(path[0])
	}
	if command.Name == "create" && kind != "SHELL" && path[0] != "key" {
		return nil
	}
	return a.names(ctx, kind, word)
}

// flagKinds are the flags whose values have names, by the word for what they are.
var flagKinds = map[string]string{
	"state": "STATE", "role": "ROLE", "reason": "REASON", "output": "FORM", "sort": "SORT", "type": "EVENT", "user": "USER", "actor": "USER", "tenant": "TENANT",
	"context": "CONTEXT", "dataset": "DATASET", "parent": "DATASET", "base": "MODEL", "reward-model": "MODEL", "model": "MODEL", "register": "MODEL", "recipe": "RECIPE", "suite": "SUITE", "cluster": "CLUSTER",
	"after": "RUN", "file": "PATH", "key-file": "PATH", "ca": "PATH",
}

// datasetFlagKinds are those that mean something else, or nothing, elsewhere.
var datasetFlagKinds = map[string]string{"kind": "KIND", "preset": "PRESET", "pii-policy": "PII-POLICY", "least": "CONFIDENCE", "out": "PATH", "as": "DATASET-NAME", "reason": "TEXT"}

var scheduleFlagKinds = map[string]string{"run": "PATH", "baseline": "MODEL", "overlap": "OVERLAP", "catch-up": "CATCH-UP", "on-regression": "ON-REGRESSION", "reason": "TEXT"}

// flagValue completes the value of a flag; lead is what stands before it in the same word.
func (a *app) flagValue(ctx context.Context, flag string, path []string, word, lead string) []candidate {
	kind := flagKinds[flag]
	if len(path) > 0 && path[0] == "dataset" && datasetFlagKinds[flag] != "" {
		kind = datasetFlagKinds[flag]
	}
	if flag == "output" && strings.Join(path, " ") == "dataset lineage" {
		kind = "LINEAGE-FORM"
	}
	if len(path) > 0 && path[0] == "schedule" && scheduleFlagKinds[flag] != "" {
		kind = scheduleFlagKinds[flag]
	}
	if flag == "reason" && path[0] == "node" {
		return nil // text
	}
	if flag == "after" && path[len(path)-1] != "submit" {
		return nil // a seq
	}
	out := a.names(ctx, kind, word)
	for i := range out {
		if out[i].text != filesMark {
			out[i].text = lead + out[i].text
		}
	}
	return out
}
