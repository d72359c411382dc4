package forge

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"
)

// File is one file of an artefact, relative to its root. Size, ModTime and Inode are what a
// run checks before it trusts SHA256 again; a change of any of them means: hash again.
type File struct {
	Path    string    `json:"path" doc:"Relative to the artefact's root, slash-separated"`
	Size    int64     `json:"size" doc:"Bytes"`
	SHA256  string    `json:"sha256" doc:"Hex digest of the content"`
	ModTime time.Time `json:"mtime,omitzero"`
	Inode   uint64    `json:"inode,omitempty"`
}

// Manifest is an artefact (dataset, base model, adapter): files referenced in place under Root.
type Manifest struct {
	Root  string `json:"root" doc:"Absolute path; a directory, or the file itself when there is one file with path \".\""`
	Files []File `json:"files"`
}

// Bytes is the total size.
func (m Manifest) Bytes() int64 {
	var n int64
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// Digest is the SHA-256 over the canonical list of (path, size, sha256), sorted by path:
// equal content gives equal digests wherever it lies and whenever it was written.
func (m Manifest) Digest() string {
	files := slices.Clone(m.Files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	h := sha256.New()
	for _, f := range files {
		h.Write([]byte(strconv.Quote(f.Path) + " " + strconv.FormatInt(f.Size, 10) + " " + f.SHA256 + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil))
}
