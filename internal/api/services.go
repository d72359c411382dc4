package api

import (
	"context"
	"io"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Services is what the operations need, one small interface a noun. internal/daemon
// implements them on store.For(principal), so that no handler can reach another tenant.
//
// Error contract of every method: forge.Error; KindNotFound for what is absent or another
// tenant's, KindInvalid with Field for bad input, KindForbidden for a role that may not.
type Services struct {
	Auth      Auth
	Once      Once
	Tenants   Tenants
	Users     Users
	Datasets  Datasets
	Models    Models
	Registry  Registry
	Gates     Gates
	Progress  Progresses
	Runs      Runs
	Estimates Estimates
	Holds     Holds
	Priority  Priorities
	RunData   RunData
	Measures  Measures
	Samples   Samples
	Pipelines Pipelines
	Keys      Keys
	Logins    Logins
	Site      Site
	Clusters  Clusters
	Nodes     Nodes
	GPUs      GPUs
	NodeHolds NodeHolds
	Events    Events
	Recipes   Recipes
	Evals     Evals
	Schedules Schedules
	Costs     Costs

	Snapshots Snapshots
	Bundles   Bundles
	GC        GC
	Hooks     Hooks
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
	// UpdateTenant is for operators, as is creation.
	UpdateTenant(ctx context.Context, p forge.Principal, tenant string, r UpdateTenantRequest) (forge.Tenant, error)
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

// Datasets registers and shows datasets, and what came of them. Paths are read on the server's host, or where forgectl runs. A version is named by
// NAME@NUMBER; number 0 is the newest.
type Datasets interface {
	// AddDataset is KindInvalid, with Field pii_policy, for findings of personal data under the policy block.
	AddDataset(ctx context.Context, p forge.Principal, r AddDatasetRequest) (DatasetAdded, error)
	// ScanDataset submits a run that does it on a node.
	ScanDataset(ctx context.Context, p forge.Principal, r ScanDatasetRequest) (Submitted, error)
	Datasets(ctx context.Context, p forge.Principal, q Listing) (List[forge.Dataset], error)
	DatasetVersion(ctx context.Context, p forge.Principal, id string) (forge.DatasetVersion, error)
	Dataset(ctx context.Context, p forge.Principal, name string) (forge.Dataset, error)
	// DatasetNumber shows one version with the report of its scan.
	DatasetNumber(ctx context.Context, p forge.Principal, v forge.Ref) (forge.DatasetVersion, error)
	EditDataset(ctx context.Context, p forge.Principal, v forge.Ref, r EditDatasetRequest) (forge.DatasetVersion, error)
	// DeleteDataset is KindPrecondition, naming them, while runs or models in production use the version. Admins may delete what others made.
	DeleteDataset(ctx context.Context, p forge.Principal, v forge.Ref, r DeleteDatasetRequest) (forge.DatasetVersion, error)
	// WaiveDataset is KindPrecondition for a version without findings.
	WaiveDataset(ctx context.Context, p forge.Principal, v forge.Ref, reason string) (forge.DatasetVersion, error)
	// VerifyDataset is KindPrecondition where forged itself reads no data of people.
	VerifyDataset(ctx context.Context, p forge.Principal, v forge.Ref) (DatasetVerified, error)
	// AddDatasetFile reads a file to its end. KindInvalid for one that has another digest, or is too large.
	AddDatasetFile(ctx context.Context, p forge.Principal, sha256 string, body io.Reader) (DatasetFile, error)
	DatasetFile(ctx context.Context, p forge.Principal, sha256 string) (DatasetFile, error)
	// OwnedFile opens a file of forge's own copy of a version and says how many bytes it has. KindPrecondition for a version that is referenced where
	// it lies, or whose bytes are erased; KindNotFound for a file that is not of it.
	OwnedFile(ctx context.Context, p forge.Principal, v forge.Ref, sha256 string) (io.ReadCloser, int64, error)
	// AddDatasetRows reads the fingerprints of a version's rows: RowPrint bytes each, ascending. KindInvalid where they are not those of so many rows.
	AddDatasetRows(ctx context.Context, p forge.Principal, v forge.Ref, sha256 string, body io.Reader) (DatasetRows, error)
	DatasetLineage(ctx context.Context, p forge.Principal, v forge.Ref, q LineageQuery) (forge.LineageGraph, error)
	// DatasetImpact says where a row went, by the SHA-256 of its texts.
	DatasetImpact(ctx context.Context, p forge.Principal, digest string) (forge.Impact, error)
}

// Models imports base models and registers trained ones.
type Models interface {
	ImportModel(ctx context.Context, p forge.Principal, r ImportModelRequest) (forge.ModelVersion, error)
	RegisterModel(ctx context.Context, p forge.Principal, r RegisterModelRequest) (forge.ModelVersion, error)
	// VerifyModel reads a version's bytes again, and those of the base that an adapter lies over. KindPrecondition where forged may not read them,
	// KindUnavailable where the filesystem does not answer: neither says anything of the bytes.
	VerifyModel(ctx context.Context, p forge.Principal, v forge.Ref) (ModelVerified, error)
	Models(ctx context.Context, p forge.Principal, q Listing) (List[forge.Model], error)
	ModelVersion(ctx context.Context, p forge.Principal, id string) (forge.ModelVersion, error)
	Model(ctx context.Context, p forge.Principal, name string) (forge.Model, error)
}

// Registry moves versions of models through their stages and names them.
type Registry interface {
	// PromoteModel is KindPrecondition with a forge.GateRefusal where the gate has not passed, KindConflict where somebody else was faster.
	PromoteModel(ctx context.Context, p forge.Principal, v forge.Ref, r PromoteRequest) (Promotion, error)
	// RollBackModel is KindPrecondition where there is nothing to go back to, or its bytes are not what they were.
	RollBackModel(ctx context.Context, p forge.Principal, name string, r RollbackRequest) (forge.StageChange, error)
	ArchiveModel(ctx context.Context, p forge.Principal, v forge.Ref, r ArchiveRequest) (forge.StageChange, error)
	// StageChange is what an earlier request left.
	StageChange(ctx context.Context, p forge.Principal, ref string) (forge.StageChange, error)
	ModelHistory(ctx context.Context, p forge.Principal, name string, q Listing) (List[forge.StageChange], error)
	VerifyModelHistory(ctx context.Context, p forge.Principal, name string) (forge.HistoryCheck, error)
	ModelAliases(ctx context.Context, p forge.Principal, name string) ([]forge.ModelAlias, error)
	SetModelAlias(ctx context.Context, p forge.Principal, v forge.Ref, alias string) (forge.ModelAlias, error)
	RemoveModelAlias(ctx context.Context, p forge.Principal, name, alias string) (forge.ModelAlias, error)
	// ModelAlias is what an earlier request left.
	ModelAlias(ctx context.Context, p forge.Principal, ref string) (forge.ModelAlias, error)
}

// Gates shows what the site asks of models before they enter a stage.
type Gates interface {
	Gates(ctx context.Context, p forge.Principal) ([]GateRow, error)
	Gate(ctx context.Context, p forge.Principal, name string) (GateRow, error)
}

// Recipes shows what can be trained. Recipes are the site's: every tenant sees all.
type Recipes interface {
	Recipes(ctx context.Context, p forge.Principal) ([]RecipeRow, error)
	Recipe(ctx context.Context, p forge.Principal, name string) (Recipe, error)
}

// Evals shows suites of benchmarks, which are the site's, and what evals with them found.
type Evals interface {
	Suites(ctx context.Context, p forge.Principal) ([]SuiteRow, error)
	Suite(ctx context.Context, p forge.Principal, name string) (Suite, error)
	Evals(ctx context.Context, p forge.Principal, f EvalFilter) (List[forge.Eval], error)
	Eval(ctx context.Context, p forge.Principal, run string) (EvalDetail, error)
	EvalSamples(ctx context.Context, p forge.Principal, run string, f SampleFilter) (List[EvalSample], error)
	// CompareEvals holds two evals against each other. KindNotFound; KindPrecondition where the site has their suite no more.
	CompareEvals(ctx context.Context, p forge.Principal, f CompareFilter) (EvalComparison, error)
	// ImportEval reads an eval to its end. KindInvalid names what does not hold; KindPrecondition for a model or suite that is not what it says.
	ImportEval(ctx context.Context, p forge.Principal, sha256 string, body io.Reader) (EvalDetail, error)
}

// Snapshots keeps working directories that runs start in.
type Snapshots interface {
	// AddSnapshot reads an archive to its end. KindInvalid for one that has another digest, that is too large, or that is no snapshot.
	AddSnapshot(ctx context.Context, p forge.Principal, sha256 string, body io.Reader) (Snapshot, error)
	Snapshot(ctx context.Context, p forge.Principal, sha256 string) (Snapshot, error)
}

// Bundles gives out what a run is made from.
type Bundles interface {
	Bundle(ctx context.Context, p forge.Principal, run string) (Bundle, error)
	// Source opens the archive of a run's working directory and says how many bytes it has. KindPrecondition for a run without one, and for one
	// whose archive forged does not have any more.
	Source(ctx context.Context, p forge.Principal, run string) (archive io.ReadCloser, bytes int64, err error)
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
	InterruptRun(ctx context.Context, p forge.Principal, run string, as forge.InterruptAs) (forge.Run, error)
	// RunSeat is KindPrecondition where nothing runs, and where there is no batch system that would let a shell in.
	RunSeat(ctx context.Context, p forge.Principal, run string, rank int) (RunSeat, error)
}

// Estimates says what a run would take, and changes nothing. KindPrecondition, naming the field and what is known, where it would have to guess.
type Estimates interface {
	EstimateRun(ctx context.Context, p forge.Principal, r SubmitRunRequest) (Estimate, error)
}

// Costs tells what was had and what it cost. Of the own tenant; CostByTenant tells operators of all.
type Costs interface {
	// Costs is KindInvalid for a period that ends before it begins.
	Costs(ctx context.Context, p forge.Principal, q CostQuery) (forge.Costs, error)
	// RunCosts leaves out runs that have had no GPUs, or are not the tenant's.
	RunCosts(ctx context.Context, p forge.Principal, runs []forge.RunID) (map[forge.RunID]forge.Cost, error)
}

// Priorities changes the place of waiting runs; Runs says whose and how high.
type Priorities interface {
	// PriorityEffect says what SetPriority would do now, and changes nothing.
	PriorityEffect(ctx context.Context, p forge.Principal, run string, priority int) (PriorityEffect, error)
	// SetPriority is KindPrecondition for a run that does not wait.
	SetPriority(ctx context.Context, p forge.Principal, run string, priority int) (forge.Run, error)
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
	// WhatIf plays the queue on as it is and as it would be, and changes nothing. Only an operator sees runs of other tenants.
	WhatIf(ctx context.Context, p forge.Principal, q WhatIfQuery) (WhatIf, error)
}

// Measures takes in metrics of runs whose program writes no metrics file. Members write to their own runs, admins to all of the tenant.
type Measures interface {
	// AddMetrics is KindConflict for an attempt that is superseded, KindNotFound for one that there is not, KindPrecondition for one that ended too
	// long ago. All of a batch is written, or nothing of it; the same batch again leaves what it left.
	AddMetrics(ctx context.Context, p forge.Principal, run string, r AddMetricsRequest) (MetricsAdded, error)
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

// Logins gives keys that end soon to people who are known by something else than a key.
type Logins interface {
	// LoginMunge answers whoever made a credential of munge for this server, once, with a key of the user whose uid
	// munged names. KindUnauthorized for a credential that is broken, too old, used before, for another server, or of a
	// uid that is no enabled user's; KindPrecondition where the site does not take them; KindUnavailable when
	// munged does not answer.
	LoginMunge(ctx context.Context, r LoginMungeRequest) (CreatedKey, error)
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
	// CheckCluster looks at a cluster with jobs on it, and at the accounting of the last days. For operators, likewise.
	CheckCluster(ctx context.Context, p forge.Principal, name string, days int) ([]Check, error)
}

// Nodes shows one node, keeps new work away from it and lets it back. A node is named by itself where that is clear, by
// its cluster as well otherwise: KindInvalid. Draining is for operators: KindForbidden for anyone else, before it is said whether there is such a node.
type Nodes interface {
	Node(ctx context.Context, p forge.Principal, cluster, node string) (NodeDetail, error)
	DrainNode(ctx context.Context, p forge.Principal, cluster, node, reason string) (NodeChanged, error)
	UndrainNode(ctx context.Context, p forge.Principal, cluster, node string) (NodeChanged, error)
}

// NodeHolds keeps new work away from single GPUs, and tells what happened to a node. As with Nodes, who may change something is asked first.
type NodeHolds interface {
	// DrainGPU is KindPrecondition where GPUs are not known one by one, and for one that an operator has drained already.
	DrainGPU(ctx context.Context, p forge.Principal, at NodeAt, reason string) (NodeChanged, error)
	// UndrainGPU takes back what rules hold as well, and forgets a GPU that is missing: KindPrecondition while an attempt has it.
	UndrainGPU(ctx context.Context, p forge.Principal, at NodeAt) (NodeChanged, error)
	// NodeEvents is oldest first. Whose run had a GPU is told of the own tenant, and to operators.
	NodeEvents(ctx context.Context, p forge.Principal, at NodeAt, q NodeEventQuery) ([]forge.NodeEvent, error)
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
