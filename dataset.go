package forge

import "time"

// DatasetKind is the shape of the rows, as TRL names it; a recipe says which kinds it accepts.
type DatasetKind string

// The kinds that registration recognises from the columns of a JSON Lines file.
const (
	KindMessages         DatasetKind = "messages"          // {"messages":[{"role","content"}…]}
	KindText             DatasetKind = "text"              // {"text"}
	KindPromptCompletion DatasetKind = "prompt_completion" // {"prompt","completion"}
	KindPreference       DatasetKind = "preference"        // {"prompt"?,"chosen","rejected"}
	KindPrompt           DatasetKind = "prompt"            // {"prompt"}
	KindUnpaired         DatasetKind = "unpaired"          // {"prompt","completion","label"}, label true or false
)

// DatasetKinds lists them.
var DatasetKinds = []DatasetKind{KindMessages, KindText, KindPromptCompletion, KindPreference, KindPrompt, KindUnpaired}

// DatasetFormat is how rows lie in the files of a version; all of them have the same.
type DatasetFormat string

// The formats. Each of the first three may be compressed with gzip or zstd, file by file.
const (
	FormatJSONL   DatasetFormat = "jsonl"   // one JSON object a line
	FormatJSON    DatasetFormat = "json"    // one array of objects
	FormatCSV     DatasetFormat = "csv"     // RFC 4180, with a header; all values are text
	FormatParquet DatasetFormat = "parquet" // flat or nested; lists of {role, content} are messages
	FormatArrow   DatasetFormat = "arrow"   // IPC stream or file, as datasets' save_to_disk writes it
)

// DatasetLayout says how a row of the files becomes a row of the kind. Go and Python read it in the same way.
type DatasetLayout struct {
	Format DatasetFormat     `json:"format"`
	Map    map[string]string `json:"map,omitempty" doc:"Column of the kind → column of the files, where they differ; columns that are named on neither side stay as they are"`
	Preset string            `json:"preset,omitempty" enum:"alpaca,sharegpt" doc:"A known set of columns instead of a map"`
}

// Plain says that the columns of the files are those of the kind.
func (l DatasetLayout) Plain() bool { return len(l.Map) == 0 && l.Preset == "" }

// DatasetParent is a version that another was made from.
type DatasetParent struct {
	ID      DatasetVersionID `json:"id"`
	Name    string           `json:"name"`
	Version int              `json:"version"`
}

// PIIStatus says what is known of personal data in a dataset version.
type PIIStatus string

// The PII states; only not_scanned is reachable before the scanner arrives.
const (
	PIINotScanned PIIStatus = "not_scanned"
	PIIScanning   PIIStatus = "scanning"
	PIIClean      PIIStatus = "clean"
	PIIFindings   PIIStatus = "findings"
	PIIRedacted   PIIStatus = "redacted"
	PIIWaived     PIIStatus = "waived"
)

// Dataset is a name under which immutable versions are registered.
type Dataset struct {
	ID        DatasetID        `json:"id"`
	Tenant    TenantID         `json:"-"`
	Name      string           `json:"name"`
	CreatedAt time.Time        `json:"created_at"`
	Versions  []DatasetVersion `json:"versions,omitempty" doc:"Oldest first"`
}

// DatasetVersion is one immutable, digested state of a dataset, referenced in place.
type DatasetVersion struct {
	ID        DatasetVersionID `json:"id"`
	Dataset   DatasetID        `json:"-"`
	Tenant    TenantID         `json:"-"`
	Name      string           `json:"name" doc:"The dataset's name"`
	Number    int              `json:"version"`
	Kind      DatasetKind      `json:"kind"`
	Columns   []string         `json:"columns"`
	Rows      int64            `json:"rows"`
	Bytes     int64            `json:"bytes"`
	SHA256    string           `json:"sha256" doc:"Digest of the manifest"`
	Manifest  Manifest         `json:"manifest"`
	License   string           `json:"license" doc:"SPDX expression, NOASSERTION when not given"`
	PII       PIIStatus        `json:"pii"`
	Seen      *RowsSeen        `json:"seen,omitempty" doc:"What registration saw in the rows; absent where it was before registration looked"`
	Parent    DatasetVersionID `json:"parent,omitempty"`
	CreatedBy string           `json:"created_by"`
	CreatedAt time.Time        `json:"created_at"`

	Description string          `json:"description,omitempty"`
	Layout      *DatasetLayout  `json:"layout,omitempty" doc:"Absent: JSON Lines with the columns of the kind"`
	Parents     []DatasetParent `json:"parents,omitempty" doc:"What it was made from"`
	Scan        *ScanReport     `json:"scan,omitempty" doc:"What the pass over the data found; absent in listings, and where it was registered before such passes"`
	Waiver      *Waiver         `json:"waiver,omitempty" doc:"Who took the findings of personal data upon themselves"`
	Owned       bool            `json:"owned,omitempty" doc:"The bytes are forge's own copy, which purging erases"`
	Indexed     bool            `json:"indexed,omitempty" doc:"Its rows can be looked up by digest"`
	DeletedAt   time.Time       `json:"deleted_at,omitzero" doc:"No run may use it any more; digest and lineage stay"`
	PurgedAt    time.Time       `json:"purged_at,omitzero" doc:"forge's own copy of the bytes is erased"`
}
