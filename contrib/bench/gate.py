"""scipy's and statsmodels' numbers for the statistics of gates: a table that `make test` holds ours against without Python, and `make bench` makes anew.

    gate.py OUT.json    {"special": [[function, arguments, value], ...], "bootstrap": [...], ...}

The environment is that of contrib/python-env/install --stats. internal/gate/testdata/reference.json is what this writes.
"""

import json
import sys

import numpy as np
import scipy
import statsmodels
from scipy import special, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint


def main(out):
    found = []

    def row(name, args, value):
        found.append([name, [float(a) for a in args], float(value)])

    for p in (1e-4, 1e-3, 0.01, 0.025, 0.05, 0.2, 0.5, 0.8, 0.95, 0.975, 0.999):
        row("normal_quantile", [p], stats.norm.ppf(p))
    for z in (-6.0, -3.5, -1.96, -0.1, 0.0, 0.7, 2.5, 5.0):
        row("normal_cdf", [z], stats.norm.cdf(z))
    for a in (0.5, 1.0, 2.5, 17.0, 300.0, 50_000.0):
        for b in (0.5, 1.0, 4.0, 90.5, 1000.0, 50_001.0):
            for x in (1e-3, 0.1, a / (a + b), 0.5, 0.9):
                if (value := special.betainc(a, b, x)) > 1e-280:
                    row("beta", [a, b, x], value)
    for df in (1, 2, 5, 29, 199, 99_999):
        for p in (0.4, 0.1, 0.05, 0.025, 0.001):
            row("t_quantile", [p, df], stats.t.isf(p, df))
        for t in (-2.0, 0.0, 0.5, 1.7, 4.0, 12.0):
            row("t_above", [t, df], stats.t.sf(t, df))
    for better, worse in ((0, 0), (0, 1), (0, 5), (3, 3), (4, 12), (12, 4), (0, 40), (480, 520), (5000, 5300), (49_500, 50_500)):
        row("mcnemar", [better, worse], stats.binomtest(worse, better + worse, 0.5, alternative="greater").pvalue if better + worse else 1.0)
        if worse > better:  # statsmodels gives the two-sided p, which is twice the one-sided
            row("mcnemar_twice", [better, worse], mcnemar([[7, worse], [better, 9]], exact=True).pvalue)
    for k, n in ((0, 1), (1, 1), (0, 100), (3, 100), (50, 100), (97, 100), (100, 100), (1, 1000), (999, 1000), (12_345, 100_000), (0, 100_000)):
        for alpha in (0.05, 0.025):
            low, high = proportion_confint(k, n, 2 * alpha, "beta")
            row("exact_low", [k, n, alpha], low)
            row("exact_high", [k, n, alpha], high)
            low, high = proportion_confint(k, n, 2 * alpha, "wilson")
            row("wilson_low", [k, n, alpha], max(low, 0))
            row("wilson_high", [k, n, alpha], min(high, 1))
        row("rule_of_three", [n], 1 - 0.05 ** (1 / n) if n < 1000 else -np.expm1(np.log(0.05) / n))
    holm = []
    for ps in ([0.01, 0.04, 0.03, 0.005], [0.5], [0.02, 0.02, 0.02], [0.9, 0.0001, 0.6, 0.03, 0.2], [1.0, 1.0]):
        holm.append({"p": ps, "adjusted": [float(p) for p in multipletests(ps, method="holm")[1]]})
    # paired differences, the interval of their mean by scipy's percentile bootstrap, the chance of signs as low by its permutation test
    boots, rng = [], np.random.default_rng(20261126)
    for name, n, draw in (
        ("normal", 300, lambda k: rng.normal(-0.01, 0.2, k)),
        ("skewed", 400, lambda k: 0.1 - rng.exponential(0.1, k)),
        ("sparse", 500, lambda k: rng.choice([-1.0, 0.0, 0.5], k, p=[0.06, 0.9, 0.04])),
        ("outlier", 250, lambda k: np.concatenate([rng.normal(0, 0.02, k - 1), [-1.0]])),
    ):
        d = np.round(draw(n), 6)
        res = stats.bootstrap((d,), np.mean, confidence_level=0.9, n_resamples=200_000, method="percentile", batch=2000, rng=rng)
        perm = stats.permutation_test((d, np.zeros(n)), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True, n_resamples=100_000, alternative="less", batch=2000, rng=rng)
        boots.append({"name": name, "d": d.tolist(), "low": res.confidence_interval.low, "high": res.confidence_interval.high, "sd": float(d.std() / np.sqrt(n)), "p": float(perm.pvalue)})
    with open(out, "w", encoding="utf-8") as f:
        json.dump({"by": f"scipy {scipy.__version__}, statsmodels {statsmodels.__version__}, numpy {np.__version__}; contrib/bench/gate.py", "special": found, "holm": holm, "bootstrap": boots}, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
