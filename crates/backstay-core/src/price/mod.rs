//! What tokens cost: prices as values, and exact arithmetic on them.
//!
//! [`table`] is the vendored table, [`quote`] joins it with what a project says itself. A price that is
//! not known stays unknown: nothing here makes a zero out of it. No clock is read; a price may depend
//! on the time, which is an argument.

pub mod quote;
pub mod table;

use std::sync::Arc;

use serde::Deserialize;

use crate::record::{Cost, Usage};

/// The tokens that a price is for.
const A_MILLION: u128 = 1_000_000;
/// Decimals of a US dollar that are kept.
const DECIMALS: usize = 9;
/// Milliseconds of a day and of a minute.
const DAY_MS: u64 = 86_400_000;
const MINUTE_MS: u64 = 60_000;

/// An amount of money, in billionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Nano(pub u64);

impl Nano {
    /// Reads a decimal number of US dollars, such as `0.075`, without any rounding.
    ///
    /// # Errors
    /// If it is no plain decimal number, has more than nine decimals or is too large to be a price.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not an amount of US dollars");
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 9 || !digits(whole) || !digits(decimals) {
            return Err(wrong());
        }
        let decimals = decimals.trim_end_matches('0');
        if decimals.len() > DECIMALS {
            return Err(format!("\"{text}\" has more than {DECIMALS} decimals"));
        }
        let padded = format!("{whole}{decimals:0<DECIMALS$}");
        padded.parse().map(Self).map_err(|_| wrong())
    }

    /// The amount that a person typed as a number, which is read as its shortest decimal form.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_dollars(dollars: f64) -> Result<Self, String> {
        Self::parse(&dollars.to_string())
    }
}

impl Nano {
    /// US dollars.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an amount is told to a few digits")]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl TryFrom<String> for Nano {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl std::fmt::Display for Nano {
    /// US dollars as a decimal number, without zeros at its end: `0.075`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let decimals = format!("{rest:09}");
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            decimals => write!(f, "{whole}.{decimals}"),
        }
    }
}

/// What a million tokens of one kind cost. It may depend on how long the input is: past the start of
/// a tier *all* tokens cost what the tier says, as the providers that have tiers bill them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "WrittenRate")]
pub struct Rate {
    base: Nano,
    /// Input tokens that are exceeded, and the price from there on; in rising order.
    tiers: Box<[(u64, Nano)]>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenRate {
    Flat(Nano),
    Tiered { base: Nano, tiers: Vec<(u64, Nano)> },
}

impl From<WrittenRate> for Rate {
    fn from(written: WrittenRate) -> Self {
        match written {
            WrittenRate::Flat(base) => Self::flat(base),
            WrittenRate::Tiered { base, mut tiers } => {
                tiers.sort_unstable();
                Self { base, tiers: tiers.into() }
            }
        }
    }
}

impl Rate {
    /// A price that depends on nothing.
    #[must_use]
    pub fn flat(base: Nano) -> Self {
        Self { base, tiers: Box::default() }
    }

    /// The price where `input` tokens were read in all.
    #[must_use]
    pub fn at(&self, input: u64) -> Nano {
        let reached = self.tiers.iter().rev().find(|(start, _)| input > *start);
        reached.map_or(self.base, |(_, price)| *price)
    }

    /// Whether longer inputs cost more.
    #[must_use]
    pub fn has_tiers(&self) -> bool {
        !self.tiers.is_empty()
    }

    fn is_zero(&self) -> bool {
        self.base.0 == 0 && self.tiers.iter().all(|(_, price)| price.0 == 0)
    }
}

/// What each kind of token costs, for a million of them. What has no price of its own costs what its
/// more general kind does; sound and pictures have none, because they cost a multiple.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// Text that is read anew.
    pub input: Option<Rate>,
    /// Read from the provider's cache; else `input`.
    pub cache_read: Option<Rate>,
    /// Written to the provider's cache; else `input`.
    pub cache_write: Option<Rate>,
    /// Written to the provider's cache for an hour; else `cache_write`.
    pub cache_write_1h: Option<Rate>,
    /// Sound or pictures that are read.
    pub input_media: Option<Rate>,
    /// Text that is written.
    pub output: Option<Rate>,
    /// Text that the model writes for itself; else `output`.
    pub reasoning: Option<Rate>,
    /// Sound or pictures that are made.
    pub output_media: Option<Rate>,
    /// What a request costs, whatever its tokens.
    pub request: Option<Nano>,
}

