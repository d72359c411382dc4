package api

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Services is what the operations need, one small interface a noun. internal/daemon
// implements them on store.For(principal), so that no handler can reach another tenant.
//
// Error contract of every method: forge.Error; KindNotFound for what is absent or another
// tenant's, KindInvalid with Field for bad input, KindForbidden for a role that may not.
type Services struct {
	Auth     Auth
	Once     Once
	Tenants  Tenants
	Users    Users
	Datasets Datasets
	Models   Models
	Progress Progresses
	Runs     Runs
	Holds    Holds
	RunData  RunData
	Keys     Keys
	Site     Site
	Clusters Clusters
	Events   Events
}

// Auth says who is asking.
type Auth interface {
	// Authenticate turns a secret into a principal. KindUnauthorized, by the same text, for a key that is
	// unknown, expired or revoked, or whose user is disabled.
	Authenticate(ctx context.Context, secret string) (forge.Principal, error)
	// AuthenticatePeer does the same for a uid that the kernel named at the other end of the unix
	// socket. KindUnauthorized for a uid that is no user's, or a disabled one's.
	AuthenticatePeer(ctx context.Context, uid uint32) (forge.Principal, error)
	// ActIn lets an operator act in the tenant that X-Tenant-ID names, by id or name. KindForbidden for any
	// other role, before it is said whether there is such a tenant; KindNotFound.
	ActIn(ctx context.Context, p forge.Principal, tenant string) (forge.Principal, error)
}

// Once answers repeated requests. Whatever a POST makes or changes, the store writes p.Once with its id
// in the same transaction, so that no crash can separate the two.
type Once interface {
	// Earlier is the id that the first request with p.Once left; empty when there was none. KindConflict
	// when that request was another one.
	Earlier(ctx context.Context, p forge.Principal) (ref string, err error)
}

// Tenants makes and shows tenants. Operators see all; everyone else its own. KindForbidden for
// creation by anyone but an operator.
type Tenants interface {
	CreateTenant(ctx context.Context, p forge.Principal, r CreateTenantRequest) (forge.Tenant, error)
	Tenants(ctx context.Context, p forge.Principal, q Listing) (List[forge.Tenant], error)
	Tenant(ctx context.Context, p forge.Principal, tenant string) (forge.Tenant, error) // id or name
}

// Users manages the people of the principal's tenant. For admins; viewers and members see
// themselves. Nobody gives a role above their own: KindForbidden.
type Users interface {
	CreateUser(ctx context.Context, p forge.Principal, r CreateUserRequest) (forge.User, error)
	Users(ctx context.Context, p forge.Principal, q Listing) (List[forge.User], error)
	User(ctx context.Context, p forge.Principal, user string) (forge.User, error) // id or name
	UpdateUser(ctx context.Context, p forge.Principal, user string, r UpdateUserRequest) (forge.User, error)
	DisableUser(ctx context.Context, p forge.Principal, user string, why forge.Why) (forge.User, error)
	EnableUser(ctx context.Context, p forge.Principal, user string) (forge.User, error)
}

// Datasets registers and shows datasets. Paths are read on the server's host.
type Datasets interface {
	AddDataset(ctx context.Context, p forge.Principal, r AddDatasetRequest) (forge.DatasetVersion, error)
	Datasets(ctx context.Context, p forge.Principal, q Listing) (List[forge.Dataset], error)
	DatasetVersion(ctx context.Context, p forge.Principal, id string) (forge.DatasetVersion, error)
	Dataset(ctx context.Context, p forge.Principal, name string) (forge.Dataset, error)
}

// Models imports base models and registers trained ones.
type Models interface {
	ImportModel(ctx context.Context, p forge.Principal, r ImportModelRequest) (forge.ModelVersion, error)
	RegisterModel(ctx context.Context, p forge.Principal, r RegisterModelRequest) (forge.ModelVersion, error)
	Models(ctx context.Context, p forge.Principal, q Listing) (List[forge.Model], error)
	ModelVersion(ctx context.Context, p forge.Principal, id string) (forge.ModelVersion, error)
	Model(ctx context.Context, p forge.Principal, name string) (forge.Model, error)
}

