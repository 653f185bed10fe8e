//! The last good answers, for the `stale` step of degradation. Bounded in bytes; only whole, valid
//! answers get in, so an empty or broken one is never replayed.

use std::time::Duration;

use quick_cache::{Weighter, sync::Cache};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// All answers together, in bytes.
const CAPACITY: u64 = 8 << 20;
/// An answer longer than this is not kept.
const LONGEST: usize = 256 << 10;

/// What a request is recognised by: a digest of its release and everything that was sent.
pub(crate) type CacheKey = [u8; 32];

/// The key of a request to `release` made of `parts`.
pub(crate) fn key<'a>(release: &str, parts: impl Iterator<Item = &'a [u8]>) -> CacheKey {
    let mut digest = Sha256::new();
    digest.update(release.as_bytes());
    for part in parts {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

#[derive(Clone, Debug)]
struct Kept {
    at: Instant,
    text: String,
}

#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<CacheKey, Kept> for Bytes {
    fn weight(&self, _key: &CacheKey, kept: &Kept) -> u64 {
        kept.text.len() as u64 + 128
    }
}

/// The cache of last good answers.
#[derive(Debug)]
pub(crate) struct StaleCache {
    kept: Cache<CacheKey, Kept, Bytes>,
}

impl StaleCache {
    pub(crate) fn new() -> Self {
        Self { kept: Cache::with_weighter(1024, CAPACITY, Bytes) }
    }

    pub(crate) fn put(&self, key: CacheKey, text: &str, now: Instant) {
        if text.len() <= LONGEST {
            self.kept.insert(key, Kept { at: now, text: text.to_owned() });
        }
    }

    /// The last good answer, if it is not older than `stale_for`.
    pub(crate) fn get(&self, key: &CacheKey, stale_for: Duration, now: Instant) -> Option<String> {
        let kept = self.kept.get(key)?;
        (now.duration_since(kept.at) <= stale_for).then_some(kept.text)
    }
}
