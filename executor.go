package forge

import "time"

// ExternalID is what an executor calls an attempt; opaque to everyone else.
type ExternalID string

// Launch is all that an executor needs to start one attempt. It is idempotent by Key.
type Launch struct {
	Key       string     `json:"key"`
	Run       RunID      `json:"run"`
	Number    int64      `json:"run_number"`
	Tenant    TenantID   `json:"tenant"`
	Attempt   int        `json:"attempt"`
	RunDir    string     `json:"run_dir"`
	Spec      RunSpec    `json:"spec"`
	Placement []Share    `json:"placement"`
	Devices   []GPU      `json:"devices"` // the placed slots of all nodes, in the order of Placement
	Inputs    []Manifest `json:"inputs"`  // checked (size, mtime, inode; re-hashed on change) before ranks start
	Config    RankConfig `json:"config"`
	LoadTest  *Entry     `json:"load_test,omitempty"` // tries the output after all ranks have ended well, before it is hashed; nil: none

	// What follows is for clusters with a queue of their own. There Placement may be empty: the queue chooses the
	// nodes, and how many and how large is in Spec.Gang.
	User     string     `json:"user,omitempty"`      // forge's user whose run it is
	Account  string     `json:"account,omitempty"`   // the system's account that jobs and files belong to; "": forged's own
	Nice     int        `json:"nice,omitempty"`      // forge's order among what waits there: lower goes first, 0 is the least
	Exclude  []NodeName `json:"exclude,omitempty"`   // nodes that there is evidence against
	Alike    []string   `json:"alike,omitempty"`     // the values that its nodes have of the label in Spec.Where.Within
	SaveLead Duration   `json:"save_lead,omitempty"` // how long before the limit a save must begin
	Report   *ReportTo  `json:"report,omitempty"`

	// SourceFile is where forged keeps the archive of Spec.Source; it is put into the run directory. "": there is none, or forged has lost it.
	SourceFile string `json:"-"`
}

// ReportTo is where a shim may say "look now", once its ranks have started and once they have ended. It tells nothing and is told
// nothing; forged looks by itself as well, a little later.
type ReportTo struct {
	Socket string `json:"socket,omitempty"` // of forged, on its own host
	URL    string `json:"url,omitempty"`    // of forged: http(s)://HOST:PORT
	Pin    string `json:"pin,omitempty"`    // SHA-256 of the certificate that answers there, in hex
	Token  string `json:"token"`            // of this attempt alone; good for nothing else
}

// ReportPath is where reports go.
const ReportPath = "/shim"

// RankConfig is config.json: what a rank reads through FORGE_CONFIG.
type RankConfig struct {
	RunID         RunID          `json:"run_id"`
	RunNumber     int64          `json:"run_number"`
	Attempt       int            `json:"attempt"`
	Recipe        string         `json:"recipe"`
	Params        map[string]any `json:"params"` // dotted names
	Dataset       *InputRef      `json:"dataset,omitempty"`
	DatasetKind   DatasetKind    `json:"dataset_kind,omitempty"`
	DatasetTerms  string         `json:"dataset_license,omitempty"` // as registered; for the model card
	DatasetLayout *DatasetLayout `json:"dataset_layout,omitempty"`  // absent: JSON Lines with the columns of the kind
	DatasetFiles  []string       `json:"dataset_files,omitempty"`   // below dataset.path, slash-separated; absent: every .jsonl file there
	Base          *InputRef      `json:"base,omitempty"`
	BaseTerms     string         `json:"base_license,omitempty"`
	Start         *InputRef      `json:"start,omitempty"`
	RewardModel   *InputRef      `json:"reward_model,omitempty"`
	Model         *InputRef      `json:"model,omitempty"`
	Suite         *SuiteRef      `json:"suite,omitempty"`
	Scan          *ScanAsk       `json:"scan,omitempty"` // for forged scan
	CheckpointDir string         `json:"checkpoint_dir"`
	OutputDir     string         `json:"output_dir"`
	TrustRemote   bool           `json:"trust_remote_code,omitempty"` // the site lets base models bring code of their own
}

// Lookup is the answer of Find.
type Lookup struct {
	State    LookupState
	ID       ExternalID
	Evidence string
}

// LookupState tells "it is not there" from "nobody answered".
type LookupState string

// The answers of Find.
const (
	LookupFound   LookupState = "found"
	LookupAbsent  LookupState = "absent" // made so: a late start of this key can no longer run
	LookupUnknown LookupState = "unknown"
)

// ObservState is what an executor can say of an attempt.
type ObservState string

