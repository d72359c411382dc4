package daemon

import (
	"context"
	"fmt"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// blocks says, in words, which schedules keep a version from being promoted.
func (d *Daemon) blocks(ctx context.Context, p forge.Principal, v forge.ModelVersion) ([]string, error) {
	all, err := d.db.For(p).Blocks(ctx, v.ID, "")
	var words []string
	for _, b := range all {
		words = append(words, fmt.Sprintf("schedule %s found %s worse on %s: %s; an admin lets go of it: forgectl schedule clear %s --reason …",
			b.Schedule, b.Model, b.Due.Format(time.RFC3339), b.Words, b.Schedule))
	}
	return words, err
}
