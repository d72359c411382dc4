package main

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestVersionsAreComparedAsIfAllRowsWereInMemory holds the buckets, spilled to a file every few rows, to a map of counts.
func TestVersionsAreComparedAsIfAllRowsWereInMemory(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 26))
	for range 30 {
		var sides [2]*digests
		var counts [2]map[int]int64
		var order [2][]int
		for i := range sides {
			sides[i], counts[i] = newDigests(), map[int]int64{}
			sides[i].most = entryBytes * (1 + rng.IntN(40))
			defer sides[i].drop()
			for n := range int64(rng.IntN(300)) {
				what := rng.IntN(120)
				counts[i][what]++
				order[i] = append(order[i], what)
				if err := sides[i].add(sha256.Sum256(fmt.Append(nil, what)), n+1); err != nil {
					t.Fatal(err)
				}
			}
		}
		var want rowsCompared
		for what := range 120 {
			a, b := counts[0][what], counts[1][what]
			want.OnlyA, want.OnlyB, want.Both = want.OnlyA+max(0, a-b), want.OnlyB+max(0, b-a), want.Both+min(a, b)
		}
		got, err := compareDigests(sides[0], sides[1], 5)
		if err != nil || got.OnlyA != want.OnlyA || got.OnlyB != want.OnlyB || got.Both != want.Both {
			t.Fatalf("%+v, want %+v (%v)", got, want, err)
		}
		// The rows that are shown are the first of those that stand too often: of equal ones, the last.
		var first []int64
		for n, what := range order[0] {
			before := int64(0)
			for _, w := range order[0][:n] {
				if w == what {
					before++
				}
			}
			if before >= counts[1][what] {
				first = append(first, int64(n+1))
			}
		}
		if first = first[:min(5, len(first))]; !slices.Equal(got.inA.rows, first) {
			t.Fatalf("it shows rows %v, want %v", got.inA.rows, first)
		}
	}
}

func TestAMapOfColumns(t *testing.T) {
	m, err := parseMap("prompt=instruction, completion = output")
	if err != nil || len(m) != 2 || m["prompt"] != "instruction" || m["completion"] != "output" {
		t.Errorf("%v, %v", m, err)
	}
	for _, bad := range []string{"prompt", "=x", "prompt=", "a=b,,c=d", "a=b,a=c"} {
		if m, err := parseMap(bad); err == nil {
			t.Errorf("%q is %v", bad, m)
		}
	}
}

func TestWhatAPersonPastesIsOneWord(t *testing.T) {
	for word, want := range map[string]string{"/data/chat-1_x.jsonl": "/data/chat-1_x.jsonl", "": "''", "/a b": "'/a b'", "/$(rm)": "'/$(rm)'", "/it's": `'/it'\''s'`, "/data/*.jsonl": "'/data/*.jsonl'"} {
		if got := wordIfNeeded(word); got != want {
			t.Errorf("%q is pasted as %s, want %s", word, got, want)
		}
	}
}
