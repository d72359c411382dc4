package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	forge "github.com/forge-ml/forge-ml"
)

const (
	precheckModule = "forge_train.precheck"
	precheckTime   = 60 * time.Second // with the wait for a slot; forge_train/precheck.py stops looking at rows before
	precheckAtOnce = 2
	precheckKept   = 512 // answers that are remembered
	precheckText   = 1000
)

// precheckParams are the parameters that the look depends on; with any other the answer is the one from before.
var precheckParams = []string{"train.max_length", "train.assistant_only_loss", "generation.max_new_tokens", templateParam}

// prechecks remembers what the real tokenizer said, so that who submits twenty runs on the same data waits once.
type prechecks struct {
	slots chan struct{}
	limit time.Duration
	mu    sync.Mutex
	of    map[[sha256.Size]byte]precheckAnswer
	order [][sha256.Size]byte
}

func newPrechecks() prechecks {
	return prechecks{slots: make(chan struct{}, precheckAtOnce), limit: precheckTime, of: map[[sha256.Size]byte]precheckAnswer{}}
}

// precheckAnswer is what forge_train/precheck.py prints.
type precheckAnswer struct {
	Rows     int      `json:"rows"`
	Warnings []string `json:"warnings"`
	Faults   []struct {
		Field   string `json:"field"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
	} `json:"faults"`
}

func (p *prechecks) known(key [sha256.Size]byte) (precheckAnswer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.of[key]
	return a, ok
}

func (p *prechecks) keep(key [sha256.Size]byte, a precheckAnswer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, had := p.of[key]; !had {
		p.order = append(p.order, key)
	}
	p.of[key] = a
	for len(p.order) > precheckKept {
		delete(p.of, p.order[0])
		p.order = p.order[1:]
	}
}

// precheckConfig is the part of a rank's configuration that the look needs.
type precheckConfig struct {
	Recipe  string            `json:"recipe"`
	Params  map[string]any    `json:"params"`
	Dataset *forge.InputRef   `json:"dataset"`
	Kind    forge.DatasetKind `json:"dataset_kind"`
	Base    *forge.InputRef   `json:"base"`

	Layout *forge.DatasetLayout `json:"dataset_layout,omitempty"`
	Files  []string             `json:"dataset_files,omitempty"`
}

// precheck has the real tokenizer look at rows, where forged has a training environment of its own. That nobody could look, or not
// in time, is a warning: the ranks look again.
func (d *Daemon) precheck(ctx context.Context, spec forge.RunSpec, in inputs) ([]string, error) {
	python := d.ownPython()
	if python == "" {
		return []string{"rows were not looked at by the tokenizer: no cluster of kind direct has a Python; the ranks look when they start"}, nil
	}
	if in.base.Seen != nil && in.base.Seen.RemoteCode {
		return []string{"rows were not looked at by the tokenizer: the base model brings code of its own, which only ranks run"}, nil
	}
	c := precheckConfig{Recipe: spec.Recipe, Params: map[string]any{}, Dataset: spec.Dataset, Kind: in.dataset.Kind, Base: spec.Base,
		Layout: in.dataset.Layout, Files: datasetFiles(*in.dataset)}
	for _, name := range precheckParams {
		if v, ok := spec.Params[name]; ok {
			c.Params[name] = v
		}
	}
	question, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("precheck: %w", err)
	}
	key := sha256.Sum256([]byte(d.code + "\x00" + python + "\x00" + string(question)))
	a, ok := d.pre.known(key)
	if !ok {
		if a, err = d.pre.ask(ctx, python, d.pythonPath, question); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			d.log.Warn().Str("recipe", spec.Recipe).Msg("rows not looked at before a run")
			return []string{fmt.Sprintf("rows were not looked at by the tokenizer: %s; the ranks look when they start", firstWords(err.Error()))}, nil
		}
		d.pre.keep(key, a)
	}
	return a.judge()
}

// ownPython is an interpreter with the training packages on this host, of a cluster whose files forged itself may read.
func (d *Daemon) ownPython() string {
	for _, c := range d.clusterList() {
		if c.Kind == KindDirect && c.Python != "" {
			return c.Python
		}
	}
	return ""
}

func (a precheckAnswer) judge() ([]string, error) {
	var notes []string
	for _, w := range a.Warnings {
		notes = append(notes, firstWords(w))
	}
	if len(a.Faults) == 0 {
		return notes, nil
	}
	f := a.Faults[0]
	e := forge.Invalidf(f.Field, "%s", firstWords(f.Message))
	hint := firstWords(f.Hint)
	if len(a.Faults) > 1 {
		hint = strings.TrimPrefix(fmt.Sprintf("%s; and %d more after that", hint, len(a.Faults)-1), "; ")
	}
	if hint == "" {
		return nil, e
	}
	return nil, e.WithHint("%s", hint)
}

// ask starts the look and reads its answer. It runs in a cleared environment and in a group of its own, and bounds itself.
func (p *prechecks) ask(ctx context.Context, python, path string, question []byte) (precheckAnswer, error) {
	var a precheckAnswer
	ctx, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	late := fmt.Errorf("no answer within %s", p.limit)
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return a, late
	}
	cmd := exec.CommandContext(ctx, python, "-s", "-B", "-m", precheckModule, "-")
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/nonexistent", "LANG=C.UTF-8", "PYTHONPATH=" + path, "PYTHONSAFEPATH=1",
		"HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1", "HF_HUB_DISABLE_TELEMETRY=1", "TOKENIZERS_PARALLELISM=false", "OMP_NUM_THREADS=1", "CUDA_VISIBLE_DEVICES="}
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(question)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &limitedBuffer{b: &out}, &limitedBuffer{b: &said}
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return a, late
	case err != nil:
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		return a, fmt.Errorf("%s ended with %w: %s", precheckModule, err, firstWords(lines[len(lines)-1]))
	}
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		return a, errors.New("its answer cannot be read")
	}
	return a, nil
}

// firstWords bounds what a program said, and makes one line of it.
func firstWords(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if r := []rune(s); len(r) > precheckText {
		s = string(r[:precheckText]) + "…"
	}
	return s
}
