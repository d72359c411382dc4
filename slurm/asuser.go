package slurm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// DefaultHelper is where sudoers allows forged to find what acts as users.
const DefaultHelper = "/usr/local/lib/forge/forge-as"

// The verbs of the helper: its only argument.
const (
	verbSubmit      = "submit"
	verbRevoke      = "revoke"
	verbNote        = "note"
	verbRecords     = "records"
	verbStop        = "stop"
	verbAct         = "act"
	verbRead        = "read"
	verbCheckpoints = "checkpoints"
	verbBranch      = "branch"
	verbCheckInputs = "check-inputs"
	verbPruneHeld   = "prune-held"
	verbRemains     = "remains"
	verbPing        = "ping"
)

// How much may cross the pipe, and how long a call may take where the caller's context says nothing.
const (
	maxRequest    = 64 << 20
	maxAnswer     = 64 << 20
	callTimeout   = 45 * time.Second
	branchTimeout = 60 * time.Second
	hashTimeout   = 6 * time.Hour // of verifying checkpoints and inputs
	helperSlack   = 2 * time.Second
	callsAtOnce   = 8 // of one account
	maxHelperWord = 4 << 10
)

// AsUser is the Hand under identity as_user: it opens no file and asks nothing of Slurm itself, but has one fixed program
// do it as the owner of the jobs, through sudo. A request goes in on standard input and an answer comes out.
type AsUser struct {
	Cluster forge.ClusterName
	Helper  string // empty: DefaultHelper
	Sudo    string // empty: the first in PATH

	mu    sync.Mutex
	calls map[string]*lane
}

// lane is the way to one account.
type lane struct {
	slots chan struct{}
	long  chan struct{} // of calls that copy and hash
	stuck int           // calls that were given up and have not ended; under mu
}

var _ Hand = (*AsUser)(nil)

// envelope is a request as it crosses the pipe. The deadline is the helper's to keep: nobody but root can end a process
// that sudo has started.
type envelope struct {
	Cluster  forge.ClusterName `json:"cluster"`
	Deadline forge.Duration    `json:"deadline"`
	Ask      json.RawMessage   `json:"ask"`
}

// reply is an answer as it crosses the pipe.
type reply struct {
	Answer json.RawMessage `json:"answer,omitempty"`
	Fault  *fault          `json:"fault,omitempty"`
}

// fault is an error as it crosses the pipe: what the executor tells apart is still told apart behind it.
type fault struct {
	Kind  forge.Kind `json:"kind,omitempty"`
	Field string     `json:"field,omitempty"`
	Text  string     `json:"text"`
	Hint  string     `json:"hint,omitempty"`
	Tool  *ToolError `json:"tool,omitempty"`
}

func faultOf(err error) *fault {
	f := &fault{Text: cut(err.Error(), maxHelperWord)}
	var e *forge.Error
	if errors.As(err, &e) {
		f.Kind, f.Field, f.Hint = e.Kind, e.Field, e.Hint
		if e.Err != nil {
			f.Text = cut(e.Err.Error(), maxHelperWord)
		}
	}
	if errors.As(err, &f.Tool) {
		f.Tool.Words = cut(f.Tool.Words, maxHelperWord)
	}
	return f
}

func (f *fault) err() error {
	switch {
	case f.Tool != nil:
		return f.Tool
	case f.Kind != "":
		return &forge.Error{Kind: f.Kind, Op: "slurm.as_user", Field: f.Field, Err: errors.New(f.Text), Hint: f.Hint}
	}
	return errors.New(f.Text)
}

// What is asked with each verb that does not have a type of its own.
type (
	askAttempt  struct{ At rundir.Attempt }
	askAttempts struct{ At []rundir.Attempt }
	askNote     struct {
		At     rundir.Attempt
		Record rundir.BatchRecord
	}
	askStop struct {
		At   rundir.Attempt
		Stop rundir.Stop
	}
	askRead struct {
		At     rundir.Attempt
		Stream string
		Offset int64
		Max    int
	}
	askBranch struct {
		Run     forge.RunID
		RunDir  string
		Attempt int
		Step    int64
		Keep    bool
	}
	askPruneHeld struct {
		Run    forge.RunID
		RunDir string
		Needed []string
	}
	askCheckpoints struct {
		Run    forge.RunID
		RunDir string
		Verify bool
	}
	askRoot struct{ RunRoot string }
	nothing struct{}
)

