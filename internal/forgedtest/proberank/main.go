// Command proberank is a rank program without torch: it speaks the whole rank contract
// (docs/run-contract.md) in milliseconds, so that crash points, faults and benchmarks can run
// hundreds of real attempts. Its "training" is a hash chain over the steps, so that a run which
// was resumed wrongly ends with another number than an undisturbed one.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	exitCheckpointed = 85
	exitSuperseded   = 86
	exitCancelled    = 143
)

type config struct {
	RunID   string         `json:"run_id"`
	Attempt int            `json:"attempt"`
	Params  map[string]any `json:"params"`
}

func (c config) num(key string) int64 {
	f, _ := c.Params[key].(float64)
	return int64(f)
}

type file struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Rank   int    `json:"rank"`
}

type manifest struct {
	Layout    int       `json:"layout"`
	RunID     string    `json:"run_id"`
	Attempt   int       `json:"attempt"`
	Step      int64     `json:"step"`
	WorldSize int       `json:"world_size"`
	SavedAt   time.Time `json:"saved_at"`
	Seconds   float64   `json:"seconds"`
	Signal    float64   `json:"signal_seconds,omitempty"`
	Files     []file    `json:"files"`
}

type rank struct {
	cfg     config
	rank    int
	world   int
	step    int64
	chain   uint64
	saved   []int64 // steps of this attempt's checkpoints that are there
	stopped chan os.Signal
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "escape" {
		if err := escape(strings.Join(os.Args[2:], "")); err != nil {
			fmt.Fprintln(os.Stderr, "proberank:", err)
			os.Exit(1)
		}
		return
	}
	r := &rank{stopped: make(chan os.Signal, 4)}
	signal.Notify(r.stopped, syscall.SIGTERM, syscall.SIGUSR1)
	code, err := r.run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "proberank:", err)
		code = 1
	}
	os.Exit(code)
}

func (r *rank) run() (int, error) {
	b, err := os.ReadFile(os.Getenv("FORGE_CONFIG"))
	if err != nil {
		return 1, err
	}
	if err := json.Unmarshal(b, &r.cfg); err != nil {
		return 1, err
	}
	r.rank, _ = strconv.Atoi(os.Getenv("RANK"))
	r.world, _ = strconv.Atoi(os.Getenv("WORLD_SIZE"))
	// One line per start: what counts how often an attempt really began.
	if err := appendLine(filepath.Join(os.Getenv("FORGE_RUN_DIR"), "starts"), fmt.Sprintf("%d %d %d", r.cfg.Attempt, r.rank, time.Now().UnixNano())); err != nil {
		return 1, err
	}
	if from := os.Getenv("FORGE_RESUME_FROM"); from != "" {
		if err := r.load(from); err != nil {
			return 1, err
		}
	}
	fmt.Printf("rank %d of %d starts attempt %d at step %d\n", r.rank, r.world, r.cfg.Attempt, r.step)
	total, every := r.cfg.num("steps"), r.cfg.num("save_every")
	pause := time.Duration(r.cfg.num("step_ms")) * time.Millisecond
	for r.step < total {
		select {
		case <-r.stopped:
			if r.cfg.num("deaf") > 0 && r.cfg.Attempt == 1 { // only once, so that the run can end
				continue
			}
			return r.stop()
		case <-time.After(pause):
		}
		r.step++
		r.chain = next(r.chain, r.step)
		if at := r.cfg.num("fail_at"); at > 0 && r.step == at && int64(r.rank) == r.cfg.num("fail_rank") {
			return int(r.cfg.num("fail_code")), nil
		}
		if r.rank == 0 {
			if code, err := r.report(total); code != 0 || err != nil {
				return code, err
			}
			if every > 0 && r.step%every == 0 {
				if code, err := r.save(time.Time{}); code != 0 || err != nil {
					return code, err
				}
			}
		}
	}
	if r.rank != 0 {
		return 0, nil
	}
	if err := os.MkdirAll(os.Getenv("FORGE_OUTPUT_DIR"), 0o750); err != nil {
		return 1, err
	}
	if err := os.WriteFile(filepath.Join(os.Getenv("FORGE_OUTPUT_DIR"), "adapter.bin"), r.state(), 0o640); err != nil {
		return 1, err
	}
	return 0, r.status("completed")
}

