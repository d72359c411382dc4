package rundir

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// StartFlag makes `forged shim` read what to start from its standard input, a connected socket.
const StartFlag = "--from-socket"

// maxStart bounds one line on that socket, in both directions.
const maxStart = 16 << 10

// StartRequest asks for one shim: what its command line says when it is forked. Env arms crash points in
// test builds, and nothing else.
type StartRequest struct {
	RunDir  string   `json:"run_dir"`
	Attempt int      `json:"attempt"`
	Node    int      `json:"node"`
	Env     []string `json:"env,omitempty"`
}

// StartAnswer says that the shim goes on, or why not. After a good one the connection stays open for as
// long as the shim lives: its end tells the one who asked.
type StartAnswer struct {
	Error string `json:"error,omitempty"`
}

// ShimFlags name an attempt, and its node, on the command line of a shim.
func ShimFlags(at Attempt, node int) []string {
	return append(AttemptFlags(at), "--node", strconv.Itoa(node))
}

// AttemptFlags is the part that all shims of an attempt share; Invoked finds them by it.
func AttemptFlags(at Attempt) []string {
	return []string{"--run-dir", at.RunDir, "--attempt", strconv.Itoa(at.Number)}
}

// Send writes one request or answer.
func Send(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) >= maxStart {
		return fmt.Errorf("%d bytes, at most %d are read", len(b), maxStart)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// Receive reads one, strictly and within bounds. io.EOF: the other side closed without a word.
func Receive(r io.Reader, v any) error {
	line, err := bufio.NewReaderSize(r, maxStart).ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return fmt.Errorf("longer than %d bytes", maxStart)
	case errors.Is(err, io.EOF) && len(line) > 0:
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	}
	return json.Unmarshal(line, v)
}