// Submit has the run directory written and the job handed to sbatch.
func (h *AsUser) Submit(ctx context.Context, account string, q SubmitRequest) (SubmitAnswer, error) {
	return ask[SubmitAnswer](ctx, h, account, verbSubmit, callTimeout, q)
}

// Revoke has the claim of an attempt taken.
func (h *AsUser) Revoke(ctx context.Context, account string, at rundir.Attempt) (rundir.Claim, error) {
	return ask[rundir.Claim](ctx, h, account, verbRevoke, callTimeout, askAttempt{at})
}

// Note has batch.json written.
func (h *AsUser) Note(ctx context.Context, account string, at rundir.Attempt, r rundir.BatchRecord) error {
	_, err := ask[nothing](ctx, h, account, verbNote, callTimeout, askNote{at, r})
	return err
}

// Records has what shims left read, in one call for all attempts of the account.
func (h *AsUser) Records(ctx context.Context, account string, ats []rundir.Attempt) ([]Records, error) {
	out, err := ask[[]Records](ctx, h, account, verbRecords, callTimeout, askAttempts{ats})
	if err == nil && len(out) != len(ats) {
		return nil, forge.Errorf(forge.KindUnavailable, "slurm.as_user", "%d records came for %d attempts", len(out), len(ats))
	}
	return out, err
}

// Stop has the request to stop written.
func (h *AsUser) Stop(ctx context.Context, account string, at rundir.Attempt, s rundir.Stop) error {
	_, err := ask[nothing](ctx, h, account, verbStop, callTimeout, askStop{at, s})
	return err
}

// Act lets Slurm do something to jobs of the account.
func (h *AsUser) Act(ctx context.Context, account string, q Action) (Answer, error) {
	return ask[Answer](ctx, h, account, verbAct, callTimeout, q)
}

// Read has bytes of a stream read.
func (h *AsUser) Read(ctx context.Context, account string, at rundir.Attempt, stream string, offset int64, limit int) (forge.Chunk, error) {
	return ask[forge.Chunk](ctx, h, account, verbRead, callTimeout, askRead{at, stream, offset, limit})
}

// Checkpoints has the checkpoints of a run listed, and verified.
func (h *AsUser) Checkpoints(ctx context.Context, account string, run forge.RunID, runDir string, verify bool) ([]forge.Checkpoint, error) {
	limit := callTimeout
	if verify {
		limit = hashTimeout
	}
	return ask[[]forge.Checkpoint](ctx, h, account, verbCheckpoints, limit, askCheckpoints{run, runDir, verify})
}

// PruneHeld has what is held for others removed, but for what is needed.
func (h *AsUser) PruneHeld(ctx context.Context, account string, run forge.RunID, runDir string, needed []string) (int, error) {
	return ask[int](ctx, h, account, verbPruneHeld, callTimeout, askPruneHeld{run, runDir, needed})
}

// Branch has a checkpoint verified, and kept for another run.
func (h *AsUser) Branch(ctx context.Context, account string, run forge.RunID, runDir string, attempt int, step int64, keep bool) (forge.Checkpoint, error) {
	return ask[forge.Checkpoint](ctx, h, account, verbBranch, branchTimeout, askBranch{run, runDir, attempt, step, keep})
}

// CheckInputs has a registered artefact held against the disk, as the one who will read it. Where it is not known who that
// is ("") forged looks as itself, which has read it when it was registered; what it may not read the shim checks, in the job.
func (h *AsUser) CheckInputs(ctx context.Context, account string, m forge.Manifest) error {
	if account == "" {
		if err := rundir.CheckInputsContext(ctx, m); !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	}
	_, err := ask[nothing](ctx, h, account, verbCheckInputs, hashTimeout, m)
	return err
}

// Remains has the run directories of the account listed.
func (h *AsUser) Remains(ctx context.Context, account, runRoot string) ([]forge.Remains, error) {
	return ask[[]forge.Remains](ctx, h, account, verbRemains, callTimeout, askRoot{runRoot})
}

