package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

type redactOptions struct {
	out      string // where it stays; empty: forge keeps a copy of its own
	least    forge.Confidence
	as       string // name of the child; empty: that of the parent
	national bool
}

var confidences = []forge.Confidence{forge.ConfidenceLow, forge.ConfidenceMedium, forge.ConfidenceHigh}

func (a *app) datasetRedactCommand() *cli.Command {
	return &cli.Command{Name: "redact", Usage: "register a version without personal data and secrets, made from this one; it is read here", ArgsUsage: "NAME[@VERSION]",
		Description: "Each finding in any text of a row is replaced by what it was, like [EMAIL]; all else stays as it is. The new version is JSON Lines, and its data is scanned again before it is registered.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "write it to this .jsonl file and register it there; else forge keeps a copy of its own"},
			&cli.StringFlag{Name: "least", Usage: "replace what is at least so sure: low, medium or high", Value: string(forge.ConfidenceMedium)},
			&cli.StringFlag{Name: "as", Usage: "name of the new version's dataset, when it is to be another"},
			&cli.BoolFlag{Name: "national-ids", Usage: "replace MAC addresses and national ids, too"},
		},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME")
			if err != nil {
				return err
			}
			o := redactOptions{out: c.String("out"), least: forge.Confidence(c.String("least")), as: c.String("as"), national: c.Bool("national-ids")}
			if !slices.Contains(confidences, o.least) {
				return forge.Invalidf("least", "%q is no confidence; there are %s%s", o.least, joinAny(confidences), didYouMean(string(o.least), texts(confidences)))
			}
			if o.out != "" {
				if o.out, err = absolute(o.out); err != nil {
					return err
				}
				if !strings.HasSuffix(o.out, ".jsonl") {
					return forge.Invalidf("out", "%s is not named *.jsonl, and what is written is JSON Lines", o.out)
				}
			}
			return a.datasetRedact(c.Context, args[0], o)
		}}
}

// redacted is the child, and what was replaced in it.
type redacted struct {
	api.DatasetAdded
	Replaced []replaced `json:"replaced"`
}

type replaced struct {
	Entity   forge.PIIEntity `json:"entity"`
	Findings int64           `json:"findings"`
}

func (r redacted) words() string {
	parts := make([]string, len(r.Replaced))
	for i, one := range r.Replaced {
		parts[i] = thousands(one.Findings) + " " + string(one.Entity)
	}
	return clean(strings.Join(parts, ", "))
}

func (a *app) datasetRedact(ctx context.Context, ref string, o redactOptions) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	v, err := a.version(ctx, cl, ref)
	if err != nil {
		return err
	}
	r, err := a.redact(ctx, cl, v, o)
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(r))
	case modeTSV:
		t := p.table()
		for _, one := range r.Replaced {
			t.row(r.Name, fmt.Sprint(r.Number), r.SHA256, string(one.Entity), fmt.Sprint(one.Findings))
		}
		return p.done(nil)
	}
	p.line("dataset %s registered, made from %s: replaced %s; status %s", clean(versionName(r.DatasetVersion)), clean(versionName(v)), r.words(), clean(string(r.PII)))
	p.line("next: forgectl run submit lora_sft --dataset %s --base MODEL", clean(versionName(r.DatasetVersion)))
	return p.done(nil)
}

