package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (a *app) runSubmitCommand() *cli.Command {
	return &cli.Command{Name: "submit", Usage: "submit a run", ArgsUsage: "RECIPE [-- COMMAND…]",
		Description: "forgectl run submit lora_sft --dataset chat@1 --base tiny --set lora.r=16 --gpus-per-node 2 --time 30m\n\n" +
			"Times: minutes (90), Slurm's form (1-12:00:00) or Go's (36h). Memory: MiB, or 512M, 2G.\n" +
			"What is not given is the recipe's default. Flags win over the run file.\n\n" +
			"On a cluster of kind slurm: forgectl run submit lora_sft --cluster hpc --partition gpu --account lab -- --comment=paper\n" +
			"What follows -- and begins with a dash goes to sbatch as it is, where the site allows it.\n\n" +
			"The run of another site again: forgectl run submit --from run-12.tar (forgectl run export makes that file)\n\n" +
			"A program of your own: forgectl run submit script --workdir . --gpus-per-node 2 --launch node -- torchrun train.py --lr 1e-4\n" +
			"What follows -- is the program and its arguments, without a shell. A job script: forgectl run submit script --sbatch my.sbatch",
		Flags: slices.Concat(submitFlags(), inputFlags(), scriptFlags()),
		Action: func(c *cli.Context) error {
			file, err := a.fileOf(c)
			if err != nil {
				return err
			}
			if isPipeline(file) {
				return a.submitPipeline(c, c.String("file"), file)
			}
			o, err := a.parseSubmit(c, file)
			if err != nil {
				return err
			}
			return a.runSubmit(c.Context, o)
		}}
}

func submitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "run file in YAML with the same fields, or a pipeline: several runs at once (docs/pipelines.md); - reads standard input"},
		&cli.StringFlag{Name: "from", Usage: "bundle of a run of another site, made by run export: the same run again, with what is here by the same digests"},
		&cli.StringFlag{Name: "name", Usage: "a name for people"},
		&cli.StringFlag{Name: "dataset", Usage: "NAME or NAME@VERSION"},
		&cli.StringSliceFlag{Name: "set", Usage: "KEY=VALUE, a parameter of the recipe; may be given more than once"},
		&cli.IntFlag{Name: "nodes", Usage: "nodes of the gang", DefaultText: "the recipe's"},
		&cli.IntFlag{Name: "gpus-per-node", Usage: "GPUs on each node", DefaultText: "the recipe's"},
		&cli.IntFlag{Name: "gpus", Usage: "GPUs in all, instead of --gpus-per-node; must divide by the nodes", DefaultText: "nodes × GPUs per node"},
		&cli.IntFlag{Name: "cpus-per-gpu", Usage: "CPUs for each GPU", DefaultText: "the recipe's"},
		&cli.StringFlag{Name: "mem-per-gpu", Usage: "memory for each GPU"},
		&cli.StringFlag{Name: "time", Usage: "limit of one attempt"},
		&cli.StringFlag{Name: "total-time", Usage: "limit of the run over its attempts"},
		&cli.StringFlag{Name: "start-timeout", Usage: "limit until the first step"},
		&cli.StringFlag{Name: "stall-timeout", Usage: "limit between steps"},
		&cli.StringFlag{Name: "grace", Usage: "from the checkpoint or cancel signal to KILL"},
		&cli.IntFlag{Name: "priority", Usage: "0 to 100, higher first", DefaultText: "50"},
		&cli.IntFlag{Name: "max-retries", Usage: "how often a failure of the program is tried again"},
		&cli.StringFlag{Name: "register", Usage: "register the output as a version of this model"},
		&cli.StringSliceFlag{Name: "after", Usage: "a run that must complete first; may be given more than once"},
		&cli.StringFlag{Name: "resume-from", Usage: "RUN@STEP or RUN@latest: begin from that checkpoint of another run"},
		&cli.StringFlag{Name: "cluster", Usage: "only this cluster"},
		&cli.StringSliceFlag{Name: "gpu-type", Usage: "only GPUs of this type: h100; may be given more than once, for any of them"},
		&cli.StringFlag{Name: "gpu-memory", Usage: "only GPUs with at least so much memory: 80G"},
		&cli.StringSliceFlag{Name: "label", Usage: "KEY=VALUE, only nodes with this label; may be given more than once"},
		&cli.StringFlag{Name: "exclude", Usage: "nodes to keep away from: gpu-3 or gpu-[1-3,7]"},
		&cli.StringFlag{Name: "within", Usage: "all nodes of the gang with one value of this label: rack"},
		&cli.BoolFlag{Name: "preemptible", Value: true, Usage: "may be stopped for runs of a higher class, and go on later; --preemptible=false keeps it from that"},
		&cli.StringFlag{Name: "partition", Usage: "Slurm's partition", DefaultText: "the cluster's first"},
		&cli.StringFlag{Name: "account", Usage: "Slurm's account", DefaultText: "the partition's"},
		&cli.StringFlag{Name: "qos", Usage: "Slurm's quality of service", DefaultText: "the partition's"},
		&cli.StringFlag{Name: "constraint", Usage: "features that nodes must have, as Slurm writes it"},
		&cli.StringFlag{Name: "reservation", Usage: "Slurm's reservation"},
		&cli.StringFlag{Name: "nodelist", Usage: "nodes that it must have: gpu-[1-2]"},
		&cli.StringFlag{Name: "mail-type", Usage: "when Slurm writes mail: BEGIN,END,FAIL"},
		&cli.StringFlag{Name: "secrets-file", Usage: "file of KEY=VALUE lines (HF_TOKEN=…) for the environment of ranks; yours alone, mode 0600, read by the job", DefaultText: "the context's secrets_file"},
		&cli.BoolFlag{Name: "no-check", Usage: "do not look at rows and tokenizer first"},
		&cli.BoolFlag{Name: "dry-run", Usage: "resolve and check, submit nothing; on Slurm, print the job"},
		&cli.BoolFlag{Name: "wait", Usage: "follow it until it ends; exit 10 if it failed, 11 if it was cancelled"},
	}
}

