//! Streams: where they commit, how they end, and what a client sees of them, whatever the two formats.

use backstay_core::{
    failure::{Cut, FailureClass, Phase},
    record::Outcome,
    release::StreamMode,
};
use backstay_engine::{
    answer::AnswerBody,
    request::{Client, Request},
};
use backstay_providers::{
    sim::Fault,
    wire::{PROTOCOLS, Protocol},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::harness::{Gateway, Heard, Target, hear, invoice, ms, object};

fn request(gateway: &Gateway, client: Client) -> Request {
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 100 });
    Request { client, body: object(body), ..gateway.hello_stream() }
}

const fn client_of(protocol: Protocol) -> Client {
    match protocol {
        Protocol::OpenAi => Client::OpenAi,
        Protocol::Anthropic => Client::Anthropic,
    }
}

async fn heard_of(targets: &[Target], client: Client) -> (Gateway, Heard) {
    let gateway = Gateway::new(targets, |_| {});
    let heard = gateway.heard(request(&gateway, client)).await;
    gateway.settled().await;
    (gateway, heard)
}

fn outcome(gateway: &Gateway) -> Outcome {
    gateway.last_record().outcome
}

#[tokio::test(start_paused = true)]
async fn until_its_first_content_a_stream_can_be_taken_elsewhere() {
    for fault in [Fault::HangFirstToken, Fault::ResetAfterHeaders, Fault::EmptyContent] {
        let targets = [Target::meeting(&[fault]), Target::healthy()];
        let (gateway, heard) = heard_of(&targets, Client::OpenAi).await;
        assert_eq!((heard.ends, heard.errors.len()), (1, 0), "{}", fault.name());
        assert_eq!(outcome(&gateway), Outcome::Ok, "{}", fault.name());
        assert_eq!(gateway.last_record().attempts.len(), 2, "{}", fault.name());
    }
}

