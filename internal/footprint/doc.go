// Package footprint says how much memory of a GPU a run takes, part by part, and how long its arithmetic takes, from the shape of its models and
// its parameters alone. It is pure: values in, values out.
//
//	forge.Shape (config.json, headers of the weights) + parameters of the recipe + gang ─► Of ─► parts in bytes of one rank ─► Advise: what would fit
//	                                                                                       Work ─► floating-point operations of one step
//
// What torch holds follows from what transformers, peft and TRL do, operation by operation, and not from a rule of thumb: which tensors an
// autocast copies, which ones a frozen weight lets go of. docs/estimate.md has the formulas, and contrib/bench (estimate_error) holds them against
// tensors that were counted in real runs.
//
// It never guesses without a word. What it has not been taught (family.go) is an error that names the field and what is known; a part that is
// nothing but an allowance, or that no test has counted, is marked as a guess.
package footprint
