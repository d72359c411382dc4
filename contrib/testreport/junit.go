package main

import (
	"encoding/xml"
	"fmt"
	"io"
)

type junitCase struct {
	Class   string    `xml:"classname,attr"`
	Name    string    `xml:"name,attr"`
	Failure *struct{} `xml:"failure"`
	Error   *struct{} `xml:"error"`
	Skipped *struct{} `xml:"skipped"`
}

type junitSuites struct {
	Suites []struct {
		Cases []junitCase `xml:"testcase"`
	} `xml:"testsuite"`
}

// readJUnit counts the file that pytest --junitxml leaves. An expected failure (xfail) stands
// there as skipped, and is treated as one.
func readJUnit(r io.Reader) (tally, error) {
	var file junitSuites
	if err := xml.NewDecoder(r).Decode(&file); err != nil {
		return tally{}, fmt.Errorf("reading pytest's JUnit file: %w", err)
	}
	var t tally
	for _, s := range file.Suites {
		for _, c := range s.Cases {
			name := c.Class + "::" + c.Name
			switch {
			case c.Failure != nil, c.Error != nil:
				t.failed = append(t.failed, name)
			case c.Skipped != nil:
				t.skipped = append(t.skipped, name)
			default:
				t.passed++
			}
		}
	}
	return t, nil
}
