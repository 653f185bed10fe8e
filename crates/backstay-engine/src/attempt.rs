//! One attempt: one request to one target, until its answer is whole and valid, or its stream has
//! shown its first content. Everything that may still be retried happens in here.

use std::time::Duration;

use backstay_core::{
    failure::{Cut, Failure, FailureClass, Phase},
    price::Price,
    record::{AttemptKind, AttemptRecord, Usage},
    tokens,
    trace::TraceParent,
};
use backstay_providers::{
    accumulate::Accumulator,
    provider::{Body, Exchange, Limits},
    wire::{Frame, Prompt, Reply, WireRequest},
};
use bytes::{Bytes, BytesMut};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    frames::{Frames, has_content, is_terminal},
    meter,
    plan::{ReleasePlan, RouteEntry},
    targets::Admission,
    validate::{Expectation, verify},
};

/// A provider's reply larger than this is refused.
pub(crate) const LARGEST_REPLY: usize = 32 << 20;
/// An error reply is read this far.
const LARGEST_ERROR: usize = 64 << 10;

/// Where a request stands in a distributed trace: W3C Trace Context.
const TRACEPARENT: http::HeaderName = http::HeaderName::from_static("traceparent");

/// What one attempt is given.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    pub(crate) plan: &'a ReleasePlan,
    pub(crate) entry: &'a RouteEntry,
    pub(crate) prompt: &'a Prompt,
    pub(crate) expectation: &'a Expectation,
    pub(crate) kind: AttemptKind,
    pub(crate) started: Instant,
    /// The same by the calendar, which some prices depend on.
    pub(crate) started_ms: u64,
    pub(crate) deadline: Instant,
    /// Whether to wait for the target's concurrent attempts to end; not if another target is free.
    pub(crate) may_queue: bool,
    /// What the target is told of the trace.
    pub(crate) trace: Option<TraceParent>,
}

/// A complete, valid answer.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) reply: Reply,
    /// The events it came in, if it was streamed and held back.
    pub(crate) frames: Vec<Frame>,
    pub(crate) mended: bool,
}

/// A stream that has shown its first content: from here on nothing can be retried.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) frames: Frames,
    /// Frames up to and including the first content, not yet sent to the client.
    pub(crate) held: Vec<Frame>,
    pub(crate) sum: Accumulator,
    pub(crate) sent: Sent,
}

/// What has to be settled when a sent attempt ends.
#[derive(Debug)]
pub(crate) struct Sent {
    admission: Admission,
    _place: OwnedSemaphorePermit,
    pub(crate) began: Instant,
    fair_share: Duration,
    price: Price,
    started_ms: u64,
    /// What has come of a stream that is not committed; some of it is paid for even if it breaks off.
    sum: Option<Accumulator>,
    pub(crate) record: AttemptRecord,
}

impl Sent {
    /// Tells the target's breaker and tokens how the attempt ended, and completes its record with that
    /// and with what it used.
    ///
    /// A deadline that left the target less than a fair share of the call's time tells nothing of the
    /// target: a client in a hurry, or the attempts before, have used it up.
    pub(crate) fn settle(self, failure: Option<&Failure>, usage: Option<Usage>) -> AttemptRecord {
        let mut record = self.record;
        record.usage = usage;
        record.cost = usage.map(|usage| self.price.cost(&usage, self.started_ms));
        let took = self.began.elapsed();
        record.took_us = micros(took);
        if let Some(failure) = failure {
            record.failure = Some(failure.class);
            record.message = Some(failure.message.clone());
            record.status = failure.status.or(record.status);
            record.retry_after_ms = failure.retry_after.map(|pause| micros(pause) / 1000);
        }
        let hurried = failure.is_some_and(|f| f.class == FailureClass::Timeout(Phase::Deadline))
            && took < self.fair_share;
        if hurried {
            self.admission.give_back();
        } else {
            self.admission.observe(failure);
        }
        record
    }
}

/// Whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Attempted {
    /// The answer is complete and valid.
    Whole(Box<Whole>, AttemptRecord),
    /// The stream is committed; its record is completed at its end.
    Live(Box<Live>),
    /// It failed. `sent` tells whether the target was asked at all, `reply` is what it said.
    Failed { failure: Failure, reply: Option<Box<Reply>>, sent: bool, record: AttemptRecord },
}

/// A failure together with the reply that was rejected for it.
struct Rejected(Failure, Option<Box<Reply>>);

impl From<Failure> for Rejected {
    fn from(failure: Failure) -> Self {
        Self(failure, None)
    }
}

enum Opened {
    Whole(Box<Whole>),
    Stream(Box<(Frames, Vec<Frame>)>),
}

