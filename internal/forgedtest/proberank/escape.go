package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// escape does what real training does and what a daemon's sandbox forbids: it writes into $HOME (caches
// of compilers and of model hubs), and maps a page that is writable and executable (JIT compilers). Then
// it waits for the file until, when one is named, and ends well.
func escape(until string) error {
	home := os.Getenv("HOME")
	if err := os.WriteFile(filepath.Join(home, "rank-was-here"), []byte("yes\n"), 0o600); err != nil {
		return fmt.Errorf("write into $HOME: %w", err)
	}
	page, err := syscall.Mmap(-1, 0, os.Getpagesize(), syscall.PROT_READ|syscall.PROT_WRITE|syscall.PROT_EXEC, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return fmt.Errorf("map a page W+X: %w", err)
	}
	fmt.Println("wrote into", home, "and mapped a page W+X")
	for deadline := time.Now().Add(2 * time.Minute); until != ""; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(until); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return errors.New("nobody let it go on")
		}
	}
	return syscall.Munmap(page)
}
