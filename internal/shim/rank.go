package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// command is what the entry means on this cluster, in the software that it is to run in.
func command(l rundir.LaunchFile, e forge.Entry) ([]string, error) {
	var argv []string
	switch {
	case l.Spec.Scan != nil: // this very program, and outside of any container: it needs nothing of the site's software
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("the path of forged on this node is not known: %w", err)
		}
		return append([]string{self}, e.Command[1:]...), nil
	case e.Module != "" && l.Options.Python == "":
		return nil, errors.New("the cluster's configuration names no Python interpreter")
	case e.Module != "":
		argv = []string{l.Options.Python, "-m", e.Module}
	case len(e.Command) > 0:
		argv = e.Command
	default:
		return nil, errors.New("the run has neither a module nor a command to start")
	}
	argv = slices.Concat(l.Options.Wrap, argv)
	if len(l.Options.Source) == 0 {
		return argv, nil
	}
	return append([]string{"/bin/bash", "--noprofile", "--norc", "-c", sourcing(l.Options.Source), "forge"}, argv...), nil
}

// sourcing is the shell that prepares a rank and becomes it: what fails on the way is this node's environment, not the program.
func sourcing(lines []string) string {
	failed := fmt.Sprintf("exit %d", forge.ExitNodeEnv)
	var b strings.Builder
	for _, line := range lines {
		fmt.Fprintf(&b, "{ %s\n} || { echo \"forge: this did not succeed before the rank: \"%s >&2; %s; }\n", line, bashWord(firstLine(line)), failed)
	}
	fmt.Fprintf(&b, "command -v -- \"$1\" >/dev/null || { echo \"forge: $1 is not in PATH=$PATH\" >&2; %s; }\nexec \"$@\"\n", failed)
	return b.String()
}

func firstLine(s string) string {
	s, _, more := strings.Cut(s, "\n")
	if more || len(s) > 200 {
		s = s[:min(len(s), 200)] + " …"
	}
	return s
}

func bashWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// startRanks starts every local rank, or none that lives on: the error says why not.
func (s *shim) startRanks() error {
	argv, err := command(s.launch, s.launch.Spec.Entry)
	if err != nil {
		return refuse(forge.StopNodeEnv, "%v", err)
	}
	s.groupRanks()
	first := rundir.FirstRank(s.perNode, s.node)
	ifname := s.interfaceToMaster()
	cpus := s.shareCPUs()
	for local := range s.perNode[s.node] {
		m := &member{rank: first + local}
		s.gang.members = append(s.gang.members, m)
		env := environment(s.launch, seat{
			node: s.node, local: local, rank: m.rank, perNode: s.perNode,
			master: s.master, resume: s.resume.Path, home: home(), own: os.Environ(), job: s.job, ifname: ifname, cpus: len(cpus[local]),
		})
		s.writeEnv(m.rank, env)
		if env, err = withSecrets(env, s.secrets); err != nil {
			return err
		}
		if err := withCPUs(cpus[local], func() error { return s.startRank(m, argv, env) }); err != nil {
			return err
		}
	}
	return nil
}

