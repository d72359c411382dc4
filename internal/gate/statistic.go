package gate

// Statistic computes one of the numbers that verdicts rest on, by name, so that tests and `make bench` can hold them against scipy's and statsmodels'
// (contrib/bench/gate.py names them). known is false for names that there are not.
func Statistic(name string, a []float64) (value float64, known bool) {
	f, known := statistics[name]
	if !known {
		return 0, false
	}
	return f(a), true
}

var statistics = map[string]func(a []float64) float64{
	"normal_quantile": func(a []float64) float64 { return phiInv(a[0]) },
	"normal_cdf":      func(a []float64) float64 { return phi(a[0]) },
	"beta":            func(a []float64) float64 { return betaInc(a[0], a[1], a[2], 1-a[2]) },
	"t_quantile":      func(a []float64) float64 { return tInv(a[0], a[1]) },
	"t_above":         func(a []float64) float64 { return tAbove(a[0], a[1]) },
	"mcnemar":         func(a []float64) float64 { return mcnemar(int64(a[0]), int64(a[1])) },
	"mcnemar_twice":   func(a []float64) float64 { return 2 * mcnemar(int64(a[0]), int64(a[1])) },
	"exact_low":       func(a []float64) float64 { low, _ := clopperPearson(int64(a[0]), int64(a[1]), a[2]); return low },
	"exact_high":      func(a []float64) float64 { _, high := clopperPearson(int64(a[0]), int64(a[1]), a[2]); return high },
	"wilson_low":      func(a []float64) float64 { low, _ := wilson(a[0]/a[1], a[1], phiInv(1-a[2])); return low },
	"wilson_high":     func(a []float64) float64 { _, high := wilson(a[0]/a[1], a[1], phiInv(1-a[2])); return high },
	"rule_of_three":   func(a []float64) float64 { return ruleOfThree(a[0], 0.05) },
}
