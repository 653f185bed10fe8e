//! What calls use and cost: every attempt by itself, the call as their sum, and the budget that ends it.

use backstay_core::{
    failure::FailureClass,
    price::{Nano, Price, Rate, Rates, Tariff},
    record::{CallRecord, Cost, Degraded, Outcome, Usage},
    release::{DegradeStep, StreamMode},
};
use backstay_engine::request::Request;
use backstay_providers::{
    sim::Fault,
    wire::{PROTOCOLS, Protocol},
};
use serde_json::json;
use tokio::time::timeout;

use crate::harness::{Gateway, Target, invoice, ms};

/// A dollar for a million tokens that are read, and four for those that are written.
fn price() -> Price {
    let dollars = |dollars: u64| Some(Rate::flat(Nano(dollars * 1_000_000_000)));
    let rates = Rates { input: dollars(1), output: dollars(4), ..Rates::default() };
    Price::Known(Tariff::always(rates).into())
}

fn cost(usage: &Usage) -> Cost {
    Cost::Priced(usage.input * 1_000 + usage.output * 4_000)
}

fn priced(faults: &[Fault]) -> Target {
    Target::meeting(faults).at_price(price())
}

async fn record(gateway: &Gateway, request: Request) -> CallRecord {
    gateway.heard(request).await;
    gateway.settled().await;
    gateway.last_record()
}

