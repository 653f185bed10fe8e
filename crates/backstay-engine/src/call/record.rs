//! The record that is kept of a call, and the head of its answer: made of what the call knows at its
//! end. Nothing is decided here.

use std::{borrow::Cow, time::Duration};

use backstay_core::{
    failure::{Failure, Violation},
    record::{AttemptRecord, CallRecord, Degraded, Outcome, Variant},
    redact::{redact, redact_secrets},
    release::Capture,
};
use backstay_providers::{openai::finish_reason, wire::Reply};
use serde_json::json;

use super::{Call, cut_to};
use crate::{
    Engine,
    answer::{Answer, AnswerBody, Head},
    attempt::micros,
    plan::ReleasePlan,
    request::Request,
};

/// A provider's name for a model or an answer is kept this far.
const LONGEST_NAME: usize = 256;
/// A text longer than this is cut before it is kept.
const LONGEST_TEXT: usize = 64 << 10;

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
            cost: self.cost,
        }
    }

    /// Hands the call's one record over and returns the head of its answer.
    pub(crate) fn record(
        &self,
        outcome: Outcome,
        degraded: Degraded,
        failure: Option<&Failure>,
        answered: Option<&Reply>,
    ) -> Head {
        let head = Head { failure: failure.cloned(), ..self.head(Some(outcome), degraded) };
        self.engine.keep(|| {
            let mut record = blank(&self.request, &head, self.plan.spec.capture);
            let capture = self.plan.spec.capture;
            let rejected = self.rejected.as_deref();
            record.answer = answered.and_then(|reply| captured(&answer_text(reply), capture));
            record.rejected = rejected.and_then(|reply| captured(&answer_text(reply), capture));
            // A stand-in has no model; the rejected reply says whose fault it was.
            let source = if degraded == Degraded::None { answered.or(rejected) } else { rejected };
            if let Some(reply) = source {
                record.model = reply.model.as_deref().map(|model| cut_to(model, LONGEST_NAME));
                record.upstream_id = reply.id.as_deref().map(|id| cut_to(id, LONGEST_NAME));
                let fingerprint = reply.fingerprint.as_deref();
                record.fingerprint = fingerprint.map(|build| cut_to(build, LONGEST_NAME));
                let finish = reply.choices.first().and_then(|choice| choice.finish.as_ref());
                record.finish = finish.map(|finish| cut_to(finish_reason(finish), LONGEST_NAME));
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
            cost: None,
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
        message: failure.map(|failure| told(&failure.message, capture)),
        violation: failure
            .and_then(|failure| failure.violation.clone())
            .map(|violation| Violation { reason: told(&violation.reason, capture), ..violation }),
        latency_us: micros(head.latency),
        first_token_us: head
            .attempts
            .last()
            .and_then(|last| last.first_token_us.map(|first| last.started_us + first)),
        overhead_us: micros(head.overhead),
        usage: head.usage,
        cost: head.cost,
        model: None,
        fingerprint: None,
        finish: None,
        trace: request.trace,
        upstream_id: None,
        attempts: head.attempts.iter().map(|attempt| kept(attempt, capture)).collect(),
        // What was accepted is UTF-8, and to check that is faster than to look for what is not.
        request: match str::from_utf8(&request.raw) {
            Ok(text) => captured(text, capture),
            Err(_) => captured(&String::from_utf8_lossy(&request.raw), capture),
        },
        answer: None,
        rejected: None,
    }
}

fn kept(attempt: &AttemptRecord, capture: Capture) -> AttemptRecord {
    let message = attempt.message.as_deref().map(|message| told(message, capture));
    AttemptRecord { message, ..attempt.clone() }
}

/// A sentence of Backstay's as it may be kept: it can quote a value of the model's answer, which a call
/// that captures nothing must not leave behind.
fn told(sentence: &str, capture: Capture) -> String {
    match capture {
        Capture::None => sentence.split(':').next().unwrap_or_default().to_owned(),
        Capture::Redacted | Capture::Full => redact(sentence).into_owned(),
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
