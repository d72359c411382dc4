package archtest_test

import (
	"fmt"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

// closedSets are the words that users meet as values: in listings, filters and JSON.
func closedSets() map[string][]string {
	return map[string][]string{
		"run state":      stringsOf(forge.RunStates),
		"attempt state":  stringsOf(forge.AttemptStates),
		"end reason":     stringsOf(forge.EndReasons),
		"hold code":      stringsOf(forge.HoldCodes),
		"error kind":     stringsOf(forge.Kinds),
		"stage":          stringsOf(forge.Stages),
		"stage action":   stringsOf(forge.StageActions),
		"role":           stringsOf([]forge.Role{forge.RoleViewer, forge.RoleMember, forge.RoleAdmin, forge.RoleOperator}),
		"PII status":     stringsOf([]forge.PIIStatus{forge.PIINotScanned, forge.PIIScanning, forge.PIIClean, forge.PIIFindings, forge.PIIRedacted, forge.PIIWaived}),
		"dataset kind":   stringsOf([]forge.DatasetKind{forge.KindMessages, forge.KindText, forge.KindPromptCompletion, forge.KindPreference, forge.KindPrompt}),
		"node state":     stringsOf([]forge.NodeState{forge.NodeReady, forge.NodeDrained, forge.NodeUnknown}),
		"checkpoint":     stringsOf([]forge.Verdict{forge.VerdictWritten, forge.VerdictVerified, forge.VerdictTorn, forge.VerdictForeign}),
		"kind of slot":   stringsOf([]forge.GPUKind{forge.GPUDevice, forge.GPUCPUSlot}),
		"kind of model":  stringsOf([]forge.ModelKind{forge.ModelBase, forge.ModelTrained}),
		"launch mode":    stringsOf([]forge.LaunchMode{forge.LaunchRank, forge.LaunchNode}),
		"gate verdict":   stringsOf(forge.GateVerdicts),
		"comparison":     stringsOf(forge.CompareVerdicts),
		"cancel request": stringsOf([]forge.CancelMode{forge.CancelTerm, forge.CancelSave, forge.CancelNow}),
	}
}

func stringsOf[S ~string](set []S) []string {
	out := make([]string, len(set))
	for i, s := range set {
		out[i] = string(s)
	}
	return out
}

// checkVocabulary wants every value of every set as a code span.
func checkVocabulary(text string, sets map[string][]string) []string {
	spans := map[string]bool{}
	for _, w := range words(text) {
		spans[w] = true
	}
	var found []string
	for name, set := range sets {
		for _, w := range set {
			if !spans[w] {
				found = append(found, fmt.Sprintf("docs/vocabulary.md does not have the %s `%s`", name, w))
			}
		}
	}
	return found
}

func TestVocabulary(t *testing.T) {
	text := read(t, "docs/vocabulary.md")
	report(t, checkVocabulary(text, closedSets()))
	t.Run("a missing word is found", func(t *testing.T) {
		want1(t, checkVocabulary(text, map[string][]string{"run state": {"dozing"}}), "dozing")
	})
}
