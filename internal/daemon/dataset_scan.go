package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/internal/dataset/scanner"
)

const (
	scansDir      = "scans" // below the state directory: what is being read right now
	maxScansAhead = 32      // those that wait for their turn; more are refused
	maxScanWords  = 64 << 10
)

// turns lets so many in at once, and the others in the order in which they came.
type turns struct {
	mu    sync.Mutex
	in    int
	queue []chan struct{}
}

// enter waits for a turn. KindUnavailable where too many wait already; the context's error when the one who waits has gone.
func (t *turns) enter(ctx context.Context, limit int) error {
	t.mu.Lock()
	if t.in < limit && len(t.queue) == 0 {
		t.in++
		t.mu.Unlock()
		return nil
	}
	if n := len(t.queue); n >= maxScansAhead {
		t.mu.Unlock()
		return forge.Errorf(forge.KindUnavailable, "dataset.add", "forged reads %d datasets and %d wait for their turn", limit, n).
			WithHint("read it where you are: forgectl dataset add NAME PATH without --on-server; or on a node: --on-cluster")
	}
	turn := make(chan struct{})
	t.queue = append(t.queue, turn)
	t.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, x := range t.queue {
		if x == turn {
			t.queue = append(t.queue[:i], t.queue[i+1:]...)
			return ctx.Err()
		}
	}
	t.pass() // it was called in the same moment
	return ctx.Err()
}

func (t *turns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass()
}

func (t *turns) pass() {
	if len(t.queue) == 0 {
		t.in--
		return
	}
	close(t.queue[0])
	t.queue = t.queue[1:]
}

// scanHere is what a pass of forged's own found, and where the fingerprints of the rows lie until done is called.
type scanHere struct {
	scanner.Result
	prints string
	done   func()
}

// mayScanHere holds that forged reads people's data only where it is the one account of all.
func (d *Daemon) mayScanHere() error {
	live := d.live()
	for _, name := range live.order {
		if live.clusters[name].AsUser {
			return forge.Errorf(forge.KindPrecondition, "dataset.add", "jobs of cluster %s belong to their users, and forged opens no file of theirs itself", name).
				WithHint("read it where you are: forgectl dataset add NAME PATH; or have a job of yours read it: forgectl dataset add NAME PATH --on-cluster")
		}
	}
	return nil
}

// nearFrom is the similarity from which rows are nearly the same, where somebody asks for such.
const nearFrom = 0.8

// askOf is what of a request concerns the one who reads.
func askOf(r api.AddDatasetRequest) forge.ScanAsk {
	a := forge.ScanAsk{Name: r.Name, Paths: r.Paths, Kind: forge.DatasetKind(r.Kind), Map: r.Map, Preset: r.Preset, License: r.License, Description: r.Description,
		Policy: r.PIIPolicy, National: r.National}
	if r.Kind == "auto" {
		a.Kind = ""
	}
	if r.Near {
		a.Near = nearFrom
	}
	return a
}

// mayMatch looks at what a glob stands for: /var/lib/f*rge is not the name of a directory of forged's, and what it is a name of is. Where jobs are their
// users' own, nobody reads with more rights than theirs.
func (d *Daemon) mayMatch(path string) error {
	if !strings.ContainsAny(path, `*?[\`) || d.mayScanHere() != nil {
		return nil
	}
	names, err := filepath.Glob(path)
	if err != nil {
		return forge.Invalidf("path", "%q is not a pattern: %v", path, err)
	}
	for _, name := range names[:min(len(names), maxFiles)] {
		if err := d.readable(name); err != nil {
			return err
		}
	}
	return nil
}

// scan has a child of forged read a dataset: niced, the first to go when memory runs out, gone when the request is. What it reads was allowed before,
// and is looked at again by the caller, file by file.
func (d *Daemon) scan(ctx context.Context, ask forge.ScanAsk, read func(done, total int64)) (out scanHere, err error) {
	if err := d.scans.enter(ctx, *d.live().cfg.Limits.ScansAtOnce); err != nil {
		return out, err
	}
	defer d.scans.leave()
	parent := filepath.Join(d.live().cfg.StateDir, scansDir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return out, forge.Errorf(forge.KindUnavailable, "dataset.add", "%w", err)
	}
	dir, err := os.MkdirTemp(parent, "")
	if err != nil {
		return out, forge.Errorf(forge.KindUnavailable, "dataset.add", "%w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
	config := filepath.Join(dir, "config.json")
	text, err := json.Marshal(forge.RankConfig{Scan: &ask, OutputDir: dir})
	if err == nil {
		err = os.WriteFile(config, text, 0o600)
	}
	if err != nil {
		return out, forge.Errorf(forge.KindUnavailable, "dataset.add", "%w", err)
	}
	why, err := d.runScan(ctx, config, read)
	if cerr := ctx.Err(); cerr != nil {
		return out, cerr
	}
	if err != nil {
		d.log.Warn().Err(err).Str("said", why).Msg("a scan did not end well")
	}
	var left error
	if out.Result, left = scanner.Read(dir); left != nil {
		var fe *forge.Error
		var rows *dataset.Problems
		if errors.As(left, &rows) || errors.As(left, &fe) {
			return out, left
		}
		return out, forge.Errorf(forge.KindUnavailable, "dataset.add", "the process that reads ended without a word (%v); it is the first that is ended when memory runs out", errors.Join(err, left))
	}
	if err != nil {
		return out, forge.Errorf(forge.KindUnavailable, "dataset.add", "the process that reads did not end well: %w", err)
	}
	out.prints, out.done = filepath.Join(dir, scanner.FingerprintsName), func() { _ = os.RemoveAll(dir) }
	return out, nil
}

// runScan starts the child and follows it to its end.
func (d *Daemon) runScan(ctx context.Context, config string, read func(done, total int64)) (said string, err error) {
	cmd := exec.CommandContext(ctx, d.self, "scan", scanner.ChildFlag, config)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}
	var words bytes.Buffer
	cmd.Stderr = &beginning{to: &words, left: maxScanWords}
	alive, err := cmd.StdinPipe() // it ends when this does, also where forged is killed
	if err != nil {
		return "", err
	}
	defer func() { _ = alive.Close() }()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start %s: %w", d.self, err)
	}
	for lines := bufio.NewScanner(out); lines.Scan() && ctx.Err() == nil; {
		var l scanner.Line
		if json.Unmarshal(lines.Bytes(), &l) == nil {
			read(l.Values.Done, l.Values.Total)
		}
	}
	_ = ctx.Err() // whoever looks between any two pieces sees the last one, too
	err = cmd.Wait()
	return words.String(), err
}

// beginning keeps the beginning of what is written to it.
type beginning struct {
	to   *bytes.Buffer
	left int
}

func (l *beginning) Write(b []byte) (int, error) {
	n := min(len(b), l.left)
	l.left -= n
	l.to.Write(b[:n])
	return len(b), nil
}
