//! Sums over cells of several outcomes.

use std::collections::BTreeMap;

use backstay_core::{
    failure::FailureClass,
    record::Outcome,
    rollup::{Cell, Ladder},
};

use super::figures::{MILLI, float, heat, quantiles};
use crate::api::types::{DegradedSums, LadderSums, Sums, TokenSums};

/// Billionths in one.
const NANO: f64 = 1e9;

/// What cells have in common, whatever their outcomes.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) cell: Cell,
    pub(super) ladder: Ladder,
    pub(super) errors: u64,
    outcomes: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Takes in the calls of a cell.
    pub(super) fn add(&mut self, outcome: Outcome, cell: &Cell) {
        self.cell.merge(cell);
        self.reckon(outcome, cell);
    }

    /// Takes in how the calls of a cell ended, and nothing else of them: most of the work is in the
    /// histograms.
    pub(super) fn count(&mut self, outcome: Outcome, cell: &Cell) {
        self.cell.calls += cell.calls;
        self.reckon(outcome, cell);
    }

    /// Takes in all calls of another one.
    pub(super) fn merge(&mut self, other: &Self) {
        self.cell.merge(&other.cell);
        self.ladder.merge(&other.ladder);
        self.errors += other.errors;
        for (code, count) in &other.outcomes {
            *self.outcomes.entry(code).or_default() += count;
        }
    }

    fn reckon(&mut self, outcome: Outcome, cell: &Cell) {
        self.ladder.add(outcome, cell);
        *self.outcomes.entry(outcome.code()).or_default() += cell.calls;
        if outcome.is_error() {
            self.errors += cell.calls;
        }
    }

    /// Calls that count for the error rate.
    pub(super) fn counted(&self) -> u64 {
        let [counted, ..] = self.ladder.reached;
        counted
    }

    /// Errors over the calls that count.
    pub(super) fn error_rate(&self) -> Option<f64> {
        let counted = self.counted();
        (counted > 0).then(|| float(self.errors) / float(counted))
    }

    /// The failure code of most errors.
    pub(super) fn top_failure(&self) -> Option<&'static str> {
        let failed = |code: &str| FailureClass::from_code(code).map(Outcome::Failed);
        let errors =
            self.outcomes.iter().filter(|(code, _)| failed(code).is_some_and(Outcome::is_error));
        errors.max_by_key(|(code, count)| (**count, **code)).map(|(code, _)| *code)
    }

    /// Calls that succeeded.
    pub(super) fn succeeded(&self) -> u64 {
        self.counted().saturating_sub(self.errors)
    }

    /// What the calls with a known price cost together; `None` if there is none.
    pub(super) fn cost_usd(&self) -> Option<f64> {
        let known = self.cell.priced + self.cell.free > 0;
        known.then(|| float(self.cell.nano_usd.sum()) / NANO)
    }

    /// Calls that were answered with something else than a model's answer.
    pub(super) fn degraded(&self) -> u64 {
        self.cell.stale + self.cell.fixed + self.cell.message
    }

    /// All of it as it is told.
    pub(super) fn sums(&self) -> Sums {
        let Self { cell, ladder, errors, outcomes } = self;
        Sums {
            calls: cell.calls,
            errors: *errors,
            neutral: ladder.neutral,
            error_rate: self.error_rate(),
            degraded: DegradedSums { stale: cell.stale, fixed: cell.fixed, message: cell.message },
            outcomes: outcomes.iter().map(|(code, n)| ((*code).to_owned(), *n)).collect(),
            ladder: rungs(ladder),
            latency: quantiles(&cell.latency_us, MILLI),
            latency_heat: heat(&cell.latency_us),
            first_token: quantiles(&cell.first_token_us, MILLI),
            tokens_in: quantiles(&cell.input_tokens, 1.0),
            tokens_out: quantiles(&cell.output_tokens, 1.0),
            tokens: tokens(cell),
            estimated: cell.estimated,
            cost_usd: self.cost_usd(),
            unpriced: cell.unpriced,
            free: cell.free,
            attempts: cell.attempts,
        }
    }
}

fn rungs(ladder: &Ladder) -> LadderSums {
    let [called, delivered, complete, parsed, schema_valid, checks_passed] = ladder.reached;
    let Ladder { useful, useless, .. } = *ladder;
    LadderSums { called, delivered, complete, parsed, schema_valid, checks_passed, useful, useless }
}

fn tokens(cell: &Cell) -> TokenSums {
    let of = cell.tokens;
    TokenSums {
        input: of.input,
        cache_read: of.cache_read,
        cache_write: of.cache_write,
        input_media: of.input_media,
        output: of.output,
        reasoning: of.reasoning,
        output_media: of.output_media,
    }
}

#[cfg(test)]
mod tests {
    use backstay_core::{
        failure::{FailureClass, Phase},
        record::{Cost, Degraded, Usage, Variant},
        rollup::{Key, Sample},
    };

    use super::*;

    /// A cell of one call with 10 input tokens.
    fn cell(cost: Option<Cost>) -> Cell {
        let mut cell = Cell::default();
        cell.add(&Sample {
            started_ms: 0,
            key: Key {
                call: "a".into(),
                release: None,
                variant: Variant::Stable,
                target: None,
                outcome: Outcome::Ok,
            },
            degraded: Degraded::Static,
            attempts: 2,
            latency_us: 1_500,
            first_token_us: None,
            usage: Some(Usage { input: 10, output: 4, ..Usage::default() }),
            cost,
        });
        cell
    }

    #[test]
    fn errors_neutral_calls_and_the_top_failure_are_told_apart() {
        let mut tally = Tally::default();
        let timeout = Outcome::Failed(FailureClass::Timeout(Phase::Headers));
        for (outcome, times) in [
            (Outcome::Ok, 6),
            (Outcome::Repaired, 1),
            (Outcome::Failed(FailureClass::Schema), 1),
            (timeout, 2),
            (Outcome::Failed(FailureClass::Cancelled), 5),
        ] {
            (0..times).for_each(|_| tally.add(outcome, &cell(None)));
        }
        assert_eq!((tally.counted(), tally.errors, tally.succeeded()), (10, 3, 7));
        assert_eq!((tally.error_rate(), tally.top_failure()), (Some(0.3), Some("timeout_headers")));
        let sums = tally.sums();
        assert_eq!((sums.calls, sums.neutral, sums.attempts), (15, 5, 30));
        assert_eq!(sums.outcomes["timeout_headers"], 2);
        assert_eq!((sums.degraded.fixed, sums.ladder.called, sums.ladder.parsed), (15, 10, 8));
        assert_eq!((sums.tokens.input, sums.tokens.output), (150, 60));
        assert_eq!((sums.cost_usd, sums.first_token), (None, None));
    }

    #[test]
    fn what_is_not_known_is_never_nothing() {
        let mut tally = Tally::default();
        assert_eq!((tally.cost_usd(), tally.error_rate()), (None, None));
        tally.add(Outcome::Ok, &cell(Some(Cost::Unknown)));
        assert_eq!((tally.cost_usd(), tally.cell.unpriced), (None, 1));
        tally.add(Outcome::Ok, &cell(Some(Cost::Free)));
        assert_eq!(tally.cost_usd(), Some(0.0));
        tally.add(Outcome::Ok, &cell(Some(Cost::Priced(1_500_000_000))));
        assert_eq!(tally.cost_usd(), Some(1.5));
    }
}
