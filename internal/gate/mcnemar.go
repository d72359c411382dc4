package gate

import "math"

// mcnemar is the exact test of 0/1 scores: of the pairs that differ, is the candidate the worse one in more than half? p is one-sided: the chance of
// that many, or more, where a pair falls to either side alike.
func mcnemar(better, worse int64) (p float64) {
	return binomialAtLeast(worse, better+worse, 0.5, 0.5)
}

// shareInterval is the interval of the difference of two paired shares, (better - worse) / n. Each end is passed with chance alpha.
//
// It is the widest of three. Clopper and Pearson's on the pairs that differ is the test above turned around: it lies below 0 exactly where p < alpha,
// but knows nothing of pairs that might differ and did not. Tango's score interval (Stat. Med. 17, 1998) does, and says too much of few. Where no pair
// went one way, the other way's own exact bound is there too. TestTheIntervalHoldsTheDifference counts how often the whole holds it.
func shareInterval(better, worse, n int64, alpha float64) (low, high float64) {
	low = -dropBound(better, worse, n, alpha)
	high = dropBound(worse, better, n, alpha)
	return low, high
}

// dropBound is the upper bound of the share of worse less that of better.
func dropBound(better, worse, n int64, alpha float64) float64 {
	bound := tango(better, worse, n, phiInv(1-alpha))
	if m := better + worse; m > 0 {
		_, share := clopperPearson(worse, m, alpha)
		bound = max(bound, float64(m)*(2*share-1)/float64(n))
	}
	if better == 0 {
		_, share := clopperPearson(worse, n, alpha)
		bound = max(bound, share)
	}
	return min(bound, 1)
}

// tango is the largest difference (worse - better) that its score test does not refuse.
func tango(better, worse, n int64, z float64) float64 {
	b, w, nn := float64(better), float64(worse), float64(n)
	return root((w-b)/nn, 1, func(d float64) float64 {
		// the share of better that is most likely where the difference is d
		a2, a1, a0 := 2*nn, -w-b+(2*nn-w+b)*d, -b*d*(1-d)
		q := (math.Sqrt(max(0, a1*a1-4*a2*a0)) - a1) / (2 * a2)
		v := nn * (2*q + d*(1-d))
		if v <= 0 {
			return -1
		}
		return (nn*d-w+b)/math.Sqrt(v) - z
	})
}
