//! The rule about silence: there were calls, and now there are none.

use std::time::Duration;

use super::{
    Severity,
    rates::PAGE,
    reading::{Reading, Verdict, chance, time},
};
use crate::stats::poisson_none;

/// Shorter silences are nothing: calls come in bursts.
const SHORTEST: Duration = Duration::from_secs(300);
/// After so long a silence the call was taken away, and somebody has been told.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What is known of a silence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quiet {
    /// How long there was no call, as far as somebody watched.
    pub lasts: Duration,
    /// How long ago the last call was, whether somebody watched or not.
    pub called: Duration,
    /// Calls an hour before it.
    pub before: f64,
    /// Calls an hour at the same time of day: a week ago if that is known, else a day ago.
    pub then: Option<f64>,
    /// The silence that this call was seen to keep three times in a week, though calls were expected:
    /// a job that runs once an hour does that.
    pub usual: Duration,
}

impl Quiet {
    /// How many calls were to be expected in the silence.
    #[must_use]
    pub fn expected(&self) -> f64 {
        let rate = self.then.map_or(self.before, |then| then.min(self.before));
        rate * self.lasts.as_secs_f64() / 3600.0
    }

    /// Whether chance does not explain it.
    #[must_use]
    pub fn is_odd(&self) -> bool {
        self.lasts >= SHORTEST && poisson_none(self.expected()) <= PAGE
    }
}

/// There should have been calls.
#[must_use]
pub fn no_traffic(quiet: &Quiet) -> Reading {
    let expected = quiet.expected();
    let none = poisson_none(expected);
    let lasts = time(quiet.lasts);
    let verdict = match quiet.lasts {
        lasts if lasts >= LONGEST => Verdict::Clear,
        lasts if quiet.is_odd() && lasts > quiet.usual * 3 / 2 => Verdict::Holds(Severity::Warn),
        // Only a call ends a silence. That nobody has watched for long yet says nothing.
        _ if quiet.called < Duration::from_secs(120) => Verdict::Clear,
        _ => Verdict::Lingers,
    };
    let then = quiet.then.map_or_else(String::new, |then| {
        format!(" and {then:.0} an hour at this time of day earlier")
    });
    let sign = if none <= PAGE { "<=" } else { ">" };
    Reading {
        verdict,
        value: Some(0.0),
        threshold: Some(expected),
        summary: format!("no call for {lasts}, where about {expected:.0} are usual"),
        arithmetic: format!(
            "no call in {lasts}; with {:.0} calls an hour before{then}, {expected:.1} were to be \
             expected: P(0 | {expected:.1}) = {} {sign} {PAGE}",
            quiet.before,
            chance(none),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(minutes: u64, before: f64, then: Option<f64>) -> Verdict {
        let lasts = Duration::from_secs(60 * minutes);
        no_traffic(&Quiet { lasts, called: lasts, before, then, usual: Duration::ZERO }).verdict
    }

    #[test]
    fn a_silence_is_told_when_chance_does_not_explain_it() {
        let told = Verdict::Holds(Severity::Warn);
        assert_eq!(quiet(4, 3600.0, None), Verdict::Lingers, "too short");
        assert_eq!(quiet(5, 3600.0, None), told);
        assert_eq!(quiet(60, 6.0, None), Verdict::Lingers, "six are expected");
        assert_eq!(quiet(70, 6.0, None), told, "seven are expected");
        assert_eq!(quiet(60, 3600.0, Some(0.0)), Verdict::Lingers, "it is quiet at night");
        assert_eq!(quiet(24 * 60, 3600.0, None), Verdict::Clear, "it is known by now");
        assert_eq!(quiet(1, 3600.0, None), Verdict::Clear, "there was a call just now");
    }

    #[test]
    fn whoever_has_just_begun_to_watch_does_not_take_a_silence_for_ended() {
        let (lasts, called) = (Duration::from_secs(10), Duration::from_secs(1200));
        let quiet = Quiet { lasts, called, before: 3600.0, then: None, usual: Duration::ZERO };
        assert_eq!(no_traffic(&quiet).verdict, Verdict::Lingers);
        let called = Quiet { called: lasts, ..quiet };
        assert_eq!(no_traffic(&called).verdict, Verdict::Clear);
    }

    #[test]
    fn a_silence_that_is_kept_again_and_again_is_no_news() {
        let of = |minutes: u64, usual: u64| {
            let (lasts, usual) =
                (Duration::from_secs(60 * minutes), Duration::from_secs(60 * usual));
            no_traffic(&Quiet { lasts, called: lasts, before: 500.0, then: Some(500.0), usual })
                .verdict
        };
        assert_eq!(of(55, 55), Verdict::Lingers);
        assert_eq!(of(83, 55), Verdict::Holds(Severity::Warn));
    }

    #[test]
    fn the_figures_are_told() {
        let (lasts, usual) = (Duration::from_secs(600), Duration::ZERO);
        let quiet = Quiet { lasts, called: lasts, before: 60.0, then: Some(52.0), usual };
        assert_eq!(
            no_traffic(&quiet).arithmetic,
            "no call in 10 min; with 60 calls an hour before and 52 an hour at this time of day \
             earlier, 8.7 were to be expected: P(0 | 8.7) = 0.00017 <= 0.001"
        );
    }
}
