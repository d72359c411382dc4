package main

import (
	"context"
	"fmt"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
)

// addOnCluster has a run read the data on a node, which registers it when it completes.
func (a *app) addOnCluster(ctx context.Context, cl *client.Client, o addOptions) error {
	switch {
	case o.Copy:
		return forge.Invalidf("copy", "is for data that is read here; a job leaves it where it is")
	case o.PIIPolicy == forge.PIIRedact:
		return forge.Invalidf("pii-policy", "redact is for data that is read here").WithHint("add it with warn, then: forgectl dataset redact %s", o.Name)
	}
	s, err := cl.ScanDataset(ctx, api.ScanDatasetRequest{AddDatasetRequest: o.AddDatasetRequest, Threads: o.threads, Cluster: o.cluster})
	if err != nil {
		return a.spelled(err)
	}
	for _, w := range s.Warnings {
		fmt.Fprintf(a.Err, "warning: %s\n", clean(w))
	}
	return a.submitted(ctx, cl, s, o.wait)
}
