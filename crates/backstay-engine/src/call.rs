//! The call path, top to bottom: this file tells the whole story of one call.
//!
//! ```text
//! request ─► resolve the release ─► render the prompt
//!              └─► attempts, in one loop that draws on one budget
//!                    └─► an answer, a live stream, or a failure
//!                          └─► degrade ─► record ─► answer
//! ```
//!
//! A started call always finishes, on a task of its own that is bounded by the call's deadline, whether
//! or not the client still listens, and it leaves exactly one record. The record is handed over before
//! the client learns that the call is over. All control flow is in here; what it calls is straight-line.

mod record;

use std::{sync::Arc, time::Duration};

use backstay_core::{
    budget::{BudgetLeft, Next},
    failure::{Cut, Failure, FailureClass},
    price::Nano,
    record::{AttemptKind, AttemptRecord, Cost, Degraded, Outcome, Usage, Variant},
    release::StreamMode,
};
use backstay_providers::wire::{
    Choice, Finish, Frame, Prompt, Protocol, Reply, Role, StreamOpening, Turn,
};
use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use crate::{
    Engine,
    answer::{Answer, AnswerBody, Head, Piece},
    attempt::{Attempted, Live, Order, Whole, attempt, blank_record, deadline_passed, micros},
    cache::CacheKey,
    degrade::degrade,
    meter,
    plan::ReleasePlan,
    request::{Request, prepare},
    stream::{Broken, StreamOut, pump, replay},
    validate::{Expectation, has_whole_tool_calls, verify},
};

/// How much of a rejected answer the model is shown again.
const LONGEST_SHOWN: usize = 16 << 10;
/// How many pieces of a stream may wait for a slow client, its last one not counted.
const PIECES_AHEAD: usize = 16;

/// One call under way.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) request: Arc<Request>,
    pub(crate) plan: Arc<ReleasePlan>,
    pub(crate) variant: Variant,
    prompt: Prompt,
    expectation: Expectation,
    cache_key: Option<CacheKey>,
    /// The attempt that is being made, so that a departing client does not take it out of the record.
    under_way: Option<AttemptRecord>,
    pub(crate) attempts: Vec<AttemptRecord>,
    pub(crate) paused: Duration,
    pub(crate) usage: Option<Usage>,
    pub(crate) cost: Option<Cost>,
    /// The last reply that was rejected: shown to the model, to the log, or answered if it refuses.
    pub(crate) rejected: Option<Box<Reply>>,
    /// The last failure of a target that was asked: it tells more than a closed gate.
    answered_badly: Option<Failure>,
    repaired: bool,
}

enum Delivered {
    Whole(Box<Whole>),
    Live(Box<Live>),
}

/// Runs one call from its request to its record.
pub(crate) async fn run(engine: &Engine, request: Arc<Request>, to: oneshot::Sender<Answer>) {
    let plans = engine.plans();
    let resolved = plans.resolve(&request.address);
    let (plan, variant) = match resolved {
        Ok(resolved) => resolved,
        Err(failure) => return drop(to.send(engine.refuse(&request, None, &failure))),
    };
    let prepared = match prepare(engine, &plan, &request) {
        Ok(prepared) => prepared,
        Err(failure) => {
            return drop(to.send(engine.refuse(&request, Some((&plan, variant)), &failure)));
        }
    };
    let mut call = Call {
        engine,
        request,
        plan,
        variant,
        prompt: prepared.prompt,
        expectation: prepared.expectation,
        cache_key: prepared.cache_key,
        under_way: None,
        attempts: Vec::new(),
        paused: Duration::ZERO,
        usage: None,
        cost: None,
        rejected: None,
        answered_badly: None,
        repaired: false,
    };
    call.finish(to).await;
}