// Progresses says how far a registration is that is being carried out for the principal: key is the Idempotency-Key
// of its request. KindNotFound, by the same words, for one that has ended, one that never was, and one that is
// another tenant's or another user's.
type Progresses interface {
	Progress(ctx context.Context, p forge.Principal, key string) (Progress, error)
}

// Runs submits runs and acts on them. A run is named by its number or its id. Members act on their own
// runs, admins on all of the tenant: KindForbidden. A priority above the principal's cap is
// KindForbidden naming the field.
type Runs interface {
	SubmitRun(ctx context.Context, p forge.Principal, r SubmitRunRequest) (Submitted, error)
	Run(ctx context.Context, p forge.Principal, run string) (RunDetail, error)
	Runs(ctx context.Context, p forge.Principal, f RunFilter) (List[forge.Run], error)
	CancelRun(ctx context.Context, p forge.Principal, run string, mode forge.CancelMode) (forge.Run, error)
	RetryRun(ctx context.Context, p forge.Principal, run string) (Submitted, error)
}

// Holds keeps waiting runs from being placed, and lets them go on.
type Holds interface {
	HoldRun(ctx context.Context, p forge.Principal, run, reason string) (forge.Run, error)
	ReleaseRun(ctx context.Context, p forge.Principal, run string) (forge.Run, error)
}

// RunData reads what a run produced and why it waits.
type RunData interface {
	Why(ctx context.Context, p forge.Principal, run string) (Why, error)
	Log(ctx context.Context, p forge.Principal, run string, q LogQuery) (LogChunk, error)
	Metrics(ctx context.Context, p forge.Principal, run string, q MetricsQuery) (Metrics, error)
	Checkpoints(ctx context.Context, p forge.Principal, run string) ([]forge.Checkpoint, error)
	Queue(ctx context.Context, p forge.Principal, limit int) (Queue, error)
}

// Keys manages the API keys of the principal's tenant. Members see and manage their own, admins
// those of all. A key's role is at most that of its user, and at most that of its maker.
type Keys interface {
	CreateKey(ctx context.Context, p forge.Principal, r CreateKeyRequest) (CreatedKey, error)
	Keys(ctx context.Context, p forge.Principal, q Listing) (List[forge.Key], error)
	Key(ctx context.Context, p forge.Principal, id string) (forge.Key, error)
	// RotateKey makes a new key with the name, role and lifetime of an old one, which goes on working for overlap.
	RotateKey(ctx context.Context, p forge.Principal, id string, overlap time.Duration) (CreatedKey, error)
	RevokeKey(ctx context.Context, p forge.Principal, id string, why forge.Why) (forge.Key, error)
}

// Site answers about the daemon itself.
type Site interface {
	Nodes(ctx context.Context, p forge.Principal) ([]NodeView, error)
	// Ready returns why the daemon is not ready; empty means that it is.
	Ready(ctx context.Context) []string
	// WhoAmI says how the daemon sees the principal.
	WhoAmI(ctx context.Context, p forge.Principal) (WhoAmI, error)
	// Doctor looks at what commonly breaks, from the daemon's side. For operators.
	Doctor(ctx context.Context, p forge.Principal) ([]Check, error)
}

// Clusters shows clusters and lets those go on that were paused. ResumeCluster is for operators:
// KindForbidden for anyone else, before it is said whether there is such a cluster.
type Clusters interface {
	Clusters(ctx context.Context, p forge.Principal) ([]ClusterView, error)
	ResumeCluster(ctx context.Context, p forge.Principal, name string) (ClusterView, error)
}

// Events is the audit trail as a stream.
type Events interface {
	// EventsAfter returns at most limit events with Seq > f.After, oldest first, of the principal's
	// tenant and as f says.
	EventsAfter(ctx context.Context, p forge.Principal, f EventFilter, limit int) ([]forge.Event, error)
	// Changed returns the newest seq of the site, whoever's it is, and a channel that is closed at the
	// next: EventsAfter, called later, leaves out nothing up to that seq.
	Changed() (newest int64, next <-chan struct{})
}

// Listing asks for a page of a listing. Cursor is opaque: next of the page before. One that is of another
// listing, another order or another tenant is KindInvalid. Pages are stable: what is inserted
// meanwhile neither repeats nor hides an item.
type Listing struct {
	Limit  int
	Cursor string
	Sort   string // a field, descending with a leading '-'; empty: the listing's own order
	Name   string // names that begin with this
	Kind   string // of models and datasets
}

