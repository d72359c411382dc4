package rundir

import (
	"archive/zip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"
)

// A manifest says that the bytes are those that were written. That they are worth something it cannot know: a library may have
// written half of a file, or nothing, and called it done. So what is known of a format is looked at as well. Shards of a
// sharded save (.distcp) mean something only together, and are left to the manifest.

const (
	maxHeader    = 100_000_000 // of safetensors, the format's own limit
	maxDirectory = 64 << 20    // of a zip file; torch writes one entry a tensor
	maxState     = 64 << 20    // of trainer_state.json, which grows with each step that is logged
)

// trainerState is where transformers keeps how far it has come.
const trainerState = "trainer_state.json"

// ours says that one of forge's own recipes wrote the checkpoint. Programs of users keep what they like in files with these names.
func (m SaveManifest) ours() bool { return m.Recipe != "" && m.Recipe != "script" }

// promises holds the list of files against what forge's own recipes always leave.
func (m SaveManifest) promises() error {
	if !m.ours() {
		return nil
	}
	want := []string{trainerState}
	for r := range m.World {
		name := fmt.Sprintf("rng_state_%d.pth", r)
		if m.World == 1 {
			name = "rng_state.pth"
		}
		want = append(want, name)
	}
	for _, name := range want {
		if !slices.ContainsFunc(m.Files, func(f SavedFile) bool { return f.Path == name }) {
			return fmt.Errorf("the manifest of recipe %s with %d ranks does not list %s", m.Recipe, m.World, name)
		}
	}
	return nil
}

// checkFormat looks into one file whose bytes are those of the manifest.
func (m SaveManifest) checkFormat(root *os.Root, f SavedFile) error {
	var check func(io.ReaderAt, int64) error
	switch path.Ext(f.Path) {
	case ".safetensors":
		check = checkSafetensors
	case ".pt", ".pth", ".bin":
		check = m.checkTorch
	default:
		if f.Path != trainerState {
			return nil
		}
		check = m.checkState
	}
	in, err := root.OpenFile(filepath.FromSlash(f.Path), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	defer in.Close()
	if err := check(in, f.Size); err != nil {
		return fmt.Errorf("%s %w", f.Path, err)
	}
	return nil
}

// checkSafetensors: the last tensor ends where the file does. internal/dataset judges base models more strictly; it is another room.
func checkSafetensors(f io.ReaderAt, size int64) error {
	var head [8]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return fmt.Errorf("is no safetensors file: it has %d bytes", size)
	}
	n := binary.LittleEndian.Uint64(head[:])
	if n > maxHeader || int64(n) > size-8 {
		return fmt.Errorf("is no whole safetensors file: it has %d bytes, and its header alone would take %d", size, n)
	}
	var entries map[string]json.RawMessage
	if err := json.NewDecoder(io.NewSectionReader(f, 8, int64(n))).Decode(&entries); err != nil {
		return fmt.Errorf("has a safetensors header that does not parse: %w", err)
	}
	delete(entries, "__metadata__")
	if len(entries) == 0 {
		return errors.New("holds no tensors")
	}
	var end int64
	for name, raw := range entries {
		var t struct {
			Offsets [2]int64 `json:"data_offsets"`
		}
		if err := json.Unmarshal(raw, &t); err != nil || t.Offsets[0] < 0 || t.Offsets[1] < t.Offsets[0] {
			return fmt.Errorf("has a safetensors header with a malformed tensor %.80q", name)
		}
		end = max(end, t.Offsets[1])
	}
	if have := size - 8 - int64(n); end != have {
		return fmt.Errorf("holds %d bytes of tensors, its safetensors header says %d", have, end)
	}
	return nil
}

// checkTorch: torch.save writes zip files, and their directory comes last. Other programs keep all kinds of things under
// these names, and theirs is looked into only where it begins like a zip file.
func (m SaveManifest) checkTorch(f io.ReaderAt, size int64) error {
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if string(magic[:]) != "PK\x03\x04" && !m.ours() {
		return nil
	}
	_, err := zip.NewReader(&atMost{f, maxDirectory}, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // its names become no paths here
		return fmt.Errorf("is no whole zip file, as torch writes them: %w", err)
	}
	return nil
}

// atMost bounds what is read in all: a directory is as long as whoever wrote it says.
type atMost struct {
	r    io.ReaderAt
	left int64
}

func (a *atMost) ReadAt(b []byte, off int64) (int, error) {
	if a.left -= int64(len(b)); a.left < 0 {
		return 0, errors.New("its directory is too long")
	}
	return a.r.ReadAt(b, off)
}

// checkState: what it says of itself is the step that its directory is named after, or resuming would skip rows or repeat them.
func (m SaveManifest) checkState(f io.ReaderAt, size int64) error {
	if size > maxState {
		return nil
	}
	var state struct {
		Step *float64 `json:"global_step"`
	}
	switch err := json.NewDecoder(io.NewSectionReader(f, 0, size)).Decode(&state); {
	case err != nil && m.ours():
		return fmt.Errorf("does not parse: %w", err)
	case err != nil:
		return nil
	case state.Step == nil && m.ours():
		return errors.New("has no global_step")
	case state.Step != nil && *state.Step != float64(m.Step):
		return fmt.Errorf("says step %v, the manifest says %d", *state.Step, m.Step)
	}
	return nil
}
