package slurm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// The bounds of one request.
const (
	maxRead     = 8 << 20
	maxAttempts = 20_000
	maxScript   = 256 << 10
	maxArg      = 64 << 10  // a list of hosts
	maxNumber   = 1_000_000 // attempts of one run
)

// refuse is the helper's no. It is forged's fault or a stranger's, and never says anything about a run.
func refuse(field, format string, args ...any) error {
	return (&forge.Error{Kind: forge.KindForbidden, Op: HelperName, Field: field, Err: fmt.Errorf(format, args...)}).
		WithHint("what it may do is in %s, which only root writes", HelperConfig)
}

var runName = regexp.MustCompile(`^[0-9A-HJKMNP-TV-Z]{26}$`)

// checkRunDir holds that a run directory lies directly in a run root, is called as its run, and, if it is there, is the
// user's own: in a root that many share somebody could have put a link or a directory of theirs in its place.
func (h *helper) checkRunDir(dir string, run forge.RunID) error {
	if !runName.MatchString(string(run)) {
		return refuse("run", "%.64q is no id of a run", run)
	}
	root := filepath.Dir(dir)
	if dir != filepath.Join(root, string(run)) || !slices.Contains(h.cfg.roots(h.account), root) {
		return refuse("run_dir", "%.200q: want %s directly in %s", dir, run, strings.Join(h.cfg.roots(h.account), " or "))
	}
	if err := safeRoot(root); err != nil {
		return refuse("run_root", "%s: %v", root, err)
	}
	st, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return refuse("run_dir", "%s: %v", dir, err)
	case !st.IsDir():
		return refuse("run_dir", "%s is a %s and no directory", dir, st.Mode().Type())
	case !mine(st):
		return refuse("run_dir", "%s belongs to somebody else", dir)
	}
	return nil
}

