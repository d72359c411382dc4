package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// notInFast is how the reason begins that a test gives when it leaves itself out under -short. internal/archtest sees to it that
// no other test skips itself.
const notInFast = "not in test-fast: "

// goEvent is one line of go test -json.
type goEvent struct {
	Action     string
	Package    string
	ImportPath string // of build-output
	Test       string
	Output     string
}

// goPackage gathers one package's events.
type goPackage struct {
	name   string
	end    string            // pass, fail or skip of the package itself
	ends   map[string]string // by test
	output map[string][]byte // by test; "" is the package's own
}

// readGoTest counts a go test -json stream and writes to log what failed tests said. Only
// leaves count: a parent that merely ran subtests would count its work twice. A package that
// fails without a failed test (build error, panic, time-out, os.Exit) counts as one failure,
// and so does one that never says how it ended.
func readGoTest(r io.Reader, log io.Writer) (tally, error) {
	packages := map[string]*goPackage{}
	var order []string
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 1<<16), 1<<26)
	for in.Scan() {
		var e goEvent
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			fmt.Fprintf(log, "%s\n", in.Bytes()) // not of the protocol; people should see it
			continue
		}
		if e.Action == "build-output" {
			_, _ = io.WriteString(log, e.Output)
			continue
		}
		if e.Package == "" {
			continue
		}
		p := packages[e.Package]
		if p == nil {
			p = &goPackage{name: e.Package, ends: map[string]string{}, output: map[string][]byte{}}
			packages[e.Package] = p
			order = append(order, e.Package)
		}
		p.take(e)
	}
	if err := in.Err(); err != nil {
		return tally{}, fmt.Errorf("reading go test -json: %w", err)
	}
	var sum tally
	for _, name := range order {
		sum.add(packages[name].count(log))
	}
	return sum, nil
}

func (p *goPackage) take(e goEvent) {
	switch e.Action {
	case "output":
		p.output[e.Test] = append(p.output[e.Test], e.Output...)
	case "run":
		p.ends[e.Test] = "" // until it ends
	case "pass", "fail", "skip":
		if e.Test == "" {
			p.end = e.Action
			return
		}
		p.ends[e.Test] = e.Action
		if e.Action == "pass" {
			delete(p.output, e.Test)
		}
	}
}

func (p *goPackage) count(log io.Writer) tally {
	var t tally
	names := make([]string, 0, len(p.ends))
	for name := range p.ends {
		names = append(names, name)
	}
	slices.Sort(names)
	failedBelow := map[string]bool{} // parents of a failure that is counted already
	parent := map[string]bool{}
	for _, name := range names {
		for up := above(name); up != ""; up = above(up) {
			parent[up] = true
		}
	}
	// From the leaves up, so that a parent knows whether a child has spoken for it.
	slices.SortStableFunc(names, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	for _, name := range names {
		end := p.ends[name]
		full := shortPackage(p.name) + " " + name
		switch {
		case end == "pass" && !parent[name]:
			t.passed++
		case end == "skip" && bytes.Contains(p.output[name], []byte(notInFast)):
			t.leftOut = append(t.leftOut, full)
		case end == "skip":
			t.skipped = append(t.skipped, full)
			_, _ = log.Write(p.output[name])
		case end == "fail" || end == "":
			if !failedBelow[name] {
				t.failed = append(t.failed, full)
			}
			_, _ = log.Write(p.output[name])
			for up := above(name); up != ""; up = above(up) {
				failedBelow[up] = true
			}
		}
	}
	if len(t.failed) == 0 && p.end != "pass" && p.end != "skip" {
		t.failed = append(t.failed, shortPackage(p.name)+" (the package)")
	}
	if p.end != "pass" && p.end != "skip" {
		_, _ = log.Write(p.output[""])
	}
	return t
}

// above is the parent test's name, empty for a top-level test.
func above(name string) string {
	i := strings.LastIndex(name, "/")
	if i < 0 {
		return ""
	}
	return name[:i]
}
