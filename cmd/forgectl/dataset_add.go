package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
	"github.com/forge-ml/forge-ml/internal/dataset"
)

type addOptions struct {
	api.AddDatasetRequest
	threads             int
	onServer, onCluster bool
	wait                bool
	cluster             string
}

func (a *app) datasetAddCommand() *cli.Command {
	return &cli.Command{Name: "add", Usage: "register files as the next version; they stay where they are", ArgsUsage: "NAME PATH…",
		Description: "The data is read once, here, with the least priority that this host gives: digests, rows, kind, duplicates, lengths, personal data and secrets. Data that is not here is read by forged.\n\n" +
			"PATH is a file, a directory or a quoted glob. The same data gives the version that it is already.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "license", Usage: "SPDX expression, like Apache-2.0"},
			&cli.StringFlag{Name: "description", Usage: "what it is, for people"},
			&cli.StringSliceFlag{Name: "parent", Usage: "NAME@VERSION that this one was made from; may be given again"},
			&cli.StringFlag{Name: "kind", Usage: "what the rows are: auto, " + joinAny(forge.DatasetKinds), Value: "auto"},
			&cli.StringFlag{Name: "map", Usage: "where columns have other names: prompt=instruction,completion=output"},
			&cli.StringFlag{Name: "preset", Usage: "a known set of columns instead: alpaca or sharegpt"},
			&cli.StringFlag{Name: "pii-policy", Usage: "what findings of personal data do: warn, block, or redact (registers a redacted child beside it)", Value: string(forge.PIIWarn)},
			&cli.BoolFlag{Name: "national-ids", Usage: "look for MAC addresses and national ids, too"},
			&cli.BoolFlag{Name: "near-duplicates", Usage: "count rows that are nearly an earlier one, too"},
			&cli.BoolFlag{Name: "copy", Usage: "send forge a copy of its own to keep"},
			&cli.IntFlag{Name: "threads", Usage: "that look at rows, beside one that reads", Value: 1},
			&cli.BoolFlag{Name: "on-server", Usage: "forged reads it, on its host"},
			&cli.BoolFlag{Name: "on-cluster", Usage: "a run reads it, without a GPU, and registers it when it completes"},
			&cli.StringFlag{Name: "cluster", Usage: "which cluster's, with --on-cluster"},
			&cli.BoolFlag{Name: "wait", Usage: "wait for that run's end"},
		},
		Action: func(c *cli.Context) error {
			o, err := parseDatasetAdd(c)
			if err != nil {
				return err
			}
			return a.datasetAdd(c.Context, o)
		}}
}

var piiPolicies = []forge.PIIPolicy{forge.PIIWarn, forge.PIIBlock, forge.PIIRedact}

var datasetPresets = []string{"alpaca", "sharegpt"}

const threadsMost = 64

