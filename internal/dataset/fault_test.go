package dataset_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

// turns writes a list of messages: "user:hi assistant:hello".
func turns(spec string) string {
	var out []string
	for _, s := range strings.Fields(spec) {
		role, content, _ := strings.Cut(s, ":")
		out = append(out, fmt.Sprintf(`{"role": %q, "content": "%s"}`, role, content))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func messagesRow(spec string) string { return `{"messages": ` + turns(spec) + `}` }

func pairRow(chosen, rejected string) string {
	return `{"prompt": ` + turns("user:q") + `, "chosen": ` + turns(chosen) + `, "rejected": ` + turns(rejected) + `}`
}

func TestRowsThatAreWellFormedAndNotWhatWasMeantAreCounted(t *testing.T) {
	calls := `"tool_calls": [{"function": {"name": "f"}}]`
	for _, c := range []struct {
		name, row string
		want      []forge.RowFault
	}{
		{"a good conversation", messagesRow("system:s user:q assistant:a user:q assistant:a"), nil},
		{"tools between a question and its answer", messagesRow("user:q assistant:c tool:r tool:r assistant:a"), nil},
		{"a good pair", pairRow("assistant:a", "assistant:b"), nil},
		{"a pair that differs in an escaped letter", `{"prompt": "p", "chosen": "\u0061", "rejected": "b"}`, nil},
		{"a pair of conversations with what both begin with", `{"chosen": ` + turns("user:q assistant:a") + `, "rejected": ` + turns("user:q assistant:b") + `}`, nil},
		{"a pair of texts with what both begin with", `{"chosen": "Q: x A: y", "rejected": "Q: x A: z"}`, nil},
		{"a prompt that ends with the user", `{"prompt": ` + turns("user:q") + `}`, nil},

		{"a pair of the same text", `{"prompt": "p", "chosen": "a", "rejected": "a"}`, []forge.RowFault{forge.RowSameAnswers}},
		{"a pair of the same text, once escaped", `{"chosen": "a", "rejected": "\u0061"}`, []forge.RowFault{forge.RowSameAnswers}},
		{"a pair of the same messages, keys in another order", `{"chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"content": "a", "role": "assistant"}]}`,
			[]forge.RowFault{forge.RowSameAnswers}},
		{"a pair of texts about two things", `{"chosen": "a", "rejected": "b"}`, []forge.RowFault{forge.RowNoPrompt}},
		{"a pair of letters whose first byte is the same", `{"chosen": "é", "rejected": "è"}`, []forge.RowFault{forge.RowNoPrompt}},
		{"a pair of which one is what both begin with", `{"chosen": "Q: x A: y", "rejected": "Q: x "}`, []forge.RowFault{forge.RowNoPrompt}},
		{"conversations about two things", `{"chosen": ` + turns("user:q assistant:a") + `, "rejected": ` + turns("user:r assistant:a") + `}`, []forge.RowFault{forge.RowNoPrompt}},
		{"an answer of the user after the user's question", pairRow("user:x assistant:a", "assistant:b"), []forge.RowFault{forge.RowRoles}},
		{"an empty system turn", messagesRow("system: user:q assistant:a"), []forge.RowFault{forge.RowEmptyTurn}},
		{"an answer of escaped white space", messagesRow(`user:q assistant:\n\t`), []forge.RowFault{forge.RowEmptyAnswer}},
		{"an answer of exotic white space", `{"prompt": "p", "completion": "\u00a0 \u2003"}`, []forge.RowFault{forge.RowEmptyAnswer}},
		{"a chosen answer without words", pairRow("assistant:", "assistant:b"), []forge.RowFault{forge.RowEmptyAnswer}},
		{"a text of spaces", `{"text": "  "}`, []forge.RowFault{forge.RowEmptyAnswer}},
		{"a question without words", messagesRow("user: assistant:a"), []forge.RowFault{forge.RowEmptyTurn}},
		{"only a tool call", `{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": null, ` + calls + `}]}`, []forge.RowFault{forge.RowNoText}},
		{"two questions", messagesRow("user:q user:q assistant:a"), []forge.RowFault{forge.RowRoles}},
		{"the assistant begins", messagesRow("assistant:a user:q assistant:a"), []forge.RowFault{forge.RowRoles}},
		{"a system turn in the middle", messagesRow("user:q system:s assistant:a"), []forge.RowFault{forge.RowRoles}},
		{"the user has the last word", messagesRow("user:q assistant:a user:q"), []forge.RowFault{forge.RowOpenEnd}},
		{"a rejected answer by the user", pairRow("assistant:a", "user:b"), []forge.RowFault{forge.RowRoles, forge.RowOpenEnd}},
		{"a key that is null", `{"messages": [{"role": "user", "content": "q", "name": null}, {"role": "assistant", "content": "a"}]}`, []forge.RowFault{forge.RowNullKey}},
		{"tool calls that are null", `{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "tool_calls": null}]}`, []forge.RowFault{forge.RowNullKey}},
		{"several at once", messagesRow("user:q user: assistant:a user:q"), []forge.RowFault{forge.RowRoles, forge.RowOpenEnd, forge.RowEmptyTurn}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []forge.RowFault
			for _, f := range scan(t, file(t, c.row+"\n")).Seen.Findings {
				if got = append(got, f.Fault); f.Rows != 1 || len(f.First) != 1 || !strings.HasSuffix(f.First[0], "data.jsonl:1") {
					t.Errorf("%+v", f)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: got %v, want %v", c.row, got, c.want)
			}
		})
	}
}

func TestAFindingHasItsNumberAndTheFirstPlaces(t *testing.T) {
	bad, good := `{"prompt": "p", "chosen": "a", "rejected": "a"}`+"\n", `{"prompt": "p", "chosen": "a", "rejected": "b"}`+"\n"
	seen := scan(t, file(t, good+"\n"+strings.Repeat(bad+good, 5))).Seen
	if len(seen.Findings) != 1 || seen.Messages {
		t.Fatalf("%+v", seen)
	}
	var lines []string
	for _, p := range seen.Findings[0].First {
		lines = append(lines, p[strings.LastIndexByte(p, ':')+1:])
	}
	if f := seen.Findings[0]; f.Rows != 5 || !slices.Equal(lines, []string{"3", "5", "7"}) {
		t.Errorf("%+v", f)
	}
	if !scan(t, file(t, chatRow)).Seen.Messages {
		t.Error("messages are not seen as such")
	}
}

func TestEveryRowFaultHasWordsAndWhatEndsARunStandsFirst(t *testing.T) {
	for _, kind := range []forge.DatasetKind{forge.KindPreference, forge.KindMessages} {
		ended := true
		for _, f := range forge.RowFaults {
			if f.Words() == string(f) {
				t.Errorf("%s has no words", f)
			}
			if f.Ends(kind) && !ended {
				t.Errorf("%s ends a run on %s and stands behind one that does not", f, kind)
			}
			ended = f.Ends(kind)
		}
	}
}