impl Call<'_> {
    async fn finish(&mut self, mut to: oneshot::Sender<Answer>) {
        // A good answer that will be kept for `stale` is worth its price without a listener.
        let has_schema = !matches!(self.expectation, Expectation::Text);
        let passes_through = self.request.stream && !self.plan.holds_streams_back(has_schema);
        let needed_anyway = self.cache_key.is_some() && !passes_through;
        let engine = self.engine;
        let delivered = tokio::select! {
            delivered = self.attempts() => delivered,
            () = to.closed(), if !needed_anyway => Err(client_gone()),
            () = engine.cut_off() => Err(shutting_down()),
        };
        self.attempts.extend(self.under_way.take().map(|attempt| self.abandoned(attempt)));
        match delivered {
            Ok(Delivered::Whole(whole)) => self.answer_whole(*whole, to),
            Ok(Delivered::Live(live)) => self.answer_live(*live, to).await,
            Err(failure) => self.answer_failure(failure, to),
        }
    }

    fn deadline(&self) -> Instant {
        let asked = self.request.deadline.unwrap_or(Duration::MAX);
        self.request.received + asked.min(self.plan.spec.budget.deadline)
    }

    /// The one loop: an attempt, and then what the budget decides.
    async fn attempts(&mut self) -> Result<Delivered, Failure> {
        let plan = Arc::clone(&self.plan);
        let budget = &plan.spec.budget;
        let start = self.request.received.into_std();
        let mut left = BudgetLeft::start(budget, plan.route.len(), start, self.request.deadline)
            .fallback_on_refusal(plan.spec.fallback_on_refusal);
        let mut index = self.first_target(&left).await?;
        let mut kind = AttemptKind::First;
        loop {
            let (failure, sent) = match self.attempt(index, kind, &mut left).await {
                Ok(delivered) => return Ok(delivered),
                Err(failed) => failed,
            };
            let shed = !sent && failure.class == FailureClass::Overloaded;
            let now = Instant::now();
            let jitter = self.engine.entropy().unit();
            let views = plan.views(now);
            (index, kind) = match left.next(index, &failure, &views, (now.into_std(), jitter)) {
                Next::GiveUp => return Err(self.answered_badly.take().unwrap_or(failure)),
                Next::CostSpent { spent, most } => return Err(cost_spent(spent, most)),
                Next::Repair => {
                    self.show_mistake(&failure);
                    (index, AttemptKind::Repair)
                }
                // Whoever came back again and again would wait in a queue without an end.
                Next::Try { index: next, .. } if shed && next == index => {
                    return Err(self.answered_badly.take().unwrap_or(failure));
                }
                Next::Try { index: next, pause } => {
                    // The target is asked what it was asked at first, not to mend another's answer.
                    self.prompt.after.clear();
                    self.pause(pause).await;
                    let again = next == index;
                    (next, if again { AttemptKind::Retry } else { AttemptKind::Fallback })
                }
            };
        }
    }

    /// The first target that takes the call. If all are shut, but one only waits for its rate limit to
    /// reset within the deadline, the call waits with it.
    async fn first_target(&mut self, left: &BudgetLeft) -> Result<usize, Failure> {
        loop {
            let now = Instant::now();
            if let Some(index) = left.first(&self.plan.views(now)) {
                return Ok(index);
            }
            let held = self.plan.route.iter().filter_map(|entry| entry.gate.held_for(now)).min();
            match held {
                Some(pause) if pause < left.remaining(now.into_std()) => self.pause(pause).await,
                Some(_) | None => {
                    let refusals = self.plan.route.iter().map(|entry| entry.gate.refusal(now));
                    // The soonest to open again is the best news for the client.
                    let soonest = refusals.min_by_key(|f| f.retry_after.unwrap_or(Duration::MAX));
                    return Err(soonest.unwrap_or_else(no_target));
                }
            }
        }
    }

    /// Makes one attempt. An error says whether the target was asked at all.
    async fn attempt(
        &mut self,
        index: usize,
        kind: AttemptKind,
        left: &mut BudgetLeft,
    ) -> Result<Delivered, (Failure, bool)> {
        let plan = Arc::clone(&self.plan);
        let Some(entry) = plan.route.get(index) else { return Err((no_target(), false)) };
        let order = Order {
            plan: &plan,
            entry,
            prompt: &self.prompt,
            expectation: &self.expectation,
            kind,
            started: self.request.received,
            started_ms: self.request.id.unix_millis(),
            deadline: self.deadline(),
            may_queue: !plan.has_room_beside(index, &self.attempts),
            trace: self.engine.traceparent(&self.request, self.attempts.len()),
        };
        self.under_way = Some(blank_record(&order, Instant::now()));
        let attempted = attempt(&order).await;
        self.under_way = None;
        match attempted {
            Attempted::Whole(whole, record) => {
                self.keep(record);
                self.repaired |= whole.mended || !self.prompt.after.is_empty();
                Ok(Delivered::Whole(whole))
            }
            Attempted::Live(live) => {
                self.repaired |= kind == AttemptKind::Repair;
                Ok(Delivered::Live(live))
            }
            Attempted::Failed { failure, reply, sent, record } => {
                if let Some(cost) = record.cost {
                    left.spend_cost(cost);
                }
                self.keep(record);
                if sent {
                    left.spend_attempt();
                    self.answered_badly = Some(failure.clone());
                    // Also where there is none: an earlier reply does not belong to this failure.
                    self.rejected = reply;
                }
                Err((failure, sent))
            }
        }
    }

    fn abandoned(&self, attempt: AttemptRecord) -> AttemptRecord {
        let now = micros(self.request.received.elapsed());
        let took_us = now.saturating_sub(attempt.started_us);
        AttemptRecord { took_us, failure: Some(FailureClass::Cancelled), ..attempt }
    }

    async fn pause(&mut self, pause: Duration) {
        if !pause.is_zero() {
            sleep(pause).await;
            self.paused += pause;
        }
    }

    /// Takes an attempt that has ended into the sums of the call.
    fn keep(&mut self, attempt: AttemptRecord) {
        if let Some(more) = &attempt.usage {
            self.usage.get_or_insert_default().add(more);
        }
        if let Some(more) = attempt.cost {
            self.cost = Some(self.cost.map_or(more, |sum| sum.plus(more)));
        }
        self.attempts.push(attempt);
    }

    /// Puts the rejected answer and what is wrong with it at the end of the conversation.
    fn show_mistake(&mut self, failure: &Failure) {
        let wrong = self.rejected.as_ref().and_then(|reply| reply.choices.first());
        let wrong = wrong.map(|choice| cut_to(&choice.text, LONGEST_SHOWN)).unwrap_or_default();
        let what = failure.violation.as_ref().map_or_else(
            || failure.message.clone(),
            |violation| {
                if failure.class == FailureClass::Malformed {
                    return format!("it is not valid JSON: {}", violation.reason);
                }
                let (rule, path) = (&violation.rule, &violation.path);
                format!("it did not satisfy the rule `{rule}` at {path}: {}", violation.reason)
            },
        );
        let ask = match self.expectation {
            Expectation::Text => "Answer again, without this mistake.",
            Expectation::JsonObject | Expectation::Schema(_) => {
                "Answer again with the corrected JSON only, with no text around it."
            }
        };
        self.prompt.after = vec![
            Turn {
                role: Role::Assistant, text: if wrong.is_empty() { "…".into() } else { wrong }
            },
            Turn { role: Role::User, text: format!("Your answer was rejected: {what}. {ask}") },
        ];
    }

    fn answer_whole(&mut self, whole: Whole, to: oneshot::Sender<Answer>) {
        let Whole { reply, frames, .. } = whole;
        self.remember(&reply);
        let outcome = if self.repaired { Outcome::Repaired } else { Outcome::Ok };
        let head = self.record(outcome, Degraded::None, None, Some(&reply));
        self.deliver(head, reply, &frames, to);
    }

    /// Keeps a good answer for the `stale` step.
    fn remember(&self, reply: &Reply) {
        if let (Some(key), [choice]) = (self.cache_key, reply.choices.as_slice())
            && choice.tool_calls.is_empty()
        {
            self.engine.cache().put(key, &choice.text, Instant::now());
        }
    }

    fn opening(&self) -> StreamOpening {
        StreamOpening {
            id: self.request.id.to_string(),
            model: self.plan.spec.call.clone(),
            created_unix: self.request.id.unix_millis() / 1000,
            include_usage: self.request.include_usage,
        }
    }

    /// Hands a whole reply over, as a document or as a replayed stream. Whether the client is still
    /// there no longer matters: the call is recorded.
    fn deliver(&self, head: Head, reply: Reply, frames: &[Frame], to: oneshot::Sender<Answer>) {
        let body = if self.request.stream {
            let client = self.request.client.protocol();
            AnswerBody::Events(replay(&reply, frames, client, self.opening()))
        } else {
            AnswerBody::Reply(Box::new(reply))
        };
        drop(to.send(Answer { head, body }));
    }

    fn answer_failure(&mut self, failure: Failure, to: oneshot::Sender<Answer>) {
        let class = failure.class;
        let outcome = Outcome::Failed(class);
        if is_refusal(class) {
            // A refusal is an answer, and the protocol has words for it.
            let said = self.rejected.take().filter(|reply| has_whole_tool_calls(reply));
            let reply = said.map_or_else(|| refusal(&self.request, &failure), |reply| *reply);
            let head = self.record(outcome, Degraded::None, Some(&failure), Some(&reply));
            return self.deliver(head, reply, &[], to);
        }
        let stale = || {
            let stale_for = self.plan.spec.degrade.stale_for;
            let text = self.engine.cache().get(self.cache_key.as_ref()?, stale_for, Instant::now());
            // It may be the answer of an older release, which promised something else.
            text.filter(|text| {
                let mut reply = stand_in(&self.request, Degraded::Stale, text.clone());
                verify(&mut reply, &self.expectation, &self.plan.checks) == Ok(false)
            })
        };
        match degrade(&self.plan, class, stale) {
            Some((degraded, text)) => {
                let reply = stand_in(&self.request, degraded, text);
                let head = self.record(outcome, degraded, Some(&failure), Some(&reply));
                self.deliver(head, reply, &[], to);
            }
            None => {
                let head = self.record(outcome, Degraded::None, Some(&failure), None);
                drop(to.send(Answer { head, body: AnswerBody::Failed(Box::new(failure)) }));
            }
        }
    }

    /// Passes a committed stream on to its end. Nothing can be retried here, only named.
    async fn answer_live(&mut self, mut live: Live, to: oneshot::Sender<Answer>) {
        let client = self.request.client.protocol();
        let upstream = live.frames.protocol();
        let mut out = StreamOut::new(client, upstream, self.opening());
        let (pieces, events) = mpsc::channel(PIECES_AHEAD + 1);
        // The end has a place of its own, so that a stream nobody reads in time still ends by name.
        let Ok(last_place) = pieces.clone().try_reserve_owned() else { return };
        let head = self.head(None, Degraded::None);
        let answer = Answer { head, body: AnswerBody::Live(events) };
        let limits = (self.deadline(), self.plan.spec.budget.idle);
        let pumped = match to.send(answer) {
            Err(_) => Err(Broken::Gone),
            Ok(()) => tokio::select! {
                pumped = pump(&mut live, &mut out, &pieces, limits) => pumped,
                () = self.engine.cut_off() => Err(Broken::CutOff),
            },
        };
        let mut reply = live.sum.finish();
        // The target has no part in it where the client or this process ends the stream.
        let mut not_of_target = None;
        let whole = pumped.is_ok();
        let (failure, tail) = match pumped {
            Ok(tail) => (self.judge_sent(&mut reply), tail),
            Err(Broken::Failed(failure)) => (Some(failure), Vec::new()),
            Err(Broken::Gone) => (Some(client_gone()), Vec::new()),
            Err(Broken::CutOff) => {
                not_of_target = Some(client_gone());
                (Some(shutting_down()), Vec::new())
            }
            Err(Broken::Unread) => {
                not_of_target = Some(client_slow());
                (Some(deadline_passed()), Vec::new())
            }
        };
        let usage = if whole {
            Some(meter::of_whole(&reply, &self.prompt))
        } else {
            meter::of_part(&reply, &self.prompt)
        };
        self.keep(live.sent.settle(not_of_target.as_ref().or(failure.as_ref()), usage));
        if failure.is_none() {
            self.remember(&reply);
        }
        let good = if self.repaired { Outcome::Repaired } else { Outcome::Ok };
        let outcome = failure.as_ref().map_or(good, |f| Outcome::Failed(f.class));
        let head = self.record(outcome, Degraded::None, failure.as_ref(), Some(&reply));
        let last = self.last_words(failure.as_ref(), &head, &mut out, tail);
        last_place.send(Piece::Last(last.into()));
    }

    /// What is wrong with an answer that the client has already seen as it came.
    fn judge_sent(&self, reply: &mut Reply) -> Option<Failure> {
        let wrapped = "the answer is JSON in a wrapping, which a live stream cannot take off";
        match verify(reply, &self.expectation, &self.plan.checks) {
            Ok(false) => None,
            Ok(true) => Some(Failure::new(FailureClass::Malformed, wrapped)),
            Err(failure) => Some(failure),
        }
    }

    /// Whether the stream itself tells the client of this failure, or was asked to pass it by.
    fn client_can_see(&self, class: FailureClass) -> bool {
        use FailureClass as F;
        match class {
            F::Refused | F::ContentFilter | F::Truncated(Cut::Length) => true,
            F::Malformed | F::Schema | F::Check => self.plan.spec.stream == StreamMode::Through,
            F::Timeout(_)
            | F::Connection
            | F::RateLimited
            | F::Overloaded
            | F::UpstreamError
            | F::UpstreamAuth
            | F::BadRequest
            | F::ContextLength
            | F::Empty
            | F::Truncated(Cut::Stream)
            | F::CircuitOpen
            | F::Budget
            | F::Cancelled
            | F::Consumer => false,
        }
    }

    /// The end of a live stream: its terminal event or, if the client cannot see from the stream
    /// itself that it failed, an error event.
    fn last_words(
        &self,
        failure: Option<&Failure>,
        head: &Head,
        out: &mut StreamOut,
        tail: Vec<u8>,
    ) -> Vec<u8> {
        match failure.filter(|failure| !self.client_can_see(failure.class)) {
            Some(failure) => self.request.client.protocol().error_event(&head.error_view(failure)),
            None => {
                let mut last = tail;
                out.end(&mut last);
                last
            }
        }
    }
}

