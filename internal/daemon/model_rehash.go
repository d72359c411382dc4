package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/gate"
)

// rehash reads a version's bytes where they lie and holds them against its manifest. An error says that nobody could look: that is no finding.
func (d *Daemon) rehash(ctx context.Context, p forge.Principal, v forge.ModelVersion) (*gate.Finding, error) {
	return nil, forge.Errorf(forge.KindUnavailable, "model.verify", "bytes are not hashed anew yet")
}

// VerifyModel implements api.Models.
func (s models) VerifyModel(ctx context.Context, p forge.Principal, ref forge.Ref) (api.ModelVerified, error) {
	return api.ModelVerified{}, forge.Errorf(forge.KindUnavailable, "model.verify", "bytes are not hashed anew yet")
}
