package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
)

// arranged is a command line in the order that the flag parser understands.
type arranged struct {
	args    []string // program, global flags, command path, its flags, "--", positionals
	command string   // "run submit", for messages
	behind  []string // positionals that stood behind --
}

// arrange puts flags before positionals. The parser (package flag beneath urfave/cli) stops at
// the first positional and takes whatever follows for data: `run cancel 12 --now` would cancel
// softly and say nothing. So every word is looked at here, with the flags that the command
// knows; a word that starts with '-' and is none of them is refused, and "--" ends the flags.
func arrange(app *cli.App, args []string) (arranged, error) {
	var out arranged
	if len(args) == 0 {
		return out, nil
	}
	level, local := app.Commands, []cli.Flag(nil)
	var globals, path, flags, rest, behind []string
	done := func() arranged {
		all := slices.Concat(args[:1], globals, path, flags)
		if len(rest) > 0 {
			all = append(append(all, "--"), rest...)
		}
		return arranged{args: all, command: strings.Join(path, " "), behind: behind}
	}
	for i := 1; i < len(args); i++ {
		word := args[i]
		switch {
		case word == "--":
			behind = args[i+1:]
			rest = append(rest, behind...)
			return done(), nil
		case word == "-h" || word == "--help" || word == "-help" || word == "help" && len(level) > 0:
			flags = append(flags, "--help")
		case len(word) > 1 && word[0] == '-':
			flag, global := findFlag(local, word), false
			if flag == nil {
				flag, global = findFlag(app.Flags, word), true
			}
			if flag == nil {
				return done(), unknownFlag(word, done().command, local)
			}
			text := word
			if _, bare := flag.(*cli.BoolFlag); !bare && !strings.Contains(word, "=") {
				if i+1 >= len(args) || findFlag(local, args[i+1]) != nil || findFlag(app.Flags, args[i+1]) != nil {
					return done(), forge.Invalidf(word, "needs a value").WithHint("forgectl %s --help", done().command)
				}
				i++
				text = word + "=" + args[i]
			}
			if global {
				globals = append(globals, text)
			} else {
				flags = append(flags, text)
			}
		case len(level) > 0:
			k := slices.IndexFunc(level, func(c *cli.Command) bool { return c.HasName(word) })
			if k < 0 {
				return done(), unknownCommand(word, path, level)
			}
			path = append(path, level[k].Name)
			local, level = level[k].Flags, level[k].Subcommands
		default:
			rest = append(rest, word)
		}
	}
	return done(), nil
}

func findFlag(flags []cli.Flag, word string) cli.Flag {
	name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
	if !strings.HasPrefix(word, "-") || name == "" {
		return nil
	}
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func unknownFlag(word, command string, local []cli.Flag) error {
	name, _, _ := strings.Cut(word, "=")
	var known []string
	for _, f := range local {
		known = append(known, "--"+f.Names()[0])
	}
	slices.Sort(known)
	e := forge.Invalidf("", "unknown flag %s", name)
	if len(known) > 0 {
		e = forge.Invalidf("", "unknown flag %s%s; this takes %s", name, didYouMean(name, known), strings.Join(known, ", "))
	}
	return e.WithHint("forgectl %s; an argument that starts with a dash goes after --", strings.TrimSpace(command+" --help"))
}

func unknownCommand(word string, path []string, level []*cli.Command) error {
	var known []string
	for _, c := range level {
		known = append(known, c.Name)
	}
	what := strings.TrimSpace("forgectl " + strings.Join(path, " "))
	return forge.Invalidf("", "unknown command %q%s; %s takes %s", word, didYouMean(word, known), what, strings.Join(known, ", ")).WithHint("%s --help", what)
}

// positionals checks how many there are and gives them back. names are those for messages; the
// last one may end in "…": one or more.
func positionals(c *cli.Context, names ...string) ([]string, error) {
	args := c.Args().Slice()
	many := len(names) > 0 && strings.HasSuffix(names[len(names)-1], "…")
	usage := strings.TrimSpace("forgectl " + c.Command.HelpName[strings.Index(c.Command.HelpName, " ")+1:] + " " + strings.Join(names, " "))
	switch {
	case len(args) < len(names):
		return nil, forge.Invalidf("", "%s is missing", strings.TrimSuffix(names[len(args)], "…")).WithHint("usage: %s", usage)
	case len(args) > len(names) && !many:
		return nil, forge.Invalidf("", "%q is one argument too many", args[len(names)]).WithHint("usage: %s", usage)
	}
	for i, a := range args {
		if a == "" {
			return nil, forge.Invalidf("", "%s is empty", strings.TrimSuffix(names[min(i, len(names)-1)], "…")).WithHint("usage: %s", usage)
		}
	}
	return args, nil
}
