//! The rule about tokens: prompts or answers that are longer or shorter than they were.
//!
//! Lengths are judged by their logarithms, against the middle of a frozen baseline, in units of its
//! robust deviation, and cut off at [`CUT`] of them: token counts have heavy tails, and a rule on the
//! raw numbers fires a hundred times as often. Deviations are summed up (CUSUM) so that a small but
//! lasting shift is found, and one long document is not.

use serde::{Deserialize, Serialize};

use super::{
    Severity,
    rates::{BASELINE_CALLS, learning},
    reading::{Reading, Verdict, per_cent},
};
use crate::{
    histogram::Histogram,
    stats::{Robust, ln, real, robust_ln},
};

/// Deviations count up to this many sigma.
pub const CUT: f64 = 4.0;
/// What each call may deviate without being counted, in sigma.
pub const SLACK: f64 = 0.5;
/// The sum at which someone is told,
pub const ALARM: f64 = 8.0;
/// and the one above which it does not grow, so that it gets back.
const MOST: f64 = 2.0 * ALARM;
/// At most so many calls of a minute count.
pub const MOST_CALLS: u64 = 60;
/// Prompts of constant length deviate by this much, so that one token more is no deviation.
const LEAST_SIGMA: f64 = 0.05;
/// Sigma is widened in steps of 3 %, up to about twenty times,
const WIDENING: f64 = 1.03;
const MOST_WIDENINGS: u32 = 100;
/// and left as it is where it is right to a few per cent: samples are no more exact.
const ENOUGH: f64 = 0.05;

/// How many tokens a release usually reads or writes. Frozen: it does not follow what it is to judge.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenBaseline {
    /// How many calls it was taken from.
    pub calls: u64,
    /// Where their logarithms lie,
    pub center: f64,
    /// how far they usually deviate,
    pub sigma: f64,
    /// and where they were cut off, below
    pub low: f64,
    /// and above. What is judged is cut off there too: a rare second length would otherwise count for
    /// more than it did when this was taken.
    pub high: f64,
}

impl TokenBaseline {
    /// The baseline of these calls, if there are enough.
    #[must_use]
    pub fn of(tokens: &Histogram) -> Option<Self> {
        let robust = robust_ln(tokens, LEAST_SIGMA)?;
        let Robust { center, low, high, .. } = robust;
        let sigma = robust.sigma.max(LEAST_SIGMA);
        let calls = tokens.count();
        (calls >= BASELINE_CALLS).then(|| Self { calls, center, sigma, low, high }.calm(tokens))
    }

    /// Widens sigma until calls as they are raise no sum more often than normal ones do: where the mean
    /// of `exp(deviation - SLACK)` is 1, sums grow beyond `h` about once in `exp(h)` (Lundberg). That is
    /// so for a normal deviation; it is more where one call in ten has a length of its own.
    fn calm(mut self, tokens: &Histogram) -> Self {
        for _ in 0..MOST_WIDENINGS {
            let grows = |sign: f64| {
                let of = |value| (sign * self.deviation_of(value) - SLACK).exp();
                let sum: f64 = tokens.middles().map(|(value, n)| of(value) * real(n)).sum();
                sum / real(tokens.count())
            };
            if grows(1.0).max(grows(-1.0)) <= 1.0 + ENOUGH {
                break;
            }
            self.sigma *= WIDENING;
        }
        self
    }

    fn deviation_of(&self, value: u64) -> f64 {
        ((ln(value).clamp(self.low, self.high) - self.center) / self.sigma).clamp(-CUT, CUT)
    }

    /// The mean deviation of these calls in sigma, each cut off at [`CUT`]; `None` without calls.
    #[must_use]
    pub fn deviation(&self, tokens: &Histogram) -> Option<f64> {
        let of = |(value, n)| self.deviation_of(value) * real(n);
        let sum: f64 = tokens.middles().map(of).sum();
        (tokens.count() > 0).then(|| sum / real(tokens.count()))
    }
}

/// The sums of what was too long and of what was too short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cusum {
    /// Too long.
    pub longer: Side,
    /// Too short.
    pub shorter: Side,
}

/// One of the two sums, and what it was made of since it was last nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// The sum.
    pub sum: f64,
    /// Calls,
    pub calls: u64,
    /// and their deviations, without slack.
    pub deviations: f64,
}

impl Side {
    fn advance(&mut self, calls: u64, deviation: f64) {
        let counted = real(calls.min(MOST_CALLS));
        self.sum = (self.sum + counted * (deviation - SLACK)).clamp(0.0, MOST);
        if self.sum <= 0.0 {
            *self = Self::default();
        } else {
            self.calls += calls;
            self.deviations += real(calls) * deviation;
        }
    }
}

impl Cusum {
    /// Takes in a minute: `calls` that deviated by `deviation` sigma on average.
    pub fn advance(&mut self, calls: u64, deviation: f64) {
        self.longer.advance(calls, deviation);
        self.shorter.advance(calls, -deviation);
    }

    /// What it comes to. `seen` is how many calls there are of what shall become the baseline.
    #[must_use]
    pub fn reading(&self, baseline: Option<&TokenBaseline>, seen: u64, what: &str) -> Reading {
        let Some(baseline) = baseline else { return learning(seen) };
        let longer = self.longer.sum >= self.shorter.sum;
        let (side, word, sign) =
            if longer { (self.longer, "longer", 1.0) } else { (self.shorter, "shorter", -1.0) };
        let verdict = match side.sum {
            sum if sum > ALARM => Verdict::Holds(Severity::Warn),
            sum if sum < ALARM / 2.0 => Verdict::Clear,
            _ => Verdict::Lingers,
        };
        let mean = side.deviations / real(side.calls.max(1));
        let usual = baseline.center.exp();
        let typical = (baseline.center + sign * mean * baseline.sigma).exp();
        Reading {
            verdict,
            // Shorter is negative.
            value: Some(sign * side.sum),
            threshold: Some(sign * ALARM),
            summary: format!("{what} are {word} than usual: {typical:.0} tokens, not {usual:.0}"),
            arithmetic: format!(
                "{} calls were {mean:.1} sigma {word} than the usual {usual:.0} tokens on average \
                 (sigma {}, from {} calls): the sum of what is beyond {SLACK} sigma is \
                 {:.1}, {ALARM} is the limit",
                side.calls,
                per_cent(baseline.sigma.exp() - 1.0),
                baseline.calls,
                side.sum,
            ),
        }
    }
}

#[cfg(test)]
mod tests;
