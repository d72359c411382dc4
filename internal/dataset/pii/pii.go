// Package pii finds personal data and secrets in text by their form, their checksums and the words around them. One pass: a table says at which bytes to stop, and
// what stands there is looked at by hand-written rules; nothing is allocated and nothing backtracks. docs/pii.md says what is found and what is not.
package pii

import forge "github.com/forge-ml/forge-ml"

// Options says what to look for.
type Options struct {
	National bool // MAC addresses and national ids as well
}

// Finding is one match: text[Start:End].
type Finding struct {
	Start, End int
	Entity     forge.PIIEntity
	Confidence forge.Confidence
}

type entity = forge.PIIEntity

// confidence is forge.Confidence as a number, with one more for "no finding".
type confidence uint8

const (
	none confidence = iota
	low
	medium
	high
)

func (c confidence) public() forge.Confidence {
	switch c {
	case high:
		return forge.ConfidenceHigh
	case medium:
		return forge.ConfidenceMedium
	}
	return forge.ConfidenceLow
}

// AtLeast orders confidences.
func AtLeast(c, least forge.Confidence) bool { return rank(c) >= rank(least) }

func rank(c forge.Confidence) int {
	switch c {
	case forge.ConfidenceHigh:
		return 2
	case forge.ConfidenceMedium:
		return 1
	}
	return 0
}

// Version is that of the rules.
const Version = "1"

// Note says what such rules cannot see.
const Note = "Names and addresses of people need a model that recognises them (NER); these rules do not see them."
