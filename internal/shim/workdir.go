package shim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/internal/workdir"
)

// startDir is where ranks start: in the directory that the run came with, else in the attempt's own.
func (s *shim) startDir() string {
	if s.launch.Spec.Source != nil {
		return s.at.WorkDir()
	}
	return s.at.Dir()
}

// unpack puts the run's working directory in its place, on node 0 for all. Each attempt gets one of its own: what the one
// before changed in its files must not be what this one starts from.
func (s *shim) unpack(ctx context.Context) error {
	src := s.launch.Spec.Source
	if src == nil {
		return nil
	}
	f, err := rundir.OpenSource(s.at.RunDir)
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(forge.StopInputs, "the snapshot %.12s of the working directory is lost; submit the run again from %s", src.SHA256, src.Root)
	}
	if err != nil {
		return refuse(forge.StopLaunch, "%v", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return refuse(forge.StopLaunch, "snapshot of the working directory: %v", err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != src.SHA256 {
		return refuse(forge.StopInputs, "the snapshot of the working directory has the digest %.12s and the run names %.12s: it was changed in the run directory", got, src.SHA256)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return refuse(forge.StopLaunch, "snapshot of the working directory: %v", err)
	}
	if err := rundir.MakeDir(s.at.WorkDir()); err != nil {
		return refuse(forge.StopLaunch, "%v", err)
	}
	if err := workdir.Unpack(ctx, f, s.at.WorkDir(), src.Bytes); err != nil {
		cause := forge.StopLaunch
		if forge.KindOf(err) == forge.KindInvalid {
			cause = forge.StopInputs
		}
		return refuse(cause, "working directory: %v", err)
	}
	return nil
}