// writeEnv leaves the environment of a rank for whoever opens a shell beside it, where shells are let in. It is no
// more than launch.json already says, and nothing waits for it.
func (s *shim) writeEnv(rank int, env []string) {
	if s.job == nil {
		return
	}
	var b strings.Builder
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		fmt.Fprintf(&b, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	s.writes.Go(func() {
		err := rundir.MakeDir(s.at.RankDir(rank))
		if err == nil {
			err = rundir.WriteFast(rundir.Content{Path: s.at.RankEnvPath(rank), Data: []byte(b.String())})
		}
		if err != nil {
			s.log.Warn().Err(err).Int("rank", rank).Msg("environment of the rank not written; only shells miss it")
		}
	})
}

func (s *shim) startRank(m *member, argv, env []string) error {
	path, err := lookPath(argv[0], env, s.startDir())
	if err != nil {
		return refuse(forge.StopNodeEnv, "cannot start %s: %v", argv[0], err)
	}
	files, err := s.openStreams(m.rank)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return refuse(forge.StopLaunch, "cannot open the streams of rank %d: %v", m.rank, err)
	}
	if s.job != nil {
		defer s.events.deafToLimit()()
	}
	m.started = time.Now().UTC()
	attr := &syscall.ProcAttr{
		Dir:   s.startDir(),
		Env:   env,
		Files: []uintptr{files[0].Fd(), files[1].Fd(), files[2].Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	if s.group.dir != nil { // cloned into it: moved there afterwards, it could have forked out of it before
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(s.group.dir.Fd())
	}
	m.pid, err = syscall.ForkExec(path, argv, attr)
	if err != nil && attr.Sys.UseCgroupFD && len(s.gang.members) == 1 { // an old kernel, or less was delegated than it seemed
		attr.Sys.UseCgroupFD = false
		var again error
		if m.pid, again = syscall.ForkExec(path, argv, attr); again == nil {
			s.log.Debug().Err(err).Msg("ranks cannot be started in a cgroup of their own")
			s.group.drop()
		}
		err = again
	}
	if err != nil {
		m.pid = 0
		cause := forge.StopNodeEnv // not there, not executable, of another machine
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOMEM) {
			cause = forge.StopLaunch
		}
		return refuse(cause, "cannot start %s: %v", path, err)
	}
	files = s.printed.add(m.rank, s.at, files)
	return nil
}

// openStreams opens stdin, stdout and stderr of a rank: files and never pipes, so that no reader has
// to live for the rank to go on.
func (s *shim) openStreams(rank int) ([]*os.File, error) {
	if err := rundir.MakeDir(s.at.RankDir(rank)); err != nil {
		return nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	files := []*os.File{null}
	for _, path := range []string{s.at.StdoutPath(rank), s.at.StderrPath(rank)} {
		f, err := rundir.CreateAppend(path)
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	return files, nil
}

// lookPath finds a command by the rank's PATH, not by the shim's own.
func lookPath(name string, env []string, dir string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return name, executable(name)
	}
	path := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	for _, d := range filepath.SplitList(path) {
		if p := filepath.Join(d, name); filepath.IsAbs(d) && executable(p) == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("not found in PATH=%s", path)
}

func executable(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return errors.Unwrap(err) // the path is in the sentence already
	}
	if st.IsDir() {
		return errors.New("is a directory")
	}
	return unix.Access(path, unix.X_OK)
}

func home() string {
	if h := os.Getenv("HOME"); h != "" {
		return h
	}
	return "/"
}

// send carries out what the gang ordered. The target is a child that was not yet collected, so the
// pid cannot have come to mean another process.
func (s *shim) send() {
	for _, o := range s.gang.orders() {
		if err := syscall.Kill(o.pid, o.sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			s.log.Warn().Err(err).Int("pid", o.pid).Stringer("signal", o.sig).Msg("signal not sent")
		}
	}
}

// reap collects every child that has ended: ranks, and orphans that the kernel gave to us. True: no other child is left.
func (s *shim) reap() (childless bool) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return errors.Is(err, syscall.ECHILD)
		}
		now := time.Now().UTC()
		for _, m := range s.gang.members {
			if m.pid == pid && !m.ended {
				if s.job != nil && s.gang.cause == "" && obeyed(ws) {
					s.hearTerm()
				}
				s.gang.exited(m, ws, s.oom.struck(), now)
				s.recordExit(m.exit)
			}
		}
	}
}

// termLag is how much later than its ranks a shim may hear of a TERM that a batch system sends to all of them.
const termLag = 300 * time.Millisecond

// obeyed says that a rank ended as one does that was asked to.
func obeyed(ws syscall.WaitStatus) bool {
	return ws.Signaled() && ws.Signal() == syscall.SIGTERM || ws.Exited() && (ws.ExitStatus() == forge.ExitCheckpointed || ws.ExitStatus() == 128+int(syscall.SIGTERM))
}

// hearTerm waits for the TERM that such an end may have come from: it is the cause, and the end what followed.
func (s *shim) hearTerm() {
	select {
	case <-s.events.term:
		s.terminated()
	case <-time.After(termLag):
	}
}

// recordExit writes a rank's record at once, so that it survives whatever happens to the shim, and
// beside the loop, so that a hanging filesystem does not stop limits from being enforced.
func (s *shim) recordExit(x forge.RankExit) {
	s.log.Info().Int("rank", x.Rank).Int("code", x.Code).Bool("by_shim", x.ByShim).Msg("rank ended")
	s.writes.Go(func() {
		if err := rundir.WriteJSON(s.at.RankExitPath(x.Rank), x); err != nil {
			s.log.Error().Err(err).Int("rank", x.Rank).Msg("exit record of the rank not written")
		}
	})
}
