package slurm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// Own is the Hand of whoever runs it: forged itself under identity self, and the helper that acts as a user. Which
// directories it may be asked about is decided before it.
type Own struct {
	tools Tools
	files rundir.Files

	mu    sync.Mutex
	books map[rundir.Attempt]*book
	swept time.Time
}

// NewOwn makes a Hand that acts as this process.
func NewOwn(t Tools) *Own { return &Own{tools: t, books: map[rundir.Attempt]*book{}} }

var _ Hand = (*Own)(nil)

// errAccount guards against a configuration that would submit one person's run as another.
func (h *Own) only(account string) error {
	if account != "" {
		return forge.Errorf(forge.KindPrecondition, "slurm.hand", "this cluster runs every job as forged's own account, and the run belongs to %.100q", account)
	}
	return nil
}

// Submit writes the run directory and hands the job to sbatch, at most once: whoever comes a second time gets the first
// answer, or hears that the first one may still be on its way.
func (h *Own) Submit(ctx context.Context, account string, q SubmitRequest) (SubmitAnswer, error) {
	if err := h.only(account); err != nil {
		return SubmitAnswer{}, err
	}
	at := rundir.At(q.Launch.RunDir, q.Launch.Attempt)
	if before, err := h.before(at); err != nil || before != nil {
		if before == nil {
			before = &SubmitAnswer{}
		}
		return *before, err
	}
	own, err := q.Owner.resolve()
	if err != nil {
		return SubmitAnswer{}, err
	}
	if q.Source != nil {
		q.Launch.Archive = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(q.Source)), nil }
	}
	err = rundir.PrepareFor(q.Launch, own)
	switch {
	case errors.Is(err, rundir.ErrFenceAhead):
		return SubmitAnswer{Revoked: true}, nil
	case err != nil:
		return SubmitAnswer{}, err
	}
	if q.Refuse != "" {
		return h.refused(ctx, at, rundir.BatchRecord{Refused: q.Refuse})
	}
	crash.At("slurm.after_fence")
	out, err := h.tools.Run(ctx, q.Job.Script, "sbatch", q.Job.Args...)
	crash.At("slurm.after_sbatch")
	id, clean := jobIDIn(out)
	switch trouble := TroubleOf(err); {
	case err == nil && clean:
		// Not to know the id is no loss of the job: it is found by its name.
		return SubmitAnswer{JobID: id}, h.Note(ctx, account, at, rundir.BatchRecord{JobID: id, At: time.Now().UTC()})
	case err == nil:
		return SubmitAnswer{Unclear: "sbatch said " + strconv.Quote(cut(out, 200))}, nil
	case trouble == TroubleRefused:
		return h.refused(ctx, at, rundir.BatchRecord{Refused: wordsOf(err)})
	case trouble == TroubleBusy:
		return h.refused(ctx, at, rundir.BatchRecord{Withdrawn: wordsOf(err)})
	}
	return SubmitAnswer{Unclear: wordsOf(err)}, nil
}

// refused keeps the words, and then makes sure that no job of that name, from wherever, can begin.
func (h *Own) refused(ctx context.Context, at rundir.Attempt, r rundir.BatchRecord) (SubmitAnswer, error) {
	words := r.Refused + r.Withdrawn
	r.At = time.Now().UTC()
	if err := h.Note(ctx, "", at, r); err != nil {
		return SubmitAnswer{}, err
	}
	if won, err := rundir.Revoke(at, time.Now()); err != nil || !won {
		return SubmitAnswer{Unclear: words}, err
	}
	return SubmitAnswer{Refused: words}, nil
}

// before says what an earlier submission of the same attempt came to; nil, nil: there was none.
func (h *Own) before(at rundir.Attempt) (*SubmitAnswer, error) {
	r, err := rundir.ReadBatch(at)
	if err != nil && !noRecord(err) {
		return nil, err
	}
	c, err := rundir.ReadClaim(at)
	switch {
	case err == nil && c.Revoked && r.Refused+r.Withdrawn != "":
		return &SubmitAnswer{Refused: r.Refused + r.Withdrawn}, nil
	case err == nil && c.Revoked:
		return &SubmitAnswer{Revoked: true}, nil
	case err == nil:
		id, _ := parseHolder(c.Holder)
		return &SubmitAnswer{JobID: id}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case r.JobID != "":
		return &SubmitAnswer{JobID: r.JobID}, nil
	}
	_, err = rundir.ReadLaunch(at)
	switch {
	case err == nil:
		return &SubmitAnswer{Unclear: "an earlier submission of this attempt may be on its way"}, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	}
	return nil, err
}

// Revoke takes the claim of an attempt if nobody has it.
func (h *Own) Revoke(_ context.Context, account string, at rundir.Attempt) (rundir.Claim, error) {
	if err := h.only(account); err != nil {
		return rundir.Claim{}, err
	}
	if err := rundir.MakeAttemptDir(at); err != nil {
		return rundir.Claim{}, err
	}
	if _, err := rundir.Revoke(at, time.Now()); err != nil {
		return rundir.Claim{}, err
	}
	return rundir.ReadClaim(at)
}

// Note leaves batch.json.
func (h *Own) Note(_ context.Context, account string, at rundir.Attempt, r rundir.BatchRecord) error {
	if err := h.only(account); err != nil {
		return err
	}
	return rundir.WriteJSON(at.BatchPath(), r)
}

