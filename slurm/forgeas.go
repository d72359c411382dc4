package slurm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// HelperName is what the program is called where it is the helper.
const HelperName = "forge-as"

// Exit codes of the helper. An answer, also one that says no, is 0.
const (
	helperOK      = 0
	helperUsage   = 64
	helperRefuses = 77 // it will not run like this: as root, or without a configuration of root's
	helperLate    = 75
)

// arrive is how long a request may take to come in.
const arrive = 30 * time.Second

// HelperMain is `forge-as VERB`: what sudo runs as a user. It trusts nobody, whoever calls it: it takes one request of a
// closed set, holds every path, name and option against root's configuration, and then does what forged itself does under
// identity self, with the user's rights and no others.
func HelperMain(args []string, in io.Reader, out, errOut io.Writer) int {
	// Whose answers these are could else be made up in a debugger by whom they are about: what follows runs with that one's uid.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	return helperMain(HelperConfig, args, in, out, errOut)
}

func helperMain(config string, args []string, in io.Reader, out, errOut io.Writer) int {
	os.Clearenv() // before anything reads it; what children get is put together in tool.go
	_ = os.Chdir("/")
	syscall.Umask(0o027)
	late := time.AfterFunc(arrive, func() { os.Exit(helperLate) })
	defer late.Stop()
	say := func(code int, format string, words ...any) int {
		_, _ = fmt.Fprintf(errOut, HelperName+": "+format+"\n", words...)
		return code
	}
	if os.Getuid() == 0 || os.Geteuid() == 0 || os.Getuid() != os.Geteuid() {
		return say(helperRefuses, "runs as a user, through sudo -u USER, and never as root")
	}
	if len(args) != 1 || duties[args[0]] == nil {
		return say(helperUsage, "wants one verb of forged's; it is no command for people")
	}
	cfg, err := readHelperConfig(config)
	if err != nil {
		return say(helperRefuses, "%v", err)
	}
	me, err := user.LookupId(strconv.Itoa(os.Getuid()))
	if err != nil || CheckAccount(me.Username) != nil {
		return say(helperRefuses, "uid %d has no account here that jobs can belong to", os.Getuid())
	}
	if os.Getuid() < cfg.MinUID {
		return say(helperRefuses, "uid %d is the system's (min_uid is %d)", os.Getuid(), cfg.MinUID)
	}
	e, err := unseal(in)
	if err != nil {
		return say(helperUsage, "%v", err)
	}
	limit := max(min(e.Deadline.D(), hashTimeout), time.Second)
	late.Stop()
	// No end of the caller's reaches a process that sudo started.
	defer time.AfterFunc(limit+helperSlack, func() { os.Exit(helperLate) }).Stop()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if calledOff[args[0]] {
		go watchCaller(ctx, out, cancel)
	}

	b, err := json.Marshal(serve(ctx, cfg, me.Username, args[0], e))
	if err != nil || len(b) > maxAnswer {
		b, _ = json.Marshal(reply{Fault: &fault{Text: fmt.Sprintf("an answer of %d bytes does not cross (%v)", len(b), err)}})
	}
	if _, err := out.Write(b); err != nil {
		return say(helperLate, "%v", err)
	}
	return helperOK
}

// unseal reads one request, strictly: a field that is not known here could mean something there.
func unseal(in io.Reader) (envelope, error) {
	var e envelope
	b, err := io.ReadAll(io.LimitReader(in, maxRequest+1))
	if err != nil {
		return e, err
	}
	if len(b) > maxRequest {
		return e, fmt.Errorf("the request has more than %d bytes", maxRequest)
	}
	return e, strict(b, &e)
}

func strict(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("the request cannot be read: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the request goes on after its end")
	}
	return nil
}

func serve(ctx context.Context, cfg helperConfig, account, verb string, e envelope) reply {
	cl, ok := cfg.Clusters[e.Cluster]
	if !ok {
		return reply{Fault: faultOf(refuse("cluster", "%.64q is none that this host's %s names", e.Cluster, HelperConfig))}
	}
	h := &helper{cluster: e.Cluster, cfg: cl, account: account, tools: Tools{Bin: cl.Bin, Conf: cl.Conf}}
	h.own = NewOwn(h.tools)
	answer, err := duties[verb](ctx, h, e.Ask)
	if err != nil {
		return reply{Fault: faultOf(err)}
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return reply{Fault: faultOf(err)}
	}
	return reply{Answer: b}
}

// helper is one call.
type helper struct {
	cluster forge.ClusterName
	cfg     helperCluster
	account string
	tools   Tools
	own     Hand // acts as this process, which is the user
}

// duty is a verb: what is asked is looked at first, and nothing is done when that finds fault.
type duty func(ctx context.Context, h *helper, ask json.RawMessage) (any, error)