type submitOptions struct {
	request api.SubmitRunRequest
	wait    bool
	source  sourceOptions
	bundle  *bundleFile // nil: submitted by its own words
}

func (a *app) parseSubmit(c *cli.Context, file []byte) (submitOptions, error) {
	o := submitOptions{wait: c.Bool("wait")}
	if c.IsSet("file") {
		var err error
		if o.request, err = parseRunFile(c.String("file"), file); err != nil {
			return o, err
		}
	}
	if c.IsSet("from") {
		if c.IsSet("file") {
			return o, forge.Invalidf("from", "cannot be used with --file: both say what to run")
		}
		cl, err := a.connect()
		if err != nil {
			return o, err
		}
		if o.bundle, err = readBundle(c.String("from")); err != nil {
			return o, err
		}
		if o.request, err = a.requestOf(c.Context, cl, o.bundle); err != nil {
			return o, err
		}
	}
	r := &o.request
	words := c.Args().Slice()
	words = words[:len(words)-len(a.behind)]
	raw, command := behindDashes(a.behind)
	if len(words) > 0 || r.Recipe == "" {
		switch {
		case len(words) == 0:
			return o, forge.Invalidf("", "RECIPE is missing").WithHint("usage: forgectl run submit RECIPE")
		case len(words) > 1:
			return o, forge.Invalidf("", "%q is one argument too many", words[1]).WithHint("usage: forgectl run submit RECIPE [-- COMMAND…]; a program of yours follows --: run submit script -- python train.py")
		case words[0] == "":
			return o, forge.Invalidf("", "RECIPE is empty").WithHint("usage: forgectl run submit RECIPE")
		}
		r.Recipe = words[0]
	}
	var script *jobScript
	if c.IsSet("sbatch") {
		text(c, "workdir", &r.Workdir)
		var err error
		if script, err = a.useJobScript(c.String("sbatch"), r, a.behind); err != nil { // its header has the options of sbatch
			return o, err
		}
		raw, command = nil, nil
	}
	var err error
	if o.source, err = programFlags(c, r, command); err != nil {
		return o, err
	}
	o.source.sbatch = script
	inputsOf(c, r)
	return o, a.submitTerms(c, &o, raw)
}