// safeRoot: whoever may rename what is in a directory may put something else in its place between a look and a use.
func safeRoot(root string) error {
	st, err := os.Stat(root)
	switch {
	case errors.Is(err, fs.ErrNotExist): // not mounted, or not made: whoever needs it says so
		return nil
	case err != nil:
		return err
	case !st.IsDir():
		return errors.New("is no directory")
	case st.Mode().Perm()&0o022 != 0 && st.Mode()&os.ModeSticky == 0:
		return fmt.Errorf("others can rename what is in it: mode %04o wants the sticky bit (chmod +t)", st.Mode().Perm())
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || sys.Uid != 0 && int(sys.Uid) != os.Getuid() {
		return errors.New("belongs neither to root nor to the user")
	}
	return nil
}

func mine(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == os.Getuid()
}

func (h *helper) checkAttempt(at rundir.Attempt) error {
	if at.Number < 1 || at.Number > maxNumber {
		return refuse("attempt", "%d: want 1 to %d", at.Number, maxNumber)
	}
	if err := h.checkRunDir(at.RunDir, forge.RunID(filepath.Base(at.RunDir))); err != nil {
		return err
	}
	// Below the run directory everything is the user's, who may leave links in it: only those two lead to what forged reads.
	for _, dir := range []string{filepath.Dir(at.Dir()), at.Dir()} {
		st, err := os.Lstat(dir)
		if err == nil && (!st.IsDir() || !mine(st)) {
			return refuse("run_dir", "%s is no directory of the user's", dir)
		}
	}
	return nil
}

func (h *helper) checkRecords(q *askAttempts) error {
	if len(q.At) > maxAttempts {
		return refuse("at", "%d attempts: want at most %d", len(q.At), maxAttempts)
	}
	for _, at := range q.At {
		if err := h.checkAttempt(at); err != nil {
			return err
		}
	}
	return nil
}

func (h *helper) checkRoot(q *askRoot) error {
	if !slices.Contains(h.cfg.roots(h.account), q.RunRoot) {
		return refuse("run_root", "%.200q: want %s", q.RunRoot, strings.Join(h.cfg.roots(h.account), " or "))
	}
	return nil
}

// checkManifest: digests of files that are no inputs are nobody's business.
func (h *helper) checkManifest(m *forge.Manifest) error {
	if len(h.cfg.Inputs) == 0 {
		return nil
	}
	for _, f := range m.Files {
		if !filepath.IsLocal(f.Path) {
			return refuse("root", "%.200q leads out of it", f.Path)
		}
	}
	path, err := filepath.EvalSymlinks(m.Root)
	if err != nil {
		path = filepath.Clean(m.Root) // what is not there is said by the check itself
	}
	roots := h.cfg.Inputs
	for _, own := range slices.Concat(h.cfg.artefactRoots(h.account), h.cfg.roots(h.account)) { // what runs left is what later ones begin from
		if real, err := filepath.EvalSymlinks(own); err == nil {
			roots = append(slices.Clip(roots), real)
		}
	}
	for _, root := range roots {
		if path == root || strings.HasPrefix(path, root+"/") {
			return nil
		}
	}
	return refuse("root", "%.200q: inputs lie below %s", m.Root, strings.Join(h.cfg.Inputs, " or "))
}

// checkSubmit holds a whole submission together: the job is the one of the attempt, its options are those that Render
// writes and what root's list adds, and nothing of it leads out of the attempt's directory.
func (h *helper) checkSubmit(q *SubmitRequest) error {
	l := q.Launch
	at := rundir.At(l.RunDir, l.Attempt)
	if err := h.checkRunDir(l.RunDir, l.Run); err != nil {
		return err
	}
	if err := h.checkAttempt(at); err != nil {
		return err
	}
	name := JobName(h.cluster, l.Run, l.Attempt)
	if q.Refuse != "" {
		return checkRefuse(q)
	}
	if q.Job.Name != name || l.Key != forge.AttemptKey(l.Run, l.Attempt) {
		return refuse("job.name", "%.100q: want %s", q.Job.Name, name)
	}
	if l.Account != "" && l.Account != h.account {
		return refuse("account", "%.64q: this is %s", l.Account, h.account)
	}
	if err := checkScript(q.Job.Script); err != nil {
		return err
	}
	return h.checkArgs(q.Job.Args, name, at)
}

// checkRefuse: what is refused brings no job, so that nothing of it need be looked at.
func checkRefuse(q *SubmitRequest) error {
	if len(q.Refuse) > maxHelperWord || q.Job.Name != "" || q.Job.Script != "" || len(q.Job.Args) > 0 {
		return refuse("refuse", "want at most %d bytes, and no job", maxHelperWord)
	}
	return nil
}

// makeRoot makes the user's own run root below a directory that is theirs, the first time.
func (h *helper) makeRoot(root string) error {
	if _, err := os.Lstat(root); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	st, err := os.Stat(filepath.Dir(root))
	if err != nil || !mine(st) {
		return nil // not mounted: the submission says so
	}
	if err := os.Mkdir(root, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// checkScript: sbatch reads options also from comments.
func checkScript(script string) error {
	if len(script) > maxScript || strings.ContainsRune(script, 0) || !strings.HasPrefix(script, "#!/bin/bash\n") {
		return refuse("job.script", "want a script for /bin/bash of at most %d bytes", maxScript)
	}
	for line := range strings.Lines(script) {
		for _, mark := range []string{"#SBATCH", "#SLURM", "#BSUB", "#PBS"} {
			if strings.HasPrefix(line, mark) {
				return refuse("job.script", "%.100q: options come as arguments", strings.TrimSpace(line))
			}
		}
	}
	return nil
}

// rendered are the options that Render writes, each with what its value must be.
var rendered = map[string]*regexp.Regexp{
	"parsable": nil, "no-requeue": nil,
	"job-name": anything, "partition": word, "account": word, "qos": word, "constraint": anything, "reservation": word, "mail-type": word, "switches": regexp.MustCompile(`^[0-9]{1,4}(@[0-9:-]{1,20})?$`),
	"nodes": digits, "ntasks-per-node": digits, "gres": word, "gpus-per-node": word, "cpus-per-task": digits, "cpus-per-gpu": digits,
	"mem": digits, "mem-per-gpu": digits, "time": word, "signal": regexp.MustCompile(`^(B:)?USR2@[0-9]{1,5}$`), "nice": digits,
	"exclude": hostList, "nodelist": hostList, "chdir": anything, "output": anything, "error": anything,
	"open-mode": regexp.MustCompile(`^append$`), "input": regexp.MustCompile(`^/dev/null$`), "export-file": regexp.MustCompile(`^/dev/null$`),
	"kill-on-invalid-dep": regexp.MustCompile(`^yes$`), "get-user-env": nil,
}

var (
	anything = regexp.MustCompile(`^[^\x00-\x1f]+$`)
	word     = regexp.MustCompile(`^[A-Za-z0-9_.,:=@+-]+$`)
	digits   = regexp.MustCompile(`^[0-9]{1,9}[KMG]?$`)
	hostList = regexp.MustCompile(`^[A-Za-z0-9_.,\[\]-]+$`)
)

// mustBe are the options whose absence would mean something else.
var mustBe = []string{"parsable", "no-requeue", "job-name", "nodes", "ntasks-per-node", "chdir", "output", "export-file"}

func (h *helper) checkArgs(args []string, name string, at rundir.Attempt) error {
	seen := map[string]bool{}
	for _, arg := range args {
		opt, value, valued := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if !strings.HasPrefix(arg, "--") {
			return refuse("job.args", "%.100q: want --name or --name=value", arg)
		}
		form, ours := rendered[opt]
		switch {
		case len(arg) > maxArg:
			return refuse("job.args", "--%.64s: %d bytes, want at most %d", opt, len(arg), maxArg)
		case !ours && h.allowed(opt):
			if valued && !anything.MatchString(value) {
				return refuse("job.args", "--%s: the value has control characters", opt)
			}
			continue
		case !ours:
			return refuse("job.args", "--%.64s is no option that forge passes, and not on the list", opt)
		case seen[opt]:
			return refuse("job.args", "--%s stands twice", opt)
		case form == nil == valued, form != nil && !form.MatchString(value):
			return refuse("job.args", "--%s: %.100q is no value of it", opt, value)
		}
		seen[opt] = true
		if want, fixed := map[string]string{"job-name": name, "chdir": at.Dir()}[opt]; fixed && value != want {
			return refuse("job.args", "--%s: %.200q: want %s", opt, value, want)
		}
		// sbatch fills patterns (%j) in: only a doubled percent sign stands for itself.
		if plain := strings.ReplaceAll(value, "%%", ""); (opt == "output" || opt == "error") && (filepath.Dir(strings.ReplaceAll(value, "%%", "%")) != at.Dir() || strings.Contains(plain, "%")) {
			return refuse("job.args", "--%s: %.200q does not lie in %s", opt, value, at.Dir())
		}
	}
	for _, opt := range mustBe {
		if !seen[opt] {
			return refuse("job.args", "--%s is missing", opt)
		}
	}
	return nil
}

// allowed: an option by its whole name, since sbatch takes every beginning of one.
func (h *helper) allowed(opt string) bool {
	return slices.ContainsFunc(h.cfg.Allow, func(entry string) bool {
		name, err := AllowName(entry)
		return err == nil && name == opt
	})
}

// onlyOurs leaves of an action the jobs that are forge's, by their names, and refuses it when one is somebody's own: the
// user's other jobs are not forged's to touch. Ids that Slurm does not know any more need nothing done.
func (h *helper) onlyOurs(ctx context.Context, q *Action) error {
	if len(q.JobIDs) > maxAttempts {
		return refuse("job_ids", "%d jobs: want at most %d", len(q.JobIDs), maxAttempts)
	}
	out, err := h.tools.Run(ctx, "", "squeue", "-h", "-a", "-t", "all", "--user="+strconv.Itoa(os.Getuid()), "-o", "%A|%j")
	if err != nil {
		return err
	}
	names := map[string]string{}
	for line := range strings.Lines(out) {
		id, name, _ := strings.Cut(strings.TrimRight(line, "\n"), "|")
		names[id] = name
	}
	var ours []string
	for _, id := range q.JobIDs {
		name, known := names[id]
		if !known {
			continue
		}
		if _, _, ok := ParseJobName(h.cluster, name); !ok {
			return refuse("job_ids", "job %.20s is called %.100q, and is not forge's", id, name)
		}
		ours = append(ours, id)
	}
	q.JobIDs = ours
	return nil
}
