//! Numbers that look random and follow from a seed.

/// The finisher of splitmix64 (Steele, Lea, Flood 2014): every input bit moves every output bit.
pub(super) const fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a over `bytes`, begun with `seed`: which words an answer has depends on the question.
pub(super) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ mix(seed);
    mix(bytes
        .iter()
        .fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)))
}

/// A number in `[0, 1)`.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
pub(super) fn unit(seed: u64) -> f64 {
    (mix(seed) >> 11) as f64 / (1u64 << 53) as f64
}

/// A number of the standard normal distribution (Box and Muller 1958).
pub(super) fn normal(seed: u64) -> f64 {
    let radius = (-2.0 * (1.0 - unit(seed)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(mix(seed ^ 0x5bd1_e995))).cos()
}

/// One of `choices`.
pub(super) fn pick<T>(choices: &[T], seed: u64) -> Option<&T> {
    let count = u64::try_from(choices.len()).unwrap_or(u64::MAX);
    let index = mix(seed).checked_rem(count)?;
    choices.get(usize::try_from(index).unwrap_or_default())
}

/// What simulated answers are made of.
pub(super) const WORDS: [&str; 24] = [
    "anchor", "beacon", "bowline", "buoy", "cabin", "channel", "compass", "current", "deck",
    "harbour", "helm", "horizon", "keel", "lantern", "mast", "mooring", "rigging", "rudder",
    "sail", "shore", "signal", "tide", "voyage", "wind",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_has_its_quantiles() {
        let below = |limit: f64| (0..100_000).filter(|seed| normal(*seed) < limit).count();
        assert!((49_000..51_000).contains(&below(0.0)));
        assert!((98_800..99_200).contains(&below(2.326)), "{}", below(2.326));
    }
}