// EventFilter narrows the trail.
type EventFilter struct {
	After int64 // only greater seqs
	Run   string
	Types []forge.EventType
	Actor string
	Since time.Time
}

// AddDatasetRequest registers a file or directory as the next version of a dataset.
type AddDatasetRequest struct {
	Name    string `json:"name" doc:"Dataset name" example:"support-chat"`
	Path    string `json:"path" doc:"Absolute path on the server's host: a .jsonl file, or a directory of them"`
	License string `json:"license,omitempty" doc:"SPDX expression" example:"Apache-2.0"`
	Parent  string `json:"parent,omitempty" doc:"NAME@VERSION that this one was made from"`
}

// ImportModelRequest registers existing weights as a base model.
type ImportModelRequest struct {
	Name    string `json:"name"`
	Path    string `json:"path" doc:"Absolute path of a model directory on the server's host"`
	License string `json:"license,omitempty" doc:"SPDX expression"`
}

// Progress is how far a registration is.
type Progress struct {
	Op         string    `json:"op" doc:"Operation that is carried out" example:"add-dataset"`
	BytesDone  int64     `json:"bytes_done" minimum:"0" doc:"Read so far"`
	BytesTotal int64     `json:"bytes_total" minimum:"0" doc:"To read in all; 0 until that is known"`
	StartedAt  time.Time `json:"started_at"`
}

// RegisterModelRequest registers the output of a completed run.
type RegisterModelRequest struct {
	Name string `json:"name"`
	Run  string `json:"run" doc:"Run number or id"`
}

// SubmitRunRequest is what `forgectl run submit` sends; a run file (-f) has the same fields.
// Zero values mean "the recipe's default".
type SubmitRunRequest struct {
	Name            string         `json:"name,omitempty" yaml:"name"`
	Recipe          string         `json:"recipe" yaml:"recipe"`
	Dataset         string         `json:"dataset,omitempty" yaml:"dataset" doc:"NAME or NAME@VERSION"`
	Base            string         `json:"base,omitempty" yaml:"base" doc:"NAME or NAME@VERSION"`
	Params          map[string]any `json:"params,omitempty" yaml:"params" doc:"Parameters of the run file, dotted or nested"`
	Set             []string       `json:"set,omitempty" yaml:"-" doc:"KEY=VALUE, over params"`
	Nodes           int            `json:"nodes,omitempty" yaml:"nodes" minimum:"0"`
	GPUsPerNode     int            `json:"gpus_per_node,omitempty" yaml:"gpus_per_node" minimum:"0"`
	GPUs            int            `json:"gpus,omitempty" yaml:"gpus" minimum:"0" doc:"Total over all nodes; refused if it does not divide by nodes"`
	CPUsPerGPU      int            `json:"cpus_per_gpu,omitempty" yaml:"cpus_per_gpu" minimum:"0"`
	MemoryMiBPerGPU int64          `json:"memory_mib_per_gpu,omitempty" yaml:"memory_mib_per_gpu" minimum:"0"`
	TimeLimit       forge.Duration `json:"time_limit,omitzero" yaml:"time_limit" doc:"Of one attempt: 30m, 1-12:00:00, 90"`
	TotalTime       forge.Duration `json:"total_time,omitzero" yaml:"total_time"`
	StartTimeout    forge.Duration `json:"start_timeout,omitzero" yaml:"start_timeout"`
	StallTimeout    forge.Duration `json:"stall_timeout,omitzero" yaml:"stall_timeout"`
	Grace           forge.Duration `json:"grace,omitzero" yaml:"grace"`
	Priority        *int           `json:"priority,omitempty" yaml:"priority" doc:"0 to 100, higher first; default 50"`
	MaxRetries      int            `json:"max_retries,omitempty" yaml:"max_retries" minimum:"0"`
	Register        string         `json:"register,omitempty" yaml:"register" doc:"Model name for the output"`
	After           []string       `json:"after,omitempty" yaml:"after" doc:"Runs that must complete first"`
	Cluster         string         `json:"cluster,omitempty" yaml:"cluster"`
	DryRun          bool           `json:"dry_run,omitempty" yaml:"-" doc:"Resolve and check, store nothing"`
}