// submitTerms reads the options that say how a run goes, and not what it is.
func (a *app) submitTerms(c *cli.Context, o *submitOptions, raw []string) error {
	r := &o.request
	batchFlags(c, r, raw)
	if err := whereFlags(c, r); err != nil {
		return err
	}
	text(c, "name", &r.Name)
	text(c, "register", &r.Register)
	text(c, "cluster", &r.Cluster)
	r.NoCheck = c.Bool("no-check")
	if err := a.secretsFile(c, r); err != nil {
		return err
	}
	text(c, "resume-from", &r.ResumeFrom)
	if c.IsSet("resume-from") && r.ResumeFrom == "" {
		return forge.Invalidf("resume-from", "is empty; it would train from the start").WithHint("forgectl run checkpoints RUN lists what there is")
	}
	r.Set = c.StringSlice("set")
	for _, kv := range r.Set {
		if err := checkSet(kv); err != nil {
			return err
		}
	}
	if c.IsSet("after") {
		r.After = c.StringSlice("after")
	}
	for name, to := range map[string]*int{"nodes": &r.Nodes, "gpus-per-node": &r.GPUsPerNode, "gpus": &r.GPUs, "cpus-per-gpu": &r.CPUsPerGPU, "max-retries": &r.MaxRetries} {
		if err := count(c, name, to); err != nil {
			return err
		}
	}
	// The command line's form of the size replaces the file's other form, or the two would
	// be checked against each other.
	if c.IsSet("gpus") && !c.IsSet("gpus-per-node") {
		r.GPUsPerNode = 0
	} else if c.IsSet("gpus-per-node") && !c.IsSet("gpus") {
		r.GPUs = 0
	}
	for name, to := range map[string]*forge.Duration{"time": &r.TimeLimit, "total-time": &r.TotalTime, "start-timeout": &r.StartTimeout, "stall-timeout": &r.StallTimeout, "grace": &r.Grace} {
		if c.IsSet(name) {
			d, err := forge.ParseDuration(c.String(name))
			if err != nil {
				return forge.Invalidf(name, "%w", err)
			}
			if d == 0 { // would be taken for the recipe's own, which nobody who writes 0 means
				return forge.Invalidf(name, "0 is no limit; want more, or leave --%s out for what the recipe says", name)
			}
			*to = forge.Duration(d)
		}
	}
	if c.IsSet("mem-per-gpu") {
		m, err := forge.ParseMemoryMiB(c.String("mem-per-gpu"))
		if err != nil {
			return forge.Invalidf("mem-per-gpu", "%w", err)
		}
		r.MemoryMiBPerGPU = m
	}
	if c.IsSet("priority") {
		n := c.Int("priority")
		r.Priority = &n
	}
	if p := r.Priority; p != nil && (*p < forge.MinPriority || *p > forge.MaxPriority) {
		return forge.Invalidf("priority", "%d is out of range; want %d to %d, higher first", *p, forge.MinPriority, forge.MaxPriority)
	}
	r.DryRun = c.Bool("dry-run")
	if r.DryRun && o.wait {
		return forge.Invalidf("wait", "cannot be used with --dry-run: nothing is submitted")
	}
	return nil
}

