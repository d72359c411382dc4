package dataset

import (
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// columnSet is a set of the columns that make a kind; any others are along for the ride.
type columnSet uint16

const (
	colMessages columnSet = 1 << iota
	colText
	colPrompt
	colCompletion
	colChosen
	colRejected
	colLabel
)

// columnNames is in the order of the bits.
var columnNames = [...]string{"messages", "text", "prompt", "completion", "chosen", "rejected", "label"}

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
	case "label":
		return colLabel
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
	case colPrompt | colCompletion | colLabel:
		return forge.KindUnpaired, true
	}
	return "", false
}

// settled leaves out a label that is along for the ride: it makes a kind only with a prompt and its completion.
func (c columnSet) settled() columnSet {
	if c != colPrompt|colCompletion|colLabel {
		return c &^ colLabel
	}
	return c
}

// columnsFor are the columns that rows of a kind may have.
func columnsFor(k forge.DatasetKind) columnSet {
	switch k {
	case forge.KindMessages:
		return colMessages
	case forge.KindText:
		return colText
	case forge.KindPromptCompletion:
		return colPrompt | colCompletion
	case forge.KindPreference:
		return colPrompt | colChosen | colRejected
	case forge.KindPrompt:
		return colPrompt
	case forge.KindUnpaired:
		return colPrompt | colCompletion | colLabel
	}
	return 0
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

const allKinds = "messages | text | prompt+completion[+label] | [prompt+]chosen+rejected | prompt"

// wrongColumns names the columns of a row that was scanned to its end.
func (p *plan) wrongColumns(line []byte) *problem {
	const shown = 12
	var names []string
	var s scanner
	s.reset(line)
	s.space()
	o, bad := s.enterObject()
	for bad == nil {
		var key []byte
		if key, bad = s.member(&o); bad != nil || key == nil {
			break
		}
		names = append(names, columnName(key))
		bad = s.value(nil)
	}
	if n := len(names); n > shown {
		names = append(names[:shown], fmt.Sprintf("and %d more", n-shown))
	}
	has := strings.Join(names, ", ")
	if p.kind != "" {
		return &problem{why: fmt.Sprintf("has {%s}; a row of kind %s has %s%s", has, p.kind, columnsOf(p.kind), p.mapped()),
			hint: "Name the columns that they are made from: --map prompt=question,completion=answer"}
	}
	return &problem{
		why:  fmt.Sprintf("has {%s}%s; a dataset has exactly one of: %s", has, p.mapped(), allKinds),
		hint: "Name the columns that they are made from (--map prompt=question,completion=answer), or rename them, for example: jq -c '{prompt: .question, completion: .answer}' in.jsonl > out.jsonl",
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
	case forge.KindUnpaired:
		return "{prompt, completion, label}"
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
