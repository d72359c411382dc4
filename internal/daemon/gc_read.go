package daemon

import (
	"cmp"
	"context"
	"fmt"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

// readAgain reads the checkpoints of a run before older ones of it go: that the newest was verified may be months ago, and it is all that stays. It answers
// those that were verified and do not read whole now. It takes its time, and no lock: files keep for a moment, and nobody waits for gc.
func (g *gcPass) readAgain(ctx context.Context, c *Cluster, o store.OldRun) (bad map[saveKey]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	dir := ""
	for _, a := range o.Attempts {
		dir = cmp.Or(a.RunDir, dir)
	}
	list, err := c.Files.Checkpoints(ctx, o.Run.ID, dir, true)
	if err != nil {
		return nil, fmt.Errorf("its checkpoints could not be read again, so none of them goes: %w", err)
	}
	now := map[saveKey]forge.Checkpoint{}
	for _, s := range list {
		now[key(s)] = s
	}
	bad = map[saveKey]string{}
	for _, s := range o.Saves {
		if n := now[key(s)]; s.Verdict == forge.VerdictVerified && n.Verdict != forge.VerdictVerified && g.there(c)(s) {
			bad[key(s)] = cmp.Or(n.Why, "it has no manifest that can be read")
		}
	}
	return bad, nil
}

// doubt takes back the word of those: they are no reason for others to go, and stay where none above them is whole. An error of a disk looks like a torn file.
func doubt(saves []forge.Checkpoint, bad map[saveKey]string) {
	for i, s := range saves {
		if _, ok := bad[key(s)]; ok {
			saves[i].Verdict = forge.VerdictWritten
		}
	}
}

// badSave says of a checkpoint that stays that it is one of them.
func badSave(t thing, bad map[saveKey]string) (why string, ok bool) {
	if t.Kind != api.GCCheckpoint || len(t.save) != 1 {
		return "", false
	}
	if why, ok = bad[key(t.save[0])]; !ok {
		return "", false
	}
	return fmt.Sprintf("it was verified and does not read whole now: %s. It stays, and so does the newest that does; if nothing can be done about it: rm -r %s", why, t.Path), true
}
