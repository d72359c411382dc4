package daemon

import (
	"slices"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

func TestRanksReadTheFilesOfTheVersion(t *testing.T) {
	v := forge.DatasetVersion{Manifest: forge.Manifest{Root: "/d", Files: []forge.File{{Path: "a.csv"}, {Path: "b/c.csv"}}}}
	if got := datasetFiles(v); got != nil {
		t.Errorf("a version of before there were layouts names %v; want none: its run is configured as it always was", got)
	}
	v.Layout = &forge.DatasetLayout{Format: forge.FormatCSV}
	if got := datasetFiles(v); !slices.Equal(got, []string{"a.csv", "b/c.csv"}) {
		t.Errorf("its files are %v", got)
	}
}
