package main

import (
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// Streams is the world as a command sees it.
type Streams struct {
	In     io.Reader
	Out    io.Writer
	Err    io.Writer
	InTTY  bool // somebody can be asked
	OutTTY bool
	ErrTTY bool
	Width  int
	Height int
	UID    int
	Now    func() time.Time
	Getenv func(string) string
	// Secret asks the person at the terminal and shows nothing of the answer; nil: nobody is there.
	Secret func() (string, error)
	// Nice makes the process give way to all others on this host, for good; nil: it does not.
	Nice func()
}

const (
	defaultWidth = 100
	minWidth     = 40

	defaultHeight = 24
	minHeight     = 5
)

func osStreams() Streams {
	s := Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Width: defaultWidth, Height: defaultHeight, UID: os.Getuid(), Now: time.Now, Getenv: os.Getenv, Nice: giveWay}
	s.OutTTY = term.IsTerminal(int(os.Stdout.Fd()))
	s.ErrTTY = term.IsTerminal(int(os.Stderr.Fd()))
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			s.Width, s.Height = max(w, minWidth), max(h, minHeight)
			break
		}
	}
	if in := int(os.Stdin.Fd()); term.IsTerminal(in) {
		s.InTTY = true
		s.Secret = func() (string, error) {
			b, err := term.ReadPassword(in)
			return string(b), err
		}
	}
	return s
}

// color says whether a stream that is (or is not) a terminal gets colours (https://no-color.org).
func (s Streams) color(tty bool) bool {
	return tty && s.Getenv("NO_COLOR") == "" && s.Getenv("TERM") != "dumb"
}
