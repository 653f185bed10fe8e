//! Tokens as this format tells them: cached input stands beside `input_tokens`, not in it.

use backstay_core::record::Usage;
use serde_json::Value;

use crate::wire::tokens_at;

/// The tokens of one answer, or of what there is of it; `input` of the result has the cached ones in it.
pub(super) fn usage(usage: &Value) -> Option<Usage> {
    let number = |pointer: &str| tokens_at(usage, pointer);
    let (input, output) = (number("/input_tokens"), number("/output_tokens"));
    if input.is_none() && output.is_none() {
        return None;
    }
    let minutes = number("/cache_creation/ephemeral_5m_input_tokens").unwrap_or_default();
    let hour = number("/cache_creation/ephemeral_1h_input_tokens").unwrap_or_default();
    let written = number("/cache_creation_input_tokens").unwrap_or_default();
    let cache_write = written.max(minutes.saturating_add(hour));
    let cache_read = number("/cache_read_input_tokens").unwrap_or_default();
    let cached = cache_read.saturating_add(cache_write);
    Some(Usage {
        input: input.unwrap_or_default().saturating_add(cached),
        output: output.unwrap_or_default(),
        cache_read,
        cache_write,
        cache_write_1h: hour,
        reasoning: number("/output_tokens_details/thinking_tokens").unwrap_or_default(),
        ..Usage::default()
    })
}