/// Makes one attempt.
pub(crate) async fn attempt(order: &Order<'_>) -> Attempted {
    let (request, mut sent) = match admit(order).await {
        Ok(admitted) => admitted,
        Err(failure) => {
            let mut record = blank_record(order, Instant::now());
            record.failure = Some(failure.class);
            record.message = Some(failure.message.clone());
            return Attempted::Failed { failure, reply: None, sent: false, record };
        }
    };
    let result = match timeout_at(order.deadline, open(order, &request, &mut sent)).await {
        Ok(result) => result,
        Err(_) => Err(deadline_passed().into()),
    };
    match result {
        Ok(Opened::Whole(whole)) => {
            let usage = meter::of_whole(&whole.reply, order.prompt);
            Attempted::Whole(whole, sent.settle(None, Some(usage)))
        }
        Ok(Opened::Stream(stream)) => {
            let (frames, held) = *stream;
            let sum = sent.sum.take();
            let sum = sum.unwrap_or_else(|| Accumulator::new(frames.protocol(), LARGEST_REPLY));
            Attempted::Live(Box::new(Live { frames, held, sum, sent }))
        }
        Err(Rejected(failure, reply)) => {
            let part = sent.sum.take().map(Accumulator::finish);
            let usage = match (&reply, &part) {
                (Some(reply), _) => Some(meter::of_whole(reply, order.prompt)),
                (None, Some(part)) => meter::of_part(part, order.prompt),
                (None, None) => None,
            };
            let record = sent.settle(Some(&failure), usage);
            Attempted::Failed { failure, reply, sent: true, record }
        }
    }
}

/// The failure of a call whose time is up.
pub(crate) fn deadline_passed() -> Failure {
    Failure::new(
        FailureClass::Timeout(Phase::Deadline),
        "the deadline of the call passed before the answer was complete",
    )
}

/// The record of an attempt that begins.
pub(crate) fn blank_record(order: &Order<'_>, began: Instant) -> AttemptRecord {
    AttemptRecord {
        target: order.entry.label.to_string(),
        kind: order.kind,
        failure: None,
        message: None,
        started_us: micros(began.duration_since(order.started)),
        took_us: 0,
        first_token_us: None,
        status: None,
        retry_after_ms: None,
        usage: None,
        cost: None,
    }
}

/// Everything that can say no before a byte is sent.
async fn admit(order: &Order<'_>) -> Result<(WireRequest, Sent), Failure> {
    fits_window(order)?;
    let mut request = order.entry.provider.wire.encode(order.prompt, &order.entry.name.model)?;
    if let Some(parent) = order.trace
        && let Ok(value) = parent.to_string().parse()
    {
        request.headers.push((TRACEPARENT, value));
    }
    let place = order.entry.gate.state.place(order.deadline, order.may_queue).await?;
    let began = Instant::now();
    let lease = order.deadline.saturating_duration_since(began);
    let admission = order.entry.gate.admit(began, lease)?;
    // A target that cannot begin to answer within half of the call's own deadline is at fault.
    let fair_share = order.plan.spec.budget.deadline / 2;
    let sent = Sent {
        admission,
        _place: place,
        began,
        fair_share,
        price: order.entry.price.clone(),
        started_ms: order.started_ms,
        sum: None,
        record: blank_record(order, began),
    };
    Ok((request, sent))
}

/// Refuses a prompt that certainly exceeds the target's window. A token is at least one byte, so most
/// prompts need no counting; the count is a lower bound, so none is refused that would have fitted.
fn fits_window(order: &Order<'_>) -> Result<(), Failure> {
    let Some(window) = order.entry.window else { return Ok(()) };
    let texts = order.prompt.texts();
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    if bytes <= usize::try_from(window).unwrap_or(usize::MAX) {
        return Ok(());
    }
    let tokens: u64 = texts.iter().map(|text| tokens::at_least(text)).sum();
    if tokens <= u64::from(window) {
        return Ok(());
    }
    Err(Failure::new(
        FailureClass::ContextLength,
        format!("the prompt has at least {tokens} tokens; the model's window holds {window}"),
    ))
}

async fn open(
    order: &Order<'_>,
    request: &WireRequest,
    sent: &mut Sent,
) -> Result<Opened, Rejected> {
    let provider = &order.entry.provider;
    let budget = &order.plan.spec.budget;
    let limits =
        Limits { connect: budget.connect, headers: budget.headers, body_max: LARGEST_REPLY };
    let exchange = provider.open(request, &limits).await?;
    sent.record.status = Some(exchange.status);
    if !(200..300).contains(&exchange.status) {
        return Err(read_error(order, exchange).await.into());
    }
    if !order.prompt.stream {
        return read_whole(order, exchange.body, None).await;
    }
    if !says_document(&exchange) {
        return read_stream(order, Frames::new(exchange.body, provider.wire), sent).await;
    }
    // Some servers answer a request for a stream with one JSON document or an HTML page, others call
    // their events JSON: the first byte tells.
    let mut body = exchange.body;
    let first_token = timeout(budget.first_token, body.chunk());
    let Some(head) = first_token.await.unwrap_or_else(|_| Err(no_token()))? else {
        return read_whole(order, body, None).await;
    };
    let first = head.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_none_or(|byte| b"{[<".contains(byte)) {
        return read_whole(order, body, Some(head)).await;
    }
    let mut frames = Frames::new(body, provider.wire);
    frames.take_in(head);
    read_stream(order, frames, sent).await
}

