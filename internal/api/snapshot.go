package api

// SnapshotType is the media type of a snapshot's archive.
const SnapshotType = "application/gzip"

// SnapshotPath is where archives are sent to: the one place that takes a body that is not JSON.
const SnapshotPath = "/v1/snapshots"

// DefaultMaxSnapshot bounds the files of a snapshot where the site says nothing else, in bytes.
const DefaultMaxSnapshot = 100 << 20

// Snapshot is an archive of a working directory that forged keeps: for a day, and for as long as there is a run of it.
type Snapshot struct {
	SHA256 string `json:"sha256" doc:"Of the archive"`
	Bytes  int64  `json:"bytes" doc:"Of its files, unpacked"`
	Files  int    `json:"files"`
}
