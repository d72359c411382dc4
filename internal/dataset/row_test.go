package dataset_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
)

func TestKindIsRecognisedFromTheColumns(t *testing.T) {
	for row, want := range map[string]forge.DatasetKind{
		`{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}`: forge.KindMessages,
		`{"text": "t"}`:                                   forge.KindText,
		`{"prompt": "p", "completion": "c"}`:              forge.KindPromptCompletion,
		`{"prompt": "p", "chosen": "c", "rejected": "r"}`: forge.KindPreference,
		`{"chosen": "c", "rejected": "r"}`:                forge.KindPreference,
		`{"prompt": "p"}`:                                 forge.KindPrompt,
		`{"prompt": [{"role": "user", "content": "q"}]}`:  forge.KindPrompt,
		`{"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}`:                forge.KindPromptCompletion,
		`{"chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}], "score": 1}`: forge.KindPreference,
		`{"text": "t", "x": {"k": 1, "text": 2}, "k": [{"k": 1}, {"k": 2}]}`:                                                   forge.KindText,
		`{"te\u0078t": "escaped key"}`: forge.KindText,
	} {
		t.Run(row, func(t *testing.T) {
			if r := scan(t, file(t, row+"\n"+row+"\n")); r.Kind != want || r.Rows != 2 {
				t.Errorf("got %s with %d rows, want %s", r.Kind, r.Rows, want)
			}
		})
	}
}

func TestRowsThatAreRefused(t *testing.T) {
	good := `{"text": "fine"}` + "\n"
	deep := strings.Repeat("[", 600) + strings.Repeat("]", 600)
	cases := []struct {
		name, row string
		says      []string
	}{
		// JSON that is none
		{"cut off", `{"text": "a`, []string{"column 12", "malformed JSON: the line ends inside a string"}},
		{"cut off after a key", `{"text"`, []string{"want : after a key, found the end of the line"}},
		{"cut off in the object", `{"text": "a"`, []string{"the line ends inside an object", "one object on one line"}},
		{"a comma too many", `{"text": "a",}`, []string{"column 14", "a comma before }"}},
		{"a comma too few", `{"text": "a" "b": 1}`, []string{"column 14", `want , or } after a member, found '"'`}},
		{"columns count characters, not bytes", `{"text": "äöü" x`, []string{"column 16"}},
		{"single quotes", `{'text': 'a'}`, []string{"want a key in double quotes, found '\\''"}},
		{"NaN from Python", `{"text": "a", "score": NaN}`, []string{"NaN is not JSON; write null"}},
		{"None from Python", `{"text": "a", "score": None}`, []string{"None is not JSON; write null"}},
		{"-Infinity from Python", `{"text": "a", "score": -Infinity}`, []string{"-Infinity is not JSON"}},
		{"a number with a leading zero", `{"text": "a", "n": 012}`, []string{"does not start with 0"}},
		{"a raw tab in a string", "{\"text\": \"a\tb\"}", []string{`control character 0x09 inside a string; write it as \u0009`}},
		{"an unknown escape", `{"text": "\x41"}`, []string{"want an escape"}},
		{"short hexadecimal", `{"text": "\u12"}`, []string{"four hexadecimal digits"}},
		{"two objects on a line", `{"text": "a"}{"text": "b"}`, []string{"column 14", "after the object comes '{'; one object a line"}},
		{"half a surrogate pair", `{"text": "\ud83d!"}`, []string{`\ud83d is half of a surrogate pair`}},
		{"a first half before another character", `{"text": "\ud83d\u0041"}`, []string{`\ud83d is half of a surrogate pair`}},
		{"nested without end", `{"text": "a", "x": ` + deep + `}`, []string{"nested deeper than 512"}},

		// JSON that is no row
		{"an array", `["a", "b"]`, []string{"the row is an array; a row is one JSON object"}},
		{"a string", `"text"`, []string{"the row is a string"}},
		{"a number", `12`, []string{"the row is a number"}},
		{"null", `null`, []string{"the row is null"}},
		{"a key twice", `{"text": "a", "text": "b"}`, []string{"column 15", `key "text" stands twice`}},
		{"a key twice, once escaped", `{"text": "a", "te\u0078t": "b"}`, []string{`key "text" stands twice`}},
		{"a key twice, deep inside", `{"text": "a", "x": [{"y": {"k": 1, "k": 2}}]}`, []string{`key "k" stands twice`}},
		{"a key twice among many", `{"text": "a", ` + manyKeys(40) + `, "k39": 0}`, []string{`key "k39" stands twice`}},
		{"an empty text", `{"text": ""}`, []string{"column 10", "text is empty"}},
		{"an empty completion", `{"prompt": "", "completion": ""}`, []string{"completion is empty"}},
		{"a string beside a list of messages", `{"prompt": [{"role": "user", "content": "q"}], "completion": "c"}`, []string{"prompt is a list of messages and completion a string"}},
		{"no text but null", `{"text": null}`, []string{"text is null; want a string"}},
		{"no text but a list", `{"text": ["a"]}`, []string{"text is an array; want a string"}},
		{"a prompt that is an object", `{"prompt": {}}`, []string{"prompt is an object; want a string or a list of messages"}},
		{"an endless column name", `{"text": "a", "` + strings.Repeat("n", 300) + `": 1}`, []string{"column name has 300 bytes"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			refusedPath(t, file(t, good+c.row+"\n"+good), append(c.says, "data.jsonl: line 2, column ")...)
		})
	}

	t.Run("a JSON array in a .jsonl file comes with the command that converts it", func(t *testing.T) {
		refusedPath(t, file(t, "[\n  {\"text\": \"a\"}\n]\n"), "line 1", "the line ends", "hint:jq -c '.[]'")
		refusedPath(t, file(t, `[{"text": "a"}]`), "line 1", "the row is an array", "hint:jq -c '.[]'")
	})
	t.Run("content is never quoted", func(t *testing.T) {
		for _, row := range []string{`{"text": "s3cret`, `{"question": "s3cret"}`, `{"text": 1, "x": "s3cret"}`, `{"messages": [{"role": "user", "content": "s3cret"}]}`} {
			_, err := dataset.Scan(t.Context(), []string{file(t, row)}, dataset.Options{})
			if err == nil || strings.Contains(err.Error()+forge.HintOf(err), "s3cret") {
				t.Errorf("row %s: %v", row, err)
			}
		}
	})
	t.Run("an object of very many keys takes no time to speak of", func(t *testing.T) {
		within(t, 10*time.Second, func() { scan(t, file(t, `{"text": "a", "x": {`+manyKeys(200_000)+`}}`)) })
	})
	t.Run("a value used as a key does not fill memory", func(t *testing.T) {
		var b strings.Builder
		for i := range 1100 {
			fmt.Fprintf(&b, `{"text": "a", "key%d": 1}`+"\n", i)
		}
		refusedPath(t, file(t, b.String()), "line 1000", "more than 1000 different columns")
	})
}

