package rundir

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
)

// maxCommand is how many bytes of a command are told.
const maxCommand = 200

// Holder is a process that a driver says uses a GPU, as this host's /proc tells of it.
type Holder struct {
	Process
	UID     int
	Command string // cut to 200 bytes, control characters replaced
	Ours    bool   // of our own uid
	// The marker, of a process of ours. Another uid's is worth nothing: anybody can write one.
	Run     forge.RunID
	Attempt int
	RunDir  string
	Parents []Process // nearest first
}

// Hold describes the process with a pid. os.ErrProcessDone: this host has no such process, or only what is left of one that has ended; the driver may
// number it in another pid namespace.
func Hold(pid int) (Holder, error) {
	p, err := Identify(pid)
	if err != nil {
		return Holder{}, err
	}
	alive, err := p.Alive()
	if err == nil && !alive {
		err = os.ErrProcessDone
	}
	if err != nil {
		return Holder{}, err
	}
	h := Holder{Process: p, UID: -1}
	dir := "/proc/" + strconv.Itoa(pid)
	if st, err := os.Stat(dir); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			h.UID = int(sys.Uid)
		}
	}
	h.Ours = h.UID == os.Getuid()
	var buf []byte
	if line, err := readProc(dir+"/cmdline", &buf); err == nil && len(line) > 0 {
		h.Command = commandOf(line)
	} else if name, err := os.ReadFile(dir + "/comm"); err == nil { // a kernel thread, or one that dies
		h.Command = "[" + commandOf(bytes.TrimSpace(name)) + "]"
	}
	if h.Ours {
		if env, err := environ(pid, &buf); err == nil {
			h.Run, h.RunDir = forge.RunID(valueOf(env, "FORGE_RUN_ID=")), valueOf(env, "FORGE_RUN_DIR=")
			h.Attempt, _ = strconv.Atoi(valueOf(env, "FORGE_ATTEMPT="))
		}
	}
	for at := pid; len(h.Parents) < 64; {
		st, err := readStat(at)
		if err != nil || st.parent <= 1 {
			break
		}
		at = st.parent
		parent, err := Identify(at)
		if err != nil {
			break
		}
		h.Parents = append(h.Parents, parent)
	}
	if alive, err := p.Alive(); err != nil || !alive { // what was read may be of another that has its number now
		return Holder{}, os.ErrProcessDone
	}
	return h, nil
}

// commandOf is a command line for people: a terminal must not be moved by what a stranger calls a process.
func commandOf(line []byte) string {
	var b strings.Builder
	for _, r := range strings.TrimRight(string(line), "\x00") {
		switch {
		case r == 0:
			r = ' '
		case r == utf8.RuneError, !unicode.IsPrint(r):
			r = '?'
		}
		if b.Len()+utf8.RuneLen(r) > maxCommand-len("…") {
			b.WriteString("…")
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
