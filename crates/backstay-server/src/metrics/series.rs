//! The counters themselves, one set for each call, release and target of the plans in force.
//!
//! The set is closed: what is not in the plans counts under `other`, so that no string of a client
//! becomes a label. New plans make a new set, in which what stays goes on counting; what has left is
//! dropped with its counters. A call that ends meanwhile may count into a set that nobody reads any
//! more, which is all that can go wrong.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use backstay_core::{
    failure::FailureClass,
    record::{Degraded, Outcome, Variant},
};
use backstay_engine::plan::Plans;
use prometheus_client::metrics::{
    exemplar::HistogramWithExemplars,
    histogram::{Histogram, NativeHistogramConfig},
};

use super::{
    catalogue::{LATENCY, OWN, TOKEN_COUNTS},
    exemplar::Seen,
};

/// What is not in the plans.
pub(super) const OTHER: &str = "other";
/// What has none.
pub(super) const NONE: &str = "none";
/// The call of plain targets that name none.
const DEFAULT: &str = "default";

/// Releases of a call that have counters of their own: the stable one and the newest others.
pub(super) const MOST_RELEASES: usize = 24;

/// Buckets of a native histogram grow by a tenth, and there are at most so many.
const NATIVE_FACTOR: f64 = 1.1;
const NATIVE_BUCKETS: usize = 160;
/// When there would be more of them it starts anew, but not more often.
const NATIVE_RESET: std::time::Duration = std::time::Duration::from_secs(3600);

/// Every outcome in one word.
pub(super) static OUTCOMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut names = vec![Outcome::Ok.name(), Outcome::Repaired.name()];
    names.extend(FailureClass::ALL.iter().map(|class| class.name()));
    names.dedup();
    names
});

/// Every variant, in the order in which they are kept.
pub(super) const VARIANTS: [Variant; 3] = [Variant::Stable, Variant::Pinned, Variant::Direct];

/// What can take the place of a model's answer.
pub(super) const MODES: [Degraded; 3] = [Degraded::Stale, Degraded::Static, Degraded::Message];

/// The sides of [`super::catalogue::TOKENS`], in the order in which they are kept.
pub(super) const DIRECTIONS: [&str; 2] = ["input", "output"];

/// Counters, one for each of a few known keys.
#[derive(Debug)]
pub(super) struct Counters(Box<[AtomicU64]>);

impl Counters {
    fn new(size: usize) -> Self {
        Self((0..size).map(|_| AtomicU64::new(0)).collect())
    }

