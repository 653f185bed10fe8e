//! The statistics of alerts: exact tails instead of approximations, because windows are small and what
//! is tested is rare.
//!
//! Pure functions of counts. What a probability means is the business of [`crate::alert`].

use std::f64::consts::TAU;

use crate::histogram::Histogram;

/// How likely it is that at least `k` of `n` independent calls fail when each fails with probability
/// `p`: `P(X >= k | n, p)`. Exact to about 12 digits, far out in the tail too.
#[must_use]
pub fn binomial_tail(k: u64, n: u64, p: f64) -> f64 {
    if k == 0 || p >= 1.0 {
        return f64::from(u8::from(k <= n));
    }
    if k > n || p <= 0.0 {
        return 0.0;
    }
    // Summed on the side where the terms shrink: nothing is lost to cancellation.
    if real(k) > real(n) * p {
        upper_sum(k, n, p).min(1.0)
    } else {
        (1.0 - upper_sum(n - (k - 1), n, 1.0 - p)).max(0.0)
    }
}

/// How likely it is that at most `k` of `n` independent calls do what each does with probability `p`.
#[must_use]
pub fn binomial_lower_tail(k: u64, n: u64, p: f64) -> f64 {
    if k >= n { 1.0 } else { binomial_tail(n - k, n, 1.0 - p) }
}

/// How likely it is that nothing comes where `expected` calls are expected and each comes on its own.
#[must_use]
pub fn poisson_none(expected: f64) -> f64 {
    (-expected.max(0.0)).exp()
}

/// The sum of the probabilities of `k`, `k + 1` … `n`, for a `k` above the mean.
fn upper_sum(k: u64, n: u64, p: f64) -> f64 {
    let odds = p / (1.0 - p);
    let mut term = binomial_mass(k, n, p);
    let mut sum = term;
    for i in k..n {
        term *= real(n - i) / real(i + 1) * odds;
        sum += term;
        if term <= sum * 1e-17 {
            break;
        }
    }
    sum
}

/// The probability of exactly `k` of `n`, by the saddle-point expansion of C. Loader (2000), which
/// keeps its precision where logarithms of factorials lose theirs.
fn binomial_mass(k: u64, n: u64, p: f64) -> f64 {
    let (x, size, q) = (real(k), real(n), 1.0 - p);
    if k == 0 {
        return (size * (-p).ln_1p()).exp();
    }
    if k == n {
        return (size * p.ln()).exp();
    }
    let rest = size - x;
    let exponent = stirling_error(n)
        - stirling_error(k)
        - stirling_error(n - k)
        - deviance(x, size * p)
        - deviance(rest, size * q);
    exponent.exp() * (size / (TAU * x * rest)).sqrt()
}

/// What Stirling's formula for `ln n!` lacks.
fn stirling_error(n: u64) -> f64 {
    if n < 16 {
        let factorial: f64 = (1..=n).map(|i| real(i).ln()).sum();
        let x = real(n.max(1));
        return if n == 0 { 0.0 } else { factorial - (x + 0.5) * x.ln() + x - (TAU.ln() / 2.0) };
    }
    let x = real(n);
    let square = x * x;
    (1.0 / 12.0
        - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / 1188.0 / square) / square) / square)
            / square)
        / x
}

/// `x ln(x / mean) + mean - x`, without cancellation where both are close.
fn deviance(x: f64, mean: f64) -> f64 {
    let gap = x - mean;
    if gap.abs() >= 0.1 * (x + mean) {
        return x * (x / mean).ln() + mean - x;
    }
    let v = gap / (x + mean);
    let mut sum = gap * v;
    let mut term = 2.0 * x * v;
    for odd in 1..1000_u32 {
        term *= v * v;
        let next = sum + term / f64::from(2 * odd + 1);
        if next.to_bits() == sum.to_bits() {
            break;
        }
        sum = next;
    }
    sum
}

/// Where a sample lies and how wide it is, neither of which a few wild values move.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Robust {
    /// Its mean, wild values cut off,
    pub center: f64,
    /// and its standard deviation, wild values cut off.
    pub sigma: f64,
    /// Values are wild below this
    pub low: f64,
    /// and above this.
    pub high: f64,
}

/// [`Robust`] of the logarithms of all values; `None` if there is no value. Nothing counts as one.
///
/// Values are cut off four deviations from the median. The deviation that this takes is the larger one
/// of two: by the median distance from the median, which many equal values make too small, and by the
/// middle 80 %; it is at least `least`. The mean is then that of all kinds of calls, where the median
/// is that of the commonest.
#[must_use]
pub fn robust_ln(values: &Histogram, least: f64) -> Option<Robust> {
    let logs: Vec<(f64, u64)> = values.middles().map(|(value, n)| (ln(value), n)).collect();
    let median = quantile(&logs, 0.5)?;
    let mut distances: Vec<_> = logs.iter().map(|(log, n)| ((log - median).abs(), *n)).collect();
    distances.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    // Both are one for a standard normal sample.
    let by_distance = quantile(&distances, 0.5)? / 0.674_489_750_196_082;
    let by_width = (quantile(&logs, 0.9)? - quantile(&logs, 0.1)?) / 2.563_103_131_089_201;
    let cut = 4.0 * by_distance.max(by_width).max(least);
    let (low, high) = (median - cut, median + cut);
    let all = real(values.count());
    let mean = |of: &dyn Fn(f64) -> f64| -> f64 {
        let cut_off = |log: f64| log.clamp(low, high);
        logs.iter().map(|(log, n)| of(cut_off(*log)) * real(*n)).sum::<f64>() / all
    };
    let center = mean(&|log| log);
    let sigma = mean(&|log| (log - center).powi(2)).sqrt();
    Some(Robust { center, sigma, low, high })
}

/// The natural logarithm of a count; nothing counts as one.
#[must_use]
pub fn ln(value: u64) -> f64 {
    real(value.max(1)).ln()
}

/// The value below or at which a share `q` of the sorted, weighted values lies.
fn quantile(values: &[(f64, u64)], q: f64) -> Option<f64> {
    let all: u64 = values.iter().map(|(_, n)| n).sum();
    let mut seen = 0;
    let reached = values.iter().find(|(_, n)| {
        seen += n;
        real(seen) >= q * real(all)
    });
    reached.map(|(value, _)| *value)
}

/// A count as a real number.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub const fn real(count: u64) -> f64 {
    count as f64
}

/// `part` of `all` as a share; 0 of none.
#[must_use]
pub fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { real(part) / real(all) }
}

#[cfg(test)]
mod tests;
