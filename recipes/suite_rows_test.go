package recipes_test

import (
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/recipes"
)

func TestTheQuestionsOfASuiteAreReadWithWhatTheirPromptIsMadeOf(t *testing.T) {
	l, err := recipes.BuiltinSuites()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"default-offline": 100, "quality-offline": 50, "reasoning-offline": 60, "safety-offline": 50} {
		rows, err := l.Rows(name)
		if err != nil || len(rows) != want {
			t.Errorf("%s: %d, %v; want %d", name, len(rows), err, want)
		}
		i := slices.IndexFunc(rows, func(r recipes.SuiteRow) bool { return r.Task == "forge_reading" })
		if name == "default-offline" && (i < 0 || len(rows[i].Prompt) != 2 || rows[i].Prompt[1] != "When did Mira leave by ferry?" || rows[i].Number != 1 || rows[i].File != "reading.jsonl" || !slices.Contains(rows[i].Texts, "She stayed at home")) {
			t.Errorf("%d: %+v", i, rows[max(i, 0)])
		}
	}
	if _, err := l.Rows("default"); forge.KindOf(err) != forge.KindPrecondition {
		t.Errorf("a suite without data of its own: %v", err)
	}
	with, err := l.With(strings.TrimSuffix(suiteAt(t, map[string]string{"suite.yaml": goodSuite, "ours.yaml": goodTask, "ours.jsonl": `[{"question": "why?", "choices": [{"text": "so"}], "answer": 0}]`}), "/mine"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := with.Rows("mine")
	if err != nil || len(rows) != 1 || !slices.Equal(rows[0].Prompt, []string{"why?"}) || !slices.Equal(rows[0].Texts, []string{"so", "why?"}) {
		t.Errorf("%+v, %v", rows, err)
	}
}
