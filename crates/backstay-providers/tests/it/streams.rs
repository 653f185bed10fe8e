//! Streams as wholes: what a stream accumulates to, and that a written stream means what was written.

use std::fs;

use backstay_core::{failure::FailureClass, record::Usage};
use backstay_providers::{
    accumulate::Accumulator,
    wire::{Delta, Finish, PROTOCOLS, Protocol, Reply},
};

use crate::golden::{cases, deltas, opening};

fn fold(protocol: Protocol, deltas: &[Delta]) -> Reply {
    let mut accumulator = Accumulator::new(protocol, 1 << 20);
    for delta in deltas {
        accumulator.push(delta).unwrap();
    }
    accumulator.finish()
}

/// For every recorded stream and every client: writing it and reading it back gives the same answer.
#[test]
fn a_stream_survives_both_writers() {
    let mut compared = 0;
    for (protocol, path) in cases("stream") {
        let (original, failure) = deltas(protocol, &fs::read(&path).unwrap());
        let many = original.iter().any(|delta| matches!(delta, Delta::Text { choice: 1.., .. }));
        if failure.is_some() || many || !original.contains(&Delta::End) {
            continue;
        }
        let before = fold(protocol, &original);
        if before.choices.is_empty() {
            continue;
        }
        for client in PROTOCOLS {
            let mut writer = client.stream_writer(opening());
            let mut bytes = Vec::new();
            original.iter().for_each(|delta| writer.write(delta, &mut bytes));
            let (again, failure) = deltas(client, &bytes);
            assert_eq!(failure, None, "{}", path.display());
            assert_eq!(again.last(), Some(&Delta::End), "{}", path.display());
            let after = fold(client, &again);
            let (a, b) = (&before.choices[0], &after.choices[0]);
            let words = |c: &backstay_providers::wire::Choice| {
                c.text.clone() + c.refusal.as_deref().unwrap_or_default()
            };
            if !words(a).is_empty() {
                assert_eq!(words(a), words(b), "{}", path.display());
            }
            assert_eq!(a.tool_calls, b.tool_calls, "{}", path.display());
            assert_eq!(a.reasoning, b.reasoning, "{}", path.display());
            // Anthropic's format must say something, and says zero where nothing is known.
            let tokens = |reply: &Reply| {
                let usage = reply.usage.unwrap_or_default();
                (usage.input, usage.output, usage.cache_read)
            };
            assert_eq!(tokens(&before), tokens(&after), "{}", path.display());
            compared += 1;
        }
    }
    assert!(compared >= 8, "only {compared} streams were compared");
}

#[test]
fn the_bound_holds_for_texts_and_for_empty_pieces() {
    let text = |text: &str| Delta::Text { choice: 0, text: text.to_owned() };
    let mut accumulator = Accumulator::new(Protocol::OpenAi, 100);
    assert!(accumulator.push(&text(&"x".repeat(30))).is_ok());
    let failure = accumulator.push(&text(&"x".repeat(30))).unwrap_err();
    assert_eq!(failure.class, FailureClass::UpstreamError);

    let mut accumulator = Accumulator::new(Protocol::OpenAi, 1_000);
    let opened = (0..1_000).take_while(|&index| {
        let (id, name) = (None, None);
        let tool = Delta::Tool { choice: index, index, id, name, arguments: String::new() };
        accumulator.push(&tool).is_ok()
    });
    assert!(opened.count() < 20, "answers and tool calls cost something even if empty");
}

#[test]
fn it_knows_content_from_the_end_and_adds_usage_up_field_by_field() {
    let mut accumulator = Accumulator::new(Protocol::Anthropic, 1_000);
    let usage = |input, output| Delta::Usage(Usage { input, output, ..Usage::default() });
    accumulator.push(&usage(10, 1)).unwrap();
    accumulator.push(&Delta::Text { choice: 0, text: String::new() }).unwrap();
    assert!(!accumulator.finished());
    accumulator.push(&Delta::Text { choice: 0, text: "a".to_owned() }).unwrap();
    accumulator.push(&Delta::Finish { choice: 0, finish: Finish::Stop }).unwrap();
    accumulator.push(&usage(0, 7)).unwrap();
    accumulator.push(&Delta::End).unwrap();
    assert!(accumulator.finished());
    let reply = accumulator.finish();
    assert_eq!(reply.usage, Some(Usage { input: 10, output: 7, ..Usage::default() }));
    assert_eq!(reply.choices[0].text, "a");
}
