//! How Backstay itself fares: in one word, with a sentence for each problem.

use std::collections::BTreeMap;

use backstay_control::alerts::Board;
use backstay_core::{
    breaker::BreakerState,
    failure::{FailureClass, Health as Verdict},
    price::{Nano, Price, Rate, Rates, quote::Quote, table::Table},
    release::TargetName,
};
use backstay_engine::targets::Congestion;
use backstay_store::Accounting;

use crate::api::types::{
    AlertingHealth, BoardHealth, BreakerItem, BreakerName, CostState, HealthState, HoldItem,
    PriceItem, Prices, Records, RollupsHealth, TargetHealth,
};

/// Further problems are only counted.
const MOST_PROBLEMS: usize = 20;
/// The longest text of one problem.
const LONGEST_PROBLEM: usize = 500;
/// After so long without a look for alerts something is wrong: there is one every ten seconds.
const LONGEST_LOOK_MS: u64 = 60_000;

/// What the summary is made of.
#[derive(Debug)]
pub(in crate::api) struct Signs<'a> {
    /// Whether the project on disk has mistakes.
    pub(in crate::api) broken: bool,
    /// Whether the server is ending.
    pub(in crate::api) draining: bool,
    /// What became of the records.
    pub(in crate::api) books: Option<&'a Accounting>,
    /// The rules at the last look.
    pub(in crate::api) alerts: &'a Board,
    /// When the server started: since then the first look is awaited.
    pub(in crate::api) started_ms: u64,
    /// It is now.
    pub(in crate::api) now_ms: u64,
    /// Every target.
    pub(in crate::api) targets: &'a [TargetHealth],
}

/// All of it in one word, the worst first.
pub(in crate::api) fn summary(signs: &Signs<'_>) -> BoardHealth {
    let mut found: Vec<(HealthState, String)> = Vec::new();
    if let Some(books) = signs.books {
        of_records(books, signs.now_ms, &mut found);
    }
    of_alerts(signs, &mut found);
    for target in signs.targets {
        of_target(target, &mut found);
    }
    if signs.broken {
        let told = "the project on disk has mistakes; the last good one stays in force";
        found.push((HealthState::Warn, told.to_owned()));
    }
    if signs.draining {
        found.push((HealthState::Warn, "this server is ending".to_owned()));
    }
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    let state = found.first().map_or(HealthState::Ok, |(state, _)| *state);
    let more = found.len().saturating_sub(MOST_PROBLEMS);
    let mut problems: Vec<String> =
        found.into_iter().take(MOST_PROBLEMS).map(|(_, problem)| problem).collect();
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    BoardHealth { state, problems }
}

fn of_records(books: &Accounting, now_ms: u64, found: &mut Vec<(HealthState, String)>) {
    if books.store_error.is_some() {
        let told = "the call log cannot be written; records wait in the spool";
        found.push((HealthState::Page, told.to_owned()));
    }
    if books.rollup_error.is_some() {
        let told = "the sums over calls cannot be written; board and alerts stand still";
        found.push((HealthState::Page, told.to_owned()));
    }
    if let Some(waits_ms) = books.behind_ms(now_ms) {
        let told = format!(
            "the sums over calls are {} s behind; board and alerts do not know of newer calls",
            waits_ms / 1000
        );
        found.push((HealthState::Page, told));
    }
    if books.retention_error.is_some() {
        let told = "what is too old could not be dropped, so that the call log grows; `retention_error` \
                    in /readyz says why";
        found.push((HealthState::Warn, told.to_owned()));
    }
    // A report that finds no call is its sender's mistake, or late.
    let lost = books.lost();
    if lost > 0 {
        found.push((HealthState::Warn, format!("{lost} records were shed since the start")));
    }
    if books.spool_errors > 0 {
        let told = "the spool failed; a crash then would have lost records";
        found.push((HealthState::Warn, told.to_owned()));
    }
}

fn of_alerts(signs: &Signs<'_>, found: &mut Vec<(HealthState, String)>) {
    let quiet_ms = signs.now_ms.saturating_sub(signs.alerts.at_ms.max(signs.started_ms));
    if quiet_ms > LONGEST_LOOK_MS {
        let told = format!(
            "nobody has looked for alerts for {} s; the server's log says why",
            quiet_ms / 1000
        );
        found.push((HealthState::Page, told));
    }
    if let Some(problem) = &signs.alerts.problem {
        let problem: String = problem.chars().take(LONGEST_PROBLEM).collect();
        let told = format!("alerts cannot be judged: {problem}");
        found.push((HealthState::Page, told));
    }
}