func parseDatasetAdd(c *cli.Context) (addOptions, error) {
	var o addOptions
	args, err := positionals(c, "NAME", "PATH…")
	if err != nil {
		return o, err
	}
	o.Name, o.License, o.Description, o.Parents = args[0], c.String("license"), c.String("description"), c.StringSlice("parent")
	o.Preset, o.PIIPolicy, o.National, o.Near, o.Copy = c.String("preset"), forge.PIIPolicy(c.String("pii-policy")), c.Bool("national-ids"), c.Bool("near-duplicates"), c.Bool("copy")
	o.threads, o.onServer, o.onCluster = c.Int("threads"), c.Bool("on-server"), c.Bool("on-cluster")
	o.wait, o.cluster = c.Bool("wait"), c.String("cluster")
	if err := forge.CheckName(o.Name); err != nil {
		return o, forge.Invalidf("name", "%w", err)
	}
	for _, p := range args[1:] {
		abs, err := absolute(p)
		if err != nil {
			return o, err
		}
		o.Paths = append(o.Paths, abs)
	}
	if k := c.String("kind"); k != "auto" {
		if !slices.Contains(forge.DatasetKinds, forge.DatasetKind(k)) {
			return o, forge.Invalidf("kind", "%q is no kind; there are auto, %s%s", k, joinAny(forge.DatasetKinds), didYouMean(k, texts(forge.DatasetKinds)))
		}
		o.Kind = k
	}
	if o.Map, err = parseMap(c.String("map")); err != nil {
		return o, err
	}
	switch {
	case o.Preset != "" && !slices.Contains(datasetPresets, o.Preset):
		return o, forge.Invalidf("preset", "%q is no preset; there are %s%s", o.Preset, strings.Join(datasetPresets, ", "), didYouMean(o.Preset, datasetPresets))
	case o.Preset != "" && len(o.Map) > 0:
		return o, forge.Invalidf("preset", "and --map say the same thing; want one of them")
	case !slices.Contains(piiPolicies, o.PIIPolicy):
		return o, forge.Invalidf("pii-policy", "%q is no policy; there are %s%s", o.PIIPolicy, joinAny(piiPolicies), didYouMean(string(o.PIIPolicy), texts(piiPolicies)))
	case o.threads < 1 || o.threads > threadsMost:
		return o, forge.Invalidf("threads", "%d: want 1 to %d", o.threads, threadsMost)
	case (o.wait || o.cluster != "") && !o.onCluster:
		return o, forge.Invalidf("on-cluster", "is missing: --wait and --cluster are about the run that it makes")
	case o.onServer && o.onCluster:
		return o, forge.Invalidf("on-cluster", "and --on-server: one of them reads the data")
	}
	return o, nil
}

// parseMap reads COLUMN=COLUMN,… as the kind's columns and what the files call them.
func parseMap(s string) (map[string]string, error) {
	if s == "" {
		return nil, nil
	}
	m := map[string]string{}
	for pair := range strings.SplitSeq(s, ",") {
		of, column, ok := strings.Cut(pair, "=")
		if of, column = strings.TrimSpace(of), strings.TrimSpace(column); !ok || of == "" || column == "" {
			return nil, forge.Invalidf("map", "%q is no pair; want COLUMN-OF-THE-KIND=COLUMN-OF-THE-FILES, like prompt=instruction", pair)
		}
		if m[of] != "" {
			return nil, forge.Invalidf("map", "%s is given twice", of)
		}
		m[of] = column
	}
	return m, nil
}

// absolute makes a path mean on the server what it means here.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", forge.Invalidf("path", "%q cannot be made absolute: %w", path, err)
	}
	return abs, nil
}

func (a *app) datasetAdd(ctx context.Context, o addOptions) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	if o.onCluster {
		return a.addOnCluster(ctx, cl, o)
	}
	there, missing := here(o.Paths)
	switch {
	case o.onServer:
		return a.addOnServer(ctx, cl, o)
	case len(there) == 0:
		fmt.Fprintf(a.Err, "%s is not on this host; forged reads it on its own\n", clean(strings.Join(missing, ", ")))
		return a.addOnServer(ctx, cl, o)
	case len(missing) > 0:
		return forge.Invalidf("path", "%s does not exist here, and %s does", strings.Join(missing, ", "), strings.Join(there, ", ")).
			WithHint("--on-server has forged read them all")
	}
	p, err := a.read(ctx, o.Paths, passFlags{kind: forge.DatasetKind(o.Kind), columns: o.Map, preset: o.Preset, threads: o.threads, near: o.Near, national: o.National})
	if err != nil {
		return a.refused(err, o)
	}
	defer p.drop()
	if o.PIIPolicy == forge.PIIBlock && p.Report.PII.Found() {
		return a.blocked(p.Report.PII, o)
	}
	if len(p.ignored) > 0 {
		fmt.Fprintf(a.Err, "not part of it: %s\n", someOf(p.ignored))
	}
	v, err := a.register(ctx, cl, o.AddDatasetRequest, p)
	if err != nil {
		return err
	}
	if o.PIIPolicy == forge.PIIRedact && p.Report.PII.Found() {
		if v.Layout == nil { // as a listing of before has it
			v.Layout = &p.Layout
		}
		child, err := a.redact(ctx, cl, v.DatasetVersion, redactOptions{least: forge.ConfidenceMedium, national: o.National})
		if err != nil {
			return fmt.Errorf("%s is registered, its redacted child is not: %w", versionName(v.DatasetVersion), err)
		}
		fmt.Fprintf(a.Err, "redacted: %s\n", child.words())
		return a.added(v, &child.DatasetAdded)
	}
	return a.added(v, nil)
}

