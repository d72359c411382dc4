package dataset

import (
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// columnSet is a set of the columns that make a kind; any others are along for the ride.
type columnSet uint8

const (
	colMessages columnSet = 1 << iota
	colText
	colPrompt
	colCompletion
	colChosen
	colRejected
)

// columnNames is in the order of the bits.
var columnNames = [...]string{"messages", "text", "prompt", "completion", "chosen", "rejected"}

func columnOf(key []byte) columnSet {
	switch string(key) {
	case "messages":
		return colMessages
	case "text":
		return colText
	case "prompt":
		return colPrompt
	case "completion":
		return colCompletion
	case "chosen":
		return colChosen
	case "rejected":
		return colRejected
	}
	return 0
}

// kind is exact: a row that has the columns of two kinds, or half of those of one, has none,
// because which of them was meant is a guess that shows hours later.
func (c columnSet) kind() (forge.DatasetKind, bool) {
	switch c {
	case colMessages:
		return forge.KindMessages, true
	case colText:
		return forge.KindText, true
	case colPrompt | colCompletion:
		return forge.KindPromptCompletion, true
	case colChosen | colRejected, colPrompt | colChosen | colRejected:
		return forge.KindPreference, true
	case colPrompt:
		return forge.KindPrompt, true
	}
	return "", false
}

func (c columnSet) names() []string {
	var names []string
	for i, n := range columnNames {
		if c&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// String names the columns, joined by +.
func (c columnSet) String() string { return strings.Join(c.names(), "+") }

// String says what a row has: {prompt, completion}, with the lists of messages marked.
func (g signature) String() string {
	names := g.has.names()
	for i, n := range names {
		if g.list&columnOf([]byte(n)) != 0 && n != "messages" {
			names[i] = n + " (list of messages)"
		}
	}
	return "{" + strings.Join(names, ", ") + "}"
}

const allKinds = "messages | text | prompt+completion | [prompt+]chosen+rejected | prompt"

// wrongColumns names the columns of a row that was scanned to its end.
func wrongColumns(line []byte) *problem {
	const shown = 12
	var names []string
	var s scanner
	s.reset(line)
	s.space()
	o, p := s.enterObject()
	for p == nil {
		var key []byte
		if key, p = s.member(&o); p != nil || key == nil {
			break
		}
		names = append(names, columnName(key))
		p = s.value()
	}
	if n := len(names); n > shown {
		names = append(names[:shown], fmt.Sprintf("and %d more", n-shown))
	}
	return &problem{
		why:  fmt.Sprintf("has {%s}; a dataset has exactly one of: %s", strings.Join(names, ", "), allKinds),
		hint: "Rename or drop columns, for example: jq -c '{prompt: .question, completion: .answer}' in.jsonl > out.jsonl",
	}
}

// columnName shows a name as it is when it is a plain word and quoted when it is not.
func columnName(key []byte) string {
	for _, c := range key {
		if c != '_' && c != '-' && c != '.' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return fmt.Sprintf("%.40q", key)
		}
	}
	return fmt.Sprintf("%.40s", key)
}

// columnsOf says which columns a kind stands for.
func columnsOf(k forge.DatasetKind) string {
	switch k {
	case forge.KindPromptCompletion:
		return "{prompt, completion}"
	case forge.KindPreference:
		return "{[prompt,] chosen, rejected}"
	}
	return "{" + string(k) + "}"
}

// Accepts says whether a recipe that takes kinds can train on a dataset of kind k. A recipe
// that lists none takes any. KindInvalid with Field "dataset" names both sides.
func Accepts(kinds []forge.DatasetKind, k forge.DatasetKind) error {
	if len(kinds) == 0 || slices.Contains(kinds, k) {
		return nil
	}
	want := make([]string, len(kinds))
	for i, a := range kinds {
		want[i] = fmt.Sprintf("%s %s", a, columnsOf(a))
	}
	return forge.Invalidf("dataset", "wrong columns for the recipe: the dataset is %s %s, the recipe takes %s",
		k, columnsOf(k), strings.Join(want, " or ")).
		WithHint("Choose another recipe (forgectl recipe list), or register the data with other columns")
}
