//! Damaged and invented input: nothing panics, and nothing of it is quoted.

use std::fs;

use backstay_providers::{
    accumulate::Accumulator,
    sse::{SseEvent, SseReader},
    wire::{PROTOCOLS, Protocol},
};
use bytes::Bytes;
use http::HeaderMap;
use proptest::{prelude::*, sample::Index};
use serde_json::{Map, Value};

use crate::golden::{cases, opening, prompt_of};

/// Cuts, flips and repeats bytes of a golden input.
fn damage(mut bytes: Vec<u8>, changes: &[(Index, u8, u8)]) -> Vec<u8> {
    for (place, kind, byte) in changes {
        if bytes.is_empty() {
            break;
        }
        let place = place.index(bytes.len());
        match kind % 4 {
            0 => bytes[place] = *byte,
            1 => drop(bytes.remove(place)),
            2 => bytes.insert(place, *byte),
            _ => {
                let end = (place + usize::from(*byte)).min(bytes.len());
                let piece = bytes[place..end].to_vec();
                bytes.splice(place..place, piece);
            }
        }
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(Index, u8, u8)>> {
    prop::collection::vec(any::<(Index, u8, u8)>(), 1..6)
}

fn golden(kind: &str, pick: Index) -> (Protocol, Vec<u8>) {
    let cases = cases(kind);
    let (protocol, path) = &cases[pick.index(cases.len())];
    (*protocol, fs::read(path).unwrap())
}

/// Puts another JSON value in the place of one that lies somewhere inside.
fn swap(value: &mut Value, path: &[Index], new: Value) {
    let Some((first, rest)) = path.split_first() else {
        *value = new;
        return;
    };
    let children: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(map) => map.values_mut().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    let count = children.len();
    match children.into_iter().nth(if count == 0 { 0 } else { first.index(count) }) {
        Some(child) => swap(child, rest, new),
        None => *value = new,
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z:;,/]{0,6}".prop_map(Value::from),
        Just(Value::Array(vec![Value::Null, 1.into()])),
        Just(Value::Object(Map::new())),
    ]
}

proptest! {
    #[test]
    fn replies_and_errors(pick in any::<Index>(), changes in changes(), status in 100_u16..700) {
        let (protocol, bytes) = golden("reply", pick);
        let bytes = Bytes::from(damage(bytes, &changes));
        if let Ok(mut reply) = protocol.wire().decode(&bytes) {
            reply.changed = true;
            for client in PROTOCOLS {
                // Either outcome will do; what counts is that there is one.
                drop(client.render_reply(&reply, 0));
            }
        }
        let failure = protocol.wire().decode_error(status, &HeaderMap::new(), &bytes);
        prop_assert_eq!(failure.status, Some(status));
    }

    #[test]
    fn errors(pick in any::<Index>(), changes in changes(), status in 100_u16..700) {
        let (protocol, bytes) = golden("error", pick);
        let case: Value = serde_json::from_slice(&bytes).unwrap();
        let body = damage(case["body"].to_string().into_bytes(), &changes);
        let failure = protocol.wire().decode_error(status, &HeaderMap::new(), &body);
        prop_assert_eq!(failure.status, Some(status));
    }

    #[test]
    fn event_streams(pick in any::<Index>(), changes in changes()) {
        let (protocol, bytes) = golden("stream", pick);
        let mut reader = SseReader::new(1 << 20);
        reader.push(Bytes::from(damage(bytes, &changes)));
        let mut accumulator = Accumulator::new(protocol, 10_000);
        let mut writers = PROTOCOLS.map(|client| client.stream_writer(opening()));
        let mut out = Vec::new();
        while let Ok(Some(event)) = reader.next() {
            let Ok(deltas) = protocol.wire().decode_event(&event) else { break };
            for delta in &deltas {
                writers.iter_mut().for_each(|writer| writer.write(delta, &mut out));
                if accumulator.push(delta).is_err() {
                    return Ok(());
                }
            }
        }
        let reply = accumulator.finish();
        for client in PROTOCOLS {
            drop(client.render_reply(&reply, 0));
        }
    }

    #[test]
    fn events(name in prop::option::of("[a-z_]{0,8}"), data in "\\PC{0,60}") {
        for protocol in PROTOCOLS {
            let event = SseEvent { name: name.clone(), data: Bytes::from(data.clone()) };
            drop(protocol.wire().decode_event(&event));
        }
    }

    /// Requests are JSON when they come here, so that values are swapped and not bytes.
    #[test]
    fn requests(
        pick in any::<Index>(),
        path in prop::collection::vec(any::<Index>(), 0..7),
        new in any_json(),
    ) {
        let (_, bytes) = golden("encode", pick);
        let mut case: Value = serde_json::from_slice(&bytes).unwrap();
        if let Some(body) = case.get_mut("body") {
            swap(body, &path, new);
        }
        let prompt = prompt_of(&case);
        for protocol in PROTOCOLS {
            match protocol.wire().encode(&prompt, "m") {
                Ok(request) => {
                    let body: Value = serde_json::from_slice(&request.body).unwrap();
                    prop_assert_eq!(&body["model"], "m");
                    prop_assert!(body["messages"].is_array());
                }
                Err(failure) => prop_assert!(failure.param.is_some(), "{}", failure),
            }
        }
    }
}