#[tokio::test(start_paused = true)]
async fn a_call_costs_what_its_attempts_cost() {
    let targets = [priced(&[Fault::RenamedField, Fault::WrongType]), priced(&[])];
    let gateway = Gateway::new(&targets, |spec| spec.output_schema = Some(invoice()));
    let record = record(&gateway, gateway.hello()).await;
    assert_eq!(record.outcome, Outcome::Ok);
    assert_eq!(record.attempts.len(), 3);
    let mut sum = Usage::default();
    for attempt in &record.attempts {
        let usage = attempt.usage.unwrap();
        assert!(usage.input > 0 && usage.output > 0 && !usage.estimated, "{usage:?}");
        assert_eq!(attempt.cost, Some(cost(&usage)));
        sum.add(&usage);
    }
    assert_eq!((record.usage, record.cost), (Some(sum), Some(cost(&sum))));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_of_one_attempt_is_not_known_of_the_call() {
    let unpriced = Target::meeting(&[Fault::EmptyContent]).at_price(Price::Unknown);
    let gateway = Gateway::new(&[unpriced, priced(&[])], |_| {});
    let found = record(&gateway, gateway.hello()).await;
    let costs: Vec<_> = found.attempts.iter().map(|attempt| attempt.cost).collect();
    assert_eq!(costs[0], Some(Cost::Unknown));
    assert!(matches!(costs[1], Some(Cost::Priced(1..))));
    assert_eq!(found.cost, Some(Cost::Unknown));
    // Simulated answers are free, unless the project says something else.
    let gateway = Gateway::new(&[Target::healthy()], |_| {});
    let found = record(&gateway, gateway.hello()).await;
    assert_eq!(found.cost, Some(Cost::Free));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_of_which_nothing_came_has_no_cost() {
    let targets = [priced(&[Fault::Internal]), priced(&[Fault::HangFirstToken])];
    let gateway = Gateway::new(&targets, |spec| spec.budget.attempts = 2);
    let found = record(&gateway, gateway.hello_stream()).await;
    assert_eq!(found.attempts.len(), 2);
    assert!(found.attempts.iter().all(|a| a.usage.is_none() && a.cost.is_none()));
    assert_eq!((found.usage, found.cost), (None, None));
}

/// Streams tell their usage only where it is asked for, so a record that has it proves that it was; the
/// client sees it only if it asked itself.
#[tokio::test(start_paused = true)]
async fn usage_is_asked_of_every_stream_and_shown_to_those_who_asked() {
    for mode in [StreamMode::Through, StreamMode::Buffered] {
        for include_usage in [false, true] {
            let gateway = Gateway::new(&[priced(&[])], |spec| spec.stream = mode);
            let request = Request { include_usage, ..gateway.hello_stream() };
            let heard = gateway.heard(request).await;
            gateway.settled().await;
            assert_eq!(heard.usages, usize::from(include_usage), "{mode:?}");
            assert_eq!(heard.ends, 1);
            let usage = gateway.last_record().usage.unwrap();
            assert!(usage.output > 0 && !usage.estimated, "{mode:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn usage_that_the_provider_does_not_tell_is_estimated_and_marked() {
    for protocol in PROTOCOLS {
        for stream in [false, true] {
            let silent = priced(&[Fault::MissingUsage]).speaking(protocol);
            let gateway = Gateway::new(&[silent, priced(&[]).speaking(protocol)], |_| {});
            let request = Request { stream, ..gateway.hello() };
            let guess = record(&gateway, request).await;
            let usage = guess.usage.unwrap();
            assert!(usage.estimated && usage.input > 0 && usage.output > 0, "{usage:?}");
            assert_eq!(guess.cost, Some(cost(&usage)));
            // The same answer with the provider's own figures: the guess is near.
            let truth = record(&gateway, Request { stream, ..gateway.hello() }).await;
            let truth = truth.usage.unwrap();
            assert!(!truth.estimated && usage.output.abs_diff(truth.output) <= truth.output);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_of_a_broken_stream_is_counted() {
    for mode in [StreamMode::Through, StreamMode::Buffered] {
        for (fault, protocol) in [
            (Fault::CutStream, Protocol::OpenAi),
            (Fault::Stall, Protocol::OpenAi),
            // This format tells its input at the start, and one token of its output.
            (Fault::CutStream, Protocol::Anthropic),
        ] {
            let gateway = Gateway::new(&[priced(&[fault]).speaking(protocol)], |spec| {
                spec.stream = mode;
                spec.budget.attempts = 1;
            });
            let found = record(&gateway, gateway.hello_stream()).await;
            assert!(found.outcome.failure().is_some());
            let usage = found.attempts[0].usage.unwrap();
            assert!(usage.estimated && usage.output > 1, "{} {mode:?}", fault.name());
            assert_eq!(found.cost, Some(cost(&usage)), "{} {mode:?}", fault.name());
        }
    }
    // The deadline takes a stream that is held back in the middle.
    let gateway = Gateway::new(&[priced(&[]).writing(10.0)], |spec| {
        spec.stream = StreamMode::Buffered;
        spec.budget.deadline = ms(1_000);
    });
    let found = record(&gateway, gateway.hello_stream()).await;
    assert!(found.attempts[0].usage.is_some_and(|usage| usage.estimated && usage.output > 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_a_stream_pays_for_what_it_got() {
    let gateway = Gateway::new(&[priced(&[]).writing(10.0)], |_| {});
    let answer = gateway.ask(gateway.hello_stream()).await;
    tokio::time::sleep(ms(500)).await;
    drop(answer);
    timeout(ms(60_000), gateway.settled()).await.unwrap();
    let found = gateway.last_record();
    assert_eq!(found.outcome, Outcome::Failed(FailureClass::Cancelled));
    assert!(found.usage.is_some_and(|usage| usage.estimated && usage.output > 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_has_cost_what_it_may_makes_no_other_attempt() {
    let faults = [Fault::RenamedField; 4];
    for (most, attempts, outcome) in [
        (Some(0.000_001), 1, FailureClass::Budget),
        (Some(0.5), 3, FailureClass::Schema),
        (None, 3, FailureClass::Schema),
    ] {
        let gateway = Gateway::new(&[priced(&faults)], |spec| {
            spec.output_schema = Some(invoice());
            spec.budget.max_cost_usd = most;
            spec.degrade.order = vec![DegradeStep::Message];
        });
        let found = record(&gateway, gateway.hello()).await;
        assert_eq!(found.outcome, Outcome::Failed(outcome), "{most:?}");
        assert_eq!((found.attempts.len(), found.degraded), (attempts, Degraded::Message));
        assert_eq!(found.attempts[0].failure, Some(FailureClass::Schema));
        let told = found.message.unwrap();
        assert_eq!(told.contains("budget.max_cost_usd"), outcome == FailureClass::Budget, "{told}");
    }
    // A price that nobody knows cannot end a call.
    let unpriced = Target::meeting(&faults).at_price(Price::Unknown);
    let gateway = Gateway::new(&[unpriced], |spec| {
        spec.output_schema = Some(invoice());
        spec.budget.max_cost_usd = Some(0.000_001);
    });
    assert_eq!(record(&gateway, gateway.hello()).await.attempts.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_record_says_why_the_model_stopped_and_which_build_it_was() {
    for protocol in PROTOCOLS {
        for stream in [false, true] {
            let gateway = Gateway::new(&[priced(&[]).speaking(protocol)], |_| {});
            let found = record(&gateway, Request { stream, ..gateway.hello() }).await;
            assert_eq!(found.finish.as_deref(), Some("stop"), "{protocol:?}");
            let build = (protocol == PROTOCOLS[0]).then_some("fp_backstay_sim");
            assert_eq!(found.fingerprint.as_deref(), build, "{protocol:?}, stream: {stream}");
        }
    }
    let gateway = Gateway::new(&[priced(&[Fault::FinishLength])], |spec| spec.budget.attempts = 1);
    let found = record(&gateway, gateway.hello()).await;
    assert_eq!(found.finish.as_deref(), Some("length"), "{}", json!(found));
}
