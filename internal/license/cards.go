package license

// card is what an id of a Hugging Face card stands for.
type card struct{ as, hint string }

const (
	ownTerms = "the licence of its maker; read its conditions of use"
	whichOne = "it does not say which version; give the SPDX id if the text has one"
)

// cards are the ids of Hugging Face's model and dataset cards that are no SPDX ids. Those that are SPDX ids in lower case (apache-2.0,
// cc-by-4.0) need no row.
var cards = map[string]card{
	"afl": {refPrefix + "afl", whichOne}, "bsd": {refPrefix + "bsd", whichOne}, "cc": {refPrefix + "cc", whichOne}, "gpl": {refPrefix + "gpl", whichOne},
	"lgpl": {refPrefix + "lgpl", whichOne}, "agpl": {refPrefix + "agpl", whichOne}, "gfdl": {refPrefix + "gfdl", whichOne},
	"c-uda": {"C-UDA-1.0", ""}, "odbl": {"ODbL-1.0", ""}, "odc-by": {"ODC-By-1.0", ""}, "pddl": {"PDDL-1.0", ""}, "lgpl-lr": {"LGPLLR", ""},
	"openrail": {refPrefix + "openrail", ownTerms}, "openrail++": {refPrefix + "openrail-plus-plus", ownTerms},
	"bigscience-openrail-m": {refPrefix + "bigscience-openrail-m", ownTerms}, "bigscience-bloom-rail-1.0": {refPrefix + "bigscience-bloom-rail-1.0", ownTerms},
	"bigcode-openrail-m": {refPrefix + "bigcode-openrail-m", ownTerms}, "creativeml-openrail-m": {refPrefix + "creativeml-openrail-m", ownTerms},
	"deepfloyd-if-license": {refPrefix + "deepfloyd-if-license", ownTerms}, "fair-noncommercial-research-license": {refPrefix + "fair-noncommercial-research-license", "no commercial use; " + ownTerms},
	"apple-ascl": {refPrefix + "apple-ascl", ownTerms}, "apple-amlr": {refPrefix + "apple-amlr", "research only; " + ownTerms}, "h-research": {refPrefix + "h-research", "research only; " + ownTerms},
	"intel-research": {refPrefix + "intel-research", "research only; " + ownTerms}, "openmdw-1.0": {refPrefix + "openmdw-1.0", ownTerms}, "grok2-community": {refPrefix + "grok2-community", ownTerms},
	"llama2": {refPrefix + "llama2", ownTerms}, "llama3": {refPrefix + "llama3", ownTerms}, "llama3.1": {refPrefix + "llama3.1", ownTerms}, "llama3.2": {refPrefix + "llama3.2", ownTerms},
	"llama3.3": {refPrefix + "llama3.3", ownTerms}, "llama4": {refPrefix + "llama4", ownTerms}, "gemma": {refPrefix + "gemma", ownTerms},
	"unknown": {NoAssertion, "nobody said"}, "other": {NoAssertion, "the card has a licence of its own; LicenseRef-NAME names it"},
}
