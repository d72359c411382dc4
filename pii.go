package forge

import "time"

// PIIEntity is a sort of personal data, or of secret. The names of secrets begin with "secret_".
type PIIEntity string

// The sorts that are always looked for; secrets and national ids by kind are in internal/dataset/pii.
const (
	PIIEmail      PIIEntity = "email"
	PIIPhone      PIIEntity = "phone"
	PIICreditCard PIIEntity = "credit_card"
	PIIIBAN       PIIEntity = "iban"
	PIISSN        PIIEntity = "us_ssn"
	PIIIPAddress  PIIEntity = "ip_address"
	PIIMACAddress PIIEntity = "mac_address" // with the second set
)

// Confidence says how sure a finding is: of its form alone, of its checksum, of the words around it.
type Confidence string

// The confidences. Low ones are counted and change no status.
const (
	ConfidenceLow    Confidence = "low"
	ConfidenceMedium Confidence = "medium"
	ConfidenceHigh   Confidence = "high"
)

// PIIPolicy says what findings of personal data do to a registration.
type PIIPolicy string

// The policies.
const (
	PIIWarn   PIIPolicy = "warn"   // registered, with status findings
	PIIBlock  PIIPolicy = "block"  // refused
	PIIRedact PIIPolicy = "redact" // registered, and a redacted child beside it
)

// PIIReport is what the scanner for personal data and secrets found. It holds no match, only masked samples.
type PIIReport struct {
	Scanner     string      `json:"scanner" doc:"Version of the rules"`
	RulesSHA256 string      `json:"rules_sha256" doc:"Digest of the rules: equal digests find the same"`
	Sets        []string    `json:"sets" doc:"Which sets of rules looked: default, secrets, national"`
	Rows        int64       `json:"rows" doc:"Rows that were looked at: all of them"`
	RowsFound   int64       `json:"rows_found" doc:"Rows with a finding of medium or high confidence"`
	Counts      []PIICount  `json:"counts" doc:"By sort, field and confidence"`
	Samples     []PIISample `json:"samples" doc:"A few of each sort, masked"`
	Note        string      `json:"note" doc:"What such rules cannot see"`
}

// PIICount is how often something was found.
type PIICount struct {
	Entity     PIIEntity  `json:"entity"`
	Field      string     `json:"field" doc:"As columns nest: messages[].content"`
	Confidence Confidence `json:"confidence" enum:"low,medium,high"`
	Findings   int64      `json:"findings"`
	Rows       int64      `json:"rows"`
}

// PIISample is one finding, as much of it as may be shown.
type PIISample struct {
	Entity     PIIEntity  `json:"entity"`
	Field      string     `json:"field"`
	Confidence Confidence `json:"confidence" enum:"low,medium,high"`
	Place      string     `json:"place" doc:"FILE:LINE"`
	Offset     int        `json:"offset" doc:"Of its first byte in the text of the field"`
	Masked     string     `json:"masked" doc:"Its form with most characters hidden"`
}

// Found says whether anything of medium or high confidence was found.
func (r *PIIReport) Found() bool { return r != nil && r.RowsFound > 0 }

// Status is what a fresh report makes of a version.
func (r *PIIReport) Status() PIIStatus {
	switch {
	case r == nil:
		return PIINotScanned
	case r.Found():
		return PIIFindings
	}
	return PIIClean
}

// Waiver says who takes findings upon themselves, and why.
type Waiver struct {
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}
