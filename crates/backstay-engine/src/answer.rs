//! What the engine hands back: an answer that cannot be empty, with what is told of it in headers.

use std::time::Duration;

use backstay_core::{
    failure::Failure,
    record::{AttemptRecord, CallId, Cost, Degraded, Outcome, Usage, Variant},
};
use backstay_providers::wire::{ErrorView, Reply};
use bytes::Bytes;
use tokio::sync::mpsc;

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
    /// What they cost.
    pub cost: Option<Cost>,
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
            refusal: failure.refusal,
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
    /// A stream under way in the client's protocol. If the sender goes without a [`Piece::Last`],
    /// the stream is broken and must not look complete.
    Live(mpsc::Receiver<Piece>),
    /// No answer could be given; the failure has to be told in the protocol's error shape.
    Failed(Box<Failure>),
}

/// A part of a live stream.
#[derive(Debug)]
pub enum Piece {
    /// There is more to come.
    More(Bytes),
    /// The end, with the terminal event.
    Last(Bytes),
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// What is told of it.
    pub head: Head,
    /// What it says.
    pub body: AnswerBody,
}
