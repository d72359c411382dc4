package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
)

type mode int

const (
	modeTable mode = iota
	modeTSV
	modeJSON
)

// printer writes one command's answer.
type printer struct {
	w     *bufio.Writer
	mode  mode
	tty   bool
	color bool
	now   time.Time
	width int  // of the terminal; 0: none, nothing is cut
	wide  bool // everything is wanted
	notes io.Writer
}

func (a *app) printer() *printer {
	p := &printer{w: bufio.NewWriterSize(a.Out, 64<<10), mode: modeTSV, tty: a.OutTTY, color: a.color(a.OutTTY), now: a.Now(), wide: a.wide, notes: a.Err}
	switch {
	case a.output == "json":
		p.mode = modeJSON
	case a.output == "table", a.output == "" && a.OutTTY:
		p.mode = modeTable
	}
	if a.OutTTY {
		p.width = a.Width
	}
	return p
}

// people says that somebody reads this, and no program.
func (p *printer) people() bool { return p.mode == modeTable }

func (p *printer) line(format string, args ...any) { fmt.Fprintf(p.w, format+"\n", args...) }

// time is relative for people and RFC 3339 for programs.
func (p *printer) time(t time.Time) string {
	if p.people() {
		return ago(p.now, t)
	}
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func (p *printer) bytes(n int64) string {
	if p.people() {
		return size(n)
	}
	return strconv.FormatInt(n, 10)
}

// orDash shows people that nothing is there.
func (p *printer) orDash(s string) string {
	if s == "" && p.people() {
		return "-"
	}
	return s
}

func (p *printer) loss(v *float64) string {
	if v == nil {
		return p.orDash("")
	}
	return number(*v)
}

// json prints a value of the API as it is.
func (p *printer) json(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("json: %w", err)
	}
	_, err := p.w.Write(p.jsonSafe(b.Bytes()))
	return err
}

// jsonSafe escapes what encoding/json leaves raw and a terminal would obey.
func (p *printer) jsonSafe(b []byte) []byte {
	if !p.tty {
		return b
	}
	var out bytes.Buffer
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r >= 0x7f && r < 0xa0 || hidden(r) {
			fmt.Fprintf(&out, `\u%04x`, r)
		} else {
			out.Write(b[:n])
		}
		b = b[n:]
	}
	return out.Bytes()
}

// jsonList prints an array, an element a line, without holding all of it.
func jsonList[T any](p *printer, items iter.Seq2[T, error]) error {
	open := "[\n"
	for it, err := range items {
		if err != nil {
			return err
		}
		b, err := json.Marshal(it)
		if err != nil {
			return fmt.Errorf("json: %w", err)
		}
		if _, err := p.w.WriteString(open); err != nil {
			return err
		}
		if _, err := p.w.Write(p.jsonSafe(b)); err != nil {
			return err
		}
		open = ",\n"
	}
	if open == "[\n" {
		_, err := p.w.WriteString("[]\n")
		return err
	}
	_, err := p.w.WriteString("\n]\n")
	return err
}

// jsonLine prints one object on one line.
func jsonLine(p *printer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("json: %w", err)
	}
	_, err = p.w.Write(append(p.jsonSafe(b), '\n'))
	return err
}

// each makes a slice what jsonList wants.
func each[T any](items []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, it := range items {
			if !yield(it, nil) {
				return
			}
		}
	}
}

const (
	bold   = "\x1b[1m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	cyan   = "\x1b[36m"
	plainC = "\x1b[0m"
)

// paint colours heads and states, and nothing else.
func (p *printer) paint(text, column string, head bool) {
	code := ""
	if p.color {
		switch {
		case head:
			code = bold
		case column == "STATE":
			code = stateColor(text)
		case column == "STATUS":
			code = statusColor(text)
		}
	}
	if code == "" {
		p.w.WriteString(text)
		return
	}
	p.w.WriteString(code + text + plainC)
}

func stateColor(state string) string {
	switch forge.RunState(state) {
	case forge.RunCompleted:
		return green
	case forge.RunFailed:
		return red
	case forge.RunCancelled:
		return yellow
	case forge.RunRunning, forge.RunProvisioning:
		return cyan
	}
	switch forge.NodeState(state) {
	case forge.NodeReady:
		return green
	case forge.NodeUnknown, forge.NodeDrained:
		return yellow
	}
	return ""
}

func statusColor(mark string) string {
	switch mark {
	case markOK:
		return green
	case markWarn, markUnknown:
		return yellow
	case markFail:
		return red
	}
	return ""
}

// fields prints name and value pairs: aligned for people, tab-separated for programs. Values
// that are empty are left out for people and kept for programs.
func (p *printer) fields(pairs ...string) {
	width := 0
	for i := 0; i+1 < len(pairs); i += 2 {
		if clean(pairs[i+1]) != "" { // the others are not shown to people
			width = max(width, len(pairs[i]))
		}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		name, value := pairs[i], clean(pairs[i+1])
		switch {
		case !p.people():
			p.line("%s\t%s", strings.ReplaceAll(name, " ", "_"), value)
		case value != "":
			p.line("  %-*s  %s", width, name, p.hang(value, width+4))
		}
	}
}

// done flushes; a closed pipe (head) is no error of ours.
func (p *printer) done(err error) error {
	if ferr := p.w.Flush(); err == nil && ferr != nil && !isClosedPipe(ferr) {
		err = fmt.Errorf("output: %w", ferr)
	}
	return err
}
