package store

import (
	"fmt"

	forge "github.com/forge-ml/forge-ml"
)

// registerScan registers what a run of recipe scan has read, with the run's end: no crash can register it twice or lose it. What keeps it from
// being registered (its name is a base model's, a parent is gone) does not keep the run from ending; the run's last event says so.
func (t *tx) registerScan(r *runRow, in *forge.DatasetVersion) (words string, err error) {
	if in == nil {
		return "", nil
	}
	v := *in
	v.Tenant, v.CreatedBy = r.Tenant, r.User
	var id forge.DatasetVersionID
	err = t.sub(func() (err error) { id, err = t.addDataset(&v); return err })
	switch forge.KindOf(err) {
	case forge.KindConflict, forge.KindInvalid, forge.KindPrecondition, forge.KindNotFound:
		if err != nil {
			return "nothing was registered: " + err.Error(), nil
		}
	}
	if err != nil {
		return "", err
	}
	if id != v.ID {
		was, err := t.datasetVersion(string(id))
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("the same data is dataset %s@%d already", was.Name, was.Number), nil
	}
	return fmt.Sprintf("registered as dataset %s@%d, %d rows", v.Name, v.Number, v.Rows), nil
}
