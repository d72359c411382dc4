package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// jobMapEvery is how often the job map is held against what runs.
const jobMapEvery = time.Second

// jobMapLoop keeps the files by which dcgm-exporter knows whose a GPU of this host is (its --hpc-job-mapping-dir).
func (d *Daemon) jobMapLoop(ctx context.Context) {
	dir := d.live().cfg.GPUs.JobMap
	if dir == "" {
		return
	}
	m := jobMap{dir: dir}
	tick := time.NewTicker(jobMapEvery)
	defer tick.Stop()
	said := ""
	for {
		switch err := m.write(d.jobsOnGPUs()); {
		case err == nil:
			said = ""
		case err.Error() != said:
			said = err.Error()
			d.log.Warn().Err(err).Msg("the job map of GPUs is not what it should be")
		}
		select {
		case <-ctx.Done():
			return // what runs goes on, and so do its files
		case <-tick.C:
		}
	}
}

// jobsOnGPUs says which runs have the GPUs of this host, by dcgm-exporter's name of the GPU: its NVML index, of a MIG instance with its id behind a dot.
func (d *Daemon) jobsOnGPUs() map[string][]string {
	out := map[string][]string{}
	holds := d.gpuHolders()
	for _, n := range d.world.nodeList() {
		at := nodeKey{n.Cluster, n.Name}
		if len(holds[at]) == 0 || !d.direct(n.Cluster) {
			continue
		}
		for _, g := range n.GPUs {
			run := holds[at][g.Slot]
			if run == "" || g.Kind != forge.GPUDevice {
				continue
			}
			if name := d.indexOf(at, &g); name != "" {
				out[name] = append(out[name], string(run))
			}
		}
	}
	for _, jobs := range out {
		slices.Sort(jobs)
	}
	return out
}

func (d *Daemon) indexOf(at nodeKey, g *forge.GPU) string {
	s, ok := d.board.gpu(at, g.UUID)
	ok = ok && !s.Got.IsZero()
	switch {
	case g.MIG == "" && ok:
		return strconv.Itoa(s.Index)
	case g.MIG == "":
		return strconv.Itoa(g.Slot) // not looked at yet: the inventory is in the order of the indices
	case ok && s.MIGID != nil:
		if parent, ok := d.board.gpu(at, g.Parent); ok && !parent.Got.IsZero() {
			return fmt.Sprintf("%d.%d", parent.Index, *s.MIGID)
		}
	}
	return ""
}

// jobMap is a directory of such files. It is forge's own: files with the name of a GPU that is nobody's are emptied of what a forged that was killed
// left in them, by removing them.
type jobMap struct {
	dir  string
	last map[string]string // by name; nil: nothing is known of what is there
}

// mapped is the name of a file that dcgm-exporter reads.
var mapped = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)

// jobMapTemp begins the names of files that are being written; no reader takes them for a GPU.
const jobMapTemp = ".forge-"

func (m *jobMap) write(jobs map[string][]string) error {
	if m.last == nil {
		if err := m.read(); err != nil {
			return err
		}
	}
	var errs []error
	for name, runs := range jobs {
		text := strings.Join(runs, "\n") + "\n"
		if m.last[name] == text {
			continue
		}
		if err := m.put(name, text); err != nil {
			errs = append(errs, err)
			continue
		}
		m.last[name] = text
	}
	for name := range m.last {
		if jobs[name] != nil {
			continue
		}
		if err := os.Remove(filepath.Join(m.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		delete(m.last, name)
	}
	if errs != nil {
		m.last = nil // somebody changed the directory: what is there is looked at anew
	}
	return errors.Join(errs...)
}

// read finds what a forged before this one left.
func (m *jobMap) read() error {
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return err
	}
	last := map[string]string{}
	for _, e := range entries {
		switch {
		case e.IsDir():
		case strings.HasPrefix(e.Name(), jobMapTemp):
			_ = os.Remove(filepath.Join(m.dir, e.Name()))
		case mapped.MatchString(e.Name()):
			last[e.Name()] = "" // whatever it says
		}
	}
	m.last = last
	return nil
}

// put replaces a file whole: a reader sees what was, or what is.
func (m *jobMap) put(name, text string) error {
	f, err := os.CreateTemp(m.dir, jobMapTemp)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(0o644), f.Close()) // dcgm-exporter is another account
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(m.dir, name))
}
