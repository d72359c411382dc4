package forge

// Source is the snapshot of a working directory that a run's command starts in, pinned by the digest of its archive.
type Source struct {
	SHA256 string `json:"sha256" doc:"Of the archive"`
	Bytes  int64  `json:"bytes" doc:"Of its files, unpacked"`
	Files  int    `json:"files"`
	Root   string `json:"root,omitempty" doc:"The directory that it was taken of, where that was"`
	Commit string `json:"commit,omitempty" doc:"Of the git repository that it lay in"`
	Dirty  bool   `json:"dirty,omitempty" doc:"It has changes that the commit does not have"`
}