    /// Adds to the counter of `key`, which is one of `keys`.
    pub(super) fn add<K: PartialEq>(&self, keys: &[K], key: &K, more: u64) {
        let found = keys.iter().zip(&self.0).find(|(known, _)| *known == key);
        if let Some((_, counter)) = found {
            counter.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// All of them, in the order of the keys.
    pub(super) fn values(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// A distribution: in classic buckets with the last call seen in each, and in classic and native ones
/// together. The library has no type that is both, and text and protobuf want different ones.
#[derive(Debug)]
pub(super) struct Distribution {
    pub(super) seen: HistogramWithExemplars<Seen>,
    pub(super) native: Histogram,
}

impl Distribution {
    fn new(buckets: &[f64]) -> Self {
        let native = NativeHistogramConfig::with_bucket_factor(NATIVE_FACTOR)
            .max_buckets(NATIVE_BUCKETS)
            .min_reset_duration(NATIVE_RESET);
        Self {
            seen: HistogramWithExemplars::new(buckets.iter().copied()),
            native: Histogram::new_classic_and_native(buckets.iter().copied(), native),
        }
    }

    pub(super) fn observe(&self, value: f64, seen: Seen, at: SystemTime) {
        self.seen.observe(value, Some(seen), Some(at));
        self.native.observe(value);
    }
}

/// Distributions that are made when they are first needed, one for each of a few known keys.
#[derive(Debug)]
pub(super) struct Distributions {
    each: Box<[OnceLock<Distribution>]>,
    buckets: &'static [f64],
}

impl Distributions {
    fn new(size: usize, buckets: &'static [f64]) -> Self {
        Self { each: (0..size).map(|_| OnceLock::new()).collect(), buckets }
    }

    /// The one of `key`, which is one of `keys`.
    pub(super) fn get<K: PartialEq>(&self, keys: &[K], key: &K) -> Option<&Distribution> {
        let (_, cell) = keys.iter().zip(&self.each).find(|(known, _)| *known == key)?;
        Some(cell.get_or_init(|| Distribution::new(self.buckets)))
    }

    /// Those that were needed, with their keys.
    pub(super) fn used<'a, K>(
        &'a self,
        keys: &'a [K],
    ) -> impl Iterator<Item = (&'a K, &'a Distribution)> {
        keys.iter().zip(&self.each).filter_map(|(key, cell)| Some((key, cell.get()?)))
    }
}

/// The counters of one release of a call.
#[derive(Debug)]
pub(super) struct ReleaseSeries {
    /// By variant and outcome.
    calls: Vec<(Variant, Counters)>,
    pub(super) tokens: Counters,
    pub(super) nano_usd: AtomicU64,
    priced: AtomicBool,
    /// Whether its counters are shown from the start: else the first failure of a kind would begin a
    /// series at one, and no rate would see it.
    stable: AtomicBool,
}

impl ReleaseSeries {
    fn new() -> Self {
        Self {
            calls: VARIANTS.map(|variant| (variant, Counters::new(OUTCOMES.len()))).into(),
            tokens: Counters::new(DIRECTIONS.len()),
            nano_usd: AtomicU64::new(0),
            priced: AtomicBool::new(false),
            stable: AtomicBool::new(false),
        }
    }

    pub(super) fn count(&self, variant: Variant, outcome: Outcome) {
        if let Some((_, counters)) = self.calls.iter().find(|(known, _)| *known == variant) {
            counters.add(&OUTCOMES, &outcome.name(), 1);
        }
    }

    pub(super) fn pay(&self, nano_usd: u64) {
        self.nano_usd.fetch_add(nano_usd, Ordering::Relaxed);
        self.priced.store(true, Ordering::Relaxed);
    }

    /// What there is to show: variant, outcome, calls.
    pub(super) fn calls(&self) -> impl Iterator<Item = (Variant, &'static str, u64)> {
        let stable = self.stable.load(Ordering::Relaxed);
        self.calls.iter().flat_map(move |(variant, counters)| {
            let from_zero = stable && *variant == Variant::Stable;
            let all = OUTCOMES.iter().zip(counters.values());
            all.filter(move |(_, n)| from_zero || *n > 0).map(|(name, n)| (*variant, *name, n))
        })
    }

    /// Its tokens by direction, once there are any.
    pub(super) fn tokens(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = self.stable.load(Ordering::Relaxed);
        DIRECTIONS.into_iter().zip(self.tokens.values()).filter(move |(_, n)| all || *n > 0)
    }

    /// US dollars, once something had a price.
    pub(super) fn usd(&self) -> Option<f64> {
        let priced = self.priced.load(Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "an amount is told to a few digits")]
        priced.then(|| self.nano_usd.load(Ordering::Relaxed) as f64 / 1e9)
    }
}

/// What a call counts whichever release answers.
#[derive(Debug)]
pub(super) struct CallSeries {
    pub(super) name: Arc<str>,
    pub(super) latency: Distributions,
    pub(super) first_token: Distributions,
    pub(super) tokens: Distributions,
    pub(super) degraded: Counters,
    pub(super) reports: Counters,
}

impl CallSeries {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            latency: Distributions::new(VARIANTS.len(), &LATENCY),
            first_token: Distributions::new(VARIANTS.len(), &LATENCY),
            tokens: Distributions::new(DIRECTIONS.len(), &TOKEN_COUNTS),
            degraded: Counters::new(MODES.len()),
            reports: Counters::new(2),
        }
    }
}

/// A call with its releases.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) own: Arc<CallSeries>,
    /// By name; `none` and `other` are among them.
    pub(super) releases: BTreeMap<String, Arc<ReleaseSeries>>,
    /// The release that the label `stable` points to.
    pub(super) stable: Option<String>,
}

