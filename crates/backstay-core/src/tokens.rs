//! To be merged.
/// Lower bound.
pub fn at_least(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}
