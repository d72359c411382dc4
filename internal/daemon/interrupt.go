package daemon

import (
	"cmp"
	"context"
	"fmt"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (s runs) InterruptRun(ctx context.Context, p forge.Principal, run string, as forge.InterruptAs) (forge.Run, error) {
	if !slices.Contains(forge.InterruptKinds, as) {
		return forge.Run{}, forge.Invalidf("as", "%q: want preempt or timeout", as)
	}
	if err := s.d.mayActOn(ctx, p, "run.interrupt", run); err != nil {
		return forge.Run{}, err
	}
	r, err := s.d.db.For(p).InterruptRun(ctx, run, as)
	if err == nil {
		kick(s.d.kickOutbox)
	}
	return r, err
}

func (s runs) RunSeat(ctx context.Context, p forge.Principal, run string, rank int) (api.RunSeat, error) {
	const op = "run.shell"
	if err := s.d.mayActOn(ctx, p, op, run); err != nil {
		return api.RunSeat{}, err
	}
	d, err := s.Run(ctx, p, run)
	if err != nil {
		return api.RunSeat{}, err
	}
	r := d.Run
	if r.State != forge.RunRunning || len(d.Attempts) == 0 {
		return api.RunSeat{}, forge.Errorf(forge.KindPrecondition, op, "run %d is %s; a shell needs a rank that runs", r.Number, r.State).
			WithHint("forgectl run why %d says where it is", r.Number)
	}
	a := d.Attempts[len(d.Attempts)-1]
	share, err := shareOfRank(r.Spec.Launch, a.Placement, rank)
	if err != nil {
		return api.RunSeat{}, err
	}
	if a.Batch == nil || a.Batch.ID == "" {
		return api.RunSeat{}, forge.Errorf(forge.KindPrecondition, op, "run %d runs on %s of cluster %s, which has no batch system that would let a shell in", r.Number, share.Node, a.Cluster).
			WithHint("log in to %s; the ranks' processes have FORGE_RUN_ID=%s in their environment", share.Node, r.ID)
	}
	env := filepath.Join(a.RunDir, "attempts", attemptName(a.Number), "ranks", fmt.Sprintf("%04d", rank), "env.sh")
	return api.RunSeat{Run: r.Number, Attempt: a.Number, Rank: rank, Cluster: a.Cluster, Job: a.Batch.ID, Owner: jobOwner(a.ExternalID), Node: share.Node, Env: env}, nil
}

// shareOfRank finds the node of a global rank.
func shareOfRank(launch forge.LaunchMode, placement []forge.Share, rank int) (forge.Share, error) {
	total := 0
	for _, s := range placement {
		n := len(s.Slots)
		if launch == forge.LaunchNode {
			n = 1
		}
		if total += n; rank < total {
			return s, nil
		}
	}
	return forge.Share{}, forge.Invalidf("rank", "%d: the attempt has ranks 0 to %d", rank, total-1)
}

// jobOwner is the system's account that a job belongs to: the one in its external id (slurm:ACCOUNT:...), or forged's own.
func jobOwner(id forge.ExternalID) string {
	account := ""
	if f := strings.SplitN(string(id), ":", 3); len(f) == 3 {
		account = f[1]
	}
	own := ""
	if u, err := user.Current(); err == nil {
		own = u.Username
	}
	return cmp.Or(account, own)
}