impl Call {
    /// A call with these releases; what `before` has of them goes on counting.
    fn new(name: &str, ids: &[String], stable: Option<&str>, before: Option<&Self>) -> Self {
        let known = ids.iter().map(String::as_str).chain([NONE, OTHER]);
        let releases: BTreeMap<_, _> = known
            .map(|id| {
                let kept = before.and_then(|call| call.releases.get(id)).map(Arc::clone);
                (id.to_owned(), kept.unwrap_or_else(|| Arc::new(ReleaseSeries::new())))
            })
            .collect();
        for (id, release) in &releases {
            release.stable.store(stable == Some(id.as_str()), Ordering::Relaxed);
        }
        let own = before.map(|call| Arc::clone(&call.own));
        Self {
            own: own.unwrap_or_else(|| Arc::new(CallSeries::new(name))),
            releases,
            stable: stable.map(str::to_owned),
        }
    }

    /// The counters of a release.
    pub(super) fn release(&self, id: Option<&str>) -> Option<&Arc<ReleaseSeries>> {
        self.releases.get(id.unwrap_or(NONE)).or_else(|| self.releases.get(OTHER))
    }
}

/// The counters of one target.
#[derive(Debug)]
pub(super) struct TargetSeries {
    pub(super) attempts: Counters,
    pub(super) duration: Distributions,
    pub(super) unpriced: AtomicU64,
}

impl TargetSeries {
    fn new() -> Self {
        Self {
            attempts: Counters::new(OUTCOMES.len()),
            duration: Distributions::new(1, &LATENCY),
            unpriced: AtomicU64::new(0),
        }
    }
}

/// All counters.
#[derive(Debug)]
pub(super) struct Series {
    /// By name; `default` and `other` are among them.
    pub(super) calls: BTreeMap<String, Call>,
    /// By name; `other` is among them.
    pub(super) targets: BTreeMap<String, Arc<TargetSeries>>,
    pub(super) overhead: Arc<Distributions>,
}

impl Default for Series {
    fn default() -> Self {
        Self::with(&[], &[], None)
    }
}

/// What the plans say of one call: its name, its releases, and which of them is stable.
type Named = (String, Vec<String>, Option<String>);

impl Series {
    /// Counters for what `plans` name; what `before` has of it goes on counting.
    pub(super) fn of_plans(plans: &Plans, before: &Self) -> Self {
        let calls: Vec<Named> = plans
            .calls()
            .map(|(name, call)| {
                let stable = call.stable.id().map(str::to_owned);
                let newest = call.releases.values().rev().filter_map(|release| release.id());
                let newest = newest.filter(|id| stable.as_deref() != Some(*id));
                let others = newest.take(MOST_RELEASES - 1).map(str::to_owned);
                (name.to_owned(), stable.iter().cloned().chain(others).collect(), stable)
            })
            .collect();
        Self::with(&calls, &plans.known_targets(), Some(before))
    }

    fn with(calls: &[Named], targets: &[String], before: Option<&Self>) -> Self {
        let plain = [DEFAULT, OTHER].map(|name| (name.to_owned(), Vec::new(), None));
        let known = |name: &str| before.and_then(|before| before.calls.get(name));
        let calls = plain.iter().chain(calls).map(|(name, releases, stable)| {
            (name.clone(), Call::new(name, releases, stable.as_deref(), known(name)))
        });
        let targets = targets.iter().map(String::as_str).chain([OTHER]).map(|name| {
            let kept = before.and_then(|before| before.targets.get(name)).map(Arc::clone);
            (name.to_owned(), kept.unwrap_or_else(|| Arc::new(TargetSeries::new())))
        });
        let overhead = before.map(|before| Arc::clone(&before.overhead));
        Self {
            calls: calls.collect(),
            targets: targets.collect(),
            overhead: overhead.unwrap_or_else(|| Arc::new(Distributions::new(1, &OWN))),
        }
    }

    /// The counters of a call.
    pub(super) fn call(&self, name: &str) -> Option<&Call> {
        self.calls.get(name).or_else(|| self.calls.get(OTHER))
    }

    /// The name of a call as a label.
    pub(super) fn label<'a>(&self, name: &'a str) -> &'a str {
        if self.calls.contains_key(name) { name } else { OTHER }
    }

    /// The counters of a target.
    pub(super) fn target(&self, name: &str) -> Option<&Arc<TargetSeries>> {
        self.targets.get(name).or_else(|| self.targets.get(OTHER))
    }
}
