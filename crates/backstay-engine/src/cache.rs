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

/// What a request is recognised by: a digest of its call and everything that was sent.
pub(crate) type CacheKey = [u8; 32];

/// The key of a request of `call` made of `parts`.
pub(crate) fn key<'a>(call: &str, parts: impl Iterator<Item = &'a [u8]>) -> CacheKey {
    let mut digest = Sha256::new();
    digest.update(call.as_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_given_until_it_is_too_old() {
        let (cache, now) = (StaleCache::new(), Instant::now());
        let key = key("call", [b"hello".as_slice()].into_iter());
        cache.put(key, "good", now);
        let (hour, just) = (Duration::from_secs(3600), Duration::from_millis(1));
        assert_eq!(cache.get(&key, hour, now + hour).as_deref(), Some("good"));
        assert_eq!(cache.get(&key, hour, now + hour + just), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_too_long_is_not_kept() {
        let (cache, now) = (StaleCache::new(), Instant::now());
        cache.put([1; 32], &"x".repeat(LONGEST + 1), now);
        assert_eq!(cache.get(&[1; 32], Duration::MAX, now), None);
    }

    #[test]
    fn the_key_knows_where_one_part_ends() {
        let of = |parts: &[&str]| key("call", parts.iter().map(|part| part.as_bytes()));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
    }
}
