package main

import (
	"context"
	"regexp"
	"time"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

func (a *app) modelRegisterCommand() *cli.Command {
	return &cli.Command{Name: "register", Usage: "register the output of a completed run, or weights from elsewhere, as the next version", ArgsUsage: "NAME RUN|PATH",
		Description: "The output of a run is copied where its cluster has an artifact_root. PATH is an adapter or a whole model on the server's host; it stays where it is,\n" +
			"needs --unverified and an admin, and its lineage says for ever that nobody knows what it was trained on.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "unverified", Usage: "with PATH: nobody can say what these weights were trained on"},
			&cli.StringFlag{Name: "base", Usage: "with PATH: NAME@VERSION of the base model that an adapter lies over"},
			&cli.StringFlag{Name: "license", Usage: "with PATH: SPDX expression; default that of --base"},
			&cli.StringFlag{Name: "reason", Usage: "with PATH: why it is taken in"},
		},
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME", "RUN|PATH")
			if err != nil {
				return err
			}
			r := api.RegisterModelRequest{Name: args[0], Unverified: c.Bool("unverified"), Base: c.String("base"), License: c.String("license"), Reason: c.String("reason")}
			if runForm.MatchString(args[1]) && !r.Unverified {
				r.Run = args[1]
			} else if r.Path, err = absolute(args[1]); err != nil {
				return err
			}
			return a.modelRegister(c.Context, r)
		}}
}

// runForm is how runs are named: by number or by id. Anything else is a path.
var runForm = regexp.MustCompile(`^([0-9]{1,18}|[0-9A-HJKMNP-TV-Z]{26})$`)

func (a *app) modelRegister(ctx context.Context, r api.RegisterModelRequest) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	once, what := client.NewOnce(), "run "+r.Run
	if r.Path != "" {
		what = r.Path
	}
	stop := a.spin(ctx, "registering", what, progressOf(cl, once))
	v, err := cl.RegisterModel(ctx, r, once)
	stop()
	if err != nil {
		return err
	}
	words := "registered in " + string(v.Stage)
	if v.Lineage != nil && v.Lineage.Unverified {
		words = "registered unverified in " + string(v.Stage)
	}
	return a.modelDone(v, words, "forgectl model show "+v.Name)
}

func (a *app) modelVerifyCommand() *cli.Command {
	return &cli.Command{Name: "verify", Usage: "hash the files of a version again, on the server; of an adapter those of its base, too", ArgsUsage: "NAME[@VERSION]",
		Description: "Each file that differs, is gone, or lies there in addition and would be loaded is named, and the exit code is 1.",
		Action: func(c *cli.Context) error {
			args, err := positionals(c, "NAME")
			if err != nil {
				return err
			}
			return a.modelVerify(c.Context, args[0])
		}}
}

func (a *app) modelVerify(ctx context.Context, ref string) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	once := client.NewOnce()
	stop := a.spin(ctx, "hashing", ref, progressOf(cl, once))
	r, err := cl.VerifyModel(ctx, ref, once)
	stop()
	if err != nil {
		return err
	}
	if err := a.printModelVerified(r); err != nil || r.Intact {
		return err
	}
	return forge.Errorf(forge.KindInternal, "", "%s is not as it was registered", r.Name).WithHint("restore the files, or register what is there now as the next version")
}

func (a *app) printModelVerified(r api.ModelVerified) error {
	p := a.printer()
	switch p.mode {
	case modeJSON:
		return p.done(p.json(r))
	case modeTSV:
		t := p.table()
		for _, w := range r.Weights {
			if len(w.Differs) == 0 {
				t.row(w.Name, "intact", "", "")
			}
			for _, d := range w.Differs {
				t.row(w.Name, "differs", d.File, d.Why)
			}
		}
		return p.done(nil)
	}
	for _, w := range r.Weights {
		if len(w.Differs) == 0 {
			p.line("%s is as it was registered: %s, %s, sha256 %s", clean(w.Name), plural(w.Files, "file"), size(w.Bytes), clean(short(w.SHA256)))
		}
		for _, d := range w.Differs {
			p.line("%s: %s", clean(w.Name), clean(d.File+" "+d.Why))
		}
	}
	p.line("read in %s", r.Elapsed.D().Round(10*time.Millisecond))
	return p.done(nil)
}
