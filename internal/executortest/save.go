package executortest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// Save is a checkpoint as a training program leaves it.
type Save struct {
	Run     forge.RunID
	Attempt int
	Step    int64
	World   int
	Recipe  string            // in the manifest; one of forge's own promises the files of its trainer
	Files   map[string]string // path to content
}

// Write puts it below an attempt's checkpoint directory, the manifest last.
func (s Save) Write(checkpointDir string) error {
	dir := filepath.Join(checkpointDir, fmt.Sprintf("checkpoint-%d", s.Step))
	m := rundir.SaveManifest{
		Layout: rundir.Layout, Run: s.Run, Attempt: s.Attempt, Step: s.Step, World: s.World, Recipe: s.Recipe, SavedAt: time.Now().UTC(),
	}
	for _, path := range slices.Sorted(maps.Keys(s.Files)) {
		content := s.Files[path]
		file := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(content), 0o640); err != nil {
			return err
		}
		sum := sha256.Sum256([]byte(content))
		m.Files = append(m.Files, rundir.SavedFile{Path: path, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])})
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	temp := filepath.Join(dir, "manifest.tmp")
	if err := os.WriteFile(temp, data, 0o640); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(dir, rundir.ManifestName))
}