// redact writes the rows of a version without what was found in them, reads that again as any other data, and
// registers it as a child.
func (a *app) redact(ctx context.Context, cl *client.Client, v forge.DatasetVersion, o redactOptions) (redacted, error) {
	var none redacted
	path, drop, err := redactTo(v, o.out)
	if err != nil {
		return none, err
	}
	kept := false
	defer func() {
		if !kept {
			drop()
		}
	}()
	counts, err := a.writeRedacted(ctx, v, path, o)
	if err != nil {
		return none, err
	}
	if len(counts) == 0 {
		e := forge.Errorf(forge.KindPrecondition, "", "there is nothing to replace in %s: nothing of %s confidence or more; no child was made", versionName(v), o.least)
		if o.least != forge.ConfidenceLow {
			return none, e.WithHint("--least low replaces what is less sure as well")
		}
		return none, e
	}
	p, err := a.read(ctx, []string{path}, passFlags{kind: v.Kind, columns: v.Layout.Map, preset: v.Layout.Preset, format: forge.FormatJSONL, threads: 1, national: o.national})
	if err != nil {
		return none, fmt.Errorf("what was written: %w", err)
	}
	defer p.drop()
	if p.Rows != v.Rows {
		return none, forge.Errorf(forge.KindConflict, "", "%s has %d rows, and %d were written", versionName(v), v.Rows, p.Rows).WithHint("forgectl dataset verify %s", versionName(v))
	}
	if left := leftOver(p.Report.PII, o.least); left != "" {
		return none, forge.Errorf(forge.KindInternal, "", "the redacted rows were scanned again, and hold %s still; nothing was registered", left).WithHint("please report this with the version of forgectl")
	}
	r := api.AddDatasetRequest{Name: cmp.Or(o.as, v.Name), Paths: []string{path}, License: licenseOf(v), Description: v.Description, Parents: []string{versionName(v)},
		Kind: string(v.Kind), Map: v.Layout.Map, Preset: v.Layout.Preset, National: o.national, Copy: o.out == "", Redaction: !p.Report.PII.Found()}
	kept = o.out != "" // from here on a version may name it
	child, err := a.register(ctx, cl, r, p)
	if err != nil && kept {
		err = fmt.Errorf("%s is written and not registered: %w", o.out, err)
	}
	return redacted{child, counts}, err
}

// licenseOf is what a child has of its own: that of its parents comes to it anyway.
func licenseOf(v forge.DatasetVersion) string {
	if v.License == "NOASSERTION" {
		return ""
	}
	return v.License
}

// redactTo is where the rows are written: what the user named, or a directory that is removed.
func redactTo(v forge.DatasetVersion, out string) (path string, drop func(), err error) {
	if out != "" {
		if _, err := os.Lstat(out); err == nil {
			return "", nil, forge.Errorf(forge.KindConflict, "", "%s exists already", out).WithHint("name another file; versions are never written over")
		}
		return out, func() { _ = os.Remove(out) }, nil
	}
	dir, err := os.MkdirTemp("", "forgectl-redact-*")
	if err != nil {
		return "", nil, noRoom(err)
	}
	return filepath.Join(dir, v.Name+".jsonl"), func() { _ = os.RemoveAll(dir) }, nil
}

func noRoom(err error) error {
	return forge.Errorf(forge.KindUnavailable, "dataset.redact", "%w", err).WithHint("set TMPDIR to a directory with room for the rows, or write them with --out FILE")
}

// writeRedacted writes the file whole or not at all.
func (a *app) writeRedacted(ctx context.Context, v forge.DatasetVersion, path string, o redactOptions) ([]replaced, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, noRoom(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	s, out := pii.New(pii.Options{National: o.national}), bufio.NewWriterSize(f, 1<<20)
	counts := map[forge.PIIEntity]int64{}
	var line []byte
	err = a.rows(ctx, v, "redacting", func(_ int64, r dataset.Row) error {
		var err error
		line, err = dataset.Rewrite(line[:0], r.JSON, func(dst []byte, f dataset.Field) []byte {
			return s.Redact(dst, f.Text, o.least, func(p pii.Finding) { counts[p.Entity]++ })
		})
		if err != nil {
			return err
		}
		if slices.Contains(line, '\n') { // between values, where the files are arrays over many lines
			if line, err = oneLine(line); err != nil {
				return err
			}
		}
		_, err = out.Write(append(line, '\n'))
		return err
	})
	if err == nil {
		err = errors.Join(out.Flush(), f.Chmod(0o644), f.Sync(), f.Close())
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if errors.Is(err, syscall.ENOSPC) {
		return nil, noRoom(err)
	}
	return mostFirst(counts), err
}

func mostFirst(counts map[forge.PIIEntity]int64) []replaced {
	out := []replaced{}
	for e, n := range counts {
		out = append(out, replaced{e, n})
	}
	slices.SortFunc(out, func(a, b replaced) int {
		return cmp.Or(cmp.Compare(b.Findings, a.Findings), cmp.Compare(a.Entity, b.Entity))
	})
	return out
}

// leftOver is what a scan of redacted rows must not find.
func leftOver(r *forge.PIIReport, least forge.Confidence) string {
	if r == nil {
		return "what nobody looked for"
	}
	var left []string
	for _, c := range r.Counts {
		if pii.AtLeast(c.Confidence, least) && c.Findings > 0 {
			left = append(left, fmt.Sprintf("%d %s in %s", c.Findings, c.Entity, c.Field))
		}
	}
	return strings.Join(left, ", ")
}