// Submitted is the answer to a submission.
type Submitted struct {
	Run      forge.Run `json:"run"`
	Position int       `json:"position" doc:"Place in the queue, 1 is next; 0 for a dry run"`
	Waiting  int       `json:"waiting" doc:"Runs in the queue, this one included"`
	Warnings []string  `json:"warnings,omitempty"`
}

// RunDetail is a run with its attempts.
type RunDetail struct {
	forge.Run
	Attempts []forge.Attempt `json:"attempts"`
	ETA      time.Time       `json:"eta,omitzero" doc:"When the last step is expected, from the steps seen"`
}

// RunFilter narrows and orders a listing of runs; newest first when Sort is empty.
type RunFilter struct {
	States []forge.RunState
	User   string
	Recipe string
	Name   string    // names that begin with this
	Model  string    // registered as a version of this model
	Since  time.Time // submitted at or after
	Until  time.Time // submitted before
	Sort   string    // number, priority, submitted_at, ended_at or loss; descending with a leading '-'
	Limit  int
	Cursor string // next of the page before, bound to tenant, filters and order
}

// Why says why a run is where it is.
type Why struct {
	Run      int64          `json:"run"`
	State    forge.RunState `json:"state"`
	Sentence string         `json:"sentence" doc:"The whole answer in one sentence"`
	Code     forge.HoldCode `json:"code,omitempty"`
	Position int            `json:"position,omitempty"`
	Waiting  int            `json:"waiting,omitempty"`
	Evidence []string       `json:"evidence,omitempty" doc:"What the sentence rests on"`
	Next     []string       `json:"next,omitempty" doc:"Commands that may help"`
}

// LogQuery asks for a piece of one rank's output. Attempt 0 is the newest. A follower asks
// again with Attempt and Offset of the last answer's Next.
type LogQuery struct {
	Rank    int
	Attempt int
	Stream  string // stdout | stderr
	Offset  int64
	Max     int
}

// LogChunk is a piece of a log.
type LogChunk struct {
	Attempt int            `json:"attempt"`
	Rank    int            `json:"rank"`
	Stream  string         `json:"stream"`
	Data    string         `json:"data" doc:"UTF-8; other bytes are replaced"`
	Next    int64          `json:"next" doc:"Offset to ask for next"`
	End     bool           `json:"end" doc:"The attempt has ended and this is all of it"`
	Newer   int            `json:"newer,omitempty" doc:"Number of the attempt after this one, if there is one"`
	State   forge.RunState `json:"state"`
}

// MetricsQuery asks for a curve; at most Points buckets per key.
type MetricsQuery struct {
	Keys   []string
	From   int64
	To     int64
	Points int
}

// Metrics holds curves by key.
type Metrics struct {
	Step       int64                           `json:"step"`
	TotalSteps int64                           `json:"total_steps"`
	Keys       []string                        `json:"keys"`
	Curves     map[string][]forge.MetricBucket `json:"curves"`
	Last       map[string]float64              `json:"last"`
}

// Queue is what waits and runs, in the order of the plan. Other tenants' load is anonymous.
type Queue struct {
	Entries []QueueEntry `json:"entries"`
	More    int          `json:"more,omitempty" doc:"Entries after these"`
	Others  OthersLoad   `json:"others"`
}

// QueueEntry is one of the tenant's runs.
type QueueEntry struct {
	Position int            `json:"position" doc:"0 for a run that has its GPUs"`
	Run      int64          `json:"run"`
	Name     string         `json:"name,omitempty"`
	User     string         `json:"user"`
	Recipe   string         `json:"recipe"`
	State    forge.RunState `json:"state"`
	Priority int            `json:"priority"`
	GPUs     int            `json:"gpus"`
	Why      string         `json:"why,omitempty"`
	Since    time.Time      `json:"since"`
}

// OthersLoad is what other tenants use, without names (invariant 8).
type OthersLoad struct {
	Waiting int `json:"waiting"`
	Running int `json:"running"`
	GPUs    int `json:"gpus"`
}

// NodeView is a node with what is free.
type NodeView struct {
	forge.Node
	FreeGPUs      int   `json:"free_gpus"`
	FreeCPUs      int   `json:"free_cpus"`
	FreeMemoryMiB int64 `json:"free_memory_mib"`
}

