//! The published false-alarm rates and delays, simulated; and each rule about shares.

use proptest::prelude::*;

use super::*;
use crate::stats::real;

const HEALTHY: f64 = 0.01;
const ALLOWED: f64 = 0.02;
/// A look every 10 seconds.
const TICKS_PER_MINUTE: usize = 6;
const MINUTES_PER_DAY: usize = 24 * 60;

/// Random numbers that are the same each time.
struct Dice(u64);

impl Dice {
    /// Between 0 and 1.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        real((z ^ (z >> 31)) >> 11) / real(1 << 53)
    }

    /// How many of what happens `mean` times on average.
    fn poisson(&mut self, mean: f64) -> u64 {
        let limit = (-mean).exp();
        let (mut product, mut count) = (self.roll(), 0);
        while product > limit {
            product *= self.roll();
            count += 1;
        }
        count
    }
}

/// The calls of the last hour by the minute, as they are watched.
struct Watched {
    minutes: [Tally; 60],
    at: usize,
}

impl Watched {
    const fn new() -> Self {
        Self { minutes: [Tally { bad: 0, all: 0 }; 60], at: 0 }
    }

    fn next_minute(&mut self) {
        self.at = (self.at + 1) % 60;
        self.minutes[self.at] = Tally::default();
    }

    fn add(&mut self, dice: &mut Dice, calls_per_tick: f64, failing: f64) {
        let bad = dice.poisson(calls_per_tick * failing);
        let good = dice.poisson(calls_per_tick * (1.0 - failing));
        self.minutes[self.at].bad += bad;
        self.minutes[self.at].all += bad + good;
    }

    fn last(&self, minutes: usize) -> Tally {
        let mut sum = Tally::default();
        for back in 0..minutes {
            let minute = self.minutes[(self.at + 60 - back) % 60];
            sum.bad += minute.bad;
            sum.all += minute.all;
        }
        sum
    }

    /// Whether the rule holds, and how badly. It is not asked where it cannot.
    fn holds(&self, hour: Tally) -> Option<Severity> {
        let short = self.last(5);
        let may_hold = |tally: Tally| tally.share() > ALLOWED;
        if !may_hold(short) && !may_hold(hour) {
            return None;
        }
        let windows = [("5 min", short), ("1 h", hour)];
        let windows = windows.map(|(name, tally)| Window { name, tally });
        match error_rate(&windows, ALLOWED).verdict {
            Verdict::Holds(severity) => Some(severity),
            Verdict::Insufficient | Verdict::Learning | Verdict::Clear | Verdict::Lingers => None,
        }
    }
}

/// False alarms a day, warnings and pages, of a healthy call; one counts once in 30 minutes.
fn false_alarms(rate: f64, days: usize, seed: u64) -> (f64, f64) {
    let mut dice = Dice(seed);
    let mut watched = Watched::new();
    let (mut warned, mut paged) = (0_u32, 0_u32);
    let (mut last_warn, mut last_page) = (None, None);
    for minute in 0..days * MINUTES_PER_DAY {
        watched.next_minute();
        let before = watched.last(60);
        for _ in 0..TICKS_PER_MINUTE {
            watched.add(&mut dice, rate * 10.0, HEALTHY);
            let own = watched.minutes[watched.at];
            let hour = Tally { bad: before.bad + own.bad, all: before.all + own.all };
            let Some(severity) = watched.holds(hour) else { continue };
            let fresh = |last: Option<usize>| last.is_none_or(|last| minute - last > 30);
            warned += u32::from(fresh(last_warn));
            last_warn = Some(minute);
            if severity == Severity::Page {
                paged += u32::from(fresh(last_page));
                last_page = Some(minute);
            }
        }
    }
    let days = f64::from(u32::try_from(days).unwrap());
    (f64::from(warned) / days, f64::from(paged) / days)
}

/// Minutes until a call that was healthy for an hour and fails with `failing` since is told: the
/// median of warnings and of pages, and the share that was paged within the hour.
fn delays(rate: f64, failing: f64, runs: u64) -> (f64, f64, f64) {
    let (mut warned, mut paged) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let mut dice = Dice(run * 7919 + 17);
        let mut watched = Watched::new();
        for _ in 0..60 {
            watched.next_minute();
            (0..TICKS_PER_MINUTE).for_each(|_| watched.add(&mut dice, rate * 10.0, HEALTHY));
        }
        let (mut warn, mut page) = (f64::INFINITY, f64::INFINITY);
        for tick in 0_u32..360 {
            if tick % 6 == 0 {
                watched.next_minute();
            }
            watched.add(&mut dice, rate * 10.0, failing);
            let Some(severity) = watched.holds(watched.last(60)) else { continue };
            let minutes = f64::from(tick + 1) / 6.0;
            warn = warn.min(minutes);
            if severity == Severity::Page {
                page = minutes;
                break;
            }
        }
        warned.push(warn);
        paged.push(page);
    }
    let within = real(u64::try_from(paged.iter().filter(|m| m.is_finite()).count()).unwrap());
    let median = |mut of: Vec<f64>| {
        of.sort_by(f64::total_cmp);
        of[of.len() / 2]
    };
    (median(warned), median(paged), within / real(runs))
}