// batchFlags lays the words for Slurm over those of the run file.
func batchFlags(c *cli.Context, r *api.SubmitRunRequest, raw []string) {
	var b forge.BatchOptions
	if r.Batch != nil {
		b = *r.Batch
	}
	for name, to := range map[string]*string{"partition": &b.Partition, "account": &b.Account, "qos": &b.QOS, "constraint": &b.Constraint,
		"reservation": &b.Reservation, "nodelist": &b.Nodelist, "mail-type": &b.MailType} {
		text(c, name, to)
	}
	if len(raw) > 0 {
		b.Raw = raw
	}
	r.Batch = nil
	if !b.Empty() {
		r.Batch = &b
	}
}

// whereFlags lays where the run may go over what the run file says. A label of the command line stands beside those of the file.
func whereFlags(c *cli.Context, r *api.SubmitRunRequest) error {
	var w forge.Constraints
	if r.Where != nil {
		w = *r.Where
	}
	if c.IsSet("gpu-type") {
		w.GPUTypes = c.StringSlice("gpu-type")
	}
	if c.IsSet("gpu-memory") {
		m, err := forge.ParseMemoryMiB(c.String("gpu-memory"))
		if err != nil {
			return forge.Invalidf("gpu-memory", "%w", err)
		}
		w.GPUMemoryMiB = m
	}
	labels, err := labelFlags(c)
	if err != nil {
		return err
	}
	if len(labels) > 0 {
		w.Labels = maps.Clone(w.Labels)
		if w.Labels == nil {
			w.Labels = map[string]string{}
		}
		maps.Copy(w.Labels, labels)
	}
	if c.IsSet("exclude") {
		w.Exclude = []forge.NodeName{forge.NodeName(c.String("exclude"))}
	}
	text(c, "within", &w.Within)
	if r.Where = nil; !w.Empty() {
		r.Where = &w
	}
	if c.IsSet("preemptible") {
		may := c.Bool("preemptible")
		r.Preemptible = &may
	}
	return nil
}

// labelFlags reads --label KEY=VALUE, each key once.
func labelFlags(c *cli.Context) (map[string]string, error) {
	labels := map[string]string{}
	for _, kv := range c.StringSlice("label") {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, forge.Invalidf("label", "%q is not KEY=VALUE", kv).WithHint("like: --label rack=r1")
		}
		if had, twice := labels[k]; twice && had != v {
			return nil, forge.Invalidf("label", "%s=%s and %s=%s: no node has both", k, had, k, v)
		}
		labels[k] = v
	}
	return labels, nil
}

func text(c *cli.Context, name string, to *string) {
	if c.IsSet(name) {
		*to = c.String(name)
	}
}

func count(c *cli.Context, name string, to *int) error {
	if !c.IsSet(name) {
		return nil
	}
	if *to = c.Int(name); *to < 0 || *to == 0 && name != "max-retries" {
		return forge.Invalidf(name, "%d is too small; want 1 or more", *to)
	}
	return nil
}

func checkSet(kv string) error {
	for i := range len(kv) {
		if kv[i] == '=' {
			if i > 0 {
				return nil
			}
			break
		}
	}
	return forge.Invalidf("set", "%q is not KEY=VALUE", kv).WithHint("like: --set lora.r=16")
}

func (a *app) runSubmit(ctx context.Context, o submitOptions) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	if o.request.Workdir != "" {
		if o.request.Source, err = a.takeSource(ctx, cl, o); err != nil {
			return err
		}
	}
	if b := o.bundle; b != nil && b.Spec.Source != nil && o.request.Workdir == "" {
		if !o.request.DryRun {
			if err := b.sendSource(ctx, cl); err != nil {
				return err
			}
		}
		o.request.Source = b.Spec.Source
	}
	s, err := cl.SubmitRun(ctx, o.request)
	if err != nil {
		return o.source.lineOf(err)
	}
	for _, w := range s.Warnings {
		fmt.Fprintf(a.Err, "warning: %s\n", clean(w))
	}
	if o.request.DryRun {
		return a.showDryRun(s)
	}
	return a.submitted(ctx, cl, s, o.wait)
}