func dutyOf[Q, A any](check func(*helper, *Q) error, do func(context.Context, *helper, Q) (A, error)) duty {
	return func(ctx context.Context, h *helper, ask json.RawMessage) (any, error) {
		var q Q
		if err := strict(ask, &q); err != nil {
			return nil, refuse("request", "%v", err)
		}
		if err := check(h, &q); err != nil {
			return nil, err
		}
		return do(ctx, h, q)
	}
}

var duties = map[string]duty{
	verbSubmit: dutyOf((*helper).checkSubmit, func(ctx context.Context, h *helper, q SubmitRequest) (SubmitAnswer, error) {
		if err := h.makeRoot(filepath.Dir(q.Launch.RunDir)); err != nil {
			return SubmitAnswer{}, err
		}
		return h.own.Submit(ctx, "", q)
	}),
	verbRevoke: dutyOf(func(h *helper, q *askAttempt) error { return h.checkAttempt(q.At) },
		func(ctx context.Context, h *helper, q askAttempt) (rundir.Claim, error) {
			if err := h.makeRoot(filepath.Dir(q.At.RunDir)); err != nil {
				return rundir.Claim{}, err
			}
			return h.own.Revoke(ctx, "", q.At)
		}),
	verbNote: dutyOf(func(h *helper, q *askNote) error { return h.checkAttempt(q.At) },
		func(ctx context.Context, h *helper, q askNote) (nothing, error) {
			return nothing{}, h.own.Note(ctx, "", q.At, q.Record)
		}),
	verbRecords: dutyOf((*helper).checkRecords, func(ctx context.Context, h *helper, q askAttempts) ([]Records, error) {
		return h.own.Records(ctx, "", q.At)
	}),
	verbStop: dutyOf(func(h *helper, q *askStop) error { return h.checkAttempt(q.At) },
		func(ctx context.Context, h *helper, q askStop) (nothing, error) {
			return nothing{}, h.own.Stop(ctx, "", q.At, q.Stop)
		}),
	verbAct: dutyOf(func(*helper, *Action) error { return nil }, func(ctx context.Context, h *helper, q Action) (Answer, error) {
		if err := h.onlyOurs(ctx, &q); err != nil || len(q.JobIDs) == 0 {
			return Answer{}, err
		}
		return h.own.Act(ctx, "", q)
	}),
	verbRead: dutyOf(func(h *helper, q *askRead) error {
		if q.Max < 0 || q.Max > maxRead || q.Offset < 0 {
			return refuse("max", "%d bytes from %d: want at most %d from 0 on", q.Max, q.Offset, maxRead)
		}
		return h.checkAttempt(q.At)
	}, func(ctx context.Context, h *helper, q askRead) (forge.Chunk, error) {
		return h.own.Read(ctx, "", q.At, q.Stream, q.Offset, q.Max)
	}),
	verbCheckpoints: dutyOf(func(h *helper, q *askCheckpoints) error { return h.checkRunDir(q.RunDir, q.Run) },
		func(ctx context.Context, h *helper, q askCheckpoints) ([]forge.Checkpoint, error) {
			return h.own.Checkpoints(ctx, "", q.Run, q.RunDir, q.Verify)
		}),
	verbBranch: dutyOf(func(h *helper, q *askBranch) error {
		if q.Attempt < 1 || q.Step < 0 {
			return refuse("step", "step %d of attempt %d: want attempts from 1, steps from 0", q.Step, q.Attempt)
		}
		return h.checkRunDir(q.RunDir, q.Run)
	}, func(ctx context.Context, h *helper, q askBranch) (forge.Checkpoint, error) {
		return h.own.Branch(ctx, "", q.Run, q.RunDir, q.Attempt, q.Step, q.Keep)
	}),
	verbPruneHeld: dutyOf(func(h *helper, q *askPruneHeld) error { return h.checkRunDir(q.RunDir, q.Run) },
		func(ctx context.Context, h *helper, q askPruneHeld) (int, error) {
			return h.own.PruneHeld(ctx, "", q.Run, q.RunDir, q.Needed)
		}),
	verbCheckInputs: dutyOf((*helper).checkManifest, func(ctx context.Context, h *helper, m forge.Manifest) (nothing, error) {
		return nothing{}, h.own.CheckInputs(ctx, "", m)
	}),
	verbRemains: dutyOf((*helper).checkRoot, func(ctx context.Context, h *helper, q askRoot) ([]forge.Remains, error) {
		return h.own.Remains(ctx, "", q.RunRoot)
	}),
	verbPing: dutyOf(func(*helper, *nothing) error { return nil }, func(_ context.Context, h *helper, _ nothing) (Pong, error) {
		return Pong{UID: os.Getuid(), RunRoots: h.cfg.roots(h.account), ArtifactRoots: h.seeArtefactRoots(), Bin: h.cfg.Bin, Conf: h.cfg.Conf}, nil
	}),
}