// next is one "training step": the result depends on every step before it.
func next(chain uint64, step int64) uint64 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], chain)
	binary.LittleEndian.PutUint64(b[8:], uint64(step))
	sum := sha256.Sum256(b[:])
	return binary.LittleEndian.Uint64(sum[:8])
}

func (r *rank) state() []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(r.step))
	return binary.LittleEndian.AppendUint64(b, r.chain)
}

func (r *rank) load(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "state.bin"))
	if err != nil {
		return err
	}
	if len(b) != 16 {
		return fmt.Errorf("%s has %d bytes, want 16", dir, len(b))
	}
	r.step, r.chain = int64(binary.LittleEndian.Uint64(b[:8])), binary.LittleEndian.Uint64(b[8:])
	return nil
}

// loss is a number that every step determines exactly.
func (r *rank) loss() float64 { return float64(r.chain%1_000_000) / 1e6 }

func (r *rank) fenced() bool {
	b, err := os.ReadFile(os.Getenv("FORGE_FENCE_FILE"))
	if err != nil {
		return false
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n > r.cfg.Attempt
}

func (r *rank) report(total int64) (int, error) {
	if r.fenced() {
		return exitSuperseded, r.status("superseded")
	}
	b, err := json.Marshal(map[string]any{"step": r.step, "total_steps": total, "time": time.Now().UTC(), "values": map[string]float64{"loss": r.loss()}})
	if err != nil {
		return 1, err
	}
	return 0, appendLine(os.Getenv("FORGE_METRICS"), string(b))
}

func (r *rank) save(asked time.Time) (int, error) {
	began := time.Now()
	time.Sleep(time.Duration(r.cfg.num("save_ms")) * time.Millisecond)
	dir := filepath.Join(os.Getenv("FORGE_CHECKPOINT_DIR"), fmt.Sprintf("checkpoint-%d", r.step))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return 1, err
	}
	data := r.state()
	if err := durable(filepath.Join(dir, "state.bin"), data); err != nil {
		return 1, err
	}
	if r.fenced() {
		return exitSuperseded, r.status("superseded")
	}
	sum := sha256.Sum256(data)
	signal := 0.0
	if !asked.IsZero() {
		signal = time.Since(asked).Seconds()
	}
	b, err := json.Marshal(manifest{Seconds: time.Since(began).Seconds(), Signal: signal, Layout: 1, RunID: r.cfg.RunID, Attempt: r.cfg.Attempt, Step: r.step, WorldSize: r.world, SavedAt: time.Now().UTC(),
		Files: []file{{Path: "state.bin", Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}}})
	if err != nil {
		return 1, err
	}
	if err := durable(filepath.Join(dir, "forge_manifest.json"), b); err != nil {
		return 1, err
	}
	return 0, r.retain()
}

// retain removes what is older than the newest checkpoints of this attempt, the manifest of each first.
func (r *rank) retain() error {
	keep := int(r.cfg.num("keep_last"))
	if r.saved = append(r.saved, r.step); keep == 0 || len(r.saved) <= keep {
		return nil
	}
	dir := filepath.Join(os.Getenv("FORGE_CHECKPOINT_DIR"), fmt.Sprintf("checkpoint-%d", r.saved[0]))
	r.saved = r.saved[1:]
	if err := os.Remove(filepath.Join(dir, "forge_manifest.json")); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

func (r *rank) stop() (int, error) {
	var s struct{ Signal string }
	if b, err := os.ReadFile(os.Getenv("FORGE_STOP_FILE")); err == nil {
		_ = json.Unmarshal(b, &s)
	}
	if s.Signal == "cancel" || s.Signal == "kill" {
		return exitCancelled, nil
	}
	if r.rank == 0 {
		if code, err := r.save(time.Now()); code != 0 || err != nil {
			return code, err
		}
		if err := r.status("checkpointed"); err != nil {
			return 1, err
		}
	}
	return exitCheckpointed, nil
}

func (r *rank) status(outcome string) error {
	b, err := json.Marshal(map[string]any{"attempt": r.cfg.Attempt, "outcome": outcome, "step": r.step, "code": map[string]string{"sha256": "proberank"}})
	if err != nil {
		return err
	}
	return durable(os.Getenv("FORGE_STATUS"), b)
}

func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(line + "\n"); err != nil {
		return err
	}
	return f.Close()
}

// durable writes a file so that a reader sees all of it or nothing.
func durable(path string, data []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		return err
	}
	return d.Close()
}
