//! The cases that tell the story of the failure budget, one golden transcript each: what the client was
//! told and every attempt, in simulated milliseconds.
//!
//! `UPDATE_GOLDEN=1 cargo test -p backstay-engine --test it transcripts` writes what happens; read the
//! diff.

use std::{fmt::Write as _, path::Path};

use backstay_core::{
    failure::FailureClass,
    record::CallRecord,
    release::{Backoff, DegradeStep},
};
use backstay_engine::{answer::AnswerBody, request::Request};
use backstay_providers::{sim::Fault, wire::Protocol};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::harness::{Gateway, Heard, Target, hear, invoice, ms, object};

/// A transcript in the making.
struct Story {
    gateway: Gateway,
    text: String,
}

impl Story {
    fn of(gateway: Gateway) -> Self {
        Self { gateway, text: String::new() }
    }

    fn note(&mut self, note: &str) {
        let now = self.gateway.start.elapsed().as_millis();
        writeln!(self.text, "{now:>7} ms  # {note}").unwrap();
    }

    async fn wait(&mut self, millis: u64) {
        self.note(&format!("{millis} ms later"));
        sleep(ms(millis)).await;
    }

    /// Asks as everybody does, and writes down what came of it.
    async fn ask(&mut self) -> Heard {
        let request = self.gateway.hello();
        self.ask_for(request).await
    }

    async fn ask_for(&mut self, request: Request) -> Heard {
        let (id, protocol) = (request.id, request.client.protocol());
        let asked_at = self.gateway.start.elapsed().as_millis();
        let answer = self.gateway.ask(request).await;
        let heard = hear(answer, protocol, ms(0)).await;
        self.gateway.settled().await;
        writeln!(self.text, "{asked_at:>7} ms  a client asks").unwrap();
        let records = self.gateway.records();
        let record = records.iter().find(|record| record.id == id).unwrap();
        self.tell(asked_at, record);
        let told = [&heard.text, &heard.refusal].map(String::as_str).concat();
        let told = if heard.errors.is_empty() { told } else { heard.errors.join(", ") };
        writeln!(self.text, "            it hears {told:?}").unwrap();
        heard
    }

    /// A client that goes away after `millis`.
    async fn ask_and_leave(&mut self, request: Request, millis: u64) {
        let asked_at = self.gateway.start.elapsed().as_millis();
        let left = timeout(ms(millis), self.gateway.ask(request)).await.is_err();
        assert!(left, "the client leaves before it is answered");
        self.gateway.settled().await;
        writeln!(self.text, "{asked_at:>7} ms  a client asks, and leaves {millis} ms later")
            .unwrap();
        self.tell(asked_at, &self.gateway.last_record());
    }

    fn tell(&mut self, asked_at: u128, record: &CallRecord) {
        for attempt in &record.attempts {
            let kind = format!("{:?}", attempt.kind).to_lowercase();
            let ended = attempt.failure.map_or("ok", FailureClass::code);
            let (start, took) = (attempt.started_us / 1000, attempt.took_us / 1000);
            let at = asked_at + u128::from(start);
            let hint = attempt.retry_after_ms.map(|hint| format!(", come back in {hint} ms"));
            let hint = hint.unwrap_or_default();
            let line = format!("{kind:<8} {} takes {took} ms: {ended}{hint}", attempt.target);
            writeln!(self.text, "{at:>7} ms    {line}").unwrap();
        }
        let (outcome, degraded) = (record.outcome.code(), record.degraded.name());
        let at = asked_at + u128::from(record.latency_us / 1000);
        writeln!(self.text, "{at:>7} ms  outcome {outcome}, degraded {degraded}").unwrap();
    }

    /// Compares the transcript with the one that is kept under `name`.
    fn is(self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
        let path = folder.join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &self.text).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(self.text, expected, "{name}:\n{}", self.text);
    }
}

/// A story of targets that take 40 ms each, under the default budget.
fn story(faults: &[&[Fault]]) -> Story {
    story_with(faults, |_| {})
}

