// Package doctest reads the command blocks of Markdown pages, so that tests can run what people
// are told to type. Its rules are in CONTRIBUTING.md:
//
//	```sh          run in order, a page in one shell, on a site of the page's own
//	```sh make     targets of the Makefile: looked at with make -n, since running them is what runs the tests
//	```sh systemd  run as root where systemd is PID 1, by the test of the units
package doctest

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// Block is one fenced block of commands.
type Block struct {
	Page string
	Line int    // of its first command
	Mode string // "", make or systemd
	Text string
}

// Modes are the words that may follow sh.
var Modes = []string{"", "make", "systemd"}

var looksLikeCommands = regexp.MustCompile(`(?m)^(\$ )?(sudo |make |forged |forgectl |systemctl |contrib/|curl |export FORGE)`)

// Read lists the command blocks of a page. A block that looks like commands and does not say sh, or
// says a mode that there is not, is an error: nobody would notice that it is never run.
func Read(path string) ([]Block, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []Block
	var lines []string
	info, inside, first := "", false, 0
	for i, line := range strings.Split(string(b), "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && !inside:
			inside, info, first, lines = true, strings.TrimSpace(fence), i+2, nil
		case isFence:
			inside = false
			text := strings.Join(lines, "\n") + "\n"
			kind, mode, _ := strings.Cut(info, " ")
			switch {
			case kind == "sh" && !known(mode):
				return nil, fmt.Errorf("%s:%d: a block of commands in mode %q; want one of %q", path, first, mode, Modes)
			case kind == "sh":
				out = append(out, Block{Page: path, Line: first, Mode: mode, Text: text})
			case (info == "" || kind == "bash" || kind == "shell" || kind == "console") && looksLikeCommands.MatchString(text):
				return nil, fmt.Errorf("%s:%d: a block of commands that no test runs; say ```sh, or ```text when it is what a command printed", path, first)
			}
		case inside:
			lines = append(lines, line)
		}
	}
	if inside {
		return nil, fmt.Errorf("%s:%d: a block that never ends", path, first)
	}
	return out, nil
}

func known(mode string) bool {
	for _, m := range Modes {
		if m == mode {
			return true
		}
	}
	return false
}

// Script is one shell script of a page's blocks. Before each it says where it is, so that a failure
// names the line of the page.
func Script(blocks []Block) string {
	var s strings.Builder
	s.WriteString("set -euo pipefail\n")
	for _, b := range blocks {
		fmt.Fprintf(&s, "echo '@@ %s:%d' >&2\n%s", b.Page, b.Line, served.ReplaceAllString(b.Text, "$0\nready"))
	}
	return s.String()
}

// served is a daemon in the background: a reader waits until it is up before typing on, and so does
// the function ready that the runner defines.
var served = regexp.MustCompile(`(?m)^forged serve.*&$`)
