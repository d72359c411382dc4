package scheduler_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/forge-ml/forge-ml/scheduler"
)

var update = flag.Bool("update", false, "write the plans of testdata/*.txtar anew")

func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar")+": "+strings.TrimSpace(string(a.Comment)), func(t *testing.T) {
			s := story(t, string(a.Files[0].Data))
			plan := scheduler.Plan(s, fair)
			if err := scheduler.CheckPlan(s, fair, plan); err != nil {
				t.Errorf("the plan is not safe: %v", err)
			}
			got := []byte(tell(plan))
			if *update {
				a.Files[1].Data = got
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, a.Files[1].Data) {
				t.Errorf("got\n%s\nwant\n%s", got, a.Files[1].Data)
			}
		})
	}
}
