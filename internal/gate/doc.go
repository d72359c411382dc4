// Package gate says whether a model version may go on: rules over evidence, and the statistics under them. It is pure: values in, values out,
// no clock, no disk, no randomness but from a seed that it is given.
//
// Compare holds two evals against each other, pair by pair (statistics: docs/statistics.md). Check asks every rule of a policy of the
// evidence that was gathered, and reports each with its numbers. What is not there is missing, and never a pass.
package gate