func manyKeys(n int) string {
	var keys []string
	for i := range n {
		keys = append(keys, fmt.Sprintf(`"k%d": 0`, i))
	}
	return strings.Join(keys, ", ")
}

func TestWrongColumns(t *testing.T) {
	const kinds = "a dataset has exactly one of: messages | text | prompt+completion[+label] | [prompt+]chosen+rejected | prompt"
	for row, has := range map[string]string{
		`{"question": "q", "answer": "a"}`: "has {question, answer}",
		`{}`:                               "has {}",
		`{"messages": ` + `[{"role":"assistant","content":"a"}], "text": "t"}`: "has {messages, text}",
		`{"prompt": "p", "chosen": "c"}`:                                       "has {prompt, chosen}",
		`{"completion": "c"}`:                                                  "has {completion}",
		`{"conversations": [{"from": "human", "value": "x"}]}`:                 "has {conversations}",
		`{"a b": 1, "n\n": 2}`:                                                 `has {"a b", "n\n"}`,
		`{` + manyKeys(20) + `}`:                                               "k11, and 8 more}",
	} {
		t.Run(has, func(t *testing.T) {
			refusedPath(t, file(t, row+"\n"), "line 1", has, kinds, "hint:--map prompt=question")
		})
	}

	mixed := []struct{ first, then, says string }{
		{`{"text": "a"}`, `{"prompt": "p"}`, "this row has {prompt}, but"},
		{`{"prompt": "p", "completion": "c"}`, `{"prompt": "p"}`, "line 1 has {prompt, completion}"},
		{`{"prompt": "p", "chosen": "c", "rejected": "r"}`, `{"chosen": "c", "rejected": "r"}`, "this row has {chosen, rejected}"},
		{`{"prompt": "p"}`, `{"prompt": [{"role": "user", "content": "q"}]}`, "this row has {prompt (list of messages)}"},
	}
	for _, c := range mixed {
		t.Run("rows of different kinds are named by both lines: "+c.says, func(t *testing.T) {
			refusedPath(t, file(t, c.first+"\n"+c.first+"\n"+c.then+"\n"), "line 3", "line 1 has", c.says, "all rows of a dataset are of one kind")
		})
	}
	t.Run("also across the files of a directory", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir+"/a.jsonl", `{"text": "a"}`)
		write(t, dir+"/b.jsonl", "\n"+chatRow)
		refusedPath(t, dir, "b.jsonl: line 2", "a.jsonl line 1 has {text}")
	})
	t.Run("a later row without any known column is told so", func(t *testing.T) {
		refusedPath(t, file(t, `{"text": "a"}`+"\n"+`{"txt": "b"}`), "line 2", "has {txt}", kinds)
	})
}