impl Rates {
    /// What `usage` costs, in billionths of a US dollar; `None` if tokens were used that have no price.
    ///
    /// The sum over all kinds is exact and rounded once, half up.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Option<u64> {
        let tokens = usage.buckets();
        let hour = usage.cache_write_1h.min(tokens.cache_write);
        let write = self.cache_write.as_ref().or(self.input.as_ref());
        let lines = [
            (tokens.input, self.input.as_ref()),
            (tokens.cache_read, self.cache_read.as_ref().or(self.input.as_ref())),
            (tokens.cache_write - hour, write),
            (hour, self.cache_write_1h.as_ref().or(write)),
            (tokens.input_media, self.input_media.as_ref()),
            (tokens.output, self.output.as_ref()),
            (tokens.reasoning, self.reasoning.as_ref().or(self.output.as_ref())),
            (tokens.output_media, self.output_media.as_ref()),
        ];
        let mut sum = 0_u128;
        for (tokens, rate) in lines.into_iter().filter(|(tokens, _)| *tokens > 0) {
            let line = u128::from(tokens).saturating_mul(u128::from(rate?.at(usage.input).0));
            sum = sum.saturating_add(line);
        }
        let rounded = sum.saturating_add(A_MILLION / 2) / A_MILLION;
        let tokens = u64::try_from(rounded).unwrap_or(u64::MAX);
        Some(tokens.saturating_add(self.request.unwrap_or_default().0))
    }

    /// Whether longer inputs cost more.
    #[must_use]
    pub fn has_tiers(&self) -> bool {
        self.all().any(Rate::has_tiers)
    }

    /// Every price that there is, with its name in project files.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Rate)> {
        let all = [
            ("input", &self.input),
            ("cache_read", &self.cache_read),
            ("cache_write", &self.cache_write),
            ("cache_write_1h", &self.cache_write_1h),
            ("input_media", &self.input_media),
            ("output", &self.output),
            ("reasoning", &self.reasoning),
            ("output_media", &self.output_media),
        ];
        all.into_iter().filter_map(|(name, rate)| Some((name, rate.as_ref()?)))
    }

    fn all(&self) -> impl Iterator<Item = &Rate> {
        self.named().map(|(_, rate)| rate)
    }
}

/// Prices that hold at certain times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Period {
    /// The first day on which they hold.
    from: Option<Day>,
    /// The time of the day, UTC, from which and until which they hold.
    daily: Option<(Minute, Minute)>,
    #[serde(flatten)]
    rates: Rates,
}

/// A day, counted from the Unix epoch; written `2026-11-10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Day(pub u64);

impl Day {
    /// The day in which a moment lies.
    #[must_use]
    pub const fn of(unix_ms: u64) -> Self {
        Self(unix_ms / DAY_MS)
    }

    /// Reads `YYYY-MM-DD`, from 1970 on.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-').map(|part| part.parse::<u64>().ok());
        let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
        let sound = (1970..10_000).contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && parts.next().is_none();
        // Days from civil, with years that begin in March (H. Hinnant, "chrono-Compatible Low-Level
        // Date Algorithms").
        let year = if month <= 2 { year - 1 } else { year };
        let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day.saturating_sub(1);
        let leap_days = year / 4 - year / 100 + year / 400;
        sound.then(|| Self(365 * year + leap_days + in_year - 719_468))
    }
}

impl TryFrom<String> for Day {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("\"{text}\" is not a day"))
    }
}

/// A minute of the day; written `16:30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Minute(u64);

impl TryFrom<String> for Minute {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(hour, minute)| {
            let (hour, minute): (u64, u64) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60).then_some(Self(hour * 60 + minute))
        });
        parts.ok_or_else(|| format!("\"{text}\" is not a time of the day"))
    }
}

impl Period {
    fn holds(&self, unix_ms: u64) -> bool {
        let now = Minute(unix_ms % DAY_MS / MINUTE_MS);
        let begun = self.from.is_none_or(|first| Day::of(unix_ms) >= first);
        let at_this_time = self.daily.is_none_or(|(start, end)| {
            if end < start { now >= start || now < end } else { start <= now && now < end }
        });
        begun && at_this_time
    }
}

/// All prices of a model, over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Tariff(Vec<Period>);

impl Tariff {
    /// Prices that hold at all times.
    #[must_use]
    pub fn always(rates: Rates) -> Self {
        Self(vec![Period { from: None, daily: None, rates }])
    }

    /// The prices at a moment: of those that hold, the last; if none does, the first.
    #[must_use]
    pub fn at(&self, unix_ms: u64) -> Option<&Rates> {
        let holds = self.0.iter().rev().find(|period| period.holds(unix_ms));
        holds.or(self.0.first()).map(|period| &period.rates)
    }

    /// Whether the prices depend on the time of the day.
    #[must_use]
    pub fn varies_daily(&self) -> bool {
        self.0.iter().any(|period| period.daily.is_some())
    }

    /// Whether there is any price for tokens in it.
    fn is_empty(&self) -> bool {
        self.0.iter().all(|period| period.rates.all().next().is_none())
    }

    fn is_zero(&self) -> bool {
        let free = |rates: &Rates| rates.request.is_none() && rates.all().all(Rate::is_zero);
        self.0.iter().all(|period| free(&period.rates))
    }
}

/// What a target costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Price {
    /// So much for a million tokens.
    Known(Arc<Tariff>),
    /// Nothing by the token.
    Free,
    /// Nobody knows.
    Unknown,
}

impl Price {
    /// The price that a tariff stands for: one without any price says nothing, and one of zeros only
    /// says that it is free.
    #[must_use]
    pub fn of(tariff: &Arc<Tariff>) -> Self {
        if tariff.is_empty() {
            Self::Unknown
        } else if tariff.is_zero() {
            Self::Free
        } else {
            Self::Known(Arc::clone(tariff))
        }
    }

    /// The state in one word: `priced`, `free` or `unknown`.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        match self {
            Self::Known(_) => "priced",
            Self::Free => "free",
            Self::Unknown => "unknown",
        }
    }

    /// What `usage` costs at a moment. Tokens of a kind that has no price make it unknown.
    #[must_use]
    pub fn cost(&self, usage: &Usage, unix_ms: u64) -> Cost {
        match self {
            Self::Known(tariff) => {
                let cost = tariff.at(unix_ms).and_then(|rates| rates.cost(usage));
                cost.map_or(Cost::Unknown, Cost::Priced)
            }
            Self::Free => Cost::Free,
            Self::Unknown => Cost::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