/// The published figures are those of looks once a minute: warnings .30, .01 and 0 a day, pages .02, 0
/// and 0. Looking every ten seconds sees a little more of both truth and chance.
#[test]
fn a_healthy_call_is_left_in_peace_at_a_call_in_ten_seconds() {
    let (warned, paged) = false_alarms(0.1, 250, 1);
    assert!((0.1..=0.55).contains(&warned), "{warned} warnings a day");
    assert!(paged <= 0.05, "{paged} pages a day");
}

#[test]
fn a_healthy_call_is_left_in_peace_at_a_call_a_second() {
    let (warned, paged) = false_alarms(1.0, 150, 2);
    assert!(warned + paged < 0.1, "{warned} warnings and {paged} pages a day");
}

#[test]
fn a_healthy_call_is_left_in_peace_at_ten_calls_a_second() {
    let (warned, paged) = false_alarms(10.0, 5, 3);
    assert!(warned + paged <= 0.0, "{warned} warnings and {paged} pages a day");
}

/// Published delays in minutes to 5, 10 and 50 % failures, for warnings and for pages; and how many of
/// the calls that fail by 5 % are paged within the hour.
#[test]
fn trouble_is_told_within_the_published_delay() {
    let published = [
        (0.1, [(28.0, 53.0), (7.0, 12.0), (2.0, 2.0)], 0.63),
        (1.0, [(5.0, 6.0), (2.0, 3.0), (1.0, 1.0)], 1.0),
        (10.0, [(3.0, 3.0), (1.0, 2.0), (1.0, 1.0)], 1.0),
    ];
    for (rate, table, most_paged) in published {
        let runs = if rate > 5.0 { 21 } else { 101 };
        for ((warn, page), failing) in table.into_iter().zip([0.05, 0.1, 0.5]) {
            let (warned, paged, share) = delays(rate, failing, runs);
            let seen = format!("{rate} calls a second, {failing} fail: {warned}, {paged}, {share}");
            assert!(warned <= warn * 1.1 && warned > 0.0, "{seen}");
            assert!(paged <= page * 1.1 && paged >= warned, "{seen}");
            assert!(share >= most_paged, "{seen}");
        }
    }
}

fn windows(short: (u64, u64), long: (u64, u64)) -> [Window; 2] {
    [("5 min", short), ("1 h", long)]
        .map(|(name, (bad, all))| Window { name, tally: Tally { bad, all } })
}

#[test]
fn the_figures_are_told() {
    let told = error_rate(&windows((7, 61), (7, 600)), 0.02);
    assert_eq!(told.verdict, Verdict::Holds(Severity::Page));
    assert_eq!(
        told.arithmetic,
        "7 of 61 calls failed in 5 min (11.5 %), allowed 2 %: P(>=7 | 61, 2 %) = 0.00022 <= 0.001"
    );
    assert_eq!(told.summary, "11.5 % of calls failed in 5 min, 2 % may");
    let well = error_rate(&windows((1, 61), (1, 600)), 0.02);
    assert_eq!(well.verdict, Verdict::Clear);
    assert_eq!(
        well.arithmetic,
        "1 of 61 calls failed in 5 min (1.6 %), allowed 2 %: P(>=1 | 61, 2 %) = 0.71 > 0.01"
    );
}

#[test]
fn few_calls_say_nothing_unless_most_of_them_fail() {
    let verdict = |short, long| error_rate(&windows(short, long), 0.02).verdict;
    assert_eq!(verdict((0, 0), (0, 0)), Verdict::Insufficient);
    assert_eq!(verdict((1, 1), (1, 4)), Verdict::Insufficient, "one failure is no alert");
    assert_eq!(verdict((2, 2), (2, 4)), Verdict::Holds(Severity::Page));
    assert_eq!(verdict((0, 2), (1, 40)), Verdict::Clear, "the hour speaks where 5 min cannot");
    assert_eq!(verdict((2, 30), (2, 400)), Verdict::Lingers);
    assert_eq!(verdict((0, 100), (40, 900)), Verdict::Holds(Severity::Page), "the hour holds");
}

#[test]
fn the_literal_rule_is_a_state() {
    let state = |bad, all| literal_state(Tally { bad, all }, 0.02);
    assert_eq!([state(1, 4), state(1, 49), state(1, 50)], ["insufficient", "over", "ok"]);
}

