package forge

import "time"

// ScannedBy says whose process read the data.
type ScannedBy string

// Who may have read it. What forgectl says of data it says for the person who ran it; a gate may want to hear it from forged or from a job.
const (
	ScannedByForgectl ScannedBy = "forgectl"
	ScannedByForged   ScannedBy = "forged"
	ScannedByJob      ScannedBy = "job"
)

// ScanReport is what one pass over the data of a version found, beyond what stands in the version itself.
type ScanReport struct {
	Scanner    string      `json:"scanner" doc:"Version of the program that scanned"`
	By         ScannedBy   `json:"by" enum:"forgectl,forged,job"`
	At         time.Time   `json:"at" doc:"When the pass ended"`
	Elapsed    Duration    `json:"elapsed"`
	Duplicates Duplicates  `json:"duplicates"`
	Lengths    []LengthBin `json:"lengths" doc:"How long the texts of a row are together; empty bins are left out"`
	PII        *PIIReport  `json:"pii,omitempty" doc:"Absent where nobody looked for personal data"`
}

// Duplicates counts rows that say the same as an earlier one.
type Duplicates struct {
	Rows      int64    `json:"rows" doc:"Rows whose columns of the kind have exactly the texts of an earlier row"`
	First     []string `json:"first" doc:"FILE:LINE = FILE:LINE of the first few"`
	Near      int64    `json:"near,omitempty" doc:"Rows that are nearly an earlier one, by MinHash; exact ones not counted again"`
	NearFirst []string `json:"near_first,omitempty"`
	NearAmong int64    `json:"near_among,omitempty" doc:"How many different rows were kept to compare with, the first ones; absent: all of them"`
	Threshold float64  `json:"near_threshold,omitempty" doc:"From which Jaccard similarity of word shingles on; absent where nobody asked for near ones"`
}

// LengthBin is one bar of the histogram.
type LengthBin struct {
	Below int64 `json:"below" doc:"Characters; the bin begins at half of it, the first one at 0"`
	Rows  int64 `json:"rows"`
}

// RowProblem is one row that is none. A version has no such rows; they are listed where one is refused.
type RowProblem struct {
	File   string `json:"file"`
	Line   int64  `json:"line" doc:"From 1; of a row in formats without lines. 0: of the file as a whole"`
	Column int    `json:"column,omitempty" doc:"Characters, from 1"`
	Why    string `json:"why" doc:"Quotes nothing of the content but column names and roles"`
	Hint   string `json:"hint,omitempty"`
}

// Scanned is all that a pass found of data: what forgectl and jobs send to register it.
type Scanned struct {
	Manifest Manifest      `json:"manifest"`
	Kind     DatasetKind   `json:"kind"`
	Layout   DatasetLayout `json:"layout"`
	Columns  []string      `json:"columns"`
	Rows     int64         `json:"rows"`
	Seen     RowsSeen      `json:"seen"`
	Report   ScanReport    `json:"report"`
}

// ScanAsk is what a process is asked to read for a version, and what that version is to be.
type ScanAsk struct {
	Name        string            `json:"name"`
	Paths       []string          `json:"paths" doc:"Absolute, as the one who reads sees them"`
	Kind        DatasetKind       `json:"kind,omitempty" doc:"Absent: found out"`
	Map         map[string]string `json:"map,omitempty"`
	Preset      string            `json:"preset,omitempty"`
	License     string            `json:"license,omitempty"`
	Description string            `json:"description,omitempty"`
	Parents     []DatasetParent   `json:"parents,omitempty"`
	Policy      PIIPolicy         `json:"pii_policy,omitempty"`
	National    bool              `json:"national,omitempty" doc:"National ids and MAC addresses, too"`
	Near        float64           `json:"near,omitempty" doc:"Nearly equal rows from this Jaccard similarity of word shingles on; 0: not looked for"`
	Threads     int               `json:"threads,omitempty" doc:"0: one"`
}