// The observed states. Unknown never frees a GPU and never starts a second attempt.
const (
	ObservQueued   ObservState = "queued" // the cluster's own queue has it; nothing is allocated
	ObservStarting ObservState = "starting"
	ObservRunning  ObservState = "running" // every rank has started
	ObservStopping ObservState = "stopping"
	ObservExited   ObservState = "exited" // exit records are complete
	ObservLost     ObservState = "lost"   // proven dead without an exit record
	ObservAbsent   ObservState = "absent" // never started and never will be
	ObservUnknown  ObservState = "unknown"
)

// Observation is one look at one attempt.
type Observation struct {
	ID        ExternalID
	AsOf      time.Time
	State     ObservState
	StartedAt time.Time   // when the last rank had started
	Exits     []RankExit  // one per rank that ended
	Cause     StopCause   // why the shim ended the gang, once it did
	Detail    string      // the shim's words
	ByUID     int         // who sent TERM from outside; -1 when unknown or nobody
	Status    *StatusFile // rank 0's own word
	Resume    *Resume     // what the shim chose to resume from, once it has
	Output    *Manifest   // hashed by the shim after the ranks ended well
	Released  bool        // proof: every process of the attempt is gone, and where a driver can be asked, none is on its GPUs
	Held      string      // why what it has is not free although its ranks have ended, in words
	Placement []Share     // where it really is, once a queue of the cluster's own has chosen; nil: not known, or as launched
	Suspects  []NodeName  // nodes that the end came from, where that can be told; nil: any that it was on
	Batch     *BatchJob   // what the cluster's batch system says; nil where there is none
	Pattern   *PatternHit // the line of a failed rank's output that explains the failure
	GPUFault  *GPUBlame   // the GPU that the gang was ended for
	GPUEvents []GPUEvent  // what the driver said of the ranks' GPUs, the last ones
}

// GPUBlame is a fault of a GPU that ended a gang.
type GPUBlame struct {
	Node NodeName
	Finding
}

// Resume is the shim's choice of a checkpoint, and what it passed over.
type Resume struct {
	Step    int64         `json:"step"`          // 0: from the start
	Run     RunID         `json:"run,omitempty"` // of a branch point: the other run that wrote it
	Attempt int           `json:"attempt,omitempty"`
	Path    string        `json:"path,omitempty"`
	SHA256  string        `json:"sha256,omitempty"`
	Skipped []SkippedSave `json:"skipped,omitempty"`
	Room    string        `json:"room,omitempty"` // what is wrong with the space that is left for saves
}

// SkippedSave is a checkpoint that was there and not good enough.
type SkippedSave struct {
	Path string `json:"path"`
	Step int64  `json:"step"`
	Why  string `json:"why"`
}

// SignalKind is what can be asked of a running attempt. All are idempotent.
type SignalKind string

// The signals.
const (
	SignalCheckpoint SignalKind = "checkpoint" // save at a step boundary, exit 85; KILL after the grace
	SignalLimit      SignalKind = "limit"      // take the time limit for come: the same as checkpoint, for another reason
	SignalCancel     SignalKind = "cancel"     // TERM, grace, KILL; no new checkpoint
	SignalKill       SignalKind = "kill"       // KILL now
)

// Chunk is a piece of a stream (a log or the metrics) read by byte offset.
type Chunk struct {
	Data []byte
	Next int64 // offset after Data, and after what is not kept any more behind it
	Size int64 // size of the stream at the time of reading
}

// StreamMetrics is the stream of metric lines. The others that Files.Read knows are "stdout.N" and
// "stderr.N", the output of rank N.
const StreamMetrics = "metrics"

// Streams of whole files that our own training package leaves in its output: the model card, and what it was made from.
const (
	StreamCard     = "card"
	StreamTraining = "training"
)

// Streams of whole files that rank 0 leaves: what the policy of an rlhf run wrote (samples.jsonl of the attempt), and what an eval
// found (scores.json and samples.jsonl of its output).
const (
	StreamSamples     = "samples"
	StreamScores      = "scores"
	StreamEvalSamples = "eval_samples"
)

// Streams of whole files that a scan leaves in its output: what it found (scanned.json), and eight bytes of the digest of each row,
// sorted (fingerprints).
const (
	StreamScanned      = "scanned"
	StreamFingerprints = "fingerprints"
)

// Streams that a shim leaves, each with ".NODE" behind it: its newest look at the GPUs of its ranks (a GPULook, replaced as a whole), and
// what the driver said of them (GPUEvents, a line each).
const (
	StreamGPUs      = "gpus"
	StreamGPUEvents = "gpu_events"
)

// Remains is what a cluster still has of one run, whoever put it there.
type Remains struct {
	Run     RunID
	Newest  int           // highest attempt that the run directory knows of; 0: there is no directory
	Alive   map[int][]int // living processes by attempt
	Problem string        // why the directory could not be read; empty: it was
}
