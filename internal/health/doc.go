// Package health judges GPUs: what the driver says of them goes in, what is to be done comes out. It is pure: no I/O, and time is an argument.
//
//	table.go    the built-in rules as data (XIDs and thresholds, each with its source), and the site's changes to them
//	node.go     what is remembered of a node, so that a condition is found once when it begins and once when it ends
//	check.go    whether what was held back may come back
//	pattern.go  what a line of a rank's output says of its failure
package health
