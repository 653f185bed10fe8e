//! What the engine makes of each fault on its own, in both formats, streamed and not: exactly what the
//! table of faults says that a gateway should make of it.

use std::fmt::Write as _;

use backstay_core::record::Outcome;
use backstay_engine::request::{Client, Request};
use backstay_providers::{
    sim::{Fault, fault::Seen},
    wire::{PROTOCOLS, Protocol},
};
use serde_json::json;

use crate::harness::{Gateway, Target, invoice, object};

async fn outcome(fault: Fault, protocol: Protocol, stream: bool) -> Outcome {
    let targets = [Target::meeting(&[fault]).speaking(protocol)];
    let gateway = Gateway::new(&targets, |spec| {
        spec.budget.attempts = 1;
        spec.output_schema = Some(invoice());
    });
    let client = match protocol {
        Protocol::OpenAi => Client::OpenAi,
        Protocol::Anthropic => Client::Anthropic,
    };
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 100 });
    let request = Request { client, stream, body: object(body), ..gateway.hello() };
    gateway.heard(request).await;
    gateway.settled().await;
    gateway.last_record().outcome
}

#[tokio::test(start_paused = true)]
async fn every_fault_is_seen_as_what_it_is() {
    let mut wrong = String::new();
    for fault in Fault::ALL {
        for (protocol, stream) in PROTOCOLS.map(|p| [(p, false), (p, true)]).concat() {
            let seen = outcome(*fault, protocol, stream).await;
            let expected = match fault.seen(protocol, stream) {
                Seen::Unaffected | Seen::Ok => Outcome::Ok,
                Seen::Mended => Outcome::Repaired,
                Seen::Fails(class) => Outcome::Failed(class),
            };
            if seen != expected {
                let (fault, protocol) = (fault.name(), protocol.name());
                writeln!(
                    wrong,
                    "{fault} ({protocol}, stream {stream}): {} instead of {}",
                    seen.code(),
                    expected.code()
                )
                .unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
