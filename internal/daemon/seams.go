package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/artefact"
	"github.com/forge-ml/forge-ml/slurm"
)

// Executor runs attempts. Every method has a deadline in ctx; an error or LookupUnknown
// means "nobody answered" and never "it is gone".
type Executor interface {
	// Submit starts one attempt. Idempotent by Launch.Key: a second call finds the first.
	// An error means "not known to have started": ask Find.
	Submit(ctx context.Context, l forge.Launch) (forge.ExternalID, error)
	// Find says whether the attempt exists. Absent is made, not observed: once it answers
	// absent, a late start of this key exits before work.
	Find(ctx context.Context, key, runDir string) forge.Lookup
	// Poll looks at attempts, one Observation per id, in the order asked.
	Poll(ctx context.Context, ids []forge.ExternalID) ([]forge.Observation, error)
	// Signal asks an attempt to save, to stop, or to die. Idempotent.
	Signal(ctx context.Context, id forge.ExternalID, s forge.SignalKind) error
	// Nodes lists where ranks can run.
	Nodes(ctx context.Context) ([]forge.Node, error)
}

// Files reads what attempts write, where it lies.
type Files interface {
	// Read returns bytes of a stream from offset. Streams: forge.StreamMetrics, "stdout.RANK",
	// "stderr.RANK". A stream that does not exist yet is empty.
	Read(ctx context.Context, id forge.ExternalID, stream string, offset int64, max int) (forge.Chunk, error)
	// Checkpoints verifies and lists the checkpoints of a run, highest step first.
	// With verify false manifests are read and bytes are not hashed (VerdictWritten).
	Checkpoints(ctx context.Context, run forge.RunID, runDir string, verify bool) ([]forge.Checkpoint, error)
	// CheckInputs holds a registered artefact against what lies there now: size, modification
	// time and inode are trusted, a change of one is decided by the digest. KindInvalid names
	// the file that changed or is gone.
	CheckInputs(ctx context.Context, m forge.Manifest) error
}

// Brancher is what files may add: a checkpoint of one run that another begins from.
type Brancher interface {
	// Branch verifies a checkpoint, as far as there is time, and where keep says so makes that the other run's retention leaves it. Path
	// of the answer is where to read it. KindNotFound when it is gone, KindPrecondition when it cannot be kept there.
	Branch(ctx context.Context, run forge.RunID, runDir string, attempt int, step int64, keep bool) (forge.Checkpoint, error)
}

// Keeper is what files may add that belong to people, of which forged opens none: each question is answered as the person.
type Keeper interface {
	// Owns says whether what lies at a path is a person's.
	Owns(path string) bool
	// Keep copies what an attempt left to its owner's artefact root and answers the manifest of the copy, which has the digest that was asked for.
	// artefact.ErrNoRoom, artefact.ErrDiffers and fs.ErrPermission say that asking again mends nothing.
	Keep(ctx context.Context, id forge.ExternalID, tenant forge.TenantID, sha256 string) (forge.Manifest, error)
	// Reread reads every byte of what a version lies in. An error says nothing of the bytes.
	Reread(ctx context.Context, m forge.Manifest) (artefact.Seen, error)
	// Untouched says whether size, time and inode of its files, or else their bytes, are as they were registered.
	Untouched(ctx context.Context, m forge.Manifest) error
	// Kept lists the copies that are there, account by account.
	Kept(ctx context.Context) ([]slurm.KeptOf, error)
}

// Waker is what an executor may add: a hint to look now.
type Waker interface {
	Wake() <-chan struct{}
}
