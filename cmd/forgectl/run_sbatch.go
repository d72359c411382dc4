package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// maxJobScript bounds a job script.
const maxJobScript = 4 << 20

// jobScript is a script for sbatch: what its header asks for, and what is said about it to its user.
type jobScript struct {
	path    string
	command []string // its interpreter, and the script itself
	notes   []string
	raw     []directive // options that are sbatch's alone
	request api.SubmitRunRequest

	nodes, tasks, tasksPerNode, cpusPerTask, gpusPerTask int
	memory, memoryPerCPU                                 int64 // MiB, of a node and of a CPU
}

// directive is one option of the header.
type directive struct {
	line  int
	name  string // long
	text  string // as it was written
	value string
}

func (j *jobScript) note(d directive, format string, args ...any) error {
	j.notes = append(j.notes, fmt.Sprintf("%s line %d: --%s ", j.path, d.line, d.name)+fmt.Sprintf(format, args...))
	return nil
}

func (j *jobScript) bad(d directive, format string, args ...any) *forge.Error {
	return forge.Invalidf("sbatch", "%s line %d: %s: %w", j.path, d.line, d.text, fmt.Errorf(format, args...))
}

// readJobScript reads the header as sbatch does: #SBATCH at the very beginning of a line, up to the first line that is
// neither empty nor a comment.
func readJobScript(path string) (*jobScript, error) {
	f, err := os.Open(path)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, forge.Invalidf("sbatch", "%s cannot be read: %w", path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxJobScript+1))
	switch {
	case err != nil:
		return nil, forge.Invalidf("sbatch", "%s cannot be read: %w", path, err)
	case len(b) > maxJobScript:
		return nil, forge.Invalidf("sbatch", "%s is larger than %d bytes; a job script is not", path, maxJobScript)
	case !bytes.HasPrefix(b, []byte("#!")):
		return nil, forge.Invalidf("sbatch", "%s line 1: want #! and an interpreter, as sbatch does", path)
	case bytes.IndexByte(b, 0) >= 0:
		return nil, forge.Invalidf("sbatch", "%s is not text", path)
	case bytes.Contains(b, []byte("\r\n")):
		return nil, forge.Invalidf("sbatch", "%s has line ends of DOS, which sbatch refuses", path).WithHint("sed -i 's/\\r$//' %s", path)
	}
	j := &jobScript{path: path}
	header := true
	for i, line := range strings.Split(string(b), "\n") {
		switch {
		case i == 0:
			j.command = strings.Fields(line[2:])
		case strings.HasPrefix(line, "#SBATCH") && (len(line) == len("#SBATCH") || line[len("#SBATCH")] == ' ' || line[len("#SBATCH")] == '\t'):
			if !header {
				j.notes = append(j.notes, fmt.Sprintf("%s line %d: stands behind the first command, and is not read, as by sbatch", path, i+1))
				continue
			}
			if err := j.read(i+1, line[len("#SBATCH"):]); err != nil {
				return nil, err
			}
		case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#"):
		default:
			header = false
			if w := strings.Fields(line); w[0] == "srun" || len(w) > 1 && w[0] == "exec" && w[1] == "srun" {
				j.notes = append(j.notes, fmt.Sprintf("%s line %d: srun: the script is started on each node already; leave srun out, and start the processes of a node with torchrun", path, i+1))
			}
		}
	}
	if len(j.command) == 0 {
		return nil, forge.Invalidf("sbatch", "%s line 1: want #! and an interpreter, as sbatch does", path)
	}
	return j, j.shape()
}

// read takes one line of the header: any number of options, long and short, with = or a blank before the value.
func (j *jobScript) read(line int, text string) error {
	words, err := headerWords(text)
	if err != nil {
		return forge.Invalidf("sbatch", "%s line %d: %w", j.path, line, err)
	}
	for i := 0; i < len(words); i++ {
		w := words[i]
		d := directive{line: line, text: w}
		given := false
		switch {
		case strings.HasPrefix(w, "--") && len(w) > 2:
			d.name, d.value, given = strings.Cut(w[2:], "=")
		case strings.HasPrefix(w, "-") && len(w) > 1 && w[1] != '-':
			var known bool
			if d.name, known = shortOptions[w[1]]; !known {
				return j.bad(d, "is no option that is known here").WithHint("write it by its long name; what is not known goes to sbatch where the site allows it")
			}
			d.value = strings.TrimPrefix(w[2:], "=")
			given = len(w) > 2
		default:
			return j.bad(d, "is no option")
		}
		o, known := jobOptions[d.name]
		if !known { // sbatch's own, with whatever words follow
			j.raw = append(j.raw, d)
			j.addRaw(w)
			for i+1 < len(words) && !strings.HasPrefix(words[i+1], "-") {
				i++
				j.addRaw(words[i])
			}
			continue
		}
		if !o.bare && !given {
			if i+1 == len(words) {
				return j.bad(d, "needs a value")
			}
			i++
			d.value, d.text = words[i], w+" "+words[i]
		}
		if err := o.do(j, d); err != nil {
			return err
		}
	}
	return nil
}