fn is_refusal(class: FailureClass) -> bool {
    matches!(class, FailureClass::Refused | FailureClass::ContentFilter)
}

/// The failure of a call that outlasts the drain limit of a server that was asked to stop.
fn shutting_down() -> Failure {
    Failure::new(FailureClass::Overloaded, "the gateway is shutting down; another one may answer")
        .with_retry_after(Some(Duration::from_secs(1)))
}

fn client_gone() -> Failure {
    Failure::new(FailureClass::Cancelled, "the client went away before the answer was complete")
}

fn client_slow() -> Failure {
    Failure::new(FailureClass::Cancelled, "the client did not read its stream within the deadline")
}

/// The failure of a call that has cost what it may.
fn cost_spent(spent: Nano, most: Nano) -> Failure {
    let message = format!(
        "the attempts of this call have cost {spent} US dollars, and its `budget.max_cost_usd` is \
         {most}: no further one is made"
    );
    Failure::new(FailureClass::Budget, message)
}

fn no_target() -> Failure {
    Failure::new(FailureClass::CircuitOpen, "no target of the route takes attempts")
}

/// The start of `text`, at most `bytes` long.
fn cut_to(text: &str, bytes: usize) -> String {
    let end = (0..=bytes.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

/// A refusal in the client's protocol, for filters that answer with an error.
fn refusal(request: &Request, failure: &Failure) -> Reply {
    let filtered = failure.class == FailureClass::ContentFilter;
    let finish = if filtered { Finish::ContentFilter } else { Finish::Refusal };
    let refusal = Some(format!("{}.", failure.message));
    let choice = Choice { refusal, finish: Some(finish), ..Choice::default() };
    reply_of(request, "backstay/refusal", choice)
}

fn stand_in(request: &Request, degraded: Degraded, text: String) -> Reply {
    let choice = Choice { text, finish: Some(Finish::Stop), ..Choice::default() };
    let model = format!("backstay/{}", degraded.name());
    reply_of(request, &model, choice)
}

fn reply_of(request: &Request, model: &str, choice: Choice) -> Reply {
    let protocol = request.client.protocol();
    let prefix = match protocol {
        Protocol::OpenAi => "chatcmpl-",
        Protocol::Anthropic => "msg_",
    };
    Reply {
        protocol,
        raw: Bytes::new(),
        id: Some(format!("{prefix}{}", request.id)),
        model: Some(model.to_owned()),
        choices: vec![choice],
        usage: None,
        fingerprint: None,
        changed: true,
    }
}
