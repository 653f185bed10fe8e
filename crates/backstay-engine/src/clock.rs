//! Wall-clock time and randomness of the engine, so that a test can hold both still.
//!
//! Everything that decides takes them as arguments; only the engine asks here. Durations are measured
//! with `tokio::time`, never with this clock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use backstay_core::record::CallId;
use tokio::time::Instant;

/// Where the date comes from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A date that moves with tokio's (possibly paused) time.
    Simulated {
        /// The date at `start`, since the Unix epoch.
        base: Duration,
        /// The moment that `base` belongs to.
        start: Instant,
    },
}

impl Clock {
    /// Time since the Unix epoch.
    #[must_use]
    pub fn since_epoch(&self) -> Duration {
        match self {
            #[expect(
                clippy::disallowed_methods,
                reason = "this is the one place that reads the date"
            )]
            Self::System => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            Self::Simulated { base, start } => *base + start.elapsed(),
        }
    }
}

/// A seeded source of numbers (`SplitMix64`, Steele, Lea and Flood, OOPSLA 2014) that needs no lock.
/// For jitter and ids, not for secrets.
#[derive(Debug)]
pub struct Entropy {
    state: AtomicU64,
}

impl Entropy {
    /// A source that always gives the same numbers for the same seed.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }

    /// The next 64 bits.
    pub fn bits(&self) -> u64 {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.state.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number drawn evenly from 0 (included) to 1 (excluded).
    pub fn unit(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let numerator = (self.bits() >> 11) as f64;
        numerator / 9_007_199_254_740_992.0
    }

    /// A fresh call id for a call that starts at `since_epoch`.
    pub fn call_id(&self, since_epoch: Duration) -> CallId {
        let mut random = [0; 10];
        let (head, tail) = random.split_at_mut(8);
        head.copy_from_slice(&self.bits().to_le_bytes());
        let [a, b, ..] = self.bits().to_le_bytes();
        tail.copy_from_slice(&[a, b]);
        CallId::new(since_epoch, random)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_of_one_instant_are_all_different_and_sort_by_time() {
        let entropy = Entropy::seeded(0);
        let now = Duration::from_secs(1_750_000_000);
        let ids: HashSet<_> = (0..10_000).map(|_| entropy.call_id(now)).collect();
        assert_eq!(ids.len(), 10_000);
        let later = entropy.call_id(now + Duration::from_millis(1));
        assert!(ids.iter().all(|id| *id < later));
        assert_eq!(later.unix_millis(), 1_750_000_000_001);
    }

    #[test]
    fn a_seed_gives_the_same_numbers_between_0_and_1() {
        let draw = || {
            let entropy = Entropy::seeded(5);
            (0..1000).map(|_| entropy.unit()).collect::<Vec<_>>()
        };
        let numbers = draw();
        assert_eq!(numbers, draw());
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        let mean = numbers.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
