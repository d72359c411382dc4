package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/dataset/scanner"
)

// scanRecipe is the built-in recipe whose runs read a dataset.
const scanRecipe = "scan"

// ScanDataset submits a run that reads a dataset on a node, as the account that runs there, and registers it when it completes.
func (s datasets) ScanDataset(ctx context.Context, p forge.Principal, r api.ScanDatasetRequest) (api.Submitted, error) {
	var none api.Submitted
	if r.Scanned != nil || r.Redaction || r.Copy {
		return none, forge.Invalidf("scanned", "a job reads the data where it lies: neither scanned, redaction nor copy goes with it")
	}
	if err := s.mayAdd(p, r.AddDatasetRequest); err != nil {
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
		func() error { return checkScanned(&got.Scanned, time.Now()) },
		func() error { return d.mayReadAll(got.Scanned.Manifest) },
		func() error { return scanner.Blocked(ask.Policy, &got.Scanned.Report) },
	} {
		if err := check(); err != nil {
			return nil, reason(err).Error(), nil
		}
	}
	v := versionOf(ask, got.Scanned)
	return &v, "", nil
}

// indexScan stores the fingerprints of the rows that a run has just registered, so that a row can be found by its digest. The version is whole
// without them: a crash in between leaves one whose rows cannot be looked up, and says so where rows are looked for; to add the same data
// once more from where it can be read mends it.
func (d *Daemon) indexScan(ctx context.Context, c *Cluster, r forge.Run, a forge.Attempt, v forge.DatasetVersion) error {
	p := forge.Principal{Tenant: r.Tenant, User: r.User}
	all, err := d.db.For(p).Dataset(ctx, v.Name)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all.Versions, func(x forge.DatasetVersion) bool { return x.SHA256 == v.SHA256 })
	if i < 0 || all.Versions[i].Indexed {
		return nil // it was refused, or somebody else has read the same
	}
	_, err = datasets{d}.index(ctx, p, all.Versions[i], &streamed{ctx: ctx, c: c, id: a.ExternalID, name: forge.StreamFingerprints})
	return err
}

// streamed reads a file of an attempt from its beginning.
type streamed struct {
	ctx  context.Context
	c    *Cluster
	id   forge.ExternalID
	name string
	at   int64
	have []byte
}

func (s *streamed) Read(b []byte) (int, error) {
	if len(s.have) == 0 {
		chunk, err := s.c.Files.Read(s.ctx, s.id, s.name, s.at, readChunk)
		if err != nil {
			return 0, err
		}
		if s.have, s.at = chunk.Data, chunk.Next; len(s.have) == 0 {
			return 0, io.EOF
		}
	}
	n := copy(b, s.have)
	s.have = s.have[n:]
	return n, nil
}