// Stop writes the durable request to stop, and nothing weaker over something stronger.
func (h *Own) Stop(_ context.Context, account string, at rundir.Attempt, s rundir.Stop) error {
	if err := h.only(account); err != nil {
		return err
	}
	before, err := rundir.ReadStop(at)
	if err == nil && rundir.Strength(before.Signal) >= rundir.Strength(s.Signal) {
		return nil
	}
	return rundir.WriteJSON(at.StopPath(), s)
}

// Act lets Slurm do something to jobs of ours.
func (h *Own) Act(ctx context.Context, account string, q Action) (Answer, error) {
	if err := h.only(account); err != nil {
		return Answer{}, err
	}
	program, args, err := q.command()
	if err != nil || len(q.JobIDs) == 0 {
		return Answer{}, err
	}
	out, err := h.tools.Run(ctx, "", program, args...)
	var t *ToolError
	if errors.As(err, &t) && t.Code >= 0 && t.Trouble != TroubleAway {
		return Answer{Out: out, Err: t.Words, Code: t.Code}, nil
	}
	return Answer{Out: out}, err
}

// command is what an action may be, and nothing else.
func (q Action) command() (program string, args []string, err error) {
	for _, id := range q.JobIDs {
		if !isJobID(id) {
			return "", nil, forge.Invalidf("job_ids", "%.40q is not the id of a job", id)
		}
	}
	var only []string
	if q.Name != "" {
		if !isJobName(q.Name) {
			return "", nil, forge.Invalidf("name", "%.60q is not the name of a job of forge's", q.Name)
		}
		only = []string{"--name=" + q.Name}
	}
	switch q.Verb {
	case ActCancel:
		return "scancel", append(only, q.JobIDs...), nil
	case ActSignal:
		switch q.Signal {
		case "USR1", "USR2", "TERM", "INT", "CONT", "KILL":
			return "scancel", append(append(only, "--signal="+q.Signal), q.JobIDs...), nil
		}
		return "", nil, forge.Invalidf("signal", "%.20q is not a signal that forge sends", q.Signal)
	case ActNice:
		return "scontrol", []string{"update", "jobid=" + strings.Join(q.JobIDs, ","), "nice=" + strconv.Itoa(q.Nice)}, nil
	}
	return "", nil, forge.Invalidf("verb", "%.20q: want %q, %q or %q", q.Verb, ActCancel, ActSignal, ActNice)
}

// Read returns bytes of a stream.
func (h *Own) Read(ctx context.Context, account string, at rundir.Attempt, stream string, offset int64, limit int) (forge.Chunk, error) {
	if err := h.only(account); err != nil {
		return forge.Chunk{}, err
	}
	return h.files.Read(ctx, at, stream, offset, limit)
}

// Checkpoints lists the checkpoints of a run.
func (h *Own) Checkpoints(ctx context.Context, account string, run forge.RunID, runDir string, verify bool) ([]forge.Checkpoint, error) {
	if err := h.only(account); err != nil {
		return nil, err
	}
	return h.files.Checkpoints(ctx, run, runDir, verify)
}

// Branch makes a checkpoint ready for another run.
func (h *Own) Branch(ctx context.Context, account string, run forge.RunID, runDir string, attempt int, step int64, keep bool) (forge.Checkpoint, error) {
	if err := h.only(account); err != nil {
		return forge.Checkpoint{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, branchTimeout/2) // the rest is for the answer
	defer cancel()
	return rundir.Branch(ctx, runDir, run, attempt, step, keep)
}

// PruneHeld removes what of a run is held for others and not needed any more.
func (h *Own) PruneHeld(_ context.Context, account string, _ forge.RunID, runDir string, needed []string) (int, error) {
	if err := h.only(account); err != nil {
		return 0, err
	}
	return rundir.PruneHeld(runDir, needed, time.Now())
}

// CheckInputs holds a registered artefact against the disk.
func (h *Own) CheckInputs(ctx context.Context, account string, m forge.Manifest) error {
	if err := h.only(account); err != nil {
		return err
	}
	return rundir.CheckInputsContext(ctx, m)
}

// Remains lists the run directories below a run root.
func (h *Own) Remains(ctx context.Context, account, runRoot string) ([]forge.Remains, error) {
	if err := h.only(account); err != nil {
		return nil, err
	}
	return rundir.Runs(ctx, runRoot)
}

// jobIDIn reads what sbatch --parsable says: "42", or "42;cluster" in a federation.
func jobIDIn(out string) (string, bool) {
	id, _, _ := strings.Cut(strings.TrimSpace(out), ";")
	return id, isJobID(id)
}

func isJobID(s string) bool {
	n, err := strconv.ParseUint(s, 10, 32)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == s
}

// isJobName says whether a name could be that of one of forge's jobs, on whatever cluster.
func isJobName(s string) bool {
	return strings.HasPrefix(s, "forge-") && len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	})
}

// parseHolder splits what a claim says of its job: id and restart count.
func parseHolder(holder string) (id string, restarts int) {
	id, count, _ := strings.Cut(holder, ".")
	if !isJobID(id) {
		return "", 0
	}
	restarts, _ = strconv.Atoi(count)
	return id, restarts
}

// wordsOf are Slurm's own words, on one line.
func wordsOf(err error) string {
	var t *ToolError
	if !errors.As(err, &t) {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(t.Words) {
		line = strings.TrimSpace(line)
		for _, prefix := range []string{t.Program + ": error: ", t.Program + ": "} {
			line = strings.TrimPrefix(line, prefix)
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	return cut(strings.Join(lines, "; "), 1000)
}

func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}
