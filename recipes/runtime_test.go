package recipes

import (
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

const plainRecipe = "name: mine\ndoc: Mine\nentry: {command: [/bin/true]}\n"

func TestARecipeSaysWhichSoftwareItNeeds(t *testing.T) {
	r, err := parse("mine.yaml", []byte(plainRecipe+"runtime:\n  kind: apptainer\n  image: /images/a.sif\n  modules: [apptainer]\n  setup:\n    - ulimit -l unlimited\n"))
	if err != nil || r.Runtime.Kind != forge.RuntimeApptainer || r.Runtime.Image != "/images/a.sif" || len(r.Runtime.Setup) != 1 {
		t.Fatalf("%+v, %v", r.Runtime, err)
	}
	without, err := parse("mine.yaml", []byte(plainRecipe))
	if err != nil || without.SHA256 == r.SHA256 {
		t.Errorf("another software is another recipe: %v", err)
	}
	for in, says := range map[string]string{
		"runtime: {kind: docker}":                    "mine.yaml:4: \"docker\" is not allowed",
		"runtime:\n  kind: venv\n  modules: ['a;b']": "mine.yaml:6: \"a;b\" is not the name of a module",
		"runtime: {colour: red}":                     "mine.yaml:4",
	} {
		if _, err := parse("mine.yaml", []byte(plainRecipe+in+"\n")); forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want %s", in, err, says)
		}
	}
	if _, err := parse("mine.yaml", []byte(plainRecipe+"runtime: {setup: [module load cuda]}\n")); err != nil {
		t.Errorf("a part that a cluster makes whole: %v", err)
	}
}
