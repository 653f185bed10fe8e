//! From what a provider says of tokens to what they cost: `golden/<wire>/usage/<case>.in.json` has the
//! provider's address, the model, the time and the `usage` object, as the provider documents it or as
//! it was seen; `<case>.out.json` what becomes of it.

use backstay_core::{
    price::{Day, Nano, quote::ProviderPrices},
    record::{Cost, Usage},
};
use backstay_providers::{accumulate::Accumulator, wire::Protocol};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::golden::{check, deltas, json_of, pretty};

const DAY_MS: u64 = 86_400_000;

/// As a document.
fn of_reply(protocol: Protocol, usage: &Value) -> Option<Usage> {
    let body = match protocol {
        Protocol::OpenAi => json!({"choices": [{"message": {"content": "x"}}], "usage": usage}),
        Protocol::Anthropic => json!({
            "type": "message", "content": [{"type": "text", "text": "x"}], "usage": usage,
        }),
    };
    protocol.wire().decode(&Bytes::from(body.to_string())).unwrap().usage
}

/// As a stream, whose events tell it wherever that is the custom.
fn of_stream(
    protocol: Protocol,
    usage: &Value,
    events: impl Fn(&Value) -> Vec<Value>,
) -> Option<Usage> {
    let events = events(usage).into_iter().map(|event| format!("data: {event}\n\n"));
    let (deltas, failure) = deltas(protocol, events.collect::<String>().as_bytes());
    assert_eq!(failure, None);
    let mut sum = Accumulator::new(protocol, 1 << 20);
    deltas.iter().for_each(|delta| sum.push(delta).unwrap());
    sum.finish().usage
}

/// The places where streams tell their usage: all of them must be read alike.
type Custom = fn(&Value) -> Vec<Value>;
const OPENAI: [(&str, Custom); 5] = [
    ("a last chunk without choices", |usage| {
        vec![
            json!({"choices": [{"delta": {"content": "x"}}], "usage": null}),
            json!({"choices": [], "usage": usage}),
        ]
    }),
    ("the chunk that finishes", |usage| {
        vec![json!({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage})]
    }),
    ("every chunk, growing", |usage| {
        let begun = json!({"prompt_tokens": 0, "completion_tokens": 0});
        vec![
            json!({"choices": [{"delta": {"content": "x"}}], "usage": begun}),
            json!({"choices": [{"delta": {"content": "y"}}], "usage": usage}),
            json!({"choices": [], "usage": usage}),
        ]
    }),
    ("Groq's own place", |usage| vec![json!({"choices": [], "x_groq": {"usage": usage}})]),
    ("Moonshot's own place", |usage| vec![json!({"choices": [{"delta": {}, "usage": usage}]})]),
];
const ANTHROPIC: [(&str, Custom); 1] = [("start and end", |usage| {
    let mut start = usage.clone();
    start["output_tokens"] = 1.into();
    vec![
        json!({"type": "message_start", "message": {"usage": start}}),
        json!({"type": "message_delta", "delta": {}, "usage": usage}),
    ]
})];

fn same_in_streams(protocol: Protocol, case: &Value, whole: Option<Usage>) {
    let customs = match protocol {
        Protocol::OpenAi => &OPENAI[..],
        Protocol::Anthropic => &ANTHROPIC[..],
    };
    for (custom, events) in customs {
        let streamed = of_stream(protocol, &case["usage"], events);
        // A stream that says its input first is not without any.
        if whole.is_some() {
            assert_eq!(streamed, whole, "{custom}: {case}");
        }
    }
}

proptest! {
    /// Whatever a provider says, its answer is read, its parts add up, and no figure is absurd.
    #[test]
    fn any_figures_are_read(
        figures in proptest::collection::vec(
            prop_oneof![0..100_u64, Just(1_000_000_000), Just(1_000_000_001), Just(u64::MAX)], 16,
        ),
    ) {
        let mut figures = figures.into_iter();
        let mut next = || figures.next().unwrap_or_default();
        let openai = json!({
            "prompt_tokens": next(), "completion_tokens": next(), "total_tokens": next(),
            "cached_tokens": next(),
            "prompt_tokens_details": {"audio_tokens": next(), "cache_write_tokens": next()},
            "completion_tokens_details": {
                "reasoning_tokens": next(), "audio_tokens": next(), "image_tokens": next(),
            },
        });
        let anthropic = json!({
            "input_tokens": next(), "output_tokens": next(), "cache_read_input_tokens": next(),
            "cache_creation_input_tokens": next(),
            "cache_creation": {"ephemeral_5m_input_tokens": next(), "ephemeral_1h_input_tokens": next()},
            "output_tokens_details": {"thinking_tokens": next()},
        });
        for (protocol, usage) in [(Protocol::OpenAi, openai), (Protocol::Anthropic, anthropic)] {
            let Some(usage) = of_reply(protocol, &usage) else { continue };
            let parts = usage.buckets();
            let input = parts.input + parts.cache_read + parts.cache_write + parts.input_media;
            let output = parts.output + parts.reasoning + parts.output_media;
            prop_assert_eq!((input, output), (usage.input, usage.output));
            prop_assert!(input <= 4_000_000_000 && output <= 4_000_000_000);
        }
    }
}

fn moment(case: &Value) -> u64 {
    let (day, time) = case["at"].as_str().unwrap().split_once(' ').unwrap();
    let (hour, minute) = time.split_once(':').unwrap();
    let minutes = hour.parse::<u64>().unwrap() * 60 + minute.parse::<u64>().unwrap();
    Day::parse(day).unwrap().0 * DAY_MS + minutes * 60_000
}

#[test]
fn from_usage_to_cost() {
    check("usage", "json", |protocol, input| {
        let case = json_of(input);
        let usage = of_reply(protocol, &case["usage"]);
        same_in_streams(protocol, &case, usage);
        let prices = ProviderPrices::new("p", case["base_url"].as_str(), &[]);
        let quote = prices.quote(case["model"].as_str().unwrap());
        let cost = usage.map(|usage| quote.price.cost(&usage, moment(&case)));
        let dollars = cost.map(|cost| match cost {
            Cost::Priced(nano) => Nano(nano).to_string(),
            Cost::Free => "free".to_owned(),
            Cost::Unknown => "unknown".to_owned(),
        });
        pretty(&json!({
            "usage": usage,
            "buckets": usage.map(|usage| usage.buckets()),
            "dollars": dollars,
        }))
    });
}