fn of_target(target: &TargetHealth, found: &mut Vec<(HealthState, String)>) {
    let name = &target.target;
    for BreakerItem { call, state } in &target.breakers {
        match state {
            BreakerName::Closed => {}
            BreakerName::Open => found
                .push((HealthState::Warn, format!("the breaker of `{call}` at {name} is open"))),
            BreakerName::HalfOpen => found.push((
                HealthState::Warn,
                format!("the breaker of `{call}` at {name} lets single probes pass"),
            )),
        }
    }
    let Some(hold) = &target.hold else { return };
    let class = FailureClass::from_code(&hold.class);
    match class.map(|class| class.row().health) {
        Some(Verdict::Unusable) => found.push((
            HealthState::Page,
            format!("{name} refuses Backstay's credentials, or their quota is exhausted"),
        )),
        Some(Verdict::Hold | Verdict::Neutral | Verdict::Fine | Verdict::Faulty) | None => {
            found.push((HealthState::Warn, format!("{name} is left alone: {}", hold.class)));
        }
    }
}

/// What became of the records.
pub(in crate::api) fn records(accounting: Accounting) -> Records {
    let shed = accounting.shed.iter().map(|(reason, n)| ((*reason).to_owned(), *n));
    Records {
        received: accounting.received,
        stored: accounting.stored,
        pending: accounting.pending,
        shed: shed.collect(),
        bodies_shed: accounting.bodies_shed,
        replayed: accounting.replayed,
        unreadable: accounting.unreadable,
        spool_errors: accounting.spool_errors,
        store_errors: accounting.store_errors,
        store_error: accounting.store_error,
    }
}

/// How the sums over calls fare; nothing is known of them without a log.
pub(in crate::api) fn rollups(books: Option<&Accounting>) -> RollupsHealth {
    books.map_or_else(RollupsHealth::default, |books| RollupsHealth {
        behind: Some(books.unsummed),
        error: books.rollup_error.clone(),
    })
}

/// How the looks for alerts fare.
pub(in crate::api) fn alerting(alerts: &Board) -> AlertingHealth {
    AlertingHealth {
        last_look_ms: Some(alerts.at_ms).filter(|at_ms| *at_ms > 0),
        problem: alerts.problem.clone(),
    }
}

/// The targets that routes name, and all others that something keeps attempts from.
pub(in crate::api) fn targets(
    named: &[String],
    breakers: Vec<(String, TargetName, BreakerState)>,
    congestion: Vec<(TargetName, Congestion)>,
    now_ms: u64,
) -> Vec<TargetHealth> {
    let empty = |target: &str| TargetHealth {
        target: target.to_owned(),
        breakers: Vec::new(),
        hold: None,
        waiting: 0,
    };
    let mut targets: BTreeMap<String, TargetHealth> =
        named.iter().map(|name| (name.clone(), empty(name))).collect();
    for (call, target, state) in breakers {
        let name = target.to_string();
        if state == BreakerState::Closed && !targets.contains_key(&name) {
            continue;
        }
        let target = targets.entry(name.clone()).or_insert_with(|| empty(&name));
        let state = match state {
            BreakerState::Closed => BreakerName::Closed,
            BreakerState::Open => BreakerName::Open,
            BreakerState::HalfOpen => BreakerName::HalfOpen,
        };
        target.breakers.push(BreakerItem { call, state });
    }
    for (target, Congestion { hold, waiting }) in congestion {
        let name = target.to_string();
        if hold.is_none() && waiting == 0 {
            continue;
        }
        let target = targets.entry(name.clone()).or_insert_with(|| empty(&name));
        target.waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
        target.hold = hold.map(|(class, left)| HoldItem {
            class: class.code().to_owned(),
            until_ms: now_ms.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        });
    }
    let mut told: Vec<TargetHealth> = targets.into_values().collect();
    told.iter_mut().for_each(|target| target.breakers.sort_by(|a, b| a.call.cmp(&b.call)));
    told
}

/// What is known of prices at a moment.
pub(in crate::api) fn prices(
    table: &Table,
    quotes: impl Iterator<Item = (String, Quote)>,
    now_ms: u64,
) -> Prices {
    Prices {
        as_of: table.date.clone(),
        age_days: table.age_days(now_ms),
        source: table.source.clone(),
        version: table.version.clone(),
        licence: table.licence.clone(),
        targets: quotes.map(|(target, quote)| price(target, &quote, now_ms)).collect(),
    }
}

