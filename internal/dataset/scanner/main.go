// Package scanner is `forged scan CONFIG`: the process that reads a dataset where it lies and leaves what it found in files. It is the rank of
// a run of recipe scan, and a child of forged where forged itself reads. A process of its own, so that data that was made to hurt ends it and
// not the daemon, so that all its threads are niced, and so that to stop it is to kill it.
package scanner

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

const (
	maxConfig  = 16 << 20
	softMemory = 1 << 30 // from here on the collector works harder; a scan needs a tenth of it
	perStep    = 1 << 20 // bytes
	tellEvery  = time.Second
)

// ChildFlag begins the arguments of a child of forged: it gives way to everybody, tells its progress on standard output, and ends when its standard
// input does, which is when forged ends, however it ends.
const ChildFlag = "--child"

// Main carries out `forged scan [--child] [CONFIG]` and returns the exit code: those of the run contract. CONFIG is a rank's config.json with what to
// read in "scan"; without it FORGE_CONFIG names it.
func Main(args []string, version string, in io.Reader, out, errOut io.Writer) int {
	child := len(args) > 0 && args[0] == ChildFlag
	if child {
		args = args[1:]
		giveWay()
		go func() {
			_, _ = io.Copy(io.Discard, in)
			os.Exit(forge.ExitBadInput)
		}()
	}
	path := os.Getenv("FORGE_CONFIG")
	if len(args) == 1 {
		path = args[0]
	}
	if len(args) > 1 || path == "" {
		_, _ = fmt.Fprintln(errOut, "forged scan: it is started by forged and by the shim of a run; a dataset is added with: forgectl dataset add NAME PATH")
		return 2
	}
	debug.SetMemoryLimit(softMemory)
	s := process{version: version, child: child, out: out, errOut: errOut}
	if err := s.run(path); err != nil {
		return s.refuse(err)
	}
	return 0
}

// process is one scan.
type process struct {
	version     string
	child       bool
	out, errOut io.Writer
	cfg         forge.RankConfig
	told        time.Time
	lines       io.Writer // of progress
	step        int64
}

func (s *process) run(path string) error {
	b, err := readBounded(path, maxConfig)
	if err == nil {
		err = json.Unmarshal(b, &s.cfg)
	}
	if err == nil && (s.cfg.Scan == nil || s.cfg.OutputDir == "") {
		err = errors.New("it names nothing to read, or no place for what is found")
	}
	if err != nil {
		return forge.Errorf(forge.KindInternal, "scan", "configuration %s: %w", path, err)
	}
	if err := os.MkdirAll(s.cfg.OutputDir, 0o750); err != nil {
		return forge.Errorf(forge.KindUnavailable, "scan", "%w", err)
	}
	closing, err := s.openLines()
	if err != nil {
		return forge.Errorf(forge.KindUnavailable, "scan", "%w", err)
	}
	defer closing()
	result := Result{Schema: Schema, RunID: s.cfg.RunID}
	err = whole(filepath.Join(s.cfg.OutputDir, FingerprintsName), func(w io.Writer) error {
		buffered := bufio.NewWriterSize(w, 1<<20)
		prints := newDigested(buffered)
		found, err := dataset.Scan(context.Background(), s.cfg.Scan.Paths, s.options(prints))
		if err != nil {
			return err
		}
		result.Scanned, result.Fingerprints = found.Scanned, Fingerprints{Count: prints.n / FingerprintBytes, SHA256: prints.hex()}
		return buffered.Flush()
	})
	if err != nil {
		return err
	}
	if err := Blocked(s.cfg.Scan.Policy, &result.Scanned.Report); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(s.cfg.OutputDir, ResultName), result); err != nil {
		return forge.Errorf(forge.KindUnavailable, "scan", "%w", err)
	}
	return s.status(forge.StatusFile{Attempt: s.cfg.Attempt, Outcome: "completed", Step: s.step, Total: s.step, Code: map[string]string{"forged": s.version}})
}