// ClusterView is a cluster with what is free in it.
type ClusterView struct {
	forge.Cluster
	Nodes    int `json:"nodes"`
	FreeGPUs int `json:"free_gpus"`
	GPUs     int `json:"gpus"`
}

// CreateTenantRequest makes a tenant.
type CreateTenantRequest struct {
	Name string `json:"name" maxLength:"64" doc:"1 to 64 characters of a-z, 0-9, '.', '-', '_'"`
}

// CreateUserRequest makes a user of the tenant.
type CreateUserRequest struct {
	Name        string     `json:"name" maxLength:"64"`
	Role        forge.Role `json:"role,omitempty" enum:"viewer,member,admin,operator" doc:"Default member"`
	MaxPriority *int       `json:"max_priority,omitempty" minimum:"0" maximum:"100" doc:"Highest priority that the user may ask for; absent: the site's default"`
	UnixUID     *int64     `json:"unix_uid,omitempty" minimum:"0" maximum:"4294967294" doc:"The uid that is this user on the unix socket"`
}

// UpdateUserRequest changes what is given.
type UpdateUserRequest struct {
	Role        *forge.Role `json:"role,omitempty" enum:"viewer,member,admin,operator"`
	MaxPriority *int        `json:"max_priority,omitempty" minimum:"-1" maximum:"100" doc:"-1: the site's default again"`
	UnixUID     *int64      `json:"unix_uid,omitempty" minimum:"-1" maximum:"4294967294" doc:"-1: none any more"`
}

// DisableUserRequest says why.
type DisableUserRequest struct {
	Reason forge.Why `json:"reason,omitempty" enum:"requested,leaked,left,unused" doc:"Default requested"`
}

// CreateKeyRequest makes a key for a user of the tenant. An admin's request makes the user where there is none.
type CreateKeyRequest struct {
	User      string         `json:"user,omitempty" maxLength:"64" doc:"Default: who asks"`
	Role      forge.Role     `json:"role,omitempty" enum:"viewer,member,admin,operator" doc:"At most the user's; default the user's"`
	Name      string         `json:"name,omitempty" maxLength:"64" doc:"What it is for"`
	ExpiresIn forge.Duration `json:"expires_in,omitzero" doc:"Default: never; durations as everywhere: 90 is minutes, 30-0 is days, 720h"`
}

// RotateKeyRequest says how long the old key goes on working.
type RotateKeyRequest struct {
	Overlap forge.Duration `json:"overlap,omitzero" doc:"Default 0: the old key ends at once"`
}

// RevokeKeyRequest says why.
type RevokeKeyRequest struct {
	Reason forge.Why `json:"reason,omitempty" enum:"requested,leaked,left,unused" doc:"Default requested"`
}

// CreatedKey carries the secret, this once.
type CreatedKey struct {
	forge.Key
	Secret string `json:"secret,omitempty" doc:"Absent when a repeated request is answered: it was shown to the first"`
}

// WhoAmI is how the daemon sees who asks.
type WhoAmI struct {
	Tenant      forge.Tenant `json:"tenant" doc:"Where requests act"`
	Home        string       `json:"home,omitempty" doc:"Name of the user's own tenant, when it is another"`
	User        string       `json:"user"`
	Role        forge.Role   `json:"role"`
	Via         forge.Via    `json:"via" enum:"key,socket"`
	MaxPriority int          `json:"max_priority" doc:"Highest priority that it may ask for"`
	Key         *forge.Key   `json:"key,omitempty"`
}

// CheckStatus is how a check came out.
type CheckStatus string

// The outcomes, best first.
const (
	CheckOK      CheckStatus = "ok"
	CheckWarn    CheckStatus = "warn"
	CheckFail    CheckStatus = "fail"
	CheckUnknown CheckStatus = "unknown" // could not be looked at; Found says why
)

// Check is one thing that the doctor looked at.
type Check struct {
	Name   string      `json:"name" doc:"Stable name" example:"clock_skew"`
	Status CheckStatus `json:"status" enum:"ok,warn,fail,unknown"`
	Found  string      `json:"found" doc:"What was seen, with its value and limit"`
	Fix    string      `json:"fix,omitempty" doc:"What to do, as a command where there is one"`
}