// register sends what a pass found, the files where forge is to keep a copy, and the index of the rows.
func (a *app) register(ctx context.Context, cl *client.Client, r api.AddDatasetRequest, p *pass) (api.DatasetAdded, error) {
	if r.Copy {
		if err := a.sendFiles(ctx, cl, p.Manifest); err != nil {
			return api.DatasetAdded{}, err
		}
	}
	r.Scanned = &p.Scanned
	v, err := cl.AddDataset(ctx, r, client.NewOnce())
	if err != nil {
		return v, err
	}
	if v.Existed && v.Indexed {
		return v, nil
	}
	if _, err := cl.AddDatasetRows(ctx, versionName(v.DatasetVersion), p.sum, p.size, p.rows); err != nil {
		if ctx.Err() != nil {
			return v, ctx.Err()
		}
		// The version is whole without it; only the question where a row went cannot be answered of it.
		fmt.Fprintf(a.Err, "warning: the rows of %s cannot be looked up: %s\nhint: the same command again sends their index again\n", versionName(v.DatasetVersion), clean(err.Error()))
	} else {
		v.Indexed = true
	}
	return v, nil
}

// sendFiles sends each file under its digest. One that changed since it was read has another, and is refused.
func (a *app) sendFiles(ctx context.Context, cl *client.Client, m forge.Manifest) error {
	far, ask := meter()
	stop := a.spin(ctx, "sending", filepath.Base(m.Root), ask)
	defer stop()
	var sent int64
	all := m.Bytes()
	for _, f := range m.Files {
		before := sent // of its own: a transport may read on while the answer is there
		open := func() (io.ReadCloser, error) {
			file, err := os.Open(filePath(m, f))
			return &sending{file, func(n int64) { far(before+n, all, 0) }, 0}, err
		}
		if _, err := cl.AddDatasetFile(ctx, f.SHA256, f.Size, open); err != nil {
			return fmt.Errorf("%s: %w", filePath(m, f), err)
		}
		sent += f.Size
	}
	return nil
}

type sending struct {
	*os.File
	far func(n int64)
	n   int64
}

func (s *sending) Read(b []byte) (int, error) {
	n, err := s.File.Read(b)
	s.n += int64(n)
	s.far(s.n)
	return n, err
}

// filePath is where a file of a manifest lies.
func filePath(m forge.Manifest, f forge.File) string {
	if f.Path == "." {
		return m.Root
	}
	return filepath.Join(m.Root, filepath.FromSlash(f.Path))
}

func someOf(names []string) string {
	s := strings.Join(names[:min(len(names), placesMost)], ", ")
	if more := len(names) - placesMost; more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return clean(s)
}

func (a *app) addOnServer(ctx context.Context, cl *client.Client, o addOptions) error {
	once := client.NewOnce()
	stop := a.spin(ctx, "reading", o.Paths[0], progressOf(cl, once))
	v, err := cl.AddDataset(ctx, o.AddDatasetRequest, once)
	stop()
	if err != nil {
		return a.spelled(err)
	}
	return a.added(v, nil)
}

// spelled says an error of many lines, as bad rows are, line by line: each of them was made safe for itself.
func (a *app) spelled(err error) error {
	var e *forge.Error
	if !errors.As(err, &e) || e.Err == nil {
		return err
	}
	head, rest, many := strings.Cut(e.Err.Error(), "\n")
	if !many || forge.KindOf(err) != forge.KindInvalid {
		return err
	}
	for l := range strings.SplitSeq(rest, "\n") {
		fmt.Fprintln(a.Err, clean(l))
	}
	return forge.Invalidf(e.Field, "%s", strings.TrimSuffix(head, ":")).WithHint("%s", forge.HintOf(err))
}

