package daemon

import (
	"bytes"
	"context"
	"fmt"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/dataset/scanner"
)

// scanRecipe is the built-in recipe whose runs read a dataset.
const scanRecipe = "scan"

// ScanDataset submits a run that reads a dataset on a node, as the account that runs there, and registers it when it completes.
func (s datasets) ScanDataset(ctx context.Context, p forge.Principal, r api.ScanDatasetRequest) (api.Submitted, error) {
	var none api.Submitted
	if err := least(p, "dataset.scan", forge.RoleMember, "registering a dataset"); err != nil {
		return none, err
	}
	switch {
	case r.Scanned != nil || r.Redaction || r.Copy:
		return none, forge.Invalidf("scanned", "a job reads the data where it lies: neither scanned, redaction nor copy goes with it")
	case r.PIIPolicy == forge.PIIRedact:
		return none, forge.Invalidf("pii_policy", "a job registers what it reads, and makes no redacted child").
			WithHint("add it with --pii-policy warn; then: forgectl dataset redact %s", r.Name)
	}
	if err := s.check(r.AddDatasetRequest); err != nil {
		return none, err
	}
	ask := askOf(r.AddDatasetRequest)
	var err error
	if ask.Parents, err = s.parents(ctx, p, r.Parents); err != nil {
		return none, err
	}
	var notes []string
	if ask.License, notes, err = s.d.licenceOf(ctx, r.License, ask.Parents); err != nil {
		return none, err
	}
	ask.Threads = max(1, r.Threads)
	cluster, note, err := s.d.scanOn(forge.ClusterName(r.Cluster))
	if err != nil {
		return none, err
	}
	out, err := runs(s).SubmitRun(ctx, p, api.SubmitRunRequest{Recipe: scanRecipe, Name: r.Name, Scan: &ask, Cluster: string(cluster), Priority: r.Priority,
		CPUsPerGPU: ask.Threads, TimeLimit: r.TimeLimit, DryRun: r.DryRun, Batch: r.Batch})
	if err == nil {
		out.Warnings = append(out.Warnings, notes...)
	}
	if note != "" {
		out.Warnings = append(out.Warnings, note)
	}
	return out, err
}

// scanOn chooses where data is read. A gang has a GPU or a CPU slot for each rank: without a cluster's name only those do that give a job
// nothing but CPUs.
func (d *Daemon) scanOn(asked forge.ClusterName) (forge.ClusterName, string, error) {
	live := d.live()
	if asked != "" {
		c := live.clusters[asked]
		if c != nil && !c.batch() && d.terrain().part(asked).devices {
			return asked, fmt.Sprintf("it holds a GPU of cluster %s while it reads: forge places by GPUs there", asked), nil
		}
		return asked, "", nil // one that is not there is refused with the others' names
	}
	for _, name := range live.order {
		if live.clusters[name].batch() || !d.terrain().part(name).devices {
			return name, "", nil
		}
	}
	return "", "", forge.Errorf(forge.KindPrecondition, "dataset.scan", "no cluster of this site runs a job without a GPU: forge places by GPUs on clusters of kind direct, and none has CPU slots").
		WithHint("read it where you are: forgectl dataset add NAME PATH; or name a cluster, whose GPU it holds while it reads: --cluster %s", live.order[0])
}

// readScan is what a run of recipe scan has left, held against what was asked for. A non-empty why: the run has not done what it was for, and
// nothing of it is stored.
func (d *Daemon) readScan(ctx context.Context, c *Cluster, r forge.Run, a forge.Attempt) (found *forge.DatasetVersion, why string, err error) {
	ask := *r.Spec.Scan
	var text bytes.Buffer
	if why, err := d.stream(ctx, c, a, forge.StreamScanned, scanner.MaxResult, func(b []byte) string { text.Write(b); return "" }); why != "" || err != nil {
		return nil, why, err
	}
	got, derr := scanner.Decode(text.Bytes())
	if derr != nil {
		return nil, derr.Error(), nil
	}
	got.Scanned.Report.By = forge.ScannedByJob
	for _, check := range []func() error{
		func() error { return got.Check(r.ID, ask) },
		func() error { return d.checkScanned(&got.Scanned) },
		func() error { return scanner.Blocked(ask.Policy, &got.Scanned.Report) },
	} {
		if err := check(); err != nil {
			return nil, reason(err).Error(), nil
		}
	}
	v := versionOf(ask, got.Scanned)
	return &v, "", nil
}
