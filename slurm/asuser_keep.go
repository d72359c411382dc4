package slurm

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/artefact"
)

const (
	verbKeep   = "keep"
	verbReread = "reread"
	verbKept   = "kept"
)

// longAtOnce bounds the calls of one account that copy and hash, so that its jobs are still looked at meanwhile.
const longAtOnce = 2

type askKept struct{ Root string }

// Keep has an output copied.
func (h *AsUser) Keep(ctx context.Context, account string, q KeepRequest) (KeepAnswer, error) {
	return askLong[KeepAnswer](ctx, h, account, verbKeep, q)
}

// Reread has every byte of a version read.
func (h *AsUser) Reread(ctx context.Context, account string, m forge.Manifest) (artefact.Seen, error) {
	return askLong[artefact.Seen](ctx, h, account, verbReread, m)
}

// Kept has the copies of the account listed.
func (h *AsUser) Kept(ctx context.Context, account, root string) ([]artefact.Kept, error) {
	return askLong[[]artefact.Kept](ctx, h, account, verbKept, askKept{root})
}

func askLong[A any](ctx context.Context, h *AsUser, account, verb string, q any) (answer A, err error) {
	l, _ := h.lane(account, 0)
	select {
	case l.long <- struct{}{}:
		defer func() { <-l.long }()
	case <-ctx.Done():
		return answer, ctx.Err()
	}
	answer, err = ask[A](ctx, h, account, verb, hashTimeout, q)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // whoever asked does not want it any more: that says nothing about the helper
	}
	return answer, err
}
