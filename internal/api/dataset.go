package api

import (
	"strconv"

	forge "github.com/forge-ml/forge-ml"
)

// The places that take a body which is not JSON, beside SnapshotPath.
const (
	DatasetFilesPath = "/v1/dataset-files/" // + the digest of the file
	DatasetsPath     = "/v1/datasets"
	DatasetRowsEnd   = "/rows"   // DatasetsPath/NAME/versions/VERSION + this
	OwnedFilesEnd    = "/files/" // DatasetsPath/NAME/versions/VERSION + this + the digest of the file; answers bytes
	// BytesType is the media type of files and fingerprints.
	BytesType = "application/octet-stream"
)

// The bounds of what a registration may say, and of what is answered about lineage.
const (
	DefaultMaxDataset = 64 << 30 // bytes of one file that is sent to be kept
	MaxDatasetRequest = 16 << 20 // bytes: a manifest of ten thousand files with long names
	MaxLineage        = 10_000   // nodes of one answer
	DefaultLineage    = 1000
	// RowPrint is how many bytes of a row's digest are kept to find it again.
	RowPrint = 8
)

// AddDatasetRequest registers files as the next version of a dataset. Without Scanned forged reads them, once.
type AddDatasetRequest struct {
	Name        string            `json:"name" doc:"Dataset name" example:"support-chat"`
	Paths       []string          `json:"paths" minItems:"1" maxItems:"1000" nullable:"false" doc:"Absolute paths of files and directories, globs too: on the server's host, or where scanned was made"`
	License     string            `json:"license,omitempty" doc:"SPDX expression" example:"Apache-2.0"`
	Description string            `json:"description,omitempty" doc:"For people; it may be edited"`
	Parents     []string          `json:"parents,omitempty" maxItems:"64" doc:"NAME@VERSION of those that this one was made from"`
	Kind        string            `json:"kind,omitempty" enum:"auto,messages,prompt_completion,preference,prompt,unpaired,text" doc:"What the rows are; auto, or absent: what their columns say"`
	Map         map[string]string `json:"map,omitempty" doc:"Column of the kind → column of the files, where they differ"`
	Preset      string            `json:"preset,omitempty" enum:"alpaca,sharegpt" doc:"A known set of columns instead of a map"`
	PIIPolicy   forge.PIIPolicy   `json:"pii_policy,omitempty" enum:"warn,block,redact" doc:"What findings of personal data do: warn registers, block refuses. With redact whoever reads the data makes the redacted child; forged registers"`
	National    bool              `json:"national,omitempty" doc:"Looks for MAC addresses and national ids as well"`
	Near        bool              `json:"near,omitempty" doc:"Counts near duplicates as well, by MinHash"`
	Scanned     *forge.Scanned    `json:"scanned,omitempty" doc:"What a pass found that has been made already; forged then reads no rows, and looks only whether the files are as they were"`
	Redaction   bool              `json:"redaction,omitempty" doc:"The data is that of its one parent with personal data replaced: it gets the PII status redacted. Takes a report that found none"`
	Copy        bool              `json:"copy,omitempty" doc:"forged keeps a copy of its own. With scanned each file has been sent to /v1/dataset-files/{sha256} before; without, forged copies from paths"`
}

// DatasetAdded is the version that the data is now. It answers 201, or 200 for data that was registered under this name before.
type DatasetAdded struct {
	forge.DatasetVersion
	Existed bool `json:"existed,omitempty" doc:"The same data is registered under this name already: nothing was added"`

	Warnings []string `json:"warnings,omitempty" doc:"What the licence was read as, where it was written otherwise, and why no run may train on the data"`
}

// EditDatasetRequest changes what is said about a version. What is absent stays; each change is an event.
type EditDatasetRequest struct {
	License     *string `json:"license,omitempty" doc:"SPDX expression"`
	Description *string `json:"description,omitempty"`
}

// DeleteDatasetRequest takes a version out of use.
type DeleteDatasetRequest struct {
	Purge bool `json:"purge,omitempty" doc:"Erases forge's own copy of the bytes as well; digest, lineage, report and the index of rows stay. May be asked for after a deletion"`
}

// WaiveDatasetRequest takes findings of personal data upon oneself. It cannot be taken back.
type WaiveDatasetRequest struct {
	Reason string `json:"reason" minLength:"1" maxLength:"1000" doc:"Why; it stands in the version and in the events for ever"`
}

// DatasetVerified is what hashing a version's files again found.
type DatasetVerified struct {
	Name    string         `json:"name" doc:"NAME@VERSION"`
	SHA256  string         `json:"sha256" doc:"Of the manifest as it was registered"`
	Files   int            `json:"files" doc:"That were read"`
	Bytes   int64          `json:"bytes" doc:"That were read"`
	Intact  bool           `json:"intact" doc:"All are as they were registered"`
	Differs []FileDiffers  `json:"differs" doc:"Each file that is not"`
	Elapsed forge.Duration `json:"elapsed"`
}

// FileDiffers is one file that is not as it was registered.
type FileDiffers struct {
	File  string `json:"file"`
	Why   string `json:"why"`
	Found string `json:"found,omitempty" doc:"Its SHA-256 now, where it could be read"`
}

// DatasetFile is a file that forged has received: it is kept for a day, and for as long as there is a version with it.
type DatasetFile struct {
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// DatasetRows is an index of a version's rows that forged has received.
type DatasetRows struct {
	Name string `json:"name" doc:"NAME@VERSION"`
	Rows int64  `json:"rows"`
}

// LineageQuery asks for the lineage of a version.
type LineageQuery struct {
	Down  bool // what came of it, instead of what it came from
	Limit int  // nodes at most; 0: DefaultLineage
}

// DatasetVersionPath is where a version is found; number 0 is the newest.
func DatasetVersionPath(escapedName string, number int) string {
	v := "latest"
	if number > 0 {
		v = strconv.Itoa(number)
	}
	return DatasetsPath + "/" + escapedName + "/versions/" + v
}