// Pong is what the helper says of itself.
type Pong struct {
	UID           int            `json:"uid"`
	RunRoots      []string       `json:"run_roots"`
	ArtifactRoots []ArtefactRoot `json:"artifact_roots"`
	Bin           string         `json:"bin"`
	Conf          string         `json:"conf"`
}

// Ping asks the helper whether it can act as the account.
func (h *AsUser) Ping(ctx context.Context, account string) (Pong, error) {
	return ask[Pong](ctx, h, account, verbPing, callTimeout, nothing{})
}

// Installed says what is wrong with the helper and the line in sudoers, without acting as anybody. as is the account that
// forged will run as, where root asks; empty: who asks.
func (h *AsUser) Installed(ctx context.Context, as string) error {
	sudo, err := h.sudo()
	if err != nil {
		return err
	}
	if err := rootsAlone(h.helper(), 0o022); err != nil {
		return forge.Errorf(forge.KindPrecondition, "slurm.as_user", "the helper %s: %w", h.helper(), err).WithHint("contrib/sudoers/install puts it there")
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	args := []string{"-n", "-l"}
	if as != "" {
		args = append(args, "-U", as)
	}
	out, err := exec.CommandContext(ctx, sudo, args...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), h.helper()) {
		return forge.Errorf(forge.KindPrecondition, "slurm.as_user", "sudoers does not let this account run %s: %s", h.helper(), cut(strings.TrimSpace(string(out)), 200)).
			WithHint("contrib/sudoers/install writes the line; sudo -n -l, as the account that forged runs as, shows what there is")
	}
	return nil
}

