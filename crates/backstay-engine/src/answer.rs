//! What the engine hands back: an answer that cannot be empty, with what is told of it in headers,
//! and the record that is kept of it.

use std::{borrow::Cow, time::Duration};

use backstay_core::{
    failure::Failure,
    record::{AttemptRecord, CallId, CallRecord, Degraded, Outcome, Usage, Variant},
    redact::{redact, redact_secrets},
    release::Capture,
};
use backstay_providers::wire::{ErrorView, Reply};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    Engine,
    attempt::micros,
    call::{Call, cut_to},
    plan::ReleasePlan,
    request::Request,
};

/// A text longer than this is cut before it is kept.
const LONGEST_TEXT: usize = 64 << 10;

/// What is told of an answer, whatever its body is.
#[derive(Clone, Debug)]
pub struct Head {
    /// The call's identity.
    pub id: CallId,
    /// The call's name.
    pub call: String,
    /// The release that answered.
    pub release: Option<String>,
    /// Which of the call's releases that is.
    pub variant: Variant,
    /// How it ended; `None` while a stream is under way.
    pub outcome: Option<Outcome>,
    /// What was answered instead.
    pub degraded: Degraded,
    /// The failure behind a degraded or failed answer.
    pub failure: Option<Failure>,
    /// The attempts in order.
    pub attempts: Vec<AttemptRecord>,
    /// Time since the request arrived.
    pub latency: Duration,
    /// Of which Backstay's own: all but attempts and pauses.
    pub overhead: Duration,
    /// Tokens, summed over all attempts.
    pub usage: Option<Usage>,
}

impl Head {
    /// What a client is told of `failure`.
    #[must_use]
    pub fn error_view(&self, failure: &Failure) -> ErrorView {
        let told = |attempt: &AttemptRecord| {
            let ended = attempt.failure.map_or("ok", |class| class.code());
            (attempt.target.clone(), ended, attempt.took_us / 1000)
        };
        ErrorView {
            class: failure.class,
            message: failure.message.clone(),
            param: failure.param.clone(),
            call_id: self.id.to_string(),
            attempts: self.attempts.iter().map(told).collect(),
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub enum AnswerBody {
    /// A whole reply, to be rendered in the client's protocol.
    Reply(Box<Reply>),
    /// A whole stream in the client's protocol.
    Events(Bytes),
    /// A stream under way in the client's protocol; ends with its terminal event.
    Live(mpsc::Receiver<Bytes>),
    /// No answer could be given; the failure has to be told in the protocol's error shape.
    Failed(Box<Failure>),
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// What is told of it.
    pub head: Head,
    /// What it says.
    pub body: AnswerBody,
}

impl Call<'_> {
    /// The head of an answer as things stand.
    pub(crate) fn head(&self, outcome: Option<Outcome>, degraded: Degraded) -> Head {
        let latency = self.request.received.elapsed();
        let upstream: u64 = self.attempts.iter().map(|attempt| attempt.took_us).sum();
        let elsewhere = Duration::from_micros(upstream) + self.paused;
        Head {
            id: self.request.id,
            call: self.plan.spec.call.clone(),
            release: self.plan.id.clone(),
            variant: self.variant,
            outcome,
            degraded,
            failure: None,
            attempts: self.attempts.clone(),
            latency,
            overhead: latency.saturating_sub(elsewhere),
            usage: self.usage,
        }
    }

    /// Hands the call's one record over and returns the head of its answer.
    pub(crate) fn record(
        &self,
        outcome: Outcome,
        degraded: Degraded,
        failure: Option<&Failure>,
        reply: Option<&Reply>,
    ) -> Head {
        let head = Head { failure: failure.cloned(), ..self.head(Some(outcome), degraded) };
        self.engine.keep(|| {
            let mut record = blank(&self.request, &head, self.plan.spec.capture);
            if let Some(reply) = reply {
                record.model.clone_from(&reply.model);
                record.upstream_id.clone_from(&reply.id);
                record.answer = captured(&answer_text(reply), self.plan.spec.capture);
            }
            record
        });
        head
    }
}

impl Engine {
    /// Records a request that was refused before its first attempt, and answers with the failure.
    pub fn refuse(
        &self,
        request: &Request,
        plan: Option<(&ReleasePlan, Variant)>,
        failure: &Failure,
    ) -> Answer {
        let latency = request.received.elapsed();
        let capture = plan.map_or(Capture::Redacted, |(plan, _)| plan.spec.capture);
        let head = Head {
            id: request.id,
            call: plan.map_or_else(|| "default".to_owned(), |(plan, _)| plan.spec.call.clone()),
            release: plan.and_then(|(plan, _)| plan.id.clone()),
            variant: plan.map_or(Variant::Direct, |(_, variant)| variant),
            outcome: Some(Outcome::Failed(failure.class)),
            degraded: Degraded::None,
            failure: Some(failure.clone()),
            attempts: Vec::new(),
            latency,
            overhead: latency,
            usage: None,
        };
        self.keep(|| blank(request, &head, capture));
        Answer { head, body: AnswerBody::Failed(Box::new(failure.clone())) }
    }
}

fn blank(request: &Request, head: &Head, capture: Capture) -> CallRecord {
    let failure = head.failure.as_ref();
    CallRecord {
        id: head.id,
        call: head.call.clone(),
        release: head.release.clone(),
        variant: head.variant,
        protocol: request.client.name().to_owned(),
        stream: request.stream,
        unit: request.unit.as_deref().map(|unit| redact(unit).into_owned()),
        outcome: head.outcome.unwrap_or(Outcome::Ok),
        degraded: head.degraded,
        message: failure.map(|failure| redact(&failure.message).into_owned()),
        violation: failure.and_then(|failure| failure.violation.clone()).map(|mut violation| {
            violation.reason = redact(&violation.reason).into_owned();
            violation
        }),
        latency_us: micros(head.latency),
        first_token_us: head
            .attempts
            .last()
            .and_then(|last| last.first_token_us.map(|first| last.started_us + first)),
        overhead_us: micros(head.overhead),
        usage: head.usage,
        model: None,
        upstream_id: None,
        attempts: head.attempts.clone(),
        // What was accepted is UTF-8, and to check that is faster than to look for what is not.
        request: match str::from_utf8(&request.raw) {
            Ok(text) => captured(text, capture),
            Err(_) => captured(&String::from_utf8_lossy(&request.raw), capture),
        },
        answer: None,
    }
}

/// A text as it may be kept.
fn captured(text: &str, capture: Capture) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    // Cut first, so that the cost of redaction is bounded too.
    let shortened;
    let text = if text.len() > LONGEST_TEXT {
        shortened = format!("{}… [cut: {} bytes in all]", cut_to(text, LONGEST_TEXT), text.len());
        &shortened
    } else {
        text
    };
    match capture {
        Capture::None => None,
        Capture::Redacted => Some(redact(text).into_owned()),
        Capture::Full => Some(redact_secrets(text).into_owned()),
    }
}

fn answer_text(reply: &Reply) -> Cow<'_, str> {
    let Some(choice) = reply.choices.first() else { return Cow::Borrowed("") };
    if let Some(refusal) = &choice.refusal {
        return Cow::Borrowed(refusal);
    }
    if choice.tool_calls.is_empty() {
        return Cow::Borrowed(&choice.text);
    }
    let calls = choice.tool_calls.iter();
    let calls: Vec<_> =
        calls.map(|call| json!({"name": call.name, "arguments": call.arguments})).collect();
    json!({ "text": choice.text, "tool_calls": calls }).to_string().into()
}
