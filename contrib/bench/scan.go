package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	scanRounds  = 3
	scanThreads = 2
	scanRSS     = 200 // MB
)

// scanRate is `forgectl dataset add` as a person calls it on a login node, with two threads: SHA-256, every row parsed and checked, duplicates, personal
// data, and the registration, over 2 GB of chat rows. Beside it, turn by turn and at the same nice value, Debian's sha256sum over the same file, and a
// loop in Go that reads and hashes and does nothing else. Rates are medians; RSS is the largest of all rounds, by the kernel's account.
func scanRate(ctx context.Context, e env) ([]figure, error) {
	path, err := scanRows(scanBytes)
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	s, err := site(ctx, e)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	if err := readThrough(path); err != nil { // all of them find it in memory, or none
		return nil, err
	}
	var ours, theirs, bare []float64
	var rss int64
	mb := float64(st.Size()) / 1e6
	for range scanRounds {
		took, used, err := ran(s.Command(ctx, "dataset", "add", "rows", path, "--threads", fmt.Sprint(scanThreads)))
		if err != nil {
			return nil, err
		}
		ours, rss = append(ours, mb/took.Seconds()), max(rss, used)
		if took, _, err = ran(exec.CommandContext(ctx, "nice", "-n", "19", "sha256sum", "--", path)); err != nil {
			return nil, err
		}
		theirs = append(theirs, mb/took.Seconds())
		began := time.Now()
		if err := readThrough(path); err != nil {
			return nil, err
		}
		bare = append(bare, mb/time.Since(began).Seconds())
		fmt.Printf("  dataset add %.0f MB/s, sha256sum %.0f MB/s, Go's read + crypto/sha256 %.0f MB/s, RSS %.0f MB\n", ours[len(ours)-1], theirs[len(theirs)-1], bare[len(bare)-1], float64(used)/1e6)
	}
	fmt.Printf("  scan_rate is %.2f of Go's read + crypto/sha256, on one thread\n", median(ours)/median(bare))
	return []figure{
		atLeast("scan_rate", median(ours), "MB/s", "sha256sum", median(theirs), 0.5),
		atMost("scan_rss", float64(rss)/1e6, "MB", "limit", scanRSS, 1),
	}, nil
}

// ran runs a program to its end, and says how long it took and how much memory it had at most, in bytes.
func ran(cmd *exec.Cmd) (time.Duration, int64, error) {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, 0, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, said.Bytes())
	}
	took := time.Since(began)
	use, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, 0, errors.New("the kernel does not say how much memory it had")
	}
	return took, use.Maxrss << 10, nil
}

func readThrough(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = io.CopyBuffer(struct{ io.Writer }{sha256.New()}, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return err
}