#[test]
fn slow_calls_are_counted_and_not_averaged() {
    let limit = Duration::from_secs(16);
    let budget = |short| over_budget(&windows(short, (30, 720)), limit);
    assert_eq!(budget((3, 60)).verdict, Verdict::Clear);
    assert_eq!(budget((8, 60)).verdict, Verdict::Holds(Severity::Warn));
    assert_eq!(budget((8, 60)).summary, "13.3 % of calls took longer than 16 s in 5 min, 5 % may");
    assert_eq!(budget((12, 60)).verdict, Verdict::Holds(Severity::Page));
    let unusual = over_baseline(&windows((8, 60), (30, 720)), limit);
    assert_eq!(unusual.verdict, Verdict::Lingers, "nobody set this limit");
    let limit = Duration::from_millis(1500);
    let late = |usual| late_streams(&windows((8, 60), (8, 60)), limit, usual).verdict;
    assert_eq!(late(true), Verdict::Lingers);
    assert_eq!(late(false), Verdict::Holds(Severity::Warn));
}

#[test]
fn quality_is_held_against_what_is_usual() {
    let usual = Tally { bad: 40, all: 1000 };
    let verdict = |bad| quality(&windows((bad, 100), (bad, 100)), usual, "x").verdict;
    assert_eq!(verdict(6), Verdict::Clear, "half as much again is allowed");
    assert_eq!(verdict(17), Verdict::Holds(Severity::Warn));
    let never = Tally { bad: 0, all: 1000 };
    assert_eq!(quality(&windows((1, 100), (1, 100)), never, "x").verdict, Verdict::Clear);
    assert_eq!(
        quality(&windows((8, 100), (8, 100)), never, "answers were not JSON").arithmetic,
        "8 of 100 answers were not JSON in 5 min (8 %), allowed 1 %: P(>=8 | 100, 1 %) = 8.2e-6 <= \
         0.001; usual are 0 %"
    );
    let unknown = Tally { bad: 0, all: 299 };
    assert_eq!(quality(&windows((9, 9), (9, 9)), unknown, "x").verdict, Verdict::Learning);
}

#[test]
fn lost_reports_are_missed_where_there_were_any() {
    let window = |unheard, all| windows((unheard, all), (unheard, all));
    let half = Tally { bad: 500, all: 1000 };
    assert_eq!(coverage(&window(55, 100), half).verdict, Verdict::Clear);
    assert_eq!(coverage(&window(98, 100), half).verdict, Verdict::Holds(Severity::Warn));
    let rare = Tally { bad: 850, all: 1000 };
    assert_eq!(coverage(&window(100, 100), rare).verdict, Verdict::Clear, "15 % are too few");
}

#[test]
fn the_budget_of_a_month_burns() {
    let of = |rates: [(u64, u64); 5]| burn_rate(&rates.map(|(bad, all)| Tally { bad, all }), 0.99);
    let page = of([(20, 100), (50, 600), (180, 1200), (200, 7000), (900, 80_000)]);
    assert_eq!(page.verdict, Verdict::Holds(Severity::Page));
    assert_eq!(page.summary, "the error budget burns 15.0 times too fast over 1 h");
    assert_eq!(
        page.arithmetic,
        "180 of 1200 calls failed in 1 h and 20 of 100 in 5 min: 15.0 and 20.0 times the 1 % that \
         an SLO of 99 % leaves, at most 14.4"
    );
    let over = of([(0, 100), (0, 600), (0, 1200), (500, 7000), (900, 80_000)]);
    assert_eq!(over.verdict, Verdict::Holds(Severity::Warn), "slowly, for days");
    let past = of([(0, 100), (0, 600), (180, 1200), (180, 20_000), (180, 80_000)]);
    assert_eq!(past.verdict, Verdict::Clear, "it has stopped");
    let few = of([(1, 2), (1, 2), (1, 2), (1, 2), (1, 2)]);
    assert_eq!(few.verdict, Verdict::Insufficient);
}

proptest! {
    #[test]
    fn more_failures_never_make_it_better(
        short in (0u64..200, 0u64..200), more in 1u64..50, allowed in 0.001f64..0.5
    ) {
        let (bad, good) = short;
        let severity = |bad: u64, all: u64| {
            let windows = [Window { name: "5 min", tally: Tally { bad, all } }];
            match error_rate(&windows, allowed).verdict {
                Verdict::Holds(severity) => Some(severity),
                Verdict::Insufficient | Verdict::Learning | Verdict::Clear | Verdict::Lingers => None,
            }
        };
        prop_assert!(severity(bad + more, bad + good + more) >= severity(bad, bad + good));
    }
}
