//! `[prices]` in `backstay.toml`: what is typed there, and its rules.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    mistake::{nearest, one_of},
    rules::Rules,
};
use crate::price::{Nano, Price, Rate, Rates, Tariff, quote::PriceRule};

/// The longest name of a price.
const LONGEST_PATTERN: usize = 256;

/// What targets cost, in US dollars for a million tokens: either `free`, or `input` and `output` and
/// what differs from them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PriceFile {
    /// They cost nothing by the token: a model on a machine of one's own.
    pub free: bool,
    /// Text that is read.
    #[schemars(schema_with = "dollars")]
    pub input: Option<f64>,
    /// Text that is written.
    #[schemars(schema_with = "dollars")]
    pub output: Option<f64>,
    /// Text that is read from the provider's cache. Left out, it is `input`.
    #[schemars(schema_with = "dollars")]
    pub cache_read: Option<f64>,
    /// Text that is read and written to the provider's cache. Left out, it is `input`.
    #[schemars(schema_with = "dollars")]
    pub cache_write: Option<f64>,
    /// The same, where the cache keeps it for an hour. Left out, it is `cache_write`.
    #[schemars(schema_with = "dollars")]
    pub cache_write_1h: Option<f64>,
    /// Text that the model writes for itself. Left out, it is `output`.
    #[schemars(schema_with = "dollars")]
    pub reasoning: Option<f64>,
    /// Sound and pictures that are read. Left out, what has such tokens has no known cost.
    #[schemars(schema_with = "dollars")]
    pub input_media: Option<f64>,
    /// Sound and pictures that are made. Left out, what has such tokens has no known cost.
    #[schemars(schema_with = "dollars")]
    pub output_media: Option<f64>,
    /// What a request costs beside its tokens, in US dollars.
    #[schemars(schema_with = "dollars")]
    pub request: Option<f64>,
}

fn dollars(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "number", "minimum": 0, "maximum": 1_000_000 })
}

/// The price that holds for `pattern`, or mistakes. `providers` are those of the project.
pub(super) fn check_price(
    pattern: String,
    file: &PriceFile,
    providers: &[String],
    rules: &mut Rules<'_>,
) -> Option<PriceRule> {
    check_pattern(&pattern, providers, rules);
    let amounts = [
        ("input", file.input),
        ("output", file.output),
        ("cache_read", file.cache_read),
        ("cache_write", file.cache_write),
        ("cache_write_1h", file.cache_write_1h),
        ("reasoning", file.reasoning),
        ("input_media", file.input_media),
        ("output_media", file.output_media),
        ("request", file.request),
    ];
    let at = |key| ["prices", pattern.as_str(), key];
    if file.free {
        for (key, _) in amounts.iter().filter(|(_, amount)| amount.is_some()) {
            let remedy = "leave out `free`, or the prices";
            rules.say(&at(key), "what is free has no price", remedy);
        }
        return Some(PriceRule { price: Price::Free, pattern });
    }
    for (key, _) in amounts.iter().take(2).filter(|(_, amount)| amount.is_none()) {
        let remedy = format!("add {key} = …, in US dollars for a million tokens, or free = true");
        rules.say(&["prices", &pattern], format!("the key `{key}` is missing"), remedy);
    }
    let mut read = |key, amount: Option<f64>| match Nano::from_dollars(amount?) {
        Ok(nano) => Some(nano),
        Err(why) => {
            rules.say(&at(key), why, "write it with nine decimals at most, such as 0.075");
            None
        }
    };
    let [input, output, cache_read, cache_write, cache_write_1h, reasoning, heard, made, request] =
        amounts.map(|(key, amount)| read(key, amount));
    let rates = Rates {
        input: input.map(Rate::flat),
        output: output.map(Rate::flat),
        cache_read: cache_read.map(Rate::flat),
        cache_write: cache_write.map(Rate::flat),
        cache_write_1h: cache_write_1h.map(Rate::flat),
        reasoning: reasoning.map(Rate::flat),
        input_media: heard.map(Rate::flat),
        output_media: made.map(Rate::flat),
        request,
    };
    Some(PriceRule { price: Price::of(&Tariff::always(rates).into()), pattern })
}

fn check_pattern(pattern: &str, providers: &[String], rules: &mut Rules<'_>) {
    let mut say = |reason: String, remedy: String| rules.say(&["prices", pattern], reason, remedy);
    let Some((provider, model)) =
        pattern.split_once('/').filter(|_| pattern.len() <= LONGEST_PATTERN)
    else {
        let reason = "this is not a target".to_owned();
        return say(
            reason,
            "write [prices.\"provider/model\"], in which * fits anything".to_owned(),
        );
    };
    if provider.is_empty() || model.is_empty() {
        let remedy = "write both, as in [prices.\"local/*\"]".to_owned();
        return say("this names no provider or no model".to_owned(), remedy);
    }
    if provider.contains('*') || providers.iter().any(|known| known == provider) {
        return;
    }
    let known = || providers.iter().map(String::as_str);
    let remedy = match nearest(provider, known()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if providers.is_empty() => format!("add [providers.{provider}]"),
        None => format!("the project has {}", one_of(known())),
    };
    say(format!("there is no provider `{provider}`"), remedy);
}