// headerWords parts a line into words: quotes keep blanks, and a word that begins with # ends it.
func headerWords(text string) ([]string, error) {
	var out []string
	var word strings.Builder
	var quote rune
	in, escaped := false, false
	for _, r := range text {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, in = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '"' || r == '\'':
			quote, in = r, true
		case r == ' ' || r == '\t':
			if in {
				out = append(out, word.String())
				word.Reset()
				in = false
			}
		case r == '#' && !in:
			return out, nil
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if in {
		out = append(out, word.String())
	}
	return out, nil
}

func (j *jobScript) addRaw(word string) {
	b := j.batch()
	b.Raw = append(b.Raw, word)
}

func (j *jobScript) batch() *forge.BatchOptions {
	if j.request.Batch == nil {
		j.request.Batch = &forge.BatchOptions{}
	}
	return j.request.Batch
}

func (j *jobScript) where() *forge.Constraints {
	if j.request.Where == nil {
		j.request.Where = &forge.Constraints{}
	}
	return j.request.Where
}

// shape turns tasks and nodes into forge's: GPUs on each node, CPUs and memory for each GPU.
func (j *jobScript) shape() error {
	r := &j.request
	r.Nodes, r.Launch = max(j.nodes, 1), forge.LaunchNode
	tasks := j.tasksPerNode
	if tasks == 0 {
		tasks = max(1, (j.tasks+r.Nodes-1)/r.Nodes)
	}
	if r.GPUsPerNode == 0 && r.GPUs == 0 && j.gpusPerTask > 0 {
		r.GPUsPerNode = j.gpusPerTask * tasks
	}
	if r.GPUs > 0 && r.GPUs%r.Nodes != 0 {
		return forge.Invalidf("sbatch", "%s: %d GPUs do not divide by %d nodes; every node of a gang has equally many", j.path, r.GPUs, r.Nodes)
	}
	gpus := max(1, r.GPUsPerNode, r.GPUs/r.Nodes)
	if r.GPUsPerNode == 0 && r.GPUs == 0 {
		j.notes = append(j.notes, j.path+": asks for no GPU; a run has at least one on each node, or a CPU slot where there is none")
	}
	up := func(n, by int64) int64 { return (n + by - 1) / by }
	if j.cpusPerTask > 0 && r.CPUsPerGPU == 0 {
		r.CPUsPerGPU = int(up(int64(j.cpusPerTask*tasks), int64(gpus)))
	}
	if r.MemoryMiBPerGPU == 0 {
		switch {
		case j.memory > 0:
			r.MemoryMiBPerGPU = up(j.memory, int64(gpus))
		case j.memoryPerCPU > 0:
			r.MemoryMiBPerGPU = j.memoryPerCPU * int64(max(1, r.CPUsPerGPU))
		}
	}
	if tasks > 1 {
		j.notes = append(j.notes, fmt.Sprintf("%s: %d tasks on each node are for srun; the script is started once on each, and --launch rank starts it once for each GPU", j.path, tasks))
	}
	return nil
}

// useJobScript lays a job script under what the command line says. It must lie in the working directory: that is what a node gets.
func (a *app) useJobScript(path string, r *api.SubmitRunRequest, command []string) (*jobScript, error) {
	j, err := readJobScript(path)
	if err != nil {
		return nil, err
	}
	for _, n := range j.notes {
		fmt.Fprintf(a.Err, "note: %s\n", clean(n))
	}
	if r.Workdir == "" {
		r.Workdir = "."
	}
	inside, err := relativeTo(r.Workdir, path)
	if err != nil {
		return nil, err
	}
	q := j.request
	r.Nodes, r.GPUs, r.GPUsPerNode, r.CPUsPerGPU, r.MemoryMiBPerGPU = q.Nodes, q.GPUs, q.GPUsPerNode, q.CPUsPerGPU, q.MemoryMiBPerGPU
	r.TimeLimit, r.Launch, r.Batch, r.Where = q.TimeLimit, q.Launch, q.Batch, q.Where
	if q.Name != "" {
		r.Name = q.Name
	}
	r.Command = slices.Concat(j.command, []string{inside}, command)
	return j, nil
}

func relativeTo(dir, path string) (string, error) {
	base, err := filepath.Abs(dir)
	if err == nil {
		base, err = filepath.EvalSymlinks(base)
	}
	if err != nil {
		return "", forge.Invalidf("workdir", "%w", err)
	}
	at, err := filepath.Abs(path)
	if err == nil {
		at, err = filepath.EvalSymlinks(at)
	}
	if err != nil {
		return "", forge.Invalidf("sbatch", "%w", err)
	}
	rel, err := filepath.Rel(base, at)
	if err != nil || !filepath.IsLocal(rel) {
		return "", forge.Invalidf("sbatch", "%s is not in the working directory %s, which is all that a node gets", path, base).WithHint("--workdir %s", filepath.Dir(at))
	}
	return filepath.ToSlash(rel), nil
}

// gpuCount reads TYPE:N, N or TYPE.
func gpuCount(v string) (kind string, n int, err error) {
	kind, count, typed := strings.Cut(v, ":")
	if !typed {
		kind, count = "", v
	}
	if n, err = strconv.Atoi(count); err != nil && !typed {
		return v, 1, nil
	}
	if err != nil || n < 1 {
		return "", 0, fmt.Errorf("want [TYPE:]NUMBER, 1 or more")
	}
	return kind, n, nil
}