// accountName keeps an account from being taken for an option, a uid or a pattern.
var accountName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}$`)

// CheckAccount refuses names that sudo or a path could read as something else.
func CheckAccount(account string) error {
	if !accountName.MatchString(account) || account == "root" {
		return forge.Errorf(forge.KindPrecondition, "slurm.as_user", "%.100q is no account that jobs can belong to", account)
	}
	return nil
}

// AccountOf is the system's account with a uid.
func AccountOf(uid int64) (string, error) {
	u, err := user.LookupId(strconv.FormatInt(uid, 10))
	var unknown user.UnknownUserIdError
	if err != nil && !errors.As(err, &unknown) { // a directory server that is away says nothing about anybody
		return "", forge.Errorf(forge.KindUnavailable, "slurm.as_user", "whose uid %d is cannot be told: %w", uid, err)
	}
	if err != nil {
		return "", forge.Errorf(forge.KindPrecondition, "slurm.as_user", "uid %d has no account on the host of forged", uid).
			WithHint("jobs run as the system's account with the user's unix_uid: forgectl user edit NAME --unix-uid UID")
	}
	return u.Username, CheckAccount(u.Username)
}

func (h *AsUser) helper() string {
	if h.Helper != "" {
		return h.Helper
	}
	return DefaultHelper
}

func (h *AsUser) sudo() (string, error) {
	if h.Sudo != "" {
		return h.Sudo, nil
	}
	path, err := exec.LookPath("sudo")
	if err != nil {
		return "", forge.Errorf(forge.KindPrecondition, "slurm.as_user", "sudo is not installed").WithHint("identity: as_user needs it; identity: self does not")
	}
	return filepath.Abs(path)
}

// enter bounds the calls of one account, and refuses them while one hangs: a file system of one person that does not answer
// must not keep those of all others waiting at every look.
func (h *AsUser) enter(ctx context.Context, account string) (leave func(), err error) {
	l, stuck := h.lane(account, 0)
	if stuck > 0 {
		return nil, forge.Errorf(forge.KindUnavailable, "slurm.as_user", "a call as %s hangs since before", account)
	}
	select {
	case l.slots <- struct{}{}:
		return func() { <-l.slots }, nil
	case <-ctx.Done():
		return nil, forge.Errorf(forge.KindUnavailable, "slurm.as_user", "%d calls as %s have not come back", callsAtOnce, account)
	}
}

func (h *AsUser) lane(account string, more int) (l *lane, stuck int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.calls == nil {
		h.calls = map[string]*lane{}
	}
	if l = h.calls[account]; l == nil {
		l = &lane{slots: make(chan struct{}, callsAtOnce), long: make(chan struct{}, longAtOnce)}
		h.calls[account] = l
	}
	l.stuck += more
	return l, l.stuck
}

// ask is one call of the helper. Every error means "not known".
func ask[A any](ctx context.Context, h *AsUser, account, verb string, limit time.Duration, q any) (answer A, err error) {
	if err := CheckAccount(account); err != nil {
		return answer, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	leave, err := h.enter(ctx, account)
	if err != nil {
		return answer, err
	}
	deadline, _ := ctx.Deadline()
	request, err := seal(h.Cluster, time.Until(deadline), q)
	if err != nil {
		leave()
		return answer, err
	}
	out, err := h.call(ctx, account, verb, request, leave)
	if err != nil {
		return answer, err
	}
	var r reply
	if err := json.Unmarshal(out, &r); err != nil || r.Answer == nil && r.Fault == nil {
		return answer, forge.Errorf(forge.KindUnavailable, "slurm.as_user", "the answer of %s as %s cannot be read", verb, account)
	}
	if r.Fault != nil {
		return answer, r.Fault.err()
	}
	if err := json.Unmarshal(r.Answer, &answer); err != nil {
		return answer, forge.Errorf(forge.KindUnavailable, "slurm.as_user", "the answer of %s as %s is not what was asked for: %w", verb, account, err)
	}
	return answer, nil
}

func seal(cluster forge.ClusterName, left time.Duration, q any) ([]byte, error) {
	b, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	b, err = json.Marshal(envelope{Cluster: cluster, Deadline: forge.Duration(left), Ask: b})
	if err == nil && len(b) > maxRequest {
		err = forge.Errorf(forge.KindPrecondition, "slurm.as_user", "the request has %d bytes; at most %d cross to the helper", len(b), maxRequest)
	}
	return b, err
}

// call runs sudo. It returns when the deadline is over, although the process may not end: it is root's until it has
// become the user, and a file system that hangs keeps it. Its place is given back when it is really gone.
func (h *AsUser) call(ctx context.Context, account, verb string, request []byte, leave func()) ([]byte, error) {
	sudo, err := h.sudo()
	if err != nil {
		leave()
		return nil, err
	}
	cmd := exec.Command(sudo, "-n", "-u", account, "--", h.helper(), verb)
	cmd.Env, cmd.Dir = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}, "/"
	out, said := &bounded{limit: maxAnswer}, &bounded{limit: maxHelperWord}
	answer, answers, err := os.Pipe() // our own: that its end is closed is all that the helper can see of us
	if err != nil {
		leave()
		return nil, forge.Errorf(forge.KindUnavailable, "slurm.as_user", "sudo did not start: %w", err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(request), answers, said
	cmd.WaitDelay = helperSlack
	err = cmd.Start()
	_ = answers.Close()
	if err != nil {
		_ = answer.Close()
		leave()
		return nil, forge.Errorf(forge.KindUnavailable, "slurm.as_user", "sudo did not start: %w", err)
	}
	read := make(chan struct{})
	go func() { _, _ = io.Copy(out, answer); close(read) }()
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		select {
		case <-read:
		case <-time.After(helperSlack): // somebody else has the other end
		}
		_ = answer.Close()
		<-read
		ended <- err
		leave()
	}()
	after := time.NewTimer(0)
	if !after.Stop() {
		<-after.C
	}
	done := ctx.Done()
	for {
		select {
		case err := <-ended:
			switch {
			case out.over:
				return nil, forge.Errorf(forge.KindUnavailable, "slurm.as_user", "%s as %s answered with more than %d bytes", verb, account, maxAnswer)
			case err != nil:
				return nil, forge.Errorf(forge.KindUnavailable, "slurm.as_user", "%s as %s: %w: %s", verb, account, err, cut(strings.TrimSpace(said.String()), 300)).
					WithHint("forged config check says whether the helper and sudoers are in order")
			}
			return []byte(out.String()), nil
		case <-done:
			done = nil
			_ = answer.Close()     // what copies or hashes sees that, and ends
			_ = cmd.Process.Kill() // works where sudo has become the user and the user is us
			after.Reset(helperSlack)
		case <-after.C:
			h.lane(account, 1)
			go func() { <-ended; h.lane(account, -1) }()
			return nil, forge.Errorf(forge.KindUnavailable, "slurm.as_user", "%s as %s did not come back in time", verb, account)
		}
	}
}
