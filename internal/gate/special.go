package gate

import (
	"math"
	"strconv"
)

// The few special functions that the statistics stand on. All of them are held against scipy's (testdata/reference.json, made by contrib/bench/gate.py).

// phi is the normal distribution; phiInv its quantile.
func phi(z float64) float64 { return math.Erfc(-z/math.Sqrt2) / 2 }

func phiInv(p float64) float64 {
	if p < 0.5 {
		return -math.Sqrt2 * math.Erfcinv(2*p)
	}
	return math.Sqrt2 * math.Erfinv(2*p-1)
}

// stirling is what Stirling's formula lacks: log Γ(n+1) - (n+½) log n + n - ½ log 2π. With it powers and factorials of large numbers are never
// subtracted from each other, which lgamma would do: at n = 100,000 that costs six digits (Loader 2000, "Fast and accurate computation of binomial
// probabilities").
func stirling(n float64) float64 {
	if n < 15 {
		l, _ := math.Lgamma(n + 1)
		return l - (n+0.5)*math.Log(n) + n - 0.918938533204672741780329736406
	}
	s := 1 / (n * n)
	return (1./12 - (1./360-(1./1260-(1./1680-(1./1188-691./360360*s)*s)*s)*s)*s) / n
}

// deviance is x log(x/m) + m - x without cancellation where x is near m.
func deviance(x, m float64) float64 {
	if math.Abs(x-m) >= 0.1*(x+m) {
		return x*math.Log(x/m) + m - x
	}
	v := (x - m) / (x + m)
	s, ej := (x-m)*v, 2*x*v
	for j := 1.; ; j++ {
		ej *= v * v
		next := s + ej/(2*j+1)
		if next == s {
			return s
		}
		s = next
	}
}

// choose is Γ(n+1)/(Γ(x+1)Γ(n-x+1)) p^x q^(n-x), for any x from 0 to n.
func choose(x, n, p, q float64) float64 {
	switch {
	case n == 0:
		return 1
	case x == 0:
		return math.Exp(n * math.Log1p(-p))
	case x == n:
		return math.Exp(n * math.Log1p(-q))
	}
	l := stirling(n) - stirling(x) - stirling(n-x) - deviance(x, n*p) - deviance(n-x, n*q)
	return math.Exp(l) * math.Sqrt(n/(2*math.Pi*x*(n-x)))
}

// betaInc is the regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz's way to evaluate it); y is 1 - x.
func betaInc(a, b, x, y float64) float64 {
	switch {
	case x <= 0:
		return 0
	case y <= 0:
		return 1
	case x > (a+1)/(a+b+2):
		return 1 - betaInc(b, a, y, x)
	}
	const tiny = 1e-300
	c, d := 1., 1-(a+b)*x/(a+1)
	if math.Abs(d) < tiny {
		d = tiny
	}
	d = 1 / d
	h := d
	step := func(num float64) float64 {
		if d = 1 + num*d; math.Abs(d) < tiny {
			d = tiny
		}
		if c = 1 + num/c; math.Abs(c) < tiny {
			c = tiny
		}
		d = 1 / d
		h *= d * c
		return d * c
	}
	for m := 1.; m < 1e6; m++ {
		step(m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m)))
		if got := step(-(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))); math.Abs(got-1) <= 3e-16 {
			break
		}
	}
	return choose(a, a+b, x, y) * b / (a + b) * h
}

// binomialAtLeast is the chance of k or more successes of n; q is 1 - p.
func binomialAtLeast(k, n int64, p, q float64) float64 {
	switch {
	case k <= 0:
		return 1
	case k > n:
		return 0
	}
	return betaInc(float64(k), float64(n-k+1), p, q)
}

// root is where f, which rises, goes through 0 between lo and hi, to the last bit.
func root(lo, hi float64, f func(float64) float64) float64 {
	for range 2100 {
		mid := lo + (hi-lo)/2
		if lo > 0 && hi > 2*lo { // small numbers are halved on their own scale
			mid = math.Sqrt(lo) * math.Sqrt(hi)
		}
		if mid <= lo || mid >= hi {
			return mid
		}
		if f(mid) < 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo + (hi-lo)/2
}

// clopperPearson are the exact bounds of a share of which k of n were seen; either is passed over with chance alpha at most.
func clopperPearson(k, n int64, alpha float64) (low, high float64) {
	low, high = 0, 1
	if k > 0 {
		low = root(0, 1, func(p float64) float64 { return binomialAtLeast(k, n, p, 1-p) - alpha })
	}
	if k < n {
		high = 1 - root(0, 1, func(q float64) float64 { return binomialAtLeast(n-k, n, q, 1-q) - alpha })
	}
	return low, high
}

// wilson are the score bounds of a share p seen over n, which need be no whole number.
func wilson(p, n, z float64) (low, high float64) {
	mid := p + z*z/(2*n)
	half := z * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	by := 1 + z*z/n
	return max(0, (mid-half)/by), min(1, (mid+half)/by)
}

// ruleOfThree is the share of failures that is still possible where n samples showed none: 1 - alpha^(1/n), about 3/n.
func ruleOfThree(n, alpha float64) float64 { return -math.Expm1(math.Log(alpha) / n) }

// tAbove is the chance of Student's t with df degrees of freedom above t; tInv the t that is passed with chance p, of 0 to ½.
func tAbove(t, df float64) float64 {
	x := df / (df + t*t)
	tail := betaInc(df/2, 0.5, x, t*t/(df+t*t)) / 2
	if t < 0 {
		return 1 - tail
	}
	return tail
}

func tInv(p, df float64) float64 {
	hi := 1.
	for tAbove(hi, df) > p {
		hi *= 2
	}
	return root(0, hi, func(t float64) float64 { return p - tAbove(t, df) })
}

// rounded keeps twelve digits. Machines differ in the last one or two of sixteen (some multiply and add in one step), and the same two evals shall
// give the same numbers on all of them.
func rounded(x float64) float64 {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return x
	}
	out, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 12, 64), 64)
	if err != nil {
		return x
	}
	return out
}