#[tokio::test(start_paused = true)]
async fn after_it_a_failure_is_told_once_and_nothing_is_asked_again() {
    let cases = [
        (Fault::Stall, FailureClass::Timeout(Phase::Idle)),
        (Fault::CutStream, FailureClass::Truncated(Cut::Stream)),
        (Fault::ErrorEvent, FailureClass::UpstreamError),
        (Fault::MalformedSseLine, FailureClass::UpstreamError),
    ];
    for (fault, class) in cases {
        for protocol in PROTOCOLS {
            let targets = [Target::meeting(&[fault]), Target::healthy()];
            let (gateway, heard) = heard_of(&targets, client_of(protocol)).await;
            assert_eq!(heard.errors, [class.code()], "{} to {protocol:?}", fault.name());
            assert_eq!((heard.ends, heard.after_the_end), (0, 0), "no end of another kind");
            assert!(!heard.text.is_empty(), "what came before it was passed on");
            assert_eq!(outcome(&gateway), Outcome::Failed(class));
            assert_eq!(gateway.asked(1), 0, "a committed stream is not begun again");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_head_of_a_live_stream_comes_with_its_first_content() {
    let gateway = Gateway::new(&[Target::healthy().slow(ms(300)).writing(10.0)], |_| {});
    let began = Instant::now();
    let answer = gateway.ask(request(&gateway, Client::OpenAi)).await;
    assert_eq!(began.elapsed().as_millis(), 300);
    assert_eq!(answer.head.outcome, None, "it is not over");
    assert!(matches!(answer.body, AnswerBody::Live(_)));
    assert!(gateway.records().is_empty());
    let heard = hear(answer, Protocol::OpenAi, ms(0)).await;
    let record = gateway.last_record();
    assert_eq!(record.first_token_us, Some(300_000));
    assert!(record.latency_us > 1_000_000, "word by word: {}", record.latency_us);
    assert_eq!(record.answer.as_deref(), Some(heard.text.as_str()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_a_schema_is_held_back_until_it_is_valid() {
    let faults = [Fault::None, Fault::WrongType, Fault::None, Fault::FencedJson];
    let gateway = Gateway::new(&[Target::meeting(&faults).writing(10.0)], |spec| {
        spec.output_schema = Some(invoice());
    });
    let ask = || gateway.ask(request(&gateway, Client::OpenAi));
    for outcome in [Outcome::Ok, Outcome::Repaired, Outcome::Repaired] {
        let answer = ask().await;
        assert_eq!(answer.head.outcome, Some(outcome), "it is known before the first byte");
        let AnswerBody::Events(events) = &answer.body else { panic!("held back: {answer:?}") };
        let text = String::from_utf8(events.to_vec()).unwrap();
        let of_the_provider = text.contains("system_fingerprint");
        let mended = gateway.asked(0) == 4;
        assert_eq!(of_the_provider, !mended, "its own events, unless something was mended: {text}");
        let heard = hear(answer, Protocol::OpenAi, ms(0)).await;
        assert_eq!((heard.ends, heard.errors.len(), heard.usages), (1, 0, 0));
        serde_json::from_str::<serde_json::Value>(&heard.text).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn in_through_mode_a_violation_is_recorded_and_passed_by() {
    let faults = [Fault::WrongType, Fault::FencedJson, Fault::None];
    let gateway = Gateway::new(&[Target::meeting(&faults)], |spec| {
        spec.output_schema = Some(invoice());
        spec.stream = StreamMode::Through;
    });
    let expected = [
        Outcome::Failed(FailureClass::Schema),
        Outcome::Failed(FailureClass::Malformed),
        Outcome::Ok,
    ];
    for expected in expected {
        let heard = gateway.heard(request(&gateway, Client::OpenAi)).await;
        assert_eq!((heard.ends, heard.errors.len()), (1, 0));
        assert_eq!(outcome(&gateway), expected, "{}", heard.text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_holds_nothing_up_beyond_the_deadline() {
    let gateway = Gateway::new(&[Target::healthy()], |spec| {
        spec.budget.deadline = ms(2000);
        spec.breaker.consecutive = 1;
    });
    let words = "word ".repeat(50);
    let body = json!({ "messages": [{ "role": "user", "content": words }] });
    let answer = gateway.ask(Request { body: object(body), ..gateway.hello_stream() }).await;
    gateway.settled().await;
    assert!(gateway.start.elapsed() <= ms(2025), "{:?}", gateway.start.elapsed());
    sleep(ms(60_000)).await;
    let heard = hear(answer, Protocol::OpenAi, ms(0)).await;
    assert_eq!(heard.errors.len() + heard.ends, 1, "it ends by name, however late it is read");
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_no_failure_of_the_provider() {
    let target = Target::healthy().writing(1000.0);
    let gateway = Gateway::new(&[target.clone(), target], |spec| {
        spec.budget.deadline = ms(1000);
        spec.breaker.consecutive = 1;
        spec.params.insert("max_tokens".to_owned(), json!(1000));
    });
    let mut tried = 0;
    // Long enough that the pieces ahead are full: the sentence has more words than those.
    let late = loop {
        let words = format!("question {tried}");
        let body = json!({ "messages": [{ "role": "user", "content": words }] });
        let answer = gateway.ask(Request { body: object(body), ..gateway.hello_stream() }).await;
        gateway.settled().await;
        if outcome(&gateway) != Outcome::Ok {
            break answer;
        }
        tried += 1;
        assert!(tried < 50, "no answer is longer than what may wait for its client");
    };
    assert_eq!(outcome(&gateway), Outcome::Failed(FailureClass::Timeout(Phase::Deadline)));
    let attempts = gateway.last_record().attempts;
    assert_eq!(attempts[0].failure, Some(FailureClass::Cancelled));
    assert!(gateway.engine.targets().open_breakers().is_empty(), "the target is not shut off");
    let heard = hear(late, Protocol::OpenAi, ms(0)).await;
    assert_eq!(heard.errors, ["timeout_deadline"], "told at the end of what had been sent");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_a_stream_ends_it() {
    let gateway = Gateway::new(&[Target::healthy().writing(2.0)], |_| {});
    let answer = gateway.ask(request(&gateway, Client::OpenAi)).await;
    drop(answer);
    gateway.settled().await;
    assert_eq!(outcome(&gateway), Outcome::Failed(FailureClass::Cancelled));
    assert_eq!(gateway.start.elapsed().as_millis(), 0, "at once, not with the next word");
    assert_eq!(gateway.records().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn usage_is_recorded_always_and_shown_if_asked_for() {
    for upstream in PROTOCOLS {
        for include_usage in [false, true] {
            let gateway = Gateway::new(&[Target::healthy().speaking(upstream)], |_| {});
            let request = Request { include_usage, ..request(&gateway, Client::OpenAi) };
            let heard = gateway.heard(request).await;
            assert_eq!(heard.usages, usize::from(include_usage), "{upstream:?} {}", heard.wire());
            assert!(gateway.last_record().usage.is_some_and(|usage| usage.output > 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_the_two_formats_are_a_stream_says_the_same_and_ends_once() {
    let faults = [Fault::None, Fault::MissingDone, Fault::DuplicateUsage, Fault::Refusal];
    for fault in faults {
        for upstream in PROTOCOLS {
            for client in [Client::OpenAi, Client::Anthropic, Client::Native] {
                let target = Target::meeting(&[fault]).speaking(upstream);
                let (gateway, heard) = heard_of(&[target], client).await;
                let place = format!("{} from {upstream:?} to {client:?}", fault.name());
                let ended = heard.ends + heard.errors.len();
                assert_eq!((ended, heard.after_the_end), (1, 0), "{place}: {}", heard.wire());
                let said = format!("{}{}", heard.text, heard.refusal);
                let healthy = "The simulated answer is:";
                let expected = if fault == Fault::Refusal { "I am sorry" } else { healthy };
                assert!(said.starts_with(expected), "{place}: {said:?}");
                let refused = outcome(&gateway) == Outcome::Failed(FailureClass::Refused);
                assert_eq!(refused, fault == Fault::Refusal, "{place}: {:?}", outcome(&gateway));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_stream_is_kept_for_a_bad_day() {
    let mut gateway = Gateway::new(&[Target::healthy()], |spec| {
        spec.degrade.order = vec![backstay_core::release::DegradeStep::Stale];
    });
    let good = gateway.heard(request(&gateway, Client::OpenAi)).await;
    gateway.publish(&[Target::meeting(&[Fault::Internal; 3])]);
    let stale = gateway.heard(request(&gateway, Client::OpenAi)).await;
    assert_eq!((stale.text, stale.ends), (good.text, 1));
}
