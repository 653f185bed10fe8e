//! What a rule says of its subject at one moment, with its figures as a sentence.

use std::time::Duration;

use super::Severity;

/// What a rule makes of what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Too few calls to say anything.
    Insufficient,
    /// What is usual is not known yet.
    Learning,
    /// All is well.
    Clear,
    /// Not well enough to end an alert, not bad enough to begin one.
    Lingers,
    /// The rule holds.
    Holds(Severity),
}

/// What a rule says of its subject at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What it comes to.
    pub verdict: Verdict,
    /// What was measured,
    pub value: Option<f64>,
    /// and what it is held against.
    pub threshold: Option<f64>,
    /// What is wrong, in one sentence that goes on after the name of the call.
    pub summary: String,
    /// The figures, as a sentence.
    pub arithmetic: String,
}

impl Reading {
    /// A reading without figures.
    #[must_use]
    pub fn plain(verdict: Verdict, sentence: impl Into<String>) -> Self {
        let arithmetic = sentence.into();
        Self { verdict, value: None, threshold: None, summary: arithmetic.clone(), arithmetic }
    }
}

/// A share as people write it: `11.5 %`.
pub(super) fn per_cent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

/// A probability to two digits.
pub(super) fn chance(p: f64) -> String {
    match p {
        _ if p >= 0.095 => format!("{p:.2}"),
        _ if p >= 0.009_5 => format!("{p:.3}"),
        _ if p >= 0.000_95 => format!("{p:.4}"),
        _ if p >= 0.000_095 => format!("{p:.5}"),
        // Below the smallest number there is.
        _ if p <= 0.0 => "0".to_owned(),
        _ => format!("{p:.1e}"),
    }
}

/// A time as people write it: `850 ms`, `16 s`, `2 h`.
pub(super) fn time(time: Duration) -> String {
    let (millis, seconds) = (time.as_millis(), time.as_secs());
    match seconds {
        _ if millis < 10_000 && !millis.is_multiple_of(1000) => format!("{millis} ms"),
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(
            [per_cent(0.02), per_cent(7.0 / 61.0), per_cent(1.0)],
            ["2 %", "11.5 %", "100 %"]
        );
        let chances = [0.43, 0.021_7, 0.003_842, 0.000_216_9, 3.2e-9, 0.0].map(chance);
        assert_eq!(chances, ["0.43", "0.022", "0.0038", "0.00022", "3.2e-9", "0"]);
        let times = [850, 1500, 16_000, 90_000, 300_000, 7_200_000];
        let times = times.map(|millis| time(Duration::from_millis(millis)));
        assert_eq!(times, ["850 ms", "1500 ms", "16 s", "90 s", "5 min", "2 h"]);
    }
}
