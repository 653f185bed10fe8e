//! The record that is kept of a call, and the head of its answer: made of what the call knows at its
//! end. Nothing is decided here.

use std::{borrow::Cow, time::Duration};

use backstay_core::{
    failure::{Failure, FailureClass, Violation},
    privacy::{Document, Policy, Privacy},
    record::{AttemptRecord, CallRecord, Degraded, Outcome, Variant},
    redact::redact,
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
            let plans = self.engine.plans();
            let keeping = Keeping {
                policy: &self.plan.policy,
                capture: self.plan.spec.capture,
                privacy: plans.privacy(),
            };
            let mut record = blank(&self.request, &head, &keeping);
            let rejected = self.rejected.as_deref();
            let document = Document::Answer { json: self.plan.output.is_some() };
            let kept = |reply: &Reply| keeping.text(&answer_text(reply), document);
            record.answer = answered.and_then(kept);
            record.rejected = rejected.and_then(kept);
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
        self.keep(|| {
            let plans = self.plans();
            let (stray, least) = plans.stray();
            let (policy, capture) =
                plan.map_or((stray, *least), |(plan, _)| (&plan.policy, plan.spec.capture));
            blank(request, &head, &Keeping { policy, capture, privacy: plans.privacy() })
        });
        Answer { head, body: AnswerBody::Failed(Box::new(failure.clone())) }
    }
}

/// How the texts of a call are kept.
struct Keeping<'a> {
    policy: &'a Policy,
    capture: Capture,
    privacy: &'a Privacy,
}

impl Keeping<'_> {
    /// A text as it may be kept.
    fn text(&self, text: &str, document: Document) -> Option<String> {
        if text.is_empty() || self.capture == Capture::None {
            return None;
        }
        // Where the whole has to be searched it is cut afterwards; else first, so that the cost of
        // redaction is bounded too.
        let whole = text.len();
        let searched = self.policy.searches(document, self.privacy);
        let cut = if searched { Cow::Borrowed(text) } else { shortened(text, whole) };
        let kept = self.policy.kept(&cut, document, self.capture, self.privacy);
        Some(if searched { shortened(&kept, whole).into_owned() } else { kept.into_owned() })
    }

    /// A sentence of Backstay's as it may be kept: it can quote a value of the request or the answer,
    /// which must not be left behind where it is taken out of these.
    fn told(&self, sentence: &str, quotes: bool) -> String {
        let head = || sentence.split(':').next().unwrap_or_default();
        let sentence = if quotes { head() } else { sentence };
        redact(sentence).into_owned()
    }

    /// Whether a sentence about `failure` could quote what must not be kept.
    fn quotes(&self, failure: &Failure) -> bool {
        let document = if failure.class == FailureClass::BadRequest {
            Document::Inputs
        } else {
            Document::Answer { json: true }
        };
        match &failure.violation {
            _ if self.capture == Capture::None => true,
            Some(violation) => self.policy.hides_at(violation, document),
            None => self.policy.hides(),
        }
    }

    fn violation(&self, failure: &Failure) -> Option<Violation> {
        let Violation { path, rule, reason } = failure.violation.clone()?;
        let reason = if self.quotes(failure) {
            format!("the rule `{rule}` is broken; the value is not kept")
        } else {
            redact(&reason).into_owned()
        };
        // The names in a path can be those of people.
        Some(Violation { path: redact(&path).into_owned(), rule, reason })
    }

    fn attempt(&self, attempt: &AttemptRecord) -> AttemptRecord {
        // Which value it is about is not known any more.
        let quotes = self.capture == Capture::None || self.policy.hides();
        let message = attempt.message.as_deref().map(|message| self.told(message, quotes));
        AttemptRecord { message, ..attempt.clone() }
    }
}

fn blank(request: &Request, head: &Head, keeping: &Keeping<'_>) -> CallRecord {
    let failure = head.failure.as_ref();
    let unit = request.unit.as_deref();
    CallRecord {
        id: head.id,
        call: head.call.clone(),
        release: head.release.clone(),
        variant: head.variant,
        protocol: request.client.name().to_owned(),
        stream: request.stream,
        unit: unit.and_then(|unit| keeping.policy.unit(unit, keeping.privacy)),
        outcome: head.outcome.unwrap_or(Outcome::Ok),
        degraded: head.degraded,
        message: failure.map(|failure| keeping.told(&failure.message, keeping.quotes(failure))),
        violation: failure.and_then(|failure| keeping.violation(failure)),
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
        attempts: head.attempts.iter().map(|attempt| keeping.attempt(attempt)).collect(),
        // What was accepted is UTF-8, and to check that is faster than to look for what is not.
        request: match str::from_utf8(&request.raw) {
            Ok(text) => keeping.text(text, Document::Request),
            Err(_) => keeping.text(&String::from_utf8_lossy(&request.raw), Document::Request),
        },
        answer: None,
        rejected: None,
    }
}

/// The text cut to what is kept; `whole` is how long it was at first.
fn shortened(text: &str, whole: usize) -> Cow<'_, str> {
    if text.len() <= LONGEST_TEXT {
        return Cow::Borrowed(text);
    }
    format!("{}… [cut: {whole} bytes in all]", cut_to(text, LONGEST_TEXT)).into()
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
