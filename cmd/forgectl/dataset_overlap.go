package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/recipes"
)

func (a *app) datasetOverlapCommand() *cli.Command {
	return &cli.Command{Name: "overlap", Usage: "look in A for the rows of B: whether what a model is judged by is in what it was trained on; both are read here", ArgsUsage: "A [B]",
		Description: "A and B are NAME[@VERSION] of registered datasets, or paths. --suite SUITE is in the place of B: the questions of a suite whose\n" +
			"data is its own. Compared are whole rows, prompts, and single texts, byte for byte and normalised (NFKC, lower case, white\n" +
			"space and punctuation folded). What the system says in a conversation counts in whole rows alone.\n\nExit code 1 when something of B is in A, 0 when nothing is.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "suite", Usage: "compare with the questions of this suite, as it comes with forgectl or from --suites-dir"},
			&cli.StringFlag{Name: "suites-dir", Usage: "directory with the site's own suites, as in forged's config.yaml"},
			&cli.IntFlag{Name: "min-text", Usage: "characters from which a single text counts; shorter ones stand everywhere", Value: dataset.DefaultMinText},
		},
		Action: func(c *cli.Context) error {
			names := []string{"A", "B"}
			if c.IsSet("suite") {
				names = names[:1]
			}
			args, err := positionals(c, names...)
			if err != nil {
				return err
			}
			const most = 10_000
			if n := c.Int("min-text"); n < 1 || n > most {
				return forge.Invalidf("min-text", "%d: want 1 to %d characters", n, most)
			}
			return a.datasetOverlap(c.Context, args, c.String("suite"), c.String("suites-dir"), c.Int("min-text"))
		}}
}

func (a *app) datasetOverlap(ctx context.Context, refs []string, suite, dir string, least int) error {
	var sides []dataset.Side
	if suite != "" { // what can be refused at once comes before anything is read
		s, err := suiteSide(suite, dir)
		if err != nil {
			return err
		}
		sides = append(sides, s)
	}
	for i := len(refs) - 1; i >= 0; i-- {
		s, err := a.side(ctx, refs[i])
		if err != nil {
			return err
		}
		sides = append(sides, s)
	}
	if a.Nice != nil {
		a.Nice()
	}
	_, ask := meter()
	stop := a.spin(ctx, "comparing", sides[1].Name+" and "+sides[0].Name, ask)
	o, err := dataset.Overlap(ctx, sides[1], sides[0], dataset.OverlapOptions{MinText: least})
	stop()
	if err != nil {
		return err
	}
	return a.printOverlap(o)
}

// side is a registered version, or what lies under a path.
func (a *app) side(ctx context.Context, ref string) (dataset.Side, error) {
	if !isPath(ref) {
		cl, err := a.connect()
		if err != nil {
			return dataset.Side{}, err
		}
		v, err := a.version(ctx, cl, ref)
		if err != nil {
			return dataset.Side{}, err
		}
		at, err := a.files(ctx, v)
		if err != nil {
			return dataset.Side{}, err
		}
		return placedSide(dataset.SideOf(versionName(v), v.Rows, at, *v.Layout, v.Kind), at, v.Manifest), nil
	}
	path, err := filepath.Abs(ref)
	if err != nil {
		return dataset.Side{}, forge.Invalidf("path", "%q: %w", ref, err)
	}
	far, ask := meter()
	stop := a.spin(ctx, "reading", path, ask)
	defer stop()
	r, err := dataset.Scan(ctx, []string{path}, dataset.Options{By: forge.ScannedByForgectl, Scanner: "forgectl " + version, Progress: far})
	if err != nil {
		return dataset.Side{}, err
	}
	return dataset.SideOf(ref, r.Rows, r.Manifest, r.Layout, r.Kind), nil
}

// isPath: a name has no slash. A file that is called like one is written ./NAME.
func isPath(ref string) bool {
	if strings.ContainsRune(ref, filepath.Separator) {
		return true
	}
	if _, err := forge.ParseRef(ref); err == nil {
		return false
	}
	_, err := os.Stat(ref)
	return err == nil
}

func suiteSide(name, dir string) (dataset.Side, error) {
	l, err := recipes.BuiltinSuites()
	if err == nil && dir != "" {
		l, err = l.With(dir)
	}
	if err != nil {
		return dataset.Side{}, err
	}
	rows, err := l.Rows(name)
	if err != nil {
		return dataset.Side{}, err
	}
	said := make([]dataset.Said, len(rows))
	for i, r := range rows {
		said[i] = dataset.SaidOf(r.File, r.Number, r.Prompt, r.Texts)
	}
	return dataset.SideOfRows("suite "+name, said), nil
}

func (a *app) printOverlap(o forge.Overlap) error {
	p := a.printer()
	if p.mode == modeJSON {
		if err := p.done(p.json(o)); err != nil {
			return err
		}
	} else {
		t := p.table("GRAIN", "COMPARED", ">FOUND", ">OF", ">SHARE", "FIRST_IN_B:1", "FIRST_IN_A:2")
		for _, f := range o.Found {
			how, at := "exactly", forge.OverlapPlace{}
			if f.Normalised {
				how = "normalised"
			}
			if len(f.First) > 0 {
				at = f.First[0]
			}
			t.row(string(f.Grain), how, strconv.FormatInt(f.Rows, 10), strconv.FormatInt(f.Of, 10), shareOf(f, p.people()), at.B, at.A)
		}
		t.flush()
		if p.people() && !o.Any() {
			p.line("nothing of %s (%d rows) is in %s (%d rows)", clean(o.B), o.RowsB, clean(o.A), o.RowsA)
		}
		if err := p.done(nil); err != nil {
			return err
		}
	}
	if most := o.Worst(); most.Rows > 0 {
		return forge.Errorf(forge.KindInternal, "", "%d of %d rows of %s are in %s, by %s", most.Rows, most.Of, o.B, o.A, most.Grain).
			WithHint("leave them out of one of the two before a score on %s is believed", o.B)
	}
	return nil
}

func shareOf(f forge.OverlapFound, people bool) string {
	if people {
		return fmt.Sprintf("%.1f %%", 100*f.Share)
	}
	return strconv.FormatFloat(f.Share, 'g', 6, 64)
}