// blocked refuses under --pii-policy block, with what was found.
func (a *app) blocked(r *forge.PIIReport, o addOptions) error {
	p := a.printer()
	if p.mode == modeJSON {
		if err := p.done(p.json(r)); err != nil {
			return err
		}
	} else {
		notes := *p
		notes.w.Reset(a.Err)
		notes.mode = modeTable
		notes.pii(r)
		if err := notes.done(nil); err != nil {
			return err
		}
	}
	return forge.Invalidf("pii-policy", "block refuses personal data in %s of %s rows: %s; nothing was registered", thousands(r.RowsFound), thousands(r.Rows), piiLine(r)).
		WithHint("forgectl dataset add %s %s --pii-policy redact registers it with a redacted child", o.Name, wordsOf(o.Paths))
}

// refused says which rows are none: all that are known to programs, the first few to people.
func (a *app) refused(err error, o addOptions) error {
	var bad *dataset.Problems
	if !errors.As(err, &bad) {
		return err
	}
	return a.badRows(badRows{Total: bad.Total, Problems: bad.Rows}, o)
}

// badRows is what -o json prints of rows that are none.
type badRows struct {
	Total    int64              `json:"total" doc:"All there are"`
	Problems []forge.RowProblem `json:"problems" doc:"The first thousand"`
}

func (a *app) badRows(bad badRows, o addOptions) error {
	if p := a.printer(); p.mode == modeJSON {
		if err := p.done(p.json(bad)); err != nil {
			return err
		}
	} else {
		for _, l := range problemLines(bad.Problems, bad.Total) {
			fmt.Fprintln(a.Err, l)
		}
	}
	what := "1 row is none"
	if bad.Total != 1 {
		what = thousands(bad.Total) + " rows are none"
	}
	e := forge.Invalidf("", "%s; nothing was registered", what)
	if h := withoutBadRows(bad, o); h != "" {
		return e.WithHint("%s", h)
	}
	return e
}

// sedMost is how many lines a command that a person pastes may name.
const sedMost = 20

// withoutBadRows is a command that leaves the bad rows out, where there is one: files of lines. One file that was named is left as it is;
// of several, and of a directory, those with bad rows are mended where they are, and what was there stays beside them.
func withoutBadRows(bad badRows, o addOptions) string {
	if len(bad.Problems) == 0 || int64(len(bad.Problems)) < bad.Total {
		return ""
	}
	var files []string
	lines := map[string][]string{}
	for _, p := range bad.Problems {
		if p.Line == 0 || filepath.Ext(p.File) != ".jsonl" {
			return ""
		}
		if lines[p.File] == nil {
			files = append(files, p.File)
		}
		lines[p.File] = append(lines[p.File], strconv.FormatInt(p.Line, 10)+"d")
	}
	script := func(file string) string { return "'" + strings.Join(slices.Compact(lines[file]), ";") + "'" }
	if file := files[0]; len(o.Paths) == 1 && o.Paths[0] == file {
		clean := wordIfNeeded(strings.TrimSuffix(file, ".jsonl") + ".good.jsonl")
		again := fmt.Sprintf("> %s && forgectl dataset add %s %s", clean, o.Name, clean)
		if bad.Total <= sedMost {
			return fmt.Sprintf("without them: sed %s %s %s", script(file), wordIfNeeded(file), again)
		}
		return fmt.Sprintf("without them: forgectl dataset add %s %s -o json | jq -r '.problems[] | \"\\(.line)d\"' | sed -f - %s %s", o.Name, wordsOf(o.Paths), wordIfNeeded(file), again)
	}
	if bad.Total > sedMost {
		return ""
	}
	words := make([]string, len(files))
	for i, f := range files {
		words[i] = fmt.Sprintf("sed -i.bad %s %s", script(f), wordIfNeeded(f))
	}
	return fmt.Sprintf("without them (the files as they are stay beside them, as .bad): %s && forgectl dataset add %s %s", strings.Join(words, " && "), o.Name, wordsOf(o.Paths))
}

func wordsOf(paths []string) string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = wordIfNeeded(p)
	}
	return strings.Join(out, " ")
}

// wordIfNeeded quotes for a shell what is no plain word.
func wordIfNeeded(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("/._-+,:=@%", r)
	}) < 0 {
		return s
	}
	return shellWord(s)
}