func TestMessages(t *testing.T) {
	row := func(messages string) string { return `{"messages": ` + messages + "}\n" }
	answer := `{"role": "assistant", "content": "a"}`
	for name, m := range map[string]string{
		"all roles":                      `[{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, ` + answer + `, {"role": "tool", "content": "t", "name": "f"}]`,
		"tool calls instead of content":  `[{"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}]`,
		"tool calls and no content":      `[{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]`,
		"empty tool calls and content":   `[{"role": "assistant", "content": "a", "tool_calls": []}]`,
		"an escaped role":                `[{"role": "\u0061ssistant", "content": "a"}]`,
		"more keys than there are roles": `[{"role": "assistant", "content": "a", "weight": 0, "thinking": null}]`,
	} {
		t.Run(name+" is fine", func(t *testing.T) {
			if r := scan(t, file(t, row(m))); r.Kind != forge.KindMessages {
				t.Errorf("got %+v", r)
			}
		})
	}

	for m, says := range map[string]string{
		`"hello"`:                            "messages is a string; want a list of messages",
		`{}`:                                 "messages is an object; want a list",
		`[]`:                                 "messages is an empty list",
		`["hi"]`:                             "messages[0]: is a string; want an object {role, content}",
		`[{"role": "user", "content": "q"}]`: "no assistant turn",
		`[` + answer + `, {"role": "bot", "content": "a"}]`:                              `messages[1]: role "bot" is not one of system, user, assistant, tool`,
		`[` + answer + `, {"content": "a"}]`:                                             "messages[1]: has no role",
		`[` + answer + `, {"role": 1, "content": "a"}]`:                                  "messages[1]: role is a number",
		`[` + answer + `, {"role": "user"}]`:                                             "messages[1]: has no content and no tool_calls",
		`[` + answer + `, {"role": "user", "content": null}]`:                            "messages[1]: content is null; want a string",
		`[{"role": "assistant", "content": null, "tool_calls": [ ]}]`:                    "messages[0]: content is null",
		`[` + answer + `, {"role": "user", "content": [{"type": "text", "text": "x"}]}]`: "messages[1]: content is an array; want a string",
		`[` + answer + `, {"role": "user", "content": "x", "content": "y"}]`:             `key "content" stands twice`,
		`[` + answer + `, {"role": "user", "content": "x"]`:                              "malformed JSON",
		`[` + answer + `,]`: "a comma before ]",
	} {
		t.Run(says, func(t *testing.T) {
			refusedPath(t, file(t, chatRow+row(m)), "line 2, column", says)
		})
	}
	t.Run("chosen as a list of messages is checked in the same way", func(t *testing.T) {
		refusedPath(t, file(t, `{"chosen": [{"role": "bot", "content": "a"}], "rejected": "b"}`), `chosen[0]: role "bot"`)
	})
}

func TestAccepts(t *testing.T) {
	sft := []forge.DatasetKind{forge.KindMessages, forge.KindText, forge.KindPromptCompletion}
	for _, k := range sft {
		if err := dataset.Accepts(sft, k); err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}
	if err := dataset.Accepts(nil, forge.KindPrompt); err != nil {
		t.Errorf("a recipe that lists no kinds: %v", err)
	}
	err := dataset.Accepts(sft[:2], forge.KindPreference)
	if forge.KindOf(err) != forge.KindInvalid || forge.HintOf(err) == "" {
		t.Fatalf("got %v", err)
	}
	const want = "dataset: wrong columns for the recipe: the dataset is preference {[prompt,] chosen, rejected}, the recipe takes messages {messages} or text {text}"
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if !slices.Contains(forge.Kinds, forge.KindOf(err)) {
		t.Error("kind outside the closed set")
	}
}