fn story_with(
    faults: &[&[Fault]],
    change: impl FnOnce(&mut backstay_core::release::CallSpec),
) -> Story {
    let targets: Vec<_> =
        faults.iter().map(|faults| Target::meeting(faults).slow(ms(40))).collect();
    Story::of(Gateway::new(&targets, change))
}

#[tokio::test(start_paused = true)]
async fn the_next_target_is_asked_at_once() {
    let mut story = story(&[&[Fault::Internal], &[]]);
    story.ask().await;
    story.is("fallback");
}

#[tokio::test(start_paused = true)]
async fn a_target_on_its_own_is_asked_again_after_a_pause() {
    let mut story = story(&[&[Fault::Internal, Fault::Unavailable]]);
    story.ask().await;
    story.note("the budget has three attempts");
    let mut spent = story_with(&[&[Fault::Internal, Fault::Internal, Fault::Internal]], |_| {});
    spent.ask().await;
    story.text.push_str(&spent.text);
    story.is("retry");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_waited_for_if_it_fits_the_deadline() {
    let mut story = story(&[&[Fault::RateLimitedSeconds]]);
    story.ask().await;
    story.is("rate_limit_fits");
    let mut story =
        story_with(&[&[Fault::RateLimitedSeconds, Fault::RateLimitedSeconds]], |spec| {
            spec.budget.deadline = ms(1500);
        });
    let heard = story.ask().await;
    assert_eq!(heard.errors, ["rate_limited"]);
    story.note("the next caller is told without asking the target");
    let answer = story.gateway.ask(story.gateway.hello()).await;
    let AnswerBody::Failed(failure) = &answer.body else { panic!("{answer:?}") };
    assert_eq!(failure.class, FailureClass::RateLimited);
    assert_eq!(failure.retry_after, Some(ms(2000)), "what is left of the hold");
    assert_eq!(story.gateway.asked(0), 1);
    story.is("rate_limit_does_not_fit");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_without_a_hint_is_a_backoff() {
    let mut story = story(&[&[Fault::RateLimited]]);
    story.ask().await;
    story.is("rate_limit_without_hint");
}

#[tokio::test(start_paused = true)]
async fn a_limited_target_is_left_alone_by_the_next_call() {
    let mut story = story(&[&[Fault::RateLimitedSeconds], &[]]);
    story.ask().await;
    story.ask().await;
    story.wait(2000).await;
    story.ask().await;
    story.is("rate_limit_hold");
}

#[tokio::test(start_paused = true)]
async fn bad_credentials_are_tried_again_after_a_minute() {
    let mut story = story(&[&[Fault::Unauthorized]]);
    story.ask().await;
    story.wait(59_000).await;
    story.ask().await;
    story.wait(1000).await;
    story.ask().await;
    story.is("unauthorized");
}

#[tokio::test(start_paused = true)]
async fn the_model_is_shown_its_mistake() {
    let mut story = story_with(&[&[Fault::WrongType]], |spec| spec.output_schema = Some(invoice()));
    story.ask().await;
    story.note("a wrapping is taken off without asking again");
    story.gateway.publish(&[Target::meeting(&[Fault::FencedJson]).slow(ms(40))]);
    story.ask().await;
    story.note("two mistakes, one repair: then it is asked again as it was");
    let faults = [Fault::MissingField, Fault::MissingField];
    story.gateway.publish(&[Target::meeting(&faults).slow(ms(40))]);
    story.ask().await;
    story.is("repair");
}

#[tokio::test(start_paused = true)]
async fn a_failed_repair_goes_on_to_the_next_target() {
    let schema_faults = [Fault::WrongType, Fault::ExtraField];
    let mut story = story_with(&[&schema_faults, &[]], |spec| spec.output_schema = Some(invoice()));
    story.ask().await;
    story.is("repair_fails");
}

#[tokio::test(start_paused = true)]
async fn a_prompt_too_long_goes_to_a_larger_window() {
    let targets = [
        Target::meeting(&[]).window(2),
        Target::meeting(&[Fault::ContextLength]).slow(ms(40)).window(100),
        Target::healthy().window(50),
        Target::healthy().slow(ms(40)).window(1000),
    ];
    let mut story = Story::of(Gateway::new(&targets, |_| {}));
    story.note("the first window is known to be too small: nothing is sent there");
    let words = "all of these words ".repeat(4);
    let body = json!({ "messages": [{ "role": "user", "content": words }] });
    let request = Request { body: object(body), ..story.gateway.hello() };
    story.ask_for(request).await;
    assert_eq!(story.gateway.asked(0), 0);
    story.is("context_length");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_answer() {
    let mut story = story(&[&[Fault::Refusal, Fault::ContentFilter], &[]]);
    let heard = story.ask().await;
    assert!(!heard.refusal.is_empty());
    story.note("a filter that answers with an error is a refusal too");
    let heard = story.ask().await;
    assert!(!heard.refusal.is_empty());
    let mut wide = story_with(&[&[Fault::Refusal], &[]], |spec| spec.fallback_on_refusal = true);
    story.note("a call may ask the next target instead");
    wide.ask().await;
    story.text.push_str(&wide.text);
    story.is("refusal");
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_is_asked_for_once_more() {
    let empty = [Fault::EmptyContent, Fault::NullContent, Fault::ChoicesEmpty];
    let mut story = story_with(&[&empty], |spec| spec.budget.attempts = 6);
    story.ask().await;
    story.note("with another target there is no need to");
    let mut wide = story_with(&[&empty, &[]], |_| {});
    wide.ask().await;
    story.text.push_str(&wide.text);
    story.is("empty");
}

#[tokio::test(start_paused = true)]
async fn the_output_limit_is_no_matter_of_trying_again() {
    let mut story = story(&[&[Fault::FinishLength]]);
    story.ask().await;
    story.is("truncated");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_opens_probes_and_closes() {
    let mut story = story_with(&[&[Fault::Internal; 6]], |spec| spec.budget.attempts = 1);
    for _ in 0..6 {
        story.ask().await;
    }
    story.wait(15_000).await;
    story.note("half open: one probe, which fails, so it stays shut for twice as long");
    story.ask().await;
    story.wait(15_000).await;
    story.ask().await;
    story.wait(15_000).await;
    story.note("half open again: the probe closes it");
    story.ask().await;
    story.ask().await;
    story.is("breaker");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_called_off_is_no_verdict() {
    let faults = [[Fault::Internal; 5].as_slice(), &[Fault::HangHeaders]].concat();
    let mut story = story_with(&[&faults], |spec| spec.budget.attempts = 1);
    for _ in 0..5 {
        story.ask().await;
    }
    story.wait(15_000).await;
    let request = story.gateway.hello();
    story.ask_and_leave(request, 100).await;
    story.ask().await;
    story.is("breaker_probe_cancelled");
}

#[tokio::test(start_paused = true)]
async fn more_than_a_target_takes_is_shed() {
    let target = Target::healthy().slow(ms(1000)).limit(1, 1);
    let gateway = Gateway::new(&[target], |spec| spec.budget.attempts = 1);
    let asked = gateway.start;
    let one = || async {
        let heard = gateway.heard(gateway.hello()).await;
        (asked.elapsed().as_millis(), heard.errors.join(","))
    };
    let mut said: Vec<_> = <[_; 2]>::from(tokio::join!(one(), one())).into();
    said.sort();
    assert_eq!(said, [(1000, String::new()), (2000, String::new())], "one waits for the other");
    let three = tokio::join!(one(), one(), one());
    let mut said = [three.0, three.1, three.2];
    said.sort();
    let ended: Vec<_> = said.iter().map(|(at, error)| (*at, error.as_str())).collect();
    assert_eq!(ended, [(2000, "overloaded"), (3000, ""), (4000, "")], "the third is shed at once");
    gateway.settled().await;
    assert_eq!(gateway.heard(gateway.hello()).await.errors, [""; 0], "no place is lost");
}

#[tokio::test(start_paused = true)]
async fn each_step_of_the_ladder_in_its_turn() {
    use DegradeStep as Step;
    let down = [Fault::None, Fault::Internal, Fault::Internal, Fault::Internal, Fault::Internal];
    let mut story = story_with(&[&down], |spec| {
        spec.budget.attempts = 1;
        spec.output_schema = Some(invoice());
        spec.degrade.order = vec![Step::Stale, Step::Static, Step::Message];
        spec.degrade.static_answer = Some(json!({ "total": 0, "currency": "EUR" }));
        spec.degrade.stale_for = ms(60_000);
    });
    let good = story.ask().await;
    let stale = story.ask().await;
    assert_eq!(good.text, stale.text);
    story.wait(61_000).await;
    story.ask().await;
    story.gateway.release(|spec| spec.degrade.order = vec![Step::Message]);
    story.ask().await;
    story.gateway.release(|spec| spec.degrade.order = vec![Step::Error, Step::Static]);
    story.ask().await;
    story.is("degradation");
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_has_to_satisfy_the_release_that_gives_it() {
    let mut gateway = Gateway::new(&[Target::meeting(&[Fault::None, Fault::Internal])], |spec| {
        spec.budget.attempts = 1;
        spec.degrade.order = vec![DegradeStep::Stale];
    });
    assert_eq!(gateway.heard(gateway.hello()).await.errors, [""; 0]);
    gateway.release(|spec| spec.output_schema = Some(invoice()));
    let heard = gateway.heard(gateway.hello()).await;
    assert_eq!(heard.errors, ["upstream_error"], "plain text is no invoice: {}", heard.text);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_recorded_and_its_attempt_dropped() {
    let mut story = story(&[&[Fault::HangHeaders], &[]]);
    let request = story.gateway.hello();
    story.ask_and_leave(request, 100).await;
    let mut keeps = story_with(&[&[Fault::None]], |spec| {
        spec.degrade.order = vec![DegradeStep::Stale];
    });
    story.note("where answers are kept for `stale`, the call goes on without its client");
    let request = keeps.gateway.hello();
    keeps.ask_and_leave(request, 10).await;
    keeps.gateway.publish(&[Target::meeting(&[Fault::Internal; 3]).slow(ms(40))]);
    keeps.ask().await;
    story.text.push_str(&keeps.text);
    story.is("cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_the_client_can_only_shorten() {
    let mut story = story_with(&[&[Fault::HangHeaders, Fault::HangHeaders]], |spec| {
        spec.budget.deadline = ms(1000);
    });
    for deadline in [200, 5000] {
        story.note(&format!("x-backstay-deadline-ms: {deadline}"));
        let request = Request { deadline: Some(ms(deadline)), ..story.gateway.hello() };
        story.ask_for(request).await;
    }
    story.is("deadline");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_not_answered_with_what_another_target_said() {
    let targets = [
        Target::meeting(&[Fault::WrongType]),
        Target::meeting(&[Fault::ContentFilter]).speaking(Protocol::OpenAi),
    ];
    let gateway = Gateway::new(&targets, |spec| {
        spec.output_schema = Some(invoice());
        spec.budget.repair = 0;
    });
    let heard = gateway.heard(gateway.hello()).await;
    assert_eq!(heard.text, "", "an answer that violates the schema is not a refusal");
    assert!(!heard.refusal.is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_pause_between_attempts_is_no_endless_loop() {
    let targets = [Target::healthy().slow(ms(60_000)).limit(1, 0)];
    let gateway = Gateway::new(&targets, |spec| {
        spec.budget.deadline = ms(1000);
        spec.budget.backoff = Backoff { base: ms(0), max: ms(0) };
    });
    let (first, second) =
        tokio::join!(gateway.heard(gateway.hello()), gateway.heard(gateway.hello()));
    assert_eq!(first.errors, ["timeout_deadline"]);
    assert_eq!(second.errors, ["overloaded"]);
}
