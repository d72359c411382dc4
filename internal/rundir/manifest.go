package rundir

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// ManifestName is the file that makes a checkpoint durable; it is written last.
const ManifestName = "forge_manifest.json"

// maxManifest bounds what is read of a manifest, whoever wrote it: about 80,000 files.
const maxManifest = 16 << 20

// SaveManifest is forge_manifest.json.
type SaveManifest struct {
	Layout  int         `json:"layout"`
	Run     forge.RunID `json:"run_id"`
	Attempt int         `json:"attempt"`
	Step    int64       `json:"step"`
	World   int         `json:"world_size"`
	SavedAt time.Time   `json:"saved_at"`
	Files   []SavedFile `json:"files"`

	// What a writer may leave out. A recipe that is named promises the files of its trainer: see formats.go.
	Seconds       float64 `json:"seconds,omitempty"`        // that the whole save took
	SignalSeconds float64 `json:"signal_seconds,omitempty"` // from the request to stop until it was durable
	AnyWorld      bool    `json:"any_world_size,omitempty"` // another number of ranks can read it
	Recipe        string  `json:"recipe,omitempty"`
	BaseSHA256    string  `json:"base_sha256,omitempty"`
	DatasetSHA256 string  `json:"dataset_sha256,omitempty"`
	Parallel      string  `json:"parallel,omitempty"`
	Loss          any     `json:"loss,omitempty"` // a number is the mean since the save before; anything else says nothing, and spoils nothing
}

// SavedFile is one file of a checkpoint.
type SavedFile struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Rank   int    `json:"rank"`
}

// longestSave bounds what a manifest may say of its save: more is not believed.
const longestSave = 6 * time.Hour

func believed(seconds float64) forge.Duration {
	if seconds > 0 && seconds <= longestSave.Seconds() {
		return forge.Duration(seconds * float64(time.Second))
	}
	return 0
}

// loss is nil where the writer did not say one that can be compared.
func (m SaveManifest) loss() *float64 {
	if v, ok := m.Loss.(float64); ok {
		return &v
	}
	return nil
}

var errNoManifest = errors.New("no " + ManifestName + ": the save was not finished")

// readManifest reads a manifest without believing it. The digest is of its bytes.
func readManifest(dir string) (SaveManifest, string, error) {
	var m SaveManifest
	root, err := openDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return m, "", errNoManifest // removed since it was listed
	}
	if err != nil {
		return m, "", err
	}
	defer root.Close()
	f, err := root.OpenFile(ManifestName, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return m, "", errNoManifest
	}
	if err != nil {
		return m, "", fmt.Errorf("manifest: %w", err)
	}
	defer f.Close()
	data, err := readRegular(f, ManifestName, maxManifest)
	if err != nil {
		return m, "", fmt.Errorf("manifest: %w", err)
	}
	sum := sha256.Sum256(data)
	if err := json.Unmarshal(data, &m); err != nil {
		return SaveManifest{}, hex.EncodeToString(sum[:]), fmt.Errorf("manifest does not parse: %w", err)
	}
	return m, hex.EncodeToString(sum[:]), nil
}

// check holds a manifest against the directories that it lies in.
func (m SaveManifest) check(attempt int, step int64) error {
	switch {
	case m.Attempt != attempt:
		return fmt.Errorf("manifest is of attempt %d and lies in attempt %d", m.Attempt, attempt)
	case m.Step != step:
		return fmt.Errorf("manifest is of step %d and lies in checkpoint-%d", m.Step, step)
	case len(m.Files) == 0:
		return errors.New("manifest lists no file")
	}
	for _, f := range m.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) || f.Path == "." {
			return fmt.Errorf("manifest lists %q, which leaves the checkpoint's directory", f.Path)
		}
		if f.Size < 0 {
			return fmt.Errorf("manifest gives %q the size %d", f.Path, f.Size)
		}
	}
	return nil
}

func (m SaveManifest) bytes() int64 {
	var n int64
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}
