package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// didYouMean names what a word was meant to be, where one of the known ones is near enough to be
// a slip of the hand.
func didYouMean(word string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if d := distance(word, k); d < least && d <= max(1, len(k)/2) {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// nearest lists up to n of the known words that a word may have been meant to be: those that it is a part of, or that are a few slips
// of the hand away; the nearest first.
func nearest(word string, known []string, n int) []string {
	type scored struct {
		word string
		far  int
	}
	var all []scored
	for _, k := range known {
		d := distance(word, k)
		if len(word) > 2 && (strings.Contains(k, word) || strings.Contains(word, k)) {
			d = min(d, 1)
		}
		if d <= max(2, len(k)/3) {
			all = append(all, scored{k, d})
		}
	}
	slices.SortFunc(all, func(a, b scored) int { return cmp.Or(a.far-b.far, strings.Compare(a.word, b.word)) })
	var out []string
	for _, s := range all[:min(n, len(all))] {
		out = append(out, s.word)
	}
	return out
}

// distance counts the insertions, deletions, changes and swaps of neighbours between two words.
func distance(a, b string) int {
	if max(len(a), len(b)) > 64 {
		return 64
	}
	before, last, now := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		now[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			now[j+1] = min(last[j]+cost, last[j+1]+1, now[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				now[j+1] = min(now[j+1], before[j-1]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}

func sorted(words []string) []string {
	slices.Sort(words)
	return words
}
