package archtest_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

// checkMoves holds a table of transitions (from | to) against a state machine, over all pairs.
func checkMoves[S ~string](rows []row, states []S, can func(from, to S) bool) []string {
	var found []string
	inDocs := map[S][]string{}
	for _, r := range rows {
		inDocs[S(word(r[0]))] = words(r[1])
	}
	for _, from := range states {
		to, ok := inDocs[from]
		if !ok {
			found = append(found, fmt.Sprintf("the table has no row for %s", from))
			continue
		}
		for _, s := range states {
			if documented, allowed := slices.Contains(to, string(s)), can(from, s); documented != allowed {
				found = append(found, fmt.Sprintf("%s → %s: the table says %v, the code %v", from, s, documented, allowed))
			}
		}
		for _, s := range to {
			if !slices.Contains(states, S(s)) {
				found = append(found, fmt.Sprintf("%s → %s: no such state", from, s))
			}
		}
		delete(inDocs, from)
	}
	for s := range inDocs {
		found = append(found, fmt.Sprintf("the table has a row for %s, which is no state", s))
	}
	return found
}

var mermaidArrow = regexp.MustCompile(`(?m)^\s*(\w+) --> (\w+)`)

// checkPicture holds the arrows of the nth mermaid block against the same state machine: it
// may leave moves out (the text says which), and may not invent any.
func checkPicture[S ~string](text string, nth int, can func(from, to S) bool) []string {
	blocks := strings.Split(text, "```mermaid")
	if len(blocks) <= nth {
		return []string{"a picture is missing"}
	}
	block, _, _ := strings.Cut(blocks[nth], "```")
	arrows := mermaidArrow.FindAllStringSubmatch(block, -1)
	var found []string
	if len(arrows) == 0 {
		found = append(found, "a picture has no arrows")
	}
	for _, a := range arrows {
		if !can(S(a[1]), S(a[2])) {
			found = append(found, fmt.Sprintf("the picture draws %s → %s, the code does not allow it", a[1], a[2]))
		}
	}
	return found
}

func checkEnds(rows []row) []string {
	var found []string
	inDocs := map[forge.EndReason]string{}
	for _, r := range rows {
		inDocs[forge.EndReason(word(r[0]))] = word(r[2])
	}
	for _, reason := range forge.EndReasons {
		got, ok := inDocs[reason]
		switch {
		case !ok:
			found = append(found, fmt.Sprintf("end reason %s is missing", reason))
		case got != string(reason.Disposition()):
			found = append(found, fmt.Sprintf("end reason %s: the table says %s, the code %s", reason, got, reason.Disposition()))
		}
		delete(inDocs, reason)
	}
	for reason := range inDocs {
		found = append(found, fmt.Sprintf("%s is no end reason", reason))
	}
	return found
}

func TestStates(t *testing.T) {
	const page = "docs/states.md"
	t.Run("the table of a run's moves is the state machine", func(t *testing.T) {
		report(t, checkMoves(table(t, page, "Moves of a run"), forge.RunStates, forge.CanMoveRun))
	})
	t.Run("the table of an attempt's moves is the state machine", func(t *testing.T) {
		report(t, checkMoves(table(t, page, "Moves of an attempt"), forge.AttemptStates, forge.CanMoveAttempt))
	})
	t.Run("the table of a version's moves is the state machine", func(t *testing.T) {
		report(t, checkMoves(table(t, page, "Moves of a model version"), forge.Stages, forge.CanMoveStage))
	})
	t.Run("the pictures draw only moves that exist, and every one of a run", func(t *testing.T) {
		text := read(t, page)
		report(t, checkPicture(text, 1, forge.CanMoveRun))
		report(t, checkPicture(text, 2, forge.CanMoveAttempt))
		report(t, checkPicture(text, 3, forge.CanMoveStage))
		for _, from := range forge.RunStates {
			for _, to := range forge.RunStates {
				if forge.CanMoveRun(from, to) && !strings.Contains(text, fmt.Sprintf("    %s --> %s", from, to)) {
					t.Errorf("the picture of a run does not draw %s → %s", from, to)
				}
			}
		}
	})
	t.Run("every end reason stands there with its disposition", func(t *testing.T) {
		report(t, checkEnds(table(t, page, "End reasons")))
	})
	t.Run("every disposition is explained", func(t *testing.T) {
		var explained []string
		for _, r := range table(t, page, "What an end means for the run") {
			explained = append(explained, word(r[0]))
		}
		for _, reason := range forge.EndReasons {
			if d := string(reason.Disposition()); !slices.Contains(explained, d) {
				t.Errorf("disposition %s is not explained", d)
			}
		}
	})

	t.Run("planted errors are found", func(t *testing.T) {
		rows := table(t, page, "Moves of a run")
		changed := slices.Clone(rows)
		changed[0] = row{"`pending`", "`running`"}
		if found := checkMoves(changed, forge.RunStates, forge.CanMoveRun); len(found) != 4 {
			t.Fatalf("a wrong row: %q", found)
		}
		want1(t, checkMoves(rows[1:], forge.RunStates, forge.CanMoveRun), "no row for pending")
		want1(t, checkPicture("```mermaid\n  running --> provisioning\n```", 1, forge.CanMoveRun), "does not allow")
		ends := table(t, page, "End reasons")
		want1(t, checkEnds(ends[1:]), "is missing")
		want1(t, checkEnds(append(slices.Clone(ends[1:]), row{ends[0][0], "", "`retry_now`"})), "the table says retry_now")
	})
}
