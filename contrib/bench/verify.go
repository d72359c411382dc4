package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

const (
	verifyRounds   = 7
	verifyFile     = 128 << 20 // bytes
	verifyPerCore  = 2         // files, so that no thread ends long before the others
	verifyMinFiles = 4
)

// verifyRate is how fast a shim reads and judges a checkpoint, its manifest and formats included, beside as many sha256sums as it has threads, each
// with its share of the files. The files lie in memory for both; rounds alternate, and the medians are compared.
func verifyRate(ctx context.Context, e env) ([]figure, error) {
	root, err := os.MkdirTemp("", "forge-verify-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(root)
	threads := runtime.NumCPU()
	n := max(verifyMinFiles, threads*verifyPerCore)
	c, paths, err := bigSave(root, n)
	if err != nil {
		return nil, err
	}
	var ours, theirs []float64
	gib := float64(n) * verifyFile / (1 << 30)
	for range verifyRounds {
		began := time.Now()
		seen, err := rundir.Verify(ctx, rundir.Fit{Run: c.Run, World: 1}, c)
		if err != nil {
			return nil, err
		}
		if seen.Verdict != forge.VerdictVerified {
			return nil, fmt.Errorf("the checkpoint is %s: %s", seen.Verdict, seen.Why)
		}
		ours = append(ours, gib/time.Since(began).Seconds())
		began = time.Now()
		if err := sha256sums(ctx, threads, paths); err != nil {
			return nil, err
		}
		theirs = append(theirs, gib/time.Since(began).Seconds())
		if e.verbose {
			fmt.Printf("  verify %.3f GiB/s, %d × sha256sum %.3f GiB/s\n", ours[len(ours)-1], threads, theirs[len(theirs)-1])
		}
	}
	return []figure{atLeast("verify_rate", median(ours), "GiB/s", fmt.Sprintf("sha256sum×%d", threads), median(theirs), 0.8)}, nil
}

// bigSave writes a checkpoint of n files of noise.
func bigSave(root string, n int) (forge.Checkpoint, []string, error) {
	const run, step = "01VERIFY0000000000000000000", 100
	c := forge.Checkpoint{Run: run, Attempt: 1, Step: step, Path: filepath.Join(root, fmt.Sprintf("checkpoint-%d", step))}
	m := rundir.SaveManifest{Layout: rundir.Layout, Run: run, Attempt: 1, Step: step, World: 1, SavedAt: time.Now().UTC()}
	if err := os.Mkdir(c.Path, 0o750); err != nil {
		return c, nil, err
	}
	noise := rand.NewChaCha8([32]byte{1})
	data := make([]byte, verifyFile)
	var paths []string
	for i := range n {
		name := fmt.Sprintf("shard-%d", i)
		if _, err := noise.Read(data); err != nil {
			return c, nil, err
		}
		path := filepath.Join(c.Path, name)
		if err := os.WriteFile(path, data, 0o640); err != nil {
			return c, nil, err
		}
		sum := sha256.Sum256(data)
		m.Files = append(m.Files, rundir.SavedFile{Path: name, Size: verifyFile, SHA256: hex.EncodeToString(sum[:])})
		paths = append(paths, path)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return c, nil, err
	}
	return c, paths, os.WriteFile(filepath.Join(c.Path, rundir.ManifestName), text, 0o640)
}

// sha256sums starts as many sha256sums as there are threads, with every so-manieth file each, and waits for them.
func sha256sums(ctx context.Context, threads int, paths []string) error {
	var all []*exec.Cmd
	var errs []error
	for i := range min(threads, len(paths)) {
		var share []string
		for j := i; j < len(paths); j += threads {
			share = append(share, paths[j])
		}
		cmd := exec.CommandContext(ctx, "sha256sum", append([]string{"--"}, share...)...)
		if err := cmd.Start(); err != nil {
			errs = append(errs, err)
			break
		}
		all = append(all, cmd)
	}
	for _, cmd := range all {
		errs = append(errs, cmd.Wait())
	}
	return errors.Join(errs...)
}