fn price(target: String, quote: &Quote, now_ms: u64) -> PriceItem {
    let (state, tariff) = match &quote.price {
        Price::Known(tariff) => (CostState::Priced, Some(tariff)),
        Price::Free => (CostState::Free, None),
        Price::Unknown => (CostState::Unknown, None),
    };
    let rates = tariff.and_then(|tariff| tariff.at(now_ms));
    // What has no price of its own costs what its more general kind does.
    let dollars = |own: fn(&Rates) -> &Option<Rate>, general: fn(&Rates) -> &Option<Rate>| {
        let rate = rates.and_then(|rates| own(rates).as_ref().or(general(rates).as_ref()));
        rate.map(|rate| rate.at(0).dollars())
    };
    PriceItem {
        target,
        state,
        input_usd: dollars(|rates| &rates.input, |rates| &rates.input),
        cache_read_usd: dollars(|rates| &rates.cache_read, |rates| &rates.input),
        cache_write_usd: dollars(|rates| &rates.cache_write, |rates| &rates.input),
        output_usd: dollars(|rates| &rates.output, |rates| &rates.output),
        reasoning_usd: dollars(|rates| &rates.reasoning, |rates| &rates.output),
        request_usd: rates.and_then(|rates| rates.request).map(Nano::dollars),
        more_for_long_inputs: rates.is_some_and(Rates::has_tiers),
        by_time_of_day: tariff.is_some_and(|tariff| tariff.varies_daily()),
        origin: quote.source.told(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use backstay_core::price::{
        Tariff,
        quote::{PriceRule, ProviderPrices},
    };

    use super::*;

    fn name(text: &str) -> TargetName {
        text.parse().unwrap()
    }

    #[test]
    fn named_targets_are_always_told_and_others_when_something_is_wrong() {
        let named = ["a/m".to_owned(), "b/m".to_owned()];
        let breakers = vec![
            ("write".to_owned(), name("a/m"), BreakerState::Open),
            ("read".to_owned(), name("a/m"), BreakerState::Closed),
            ("read".to_owned(), name("x/quiet"), BreakerState::Closed),
            ("read".to_owned(), name("x/shut"), BreakerState::HalfOpen),
        ];
        let held = Congestion {
            hold: Some((FailureClass::RateLimited, Duration::from_secs(2))),
            waiting: 3,
        };
        let congestion = vec![(name("b/m"), held), (name("x/other"), Congestion::default())];
        let told = targets(&named, breakers, congestion, 1000);
        let names: Vec<_> = told.iter().map(|target| target.target.as_str()).collect();
        assert_eq!(names, ["a/m", "b/m", "x/shut"]);
        assert_eq!(told[0].breakers[0].call, "read");
        assert_eq!(told[1].hold, Some(HoldItem { class: "rate_limited".into(), until_ms: 3000 }));
        assert_eq!(told[1].waiting, 3);
    }

    #[test]
    fn prices_fall_back_on_the_more_general_kind_and_unknown_ones_stay_unknown() {
        let quote = |base_url, model: &str, rules: &[PriceRule]| {
            ProviderPrices::new("p", base_url, rules).quote(model)
        };
        let rates = Rates {
            input: Some(Rate::flat(Nano(2_000_000_000))),
            output: Some(Rate::flat(Nano(8_000_000_000))),
            ..Rates::default()
        };
        let price = Price::of(&std::sync::Arc::new(Tariff::always(rates)));
        let rule = PriceRule { pattern: "p/mine".into(), price };
        let nowhere = Some("http://127.0.0.1:9/v1");
        let quotes = [
            ("p/mine".to_owned(), quote(nowhere, "mine", &[rule])),
            ("p/other".to_owned(), quote(nowhere, "other", &[])),
            ("p/sim".to_owned(), quote(None, "sim", &[])),
        ];
        let told = prices(Table::vendored(), quotes.into_iter(), 1_795_435_261_234);
        assert!(told.as_of.len() == 10 && !told.licence.is_empty(), "{told:?}");
        let states: Vec<_> = told.targets.iter().map(|t| (t.state, t.input_usd)).collect();
        let expected =
            [(CostState::Priced, Some(2.0)), (CostState::Unknown, None), (CostState::Free, None)];
        assert_eq!(states, expected);
        let mine = &told.targets[0];
        assert_eq!((mine.cache_read_usd, mine.reasoning_usd), (Some(2.0), Some(8.0)));
        assert!(mine.origin.contains("p/mine") && mine.request_usd.is_none());
    }

    fn calm(alerts: &Board) -> Signs<'_> {
        Signs {
            broken: false,
            draining: false,
            books: None,
            alerts,
            started_ms: 1,
            now_ms: 1,
            targets: &[],
        }
    }

    #[test]
    fn a_report_that_finds_no_call_is_no_problem() {
        let books = Accounting {
            shed: [("queue_full", 0), ("expired", 5), ("unmatched", 7), ("closed", 0)],
            ..Accounting::default()
        };
        let told = summary(&Signs { books: Some(&books), ..calm(&Board::default()) });
        assert_eq!((told.state, told.problems), (HealthState::Ok, vec![]));
    }

    #[test]
    fn whoever_does_not_look_or_cannot_judge_is_not_well() {
        let told = |books, alerts, now_ms| {
            summary(&Signs { books, now_ms, ..calm(alerts) }).problems.join("; ")
        };
        let (well, blind) =
            (Board::default(), Board { problem: Some("it is locked".into()), ..Board::default() });
        assert_eq!(told(None, &well, 60_001), "");
        let looked = Board { at_ms: 10_000, ..Board::default() };
        assert_eq!(told(None, &looked, 70_000), "");
        let quiet = "nobody has looked for alerts for 60 s; the server's log says why";
        assert_eq!(told(None, &well, 60_002), quiet);
        assert_eq!(told(None, &looked, 70_001), quiet);
        assert_eq!(told(None, &blind, 1), "alerts cannot be judged: it is locked");
        let books = Accounting {
            rollup_error: Some("the disk is full".into()),
            unsummed: 3,
            ..Accounting::default()
        };
        assert!(told(Some(&books), &well, 1).starts_with("the sums over calls"));
        let late = Accounting { waiting_since_ms: Some(1), ..Accounting::default() };
        assert_eq!(told(Some(&late), &well, 60_001), "", "that happens");
        let behind =
            "the sums over calls are 61 s behind; board and alerts do not know of newer calls";
        let now = Board { at_ms: 61_001, ..Board::default() };
        assert_eq!(told(Some(&late), &now, 61_001), behind);
        let full = Accounting { store_error: Some("it is full".into()), ..Accounting::default() };
        let unwritten = "the call log cannot be written; records wait in the spool";
        assert_eq!(told(Some(&full), &well, 1), unwritten);
        for books in [&late, &full] {
            let signs = Signs { books: Some(books), now_ms: 61_001, ..calm(&now) };
            assert_eq!(summary(&signs).state, HealthState::Page);
        }
        let error = Some("the disk is full".to_owned());
        assert_eq!(rollups(Some(&books)), RollupsHealth { behind: Some(3), error });
        assert_eq!(rollups(None), RollupsHealth::default());
        assert_eq!(summary(&Signs { now_ms: 70_000, ..calm(&well) }).state, HealthState::Page);
    }

    #[test]
    fn a_log_that_is_not_shortened_grows() {
        let books = Accounting { retention_error: Some("busy".into()), ..Accounting::default() };
        let looked = Board { at_ms: 1, ..Board::default() };
        let told = summary(&Signs { books: Some(&books), ..calm(&looked) });
        assert_eq!(told.state, HealthState::Warn);
        assert!(told.problems.concat().starts_with("what is too old could not be dropped"));
    }

    #[test]
    fn the_worst_problem_gives_the_word() {
        let alerts = Board { at_ms: 1, ..Board::default() };
        let signs = |books, targets| Signs { books, targets, ..calm(&alerts) };
        assert_eq!(summary(&signs(None, &[])).state, HealthState::Ok);
        let full = Accounting {
            shed: [("queue_full", 3), ("expired", 5), ("unmatched", 7), ("closed", 1)],
            ..Accounting::default()
        };
        let told = summary(&signs(Some(&full), &[]));
        assert_eq!(
            (told.state, told.problems),
            (HealthState::Warn, vec!["4 records were shed since the start".to_owned()])
        );
        let refused =
            Congestion { hold: Some((FailureClass::UpstreamAuth, Duration::ZERO)), waiting: 0 };
        let many =
            (0..30).map(|n| ("read".to_owned(), name(&format!("a/{n}")), BreakerState::Open));
        let targets = targets(&[], many.collect(), vec![(name("z/m"), refused)], 0);
        let told = summary(&Signs { broken: true, ..signs(None, &targets) });
        assert_eq!((told.state, told.problems.len()), (HealthState::Page, 21));
        assert!(told.problems[0].starts_with("z/m refuses"), "{:?}", told.problems);
        assert_eq!(told.problems[20], "and 12 more");
    }
}
