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
)

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
}