/// Whether a reply is announced as something other than a stream.
fn says_document(exchange: &Exchange) -> bool {
    let kind = exchange.headers.get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let starts = |prefix: &[u8]| kind.is_some_and(|kind| kind.starts_with(prefix));
    starts(b"application/json") || starts(b"text/html")
}

async fn read_error(order: &Order<'_>, exchange: Exchange) -> Failure {
    let Exchange { status, headers, mut body } = exchange;
    let mut bytes = BytesMut::new();
    while let Ok(Ok(Some(chunk))) = timeout(order.plan.spec.budget.idle, body.chunk()).await {
        let room = LARGEST_ERROR.saturating_sub(bytes.len());
        bytes.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if bytes.len() >= LARGEST_ERROR {
            break;
        }
    }
    order.entry.provider.wire.decode_error(status, &headers, &bytes)
}

/// Reads a reply of one piece; `head` is what has been read of it.
async fn read_whole(
    order: &Order<'_>,
    body: Body,
    head: Option<Bytes>,
) -> Result<Opened, Rejected> {
    let bytes = read_body(order, body, head).await?;
    let reply = order.entry.provider.wire.decode(&bytes)?;
    accept(order, reply, Vec::new())
}

async fn read_body(
    order: &Order<'_>,
    mut body: Body,
    mut first: Option<Bytes>,
) -> Result<Bytes, Failure> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = within_idle(order, body.chunk()).await? {
        match first.take() {
            None if whole.is_empty() => first = Some(chunk),
            None => whole.extend_from_slice(&chunk),
            Some(head) => {
                whole.extend_from_slice(&head);
                whole.extend_from_slice(&chunk);
            }
        }
    }
    // Most replies come in one piece, which then need not be copied.
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

async fn within_idle<T>(
    order: &Order<'_>,
    chunk: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(order.plan.spec.budget.idle, chunk).await.unwrap_or_else(|_| Err(stood_still()))
}

/// The failure of a body that stopped moving.
pub(crate) fn stood_still() -> Failure {
    Failure::new(
        FailureClass::Timeout(Phase::Idle),
        "the provider stopped sending in the middle of its answer",
    )
}

fn accept(order: &Order<'_>, mut reply: Reply, frames: Vec<Frame>) -> Result<Opened, Rejected> {
    match verify(&mut reply, order.expectation, &order.plan.checks) {
        Ok(mended) => Ok(Opened::Whole(Box::new(Whole { reply, frames, mended }))),
        Err(failure) => Err(Rejected(failure, Some(Box::new(reply)))),
    }
}

/// Accepts what a stream has come to.
fn accept_sum(
    order: &Order<'_>,
    sum: &mut Option<Accumulator>,
    frames: Vec<Frame>,
) -> Result<Opened, Rejected> {
    match sum.take() {
        Some(sum) => accept(order, sum.finish(), frames),
        None => Err(cut().into()),
    }
}

/// Reads a stream up to its commit point or, if it is held back, to its end.
async fn read_stream(
    order: &Order<'_>,
    mut frames: Frames,
    sent: &mut Sent,
) -> Result<Opened, Rejected> {
    let has_schema = !matches!(order.expectation, Expectation::Text);
    let hold_back = order.plan.holds_streams_back(has_schema);
    let sum = sent.sum.insert(Accumulator::new(frames.protocol(), LARGEST_REPLY));
    let record = &mut sent.record;
    let mut held = Vec::new();
    let first_token_by = Instant::now() + order.plan.spec.budget.first_token;
    loop {
        while let Some(frame) = frames.next_arrived()? {
            frame.deltas.iter().try_for_each(|delta| sum.push(delta))?;
            let (content, terminal) = (has_content(&frame), is_terminal(&frame));
            held.push(frame);
            if content && record.first_token_us.is_none() {
                record.first_token_us = Some(micros(sent.began.elapsed()));
            }
            if terminal {
                return accept_sum(order, &mut sent.sum, held);
            }
            if content && !hold_back {
                return Ok(Opened::Stream(Box::new((frames, held))));
            }
        }
        let more = if record.first_token_us.is_none() {
            timeout_at(first_token_by, frames.fill()).await.unwrap_or_else(|_| Err(no_token()))?
        } else {
            within_idle(order, frames.fill()).await?
        };
        if !more {
            // Many compatible servers leave the terminal event out; the finish reason is enough.
            return if sum.finished() {
                accept_sum(order, &mut sent.sum, held)
            } else {
                Err(cut().into())
            };
        }
    }
}

fn no_token() -> Failure {
    Failure::new(
        FailureClass::Timeout(Phase::FirstToken),
        "the stream opened, but its first content did not come in time",
    )
}

/// The failure of a stream that ended before its end.
pub(crate) fn cut() -> Failure {
    Failure::new(
        FailureClass::Truncated(Cut::Stream),
        "the stream ended without its terminal event",
    )
}
