"""Golden values of core/paired from scipy and statsmodels: tests/golden/statistics/paired.txt.

    python3 make_statistics.py      (needs scipy, statsmodels)

Lines: "mcnemar LOST GAINED EXACT MID", "power SD DIFFERENCE ALPHA POWER ITEMS" (fewest of the t test),
"mcnemar_power DISCORDANT DIFFERENCE ALPHA POWER ITEMS" (from so many on, the mid-p test has the power), "quantile P Z",
"mean N SEED MEAN STDERR P" of differences b - a, where a and b come from the generator below,
"normal_wealth N Z RHO2 LOG_WEALTH": the half-normal mixture by numerical integration,
"wealth N N_ALL MARGIN SEED ABOVE BELOW": log capital of Waudby-Smith and Ramdas (2024), written down
again from the paper with products of fractions, for n differences in {-1, 0, 1}.
"""
import math
import os

import numpy as np
from scipy import integrate, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.weightstats import DescrStatsW

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "statistics", "paired.txt")


def splitmix(seed):
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & (2**64 - 1)
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        yield (z ^ (z >> 31)) >> 11


def series(n, seed):
    r = splitmix(seed)
    a, b = np.zeros(n), np.zeros(n)
    for i in range(n):
        a[i] = next(r) * 2.0**-53
        b[i] = next(r) * 2.0**-53 + 0.05
    return a, b


def t_items(sd, alpha, power):
    """Fewest items of a two-sided t test; sd in units of the difference."""

    def reached(n):
        t = stats.t.ppf(1 - alpha / 2, n - 1)
        return stats.nct.sf(t, n - 1, math.sqrt(n) / sd) >= power

    low, high = 1, 2
    while not reached(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def mcnemar_items(share, d, alpha, power):
    """From so many items on the mid-p test rejects with the power; `share` of them are discordant."""

    def rejected(m):
        k = np.arange(m + 1)
        few = np.minimum(k, m - k)
        at = stats.binom.pmf(few, m, 0.5)
        p = np.where(2 * k == m, 1 - at / 2, 2 * stats.binom.cdf(few, m, 0.5) - at)
        return float((stats.binom.pmf(k, m, (share + d) / 2 / share) * (p < alpha)).sum())

    top = 400
    reject = np.array([0] + [rejected(m) for m in range(1, top)])
    reached = [float((stats.binom.pmf(np.arange(n + 1), n, share) * reject[: n + 1]).sum()) >= power for n in range(top)]
    return max(n for n in range(top) if not reached[n]) + 1


lines = []
for lost, gained in [(5, 5), (9, 3), (0, 6), (40, 62), (900, 1000), (1, 0), (17, 4)]:
    exact = mcnemar([[0, lost], [gained, 0]], exact=True).pvalue
    n, few = lost + gained, min(lost, gained)
    tail, at = stats.binom.cdf(few, n, 0.5), stats.binom.pmf(few, n, 0.5)
    mid = 1 - at / 2 if lost == gained else 2 * tail - at
    lines.append(f"mcnemar {lost} {gained} {exact:.17g} {mid:.17g}")
for sd, d, alpha, power in [(0.5, 0.02, 0.05, 0.8), (0.2236, 0.01, 0.05, 0.9), (1, 0.5, 0.01, 0.8), (0.31, 0.004, 0.1, 0.95), (0.0783, 0.3287, 0.05, 0.8)]:
    lines.append(f"power {sd} {d} {alpha} {power} {t_items(sd / d, alpha, power)}")
for share, d in [(0.85, 0.85), (0.215, 0.215), (0.5, 0.3), (0.1, 0.08), (0.4, 0.15)]:
    lines.append(f"mcnemar_power {share} {d} 0.05 0.8 {mcnemar_items(share, d, 0.05, 0.8)}")
for p in [1e-12, 0.001, 0.2, 0.5, 0.975, 0.9999999]:
    lines.append(f"quantile {p} {stats.norm.ppf(p):.17g}")
for n, seed in [(2, 1), (17, 2), (1000, 3)]:
    a, b = series(n, seed)
    d = DescrStatsW(b - a)
    lines.append(f"mean {n} {seed} {d.mean:.17g} {d.std_mean:.17g} {d.ztest_mean(0)[1]:.17g}")
for n, z, rho2 in [(32, 0.5, 0.1), (100, 3, 0.05), (1000, -2, 0.01), (400, 6, 0.02)]:
    s, rho = z * math.sqrt(n), math.sqrt(rho2)
    top = max(0.0, s / (n + 1 / rho2))  # where the integrand is largest
    shift = top * s - top * top * n / 2

    def f(x):
        return math.exp(x * s - x * x * n / 2 - shift) * 2 * stats.norm.pdf(x, scale=rho)

    value = integrate.quad(f, 0, top + 12 / math.sqrt(n + 1 / rho2), epsabs=0, epsrel=1e-12, limit=500)[0]
    lines.append(f"normal_wealth {n} {z} {rho2} {math.log(value) + shift:.17g}")


def capital(x, m_all, n_all):
    """Section 5: the null's mean of what is left, before each draw; section 4.3: aGRAPA bets."""
    k = 1.0
    for t in range(len(x)):
        past = x[:t]
        m = (n_all * m_all - past.sum()) / (n_all - t)
        mean = (0.5 + past.sum()) / (t + 1)
        variance = (0.25 + ((past - past.mean()) ** 2).sum()) / (t + 1) if t else 0.25
        bet = (mean - m) / (variance + (mean - m) ** 2)
        k *= 1 + min(max(bet, 0), 0.75 / m) * (x[t] - m)
    return k


for n, n_all, margin, seed in [(40, 100, -0.02, 4), (300, 1000, 0.05, 5), (200, 10000, 0.0, 6)]:
    r = splitmix(seed)
    u = [next(r) * 2.0**-53 for _ in range(n)]
    x = np.array([0.0 if v < 0.1 else 1.0 if v > 0.95 else 0.5 for v in u])
    m = (margin + 1) / 2
    lines.append(f"wealth {n} {n_all} {margin} {seed} {math.log(capital(x, m, n_all)):.17g} {math.log(capital(1 - x, 1 - m, n_all)):.17g}")
os.makedirs(os.path.dirname(OUT), exist_ok=True)
with open(OUT, "w", encoding="utf-8") as f:
    f.write("\n".join(lines) + "\n")
