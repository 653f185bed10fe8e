//! Tokens, out of the dialects in which servers of this format tell them.
//!
//! What is read here is billed, and each dialect differs in what it counts twice: `prompt_tokens` has
//! the cached ones in it, `completion_tokens` has the reasoning in it at OpenAI and most others, but not
//! at xAI, Perplexity and Gemini. Nothing here knows a provider's name: the figures tell themselves.

use backstay_core::record::Usage;
use serde_json::Value;

use crate::wire::tokens_at;

/// Where cached input stands: OpenAI and most others, `DeepSeek`, Moonshot, xAI's older form.
const CACHED: [&str; 4] = [
    "/prompt_tokens_details/cached_tokens",
    "/prompt_cache_hit_tokens",
    "/cached_tokens",
    "/cached_prompt_text_tokens",
];
/// Where reasoning stands: OpenAI and most others; Perplexity, `SGLang`, xAI's older form.
const REASONING: [&str; 2] = ["/completion_tokens_details/reasoning_tokens", "/reasoning_tokens"];

/// The tokens of one answer, if the provider says how many there were.
pub(super) fn usage(usage: &Value) -> Option<Usage> {
    let number = |pointer: &str| tokens_at(usage, pointer);
    let first = |pointers: &[&str]| pointers.iter().find_map(|pointer| number(pointer));
    let (input, output) = (number("/prompt_tokens"), number("/completion_tokens"));
    if input.is_none() && output.is_none() {
        return None;
    }
    let (input, output) = (input.unwrap_or_default(), output.unwrap_or_default());
    let cache_read = first(&CACHED).unwrap_or_default();
    let cache_write = number("/prompt_tokens_details/cache_write_tokens").unwrap_or_default();
    let reasoning = first(&REASONING).unwrap_or_default();
    let made = "/completion_tokens_details";
    let output_media = [format!("{made}/audio_tokens"), format!("{made}/image_tokens")];
    let spare =
        number("/total_tokens").unwrap_or_default().saturating_sub(input.saturating_add(output));
    let beside = Beside::find(spare, (input, cache_read), (output, reasoning));
    Some(Usage {
        input: input.saturating_add(beside.input),
        output: output.saturating_add(beside.output),
        cache_read,
        cache_write,
        // Pictures that are read cost what text does; only sound has a price of its own.
        input_media: number("/prompt_tokens_details/audio_tokens").unwrap_or_default(),
        reasoning: reasoning.max(beside.output),
        output_media: output_media.iter().filter_map(|at| number(at)).sum(),
        ..Usage::default()
    })
}

/// Tokens that stand beside a total instead of in it.
#[derive(Default)]
struct Beside {
    input: u64,
    output: u64,
}

impl Beside {
    /// `spare` is what `total_tokens` has beyond input and output.
    fn find(spare: u64, (input, cached): (u64, u64), (output, reasoning): (u64, u64)) -> Self {
        // A part that is larger than its whole is none.
        if cached > input || (spare > 0 && spare == cached) {
            return Self { input: cached, output: 0 };
        }
        if reasoning > output || (spare > 0 && spare == reasoning) {
            return Self { input: 0, output: reasoning };
        }
        // Gemini keeps its reasoning to itself: only the total tells.
        if reasoning == 0 {
            return Self { input: 0, output: spare };
        }
        Self::default()
    }
}
