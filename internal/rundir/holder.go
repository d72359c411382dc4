package rundir

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
)

// maxCommand is how many bytes of a command are told.
const maxCommand = 200

// maxAncestors bounds how far up a process is followed.
const maxAncestors = 64

// Holder is a process that a driver says uses a GPU, as this host's /proc tells of it.
type Holder struct {
	Process
	UID     int
	Command string // cut to 200 bytes, control characters replaced
	Ours    bool   // of our own uid
	// The attempt, of a process of ours: by its marker, or by that of what it descends from. Another uid's is worth nothing: anybody can write one.
	Run     forge.RunID
	Attempt int
	RunDir  string
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
	for at, deep := pid, 0; h.Ours && at > 1 && deep < maxAncestors && ownedBy(at, h.UID); deep++ {
		if h.mark(at, &buf) {
			break
		}
		st, err := readStat(at)
		if err != nil {
			break
		}
		at = st.parent
	}
	if alive, err := p.Alive(); err != nil || !alive { // what was read may be of another that has its number now
		return Holder{}, os.ErrProcessDone
	}
	return h, nil
}

// mark takes the attempt from one process: a rank by its environment, a shim by its command line.
func (h *Holder) mark(pid int, buf *[]byte) bool {
	if env, err := environ(pid, buf); err == nil {
		n, err := strconv.Atoi(valueOf(env, "FORGE_ATTEMPT="))
		if run := valueOf(env, "FORGE_RUN_ID="); run != "" && err == nil {
			h.Run, h.Attempt, h.RunDir = forge.RunID(run), n, valueOf(env, "FORGE_RUN_DIR=")
			return true
		}
	}
	dir, attempt := shimOf(pid)
	if n, err := strconv.Atoi(attempt); err == nil && dir != "" {
		h.Run, h.Attempt, h.RunDir = forge.RunID(filepath.Base(dir)), n, dir
		return true
	}
	return false
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
