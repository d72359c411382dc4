package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (s *server) datasetScans() {
	acting(s, spec{
		id: "scan-dataset", method: http.MethodPost, path: api.DatasetScansPath, tag: "datasets", role: forge.RoleMember, created: true,
		summary: "Have a run read and register a dataset",
		doc: "Submits a run of recipe scan: a job without a GPU on clusters of kind slurm, on others one that takes one slot. It reads the files on its node, as the account that runs there, and the version is registered in the transaction " +
			"in which the run completes. A run whose result does not hold ends as outputs_invalid, and registers nothing.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindConflict, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.ScanDatasetRequest }) (api.Submitted, error) {
		return s.Datasets.ScanDataset(ctx, p, in.Body)
	}, s.submittedAgain)
}