func (s *process) options(prints io.Writer) dataset.Options {
	ask := s.cfg.Scan
	o := dataset.Options{Kind: ask.Kind, Map: ask.Map, Preset: ask.Preset, Threads: max(1, ask.Threads), PII: &pii.Options{National: ask.National}, Near: ask.Near,
		By: forge.ScannedByJob, Scanner: s.version, Fingerprints: prints, Progress: s.progress}
	if s.child {
		o.By = forge.ScannedByForged
	}
	return o
}

// Blocked refuses findings where the policy is to refuse them.
func Blocked(policy forge.PIIPolicy, r *forge.ScanReport) error {
	if policy != forge.PIIBlock || !r.PII.Found() {
		return nil
	}
	where := ""
	if len(r.PII.Samples) > 0 {
		x := r.PII.Samples[0]
		where = fmt.Sprintf("; the first is %s in %s at %s", x.Entity, x.Field, x.Place)
	}
	return forge.Invalidf("pii_policy", "%d of %d rows hold personal data or secrets, and the policy is to refuse them%s", r.PII.RowsFound, r.PII.Rows, where).
		WithHint("--pii-policy warn registers it with status findings, which shows what there is; --pii-policy redact makes a redacted child as well")
}

// openLines is where progress goes: to the child's standard output, or to the metrics of a run.
func (s *process) openLines() (closing func(), err error) {
	if s.child {
		s.lines = s.out
		return func() {}, nil
	}
	path := os.Getenv("FORGE_METRICS")
	if path == "" {
		s.lines = io.Discard
		return func() {}, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err
	}
	s.lines = f
	return func() { _ = f.Close() }, nil
}

// Line is one line of progress, as every run reports it: a step is 1 MiB.
type Line struct {
	Step   int64     `json:"step"`
	Total  int64     `json:"total_steps"`
	Time   time.Time `json:"time"`
	Values struct {
		Done  int64 `json:"bytes_done"`
		Total int64 `json:"bytes_total"`
		Rows  int64 `json:"rows"`
	} `json:"values"`
}

func (s *process) progress(done, total, rows int64) {
	now := time.Now()
	step := max(1, (done+perStep-1)/perStep)
	if !s.child && (step == s.step || done < total && now.Sub(s.told) < tellEvery) {
		return // each is a row of the run's metrics
	}
	s.told, s.step = now, step
	l := Line{Step: step, Total: max(step, (total+perStep-1)/perStep), Time: now.UTC()}
	l.Values.Done, l.Values.Total, l.Values.Rows = done, total, rows
	if b, err := json.Marshal(l); err == nil {
		_, _ = s.lines.Write(append(b, '\n'))
	}
}

// status leaves the rank's own word; a child of forged has no such file.
func (s *process) status(st forge.StatusFile) error {
	path := os.Getenv("FORGE_STATUS")
	if s.child || path == "" {
		return nil
	}
	return writeJSON(path, st)
}

// refuse says why nothing was registered: in words on standard error, as a file for whoever asked, and by the exit code.
func (s *process) refuse(err error) int {
	var p *dataset.Problems
	if errors.As(err, &p) {
		_, _ = fmt.Fprintf(s.errOut, "nothing is registered; rows that are none: %d\n", p.Total)
		for _, r := range p.Rows {
			_, _ = fmt.Fprintln(s.errOut, p.Words(r))
		}
	} else {
		_, _ = fmt.Fprintf(s.errOut, "%v\n", err)
	}
	if h := forge.HintOf(err); h != "" {
		_, _ = fmt.Fprintln(s.errOut, "hint: "+h)
	}
	reason, code := forge.EndBadInput, forge.ExitBadInput
	switch forge.KindOf(err) {
	case forge.KindUnavailable, forge.KindInternal: // this node cannot read it; another may
		reason, code = forge.EndNodeEnv, forge.ExitNodeEnv
	}
	r := refusalOf(err)
	if s.cfg.OutputDir != "" {
		if werr := writeJSON(filepath.Join(s.cfg.OutputDir, RefusalName), r); werr != nil {
			_, _ = fmt.Fprintln(s.errOut, werr)
		}
	}
	_ = s.status(forge.StatusFile{Attempt: s.cfg.Attempt, Outcome: "failed", Reason: string(reason), Step: s.step, Message: r.Message})
	return code
}
