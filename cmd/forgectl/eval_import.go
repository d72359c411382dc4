package main

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (a *app) evalImportCommand() *cli.Command {
	return &cli.Command{Name: "import", Usage: "take over results of lm-evaluation-harness that were made elsewhere", ArgsUsage: "DIR",
		Description: "forgectl eval import ./out --model chat@3 --suite default\n\n" +
			"DIR is what lm_eval --output_path --log_samples wrote, of any 0.4: results_*.json and samples_*.jsonl, also in a directory for each model. The newest results count.\n" +
			"Everything is held against each other, here and by forged; what does not hold is named with file, line and field. The eval is called iN, and is marked as imported:\n" +
			"which model answered nothing proves, and no gate takes it.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "NAME@VERSION that answered"},
			&cli.StringFlag{Name: "suite", Usage: "whose benchmarks the results have"},
			&cli.StringFlag{Name: "called", Usage: "directory of DIR, where it has those of several models", DefaultText: "the only one"},
			&cli.BoolFlag{Name: "dry-run", Usage: "read and check, send nothing"},
		},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "DIR")
			if err != nil {
				return err
			}
			for _, name := range []string{"model", "suite"} {
				if c.String(name) == "" {
					return forge.Invalidf(name, "is missing: an eval is of a model version, by a suite").WithHint("--model NAME@VERSION --suite NAME")
				}
			}
			return a.evalImport(c.Context, args[0], c.String("called"), c.String("model"), c.String("suite"), c.Bool("dry-run"))
		}}
}

func (a *app) evalImport(ctx context.Context, dir, called, model, suite string, dry bool) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	s, err := cl.Suite(ctx, suite)
	if err != nil {
		return err
	}
	r, err := readHarness(dir, called, s.Suite)
	if err != nil {
		return err
	}
	r.head.Model, r.head.Suite = model, s.Name
	temp, err := os.CreateTemp("", "forgectl-eval-*.gz")
	if err != nil {
		return fmt.Errorf("a place for what is sent: %w", err)
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	sum := sha256.New()
	if err := r.pack(io.MultiWriter(temp, sum)); err != nil {
		return err
	}
	if dry {
		fmt.Fprintf(a.Err, "dry run: %d scores and %d samples of %s would be sent; forged holds them against suite and model\n", len(r.head.Scores), r.head.Facts.Samples, clean(dir))
		return nil
	}
	size, err := temp.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	e, err := cl.ImportEval(ctx, hex.EncodeToString(sum.Sum(nil)), size, func() (io.ReadCloser, error) { return os.Open(temp.Name()) })
	if err != nil {
		return err
	}
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(e))
	case modeTSV:
		p.table().row(e.Name, e.ID, e.Model, e.Suite)
	default:
		p.line("eval %s: %s by suite %s, %d samples", clean(e.Name), clean(e.Model), clean(e.Suite), e.Facts.Samples)
		if e.Imported != nil && len(e.Imported.Lacks) > 0 {
			p.line("its files do not tell: %s", clean(strings.Join(e.Imported.Lacks, ", ")))
		}
		p.line("next: forgectl eval show %s", clean(e.Name))
	}
	return p.done(nil)
}

// pack writes what is sent: the head, and the samples behind it. The samples are read twice: the head vouches for them.
func (r *harnessRead) pack(to io.Writer) error {
	sum := sha256.New()
	counted := &counting{}
	if err := r.samples(io.MultiWriter(sum, counted)); err != nil {
		return err
	}
	r.head.Facts.SamplesSHA = hex.EncodeToString(sum.Sum(nil))
	if counted.n > api.MaxEvalSamples {
		return forge.Invalidf("samples", "%s: its samples are %d bytes, with prompts and answers cut; at most %d are kept", r.dir, counted.n, api.MaxEvalSamples)
	}
	zip := gzip.NewWriter(to)
	head, err := json.Marshal(r.head)
	if err != nil {
		return err
	}
	if len(head) >= api.MaxEvalHead {
		return forge.Invalidf("results", "%s: its scores and facts are %d bytes; at most %d are taken", r.dir, len(head), api.MaxEvalHead)
	}
	if _, err := zip.Write(append(head, '\n')); err != nil {
		return err
	}
	return errors.Join(r.samples(zip), zip.Close())
}

type counting struct{ n int64 }

func (c *counting) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}
