//! The published run lengths and delays of the sums, simulated.

use super::*;
use crate::alert::{Rule, reading::Verdict};

/// Random numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        real((z ^ (z >> 31)) >> 11) / real(1 << 53)
    }

    /// A standard normal number, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.roll()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.roll()).cos()
    }

    /// Student's t with 4 degrees of freedom: heavy tails.
    fn heavy(&mut self) -> f64 {
        let normal = self.normal();
        let square: f64 = (0..4).map(|_| self.normal().powi(2)).sum();
        normal / (square / 4.0).sqrt()
    }
}

/// A minute's mean deviation, each cut off.
fn minute(dice: &mut Dice, calls: u64, draw: &dyn Fn(&mut Dice) -> f64) -> f64 {
    let sum: f64 = (0..calls).map(|_| draw(dice).clamp(-CUT, CUT)).sum();
    sum / real(calls)
}

/// Minutes until the upper sum alarms, at most `most`.
fn run(dice: &mut Dice, calls: u64, most: u64, draw: &dyn Fn(&mut Dice) -> f64) -> u64 {
    let mut cusum = Cusum::default();
    for at in 1..=most {
        let deviation = minute(dice, calls, draw);
        cusum.advance(calls, deviation);
        if cusum.longer.sum > ALARM {
            return at;
        }
    }
    most
}

fn median(mut of: Vec<u64>) -> u64 {
    of.sort_unstable();
    of[of.len() / 2]
}

/// Call by call, the mean run length without a shift is 19,700 for normal deviations and 14,900 for
/// heavy tails. Runs are cut at four times that, which takes 2 % of the mean away.
#[test]
fn without_a_shift_it_runs_as_long_as_published() {
    let mean = |draw: &dyn Fn(&mut Dice) -> f64, most: u64| {
        let mut dice = Dice(5);
        let runs = 60;
        real((0..runs).map(|_| run(&mut dice, 1, most, draw)).sum()) / real(runs)
    };
    let normal = mean(&|dice| dice.normal(), 80_000);
    assert!((13_000.0..27_000.0).contains(&normal), "{normal}");
}

/// Heavy tails in units of the deviation that a baseline measures in them.
#[test]
fn heavy_tails_hardly_shorten_it() {
    let mut dice = Dice(6);
    let mut tokens = Histogram::default();
    let to_tokens = |z: f64| -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some tokens")]
        let tokens = (20.0 + 0.2 * z).exp() as u64;
        tokens
    };
    (0..20_000).for_each(|_| tokens.record(to_tokens(dice.heavy()), 1));
    let sigma = TokenBaseline::of(&tokens).unwrap().sigma / 0.2;
    let draw = |dice: &mut Dice| dice.heavy() / sigma;
    let runs = 40;
    let mean = real((0..runs).map(|_| run(&mut dice, 1, 60_000, &draw)).sum()) / real(runs);
    assert!((7_000.0..25_000.0).contains(&mean), "{mean}, with a sigma of {sigma}");
}

/// Published medians in calls for shifts by 0.5, 1 and 2 sigma: 66, 15 and 6.
#[test]
fn shifts_are_found_within_the_published_delay() {
    for (shift, published) in [(0.5, 66), (1.0, 15), (2.0, 6)] {
        let mut dice = Dice(7);
        let draw = |dice: &mut Dice| dice.normal() + shift;
        let found = median((0..301).map(|_| run(&mut dice, 1, 5000, &draw)).collect());
        assert!(found.abs_diff(published) * 5 <= published, "{found}, not {published}");
    }
}

/// Minutes until the upper sum has been over its limit for as long as the rule waits, at most `most`.
fn told(dice: &mut Dice, calls: u64, most: u64, draw: &dyn Fn(&mut Dice) -> f64) -> u64 {
    let wait = Rule::TokensOut.about().lasts.0 / 60;
    let (mut cusum, mut held) = (Cusum::default(), 0);
    for at in 1..=most {
        let deviation = minute(dice, calls, draw);
        cusum.advance(calls, deviation);
        held = if cusum.longer.sum > ALARM { held + 1 } else { 0 };
        if held > wait {
            return at;
        }
    }
    most
}

/// What chance alone puts over the limit does not stay there, so the rule waits. The minutes of a
/// season at six calls a minute, where the sum alone would alarm every few days.
#[test]
fn at_higher_rates_it_is_quiet_and_quick() {
    let mut dice = Dice(8);
    for (calls, days) in [(6, 90), (60, 7)] {
        let minutes = days * 24 * 60;
        let quiet = told(&mut dice, calls, minutes, &|dice| dice.normal());
        assert_eq!(quiet, minutes, "{calls} a minute");
        let shifted = |dice: &mut Dice| dice.normal() + 1.0;
        let delays = (0..51).map(|_| told(&mut dice, calls, 5000, &shifted)).collect();
        assert!(median(delays) <= 20, "{calls} a minute");
    }
}

fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram {
    let mut histogram = Histogram::default();
    values.into_iter().for_each(|value| histogram.record(value, 1));
    histogram
}

#[test]
fn a_baseline_needs_enough_calls_and_ignores_wild_ones() {
    assert_eq!(TokenBaseline::of(&histogram((0..299).map(|i| 400 + i))), None);
    let usual = (0..400).map(|i| 400 + i % 200).chain([1_000_000; 5]);
    let baseline = TokenBaseline::of(&histogram(usual)).unwrap();
    assert!((450.0..560.0).contains(&baseline.center.exp()), "{baseline:?}");
    let wild = baseline.deviation(&histogram([1_000_000])).unwrap();
    assert!((3.0..=CUT).contains(&wild), "one call counts for {wild}");
    assert_eq!(baseline.deviation(&histogram([1_000_000_000])), Some(wild), "however long it is");
    assert_eq!(baseline.deviation(&Histogram::default()), None);
    let constant = TokenBaseline::of(&histogram([500; 400])).unwrap();
    assert!(constant.deviation(&histogram([503])).unwrap() < SLACK, "a token more is nothing");
}

#[test]
fn a_lasting_shift_is_told_with_its_figures_and_ends_when_it_ends() {
    let baseline = TokenBaseline::of(&histogram((0..1000).map(|i| 400 + i % 200))).unwrap();
    let mut cusum = Cusum::default();
    let reading = |cusum: &Cusum| cusum.reading(Some(&baseline), 1000, "answers");
    for _ in 0..3 {
        cusum.advance(5, baseline.deviation(&histogram([900; 5])).unwrap());
    }
    let told = reading(&cusum);
    assert_eq!(told.verdict, Verdict::Holds(Severity::Warn));
    assert!(told.summary.starts_with("answers are longer than usual: "), "{}", told.summary);
    assert!(told.arithmetic.starts_with("15 calls were "), "{}", told.arithmetic);
    let mut minutes = 0;
    while reading(&cusum).verdict != Verdict::Clear {
        cusum.advance(5, baseline.deviation(&histogram([480, 490, 500, 510, 520])).unwrap());
        minutes += 1;
        assert!(minutes < 30, "it does not end");
    }
    for _ in 0..3 {
        cusum.advance(5, baseline.deviation(&histogram([200; 5])).unwrap());
    }
    assert!(reading(&cusum).summary.starts_with("answers are shorter"), "{cusum:?}");
    assert_eq!(cusum.reading(None, 12, "answers").verdict, Verdict::Learning);
}

#[test]
fn a_longer_call_than_any_before_counts_for_no_more_than_the_second_usual_length() {
    let sample = (0..5000).map(|n| if n % 10 == 0 { 1500 } else { 500 });
    let baseline = TokenBaseline::of(&histogram(sample)).unwrap();
    let counts = |tokens| baseline.deviation(&histogram([tokens])).unwrap();
    assert_eq!(counts(1_000_000).to_bits(), counts(1500).to_bits(), "{baseline:?}");
}

/// One call in ten is three times as long, or a third as long, as all others: healthy, and as it was
/// when its baseline was taken. The minutes of two weeks.
#[test]
fn two_usual_lengths_are_quiet_however_rare_the_second_one_is() {
    for (other, in_100) in [(1500, 10), (1500, 5), (167, 10), (167, 3)] {
        let share = real(in_100) / 100.0;
        let usual = |dice: &mut Dice| if dice.roll() < share { other } else { 500 };
        let mut dice = Dice(9);
        let before = (0..5000).map(|n| if n % 100 < in_100 { other } else { 500 });
        let baseline = TokenBaseline::of(&histogram(before)).unwrap();
        for calls in [2, 6, 60] {
            let mut cusum = Cusum::default();
            let mut held = 0;
            for minute in 0..14 * 24 * 60 {
                let tokens = histogram((0..calls).map(|_| usual(&mut dice)));
                cusum.advance(calls, baseline.deviation(&tokens).unwrap());
                let verdict = cusum.reading(Some(&baseline), 5000, "prompts").verdict;
                held = if matches!(verdict, Verdict::Holds(_)) { held + 1 } else { 0 };
                let wait = Rule::TokensIn.about().lasts.0 / 60;
                assert!(held <= wait, "{share} of {other}, {calls} a minute: in minute {minute}");
            }
            let moved = histogram([500, other, 500, other]);
            (0..60).for_each(|_| cusum.advance(4, baseline.deviation(&moved).unwrap()));
            let verdict = cusum.reading(Some(&baseline), 5000, "prompts").verdict;
            assert_eq!(verdict, Verdict::Holds(Severity::Warn), "half of them are news");
        }
    }
}
