package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
	"github.com/forge-ml/forge-ml/internal/workdir"
)

// scriptFlags are those of a run that brings its own program.
func scriptFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "workdir", Usage: "directory that the command starts in, as it is now: forged keeps a copy"},
		&cli.BoolFlag{Name: "include-untracked", Usage: "take files of the directory, too, that git does not track and does not ignore"},
		&cli.StringFlag{Name: "snapshot-limit", Usage: "most that the files of the directory may have", DefaultText: "100M"},
		&cli.StringFlag{Name: "launch", Usage: "rank: the command once for each GPU; node: once for each node, for torchrun, accelerate, deepspeed", DefaultText: "the recipe's; node with --sbatch"},
		&cli.StringFlag{Name: "sbatch", Usage: "job script whose #SBATCH lines say what the run asks for, and which is its command"},
	}
}

// sourceOptions say what to take of a working directory.
type sourceOptions struct {
	untracked bool
	limit     int64
	sbatch    *jobScript
}

// behindDashes parts what follows --. Options of sbatch begin with a dash and a program does not; both have another -- between them.
func behindDashes(words []string) (raw, command []string) {
	if len(words) == 0 || !strings.HasPrefix(words[0], "-") {
		return nil, words
	}
	for i, w := range words {
		if w == "--" {
			return words[:i], words[i+1:]
		}
	}
	return words, nil
}

// programFlags lays what says which program runs over the run file.
func programFlags(c *cli.Context, r *api.SubmitRunRequest, command []string) (sourceOptions, error) {
	o := sourceOptions{untracked: c.Bool("include-untracked")}
	text(c, "workdir", &r.Workdir)
	if c.IsSet("launch") {
		switch r.Launch = forge.LaunchMode(c.String("launch")); r.Launch {
		case forge.LaunchRank, forge.LaunchNode:
		default:
			return o, forge.Invalidf("launch", "%q: want rank (a process for each GPU) or node (one for each node)", r.Launch)
		}
	}
	if c.IsSet("snapshot-limit") {
		m, err := forge.ParseMemoryMiB(c.String("snapshot-limit"))
		if err != nil {
			return o, forge.Invalidf("snapshot-limit", "%w", err)
		}
		o.limit = m << 20
	}
	if len(command) > 0 {
		r.Command = command
	}
	if r.Workdir == "" && c.IsSet("include-untracked") {
		return o, forge.Invalidf("include-untracked", "says what is taken of a directory, and none is named").WithHint("--workdir .")
	}
	return o, nil
}

// takeSource snapshots the working directory and hands it to forged; a dry run only says what would be taken.
func (a *app) takeSource(ctx context.Context, cl *client.Client, o submitOptions) (*forge.Source, error) {
	r := &o.request
	file, err := os.CreateTemp("", "forge-snapshot-*.tar.gz")
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close(); _ = os.Remove(file.Name()) }()
	t, err := workdir.Take(ctx, workdir.Options{Dir: r.Workdir, Untracked: o.source.untracked, Limit: o.source.limit}, file)
	if err != nil {
		return nil, err
	}
	for _, n := range t.Notes {
		fmt.Fprintf(a.Err, "note: %s\n", clean(n))
	}
	if n := len(t.Left); n > 0 {
		fmt.Fprintf(a.Err, "note: %s that git does not track %s left out: %s; --include-untracked takes them\n", plural(n, "file"), map[bool]string{true: "is", false: "are"}[n == 1], clean(firstOf(t.Left, 5)))
	}
	if err := namesWhatIsThere(t, r.Command); err != nil {
		return nil, err
	}
	if r.DryRun {
		return &t.Source, nil
	}
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	got, err := cl.AddSnapshot(ctx, t.SHA256, st.Size(), func() (io.ReadCloser, error) { return os.Open(file.Name()) })
	if err != nil {
		return nil, err
	}
	t.Bytes, t.Files = got.Bytes, got.Files
	return &t.Source, nil
}

func firstOf(names []string, most int) string {
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// namesWhatIsThere finds a word of the command that is a file here and would be none there: the run would fail at once,
// after it has waited for its GPUs.
func namesWhatIsThere(t workdir.Taken, command []string) error {
	for _, w := range command {
		if w == "" || filepath.IsAbs(w) || !filepath.IsLocal(w) || t.Has(w) {
			continue
		}
		if st, err := os.Stat(filepath.Join(t.Root, w)); err != nil || !st.Mode().IsRegular() {
			continue
		}
		e := forge.Invalidf("command", "%s is in %s and not in what is taken of it", w, t.Root)
		for _, l := range t.Left {
			if l == filepath.ToSlash(filepath.Clean(w)) {
				return e.WithHint("git does not track it: git add %s, or --include-untracked", w)
			}
		}
		return e.WithHint("%s or .gitignore leaves it out; name it by an absolute path that the nodes have", workdir.IgnoreFile)
	}
	return nil
}

// sourceText is a snapshot in a line.
func sourceText(s *forge.Source) string {
	if s == nil {
		return ""
	}
	text := plural(s.Files, "file") + ", " + size(s.Bytes) + ", digest " + short(s.SHA256)
	if s.Commit != "" {
		at := "commit " + short(s.Commit)
		if s.Dirty {
			at += " with changes"
		}
		text = at + ", " + text
	}
	if s.Root != "" {
		text += ", of " + s.Root
	}
	return text
}

// commandText is a command as one would type it.
func commandText(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = w
		if w == "" || strings.ContainsAny(w, " \t\n'\"$`\\&|;<>()[]{}*?!#~") {
			out[i] = shellWord(w)
		}
	}
	return strings.Join(out, " ")
}

// nodeLaunch says what is not usual.
func nodeLaunch(s *forge.RunSpec) string {
	if s.Launch == forge.LaunchNode {
		return "once for each node"
	}
	return ""
}

// lineOf adds to a refusal of an option of sbatch where in the job script it stands.
func (o sourceOptions) lineOf(err error) error {
	var e *forge.Error
	if o.sbatch == nil || !errors.As(err, &e) || e.Field != "batch.raw" {
		return err
	}
	for _, d := range o.sbatch.raw {
		if strings.Contains(e.Err.Error(), d.text) || strings.Contains(e.Err.Error(), "--"+d.name+" ") {
			out := *e
			out.Err = fmt.Errorf("%s line %d: %w", o.sbatch.path, d.line, e.Err)
			return &out
		}
	}
	return err
}
