//! The simulated provider: a provider that answers, or fails, exactly as it is told to.
//!
//! It exists twice, and both are players of the same pure [`script`]: in process ([`Sim::open`],
//! where waits are tokio's and may be paused) and over real sockets ([`serve::serve`]). What it says
//! follows from its seed and the request, so the same run gives the same bytes.
//!
//! It must not know anything of the gateway: no failure budget, no breaker, no schema check.
//!
//! Read [`fault`] for what can go wrong, [`config`] for what can be set, `script.rs` for what is done
//! with one request.

use std::{
    collections::BTreeMap,
    future::pending,
    io::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use backstay_core::failure::{Cut, Failure, FailureClass};
use bytes::Bytes;
use flate2::write::GzDecoder;
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};
use tokio::time::{Instant, sleep};

use crate::wire::{Protocol, WireRequest};

mod answer;
mod anthropic;
pub mod config;
mod dice;
pub mod fault;
mod frames;
mod instance;
mod openai;
pub mod request;
pub mod script;
pub mod serve;

pub use config::{FaultRate, Latency, Schedule, SimConfig};
pub use fault::Fault;
pub use serve::serve;

use fault::Drop;
use request::SimRequest;
use script::{End, Moment, Piece, Script, Wait};

/// The header that asks for a fault by name.
pub const FAULT_HEADER: &str = "x-sim-fault";

/// Models that are counted each on its own; the names come from clients.
const MAX_MODELS: usize = 1_000;
/// The count of all models beyond those.
const OTHER: &str = "(other models)";

/// A simulated provider: its configuration, and how often it was asked.
#[derive(Debug)]
pub struct Sim {
    config: SimConfig,
    forced: Option<Vec<Fault>>,
    began: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: u64,
    models: BTreeMap<String, u64>,
}

impl Sim {
    /// A simulated provider. Its schedule begins now.
    #[must_use]
    pub fn new(config: SimConfig) -> Self {
        Self { config, forced: None, began: Instant::now(), counts: Mutex::default() }
    }

    /// A simulated provider whose n-th request meets the n-th of `faults`, whatever it asks for, and
    /// which is healthy after them.
    #[must_use]
    pub fn scripted(faults: Vec<Fault>) -> Self {
        Self { forced: Some(faults), ..Self::new(SimConfig::default()) }
    }

    /// The same, at the pace of `config`; what is scripted comes before its faults.
    #[must_use]
    pub fn paced(self, config: SimConfig) -> Self {
        Self { config, ..self }
    }

    /// How many requests came.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.counts().all
    }

    /// How many requests came for each model, as it was named.
    #[must_use]
    pub fn requests_by_model(&self) -> BTreeMap<String, u64> {
        self.counts().models.clone()
    }

    /// Counts one request and says what is done with it. `fault` is the value of [`FAULT_HEADER`].
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "a provider has its own wall clock, which it shows in Retry-After dates only"
    )]
    pub fn script(&self, protocol: Protocol, body: &[u8], fault: Option<&str>) -> Script {
        let Some(request) = SimRequest::parse(protocol, body, fault) else {
            let message = "We could not parse the JSON body of your request.";
            return script::complain(protocol, message, 0);
        };
        let (number, of_model) = self.count(&request.model);
        let forced = self.forced.as_ref().map(|faults| {
            let index = usize::try_from(number).unwrap_or(usize::MAX);
            faults.get(index).copied().unwrap_or(Fault::None)
        });
        let (elapsed, wall) = (self.began.elapsed(), SystemTime::now());
        let moment = Moment { number, of_model, elapsed, wall, forced };
        script::script(&request, &self.config, &moment)
    }

    /// Plays the answer to `request` in process, up to its headers.
    ///
    /// # Errors
    /// `connection` where a real connection would not get as far as a status line, and `bad_request`
    /// for a path that the simulated provider does not serve.
    pub async fn open(&self, request: &WireRequest) -> Result<SimExchange, Failure> {
        let protocol = protocol_of(request.path).ok_or_else(|| {
            let message = format!("the simulated provider does not serve {}", request.path);
            Failure::bad_request("path", message)
        })?;
        let header = request.headers.iter().find(|(name, _)| name.as_str() == FAULT_HEADER);
        let fault = header.and_then(|(_, value)| value.to_str().ok());
        let mut script = self.script(protocol, &request.body, fault);
        if let Some(drop) = script.drop {
            return Err(dropped(drop));
        }
        match script.wait {
            Wait::For(wait) => pause(wait).await,
            Wait::Forever => pending().await,
        }
        if script.headers.remove(CONTENT_ENCODING).is_some() {
            script.pieces.iter_mut().fold(GzDecoder::new(Vec::new()), unpack);
            let unpacked = script.pieces.iter().map(|piece| piece.bytes.len() as u64).sum();
            script.length = script.length.map(|_packed| unpacked);
        }
        if let Some(length) = script.length {
            script.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let body = SimBody {
            pieces: script.pieces.into_iter(),
            current: None,
            end: script.end,
            left: script.length,
        };
        Ok(SimExchange { status: script.status, headers: script.headers, body })
    }

    /// The number of this request, in all and among those for its model.
    fn count(&self, model: &str) -> (u64, u64) {
        let mut counts = self.counts();
        let number = counts.all;
        counts.all += 1;
        let full = counts.models.len() >= MAX_MODELS;
        let key = if full && !counts.models.contains_key(model) { OTHER } else { model };
        let of_model = if let Some(count) = counts.models.get_mut(key) {
            *count += 1;
            *count - 1
        } else {
            counts.models.insert(key.to_owned(), 1);
            0
        };
        (number, of_model)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Counters stay true whatever panicked next to them.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wire format that is spoken at `path`.
fn protocol_of(path: &str) -> Option<Protocol> {
    let path = path.split('?').next().unwrap_or_default();
    match path.strip_prefix("/v1").unwrap_or(path) {
        "/chat/completions" => Some(Protocol::OpenAi),
        "/messages" => Some(Protocol::Anthropic),
        _ => None,
    }
}

/// A pause, unless there is none: `sleep` would round it up to a millisecond.
async fn pause(wait: Duration) {
    if !wait.is_zero() {
        sleep(wait).await;
    }
}

fn dropped(drop: Drop) -> Failure {
    let message = match drop {
        Drop::Refuse => "the simulated provider refused the connection",
        Drop::ResetBeforeHeaders => {
            "the simulated provider reset the connection before it answered"
        }
        Drop::Tls => "the TLS handshake with the simulated provider failed",
    };
    Failure::new(FailureClass::Connection, message)
}

/// Takes a piece out of its gzip member: in process there is no transport that would.
fn unpack(mut decoder: GzDecoder<Vec<u8>>, piece: &mut Piece) -> GzDecoder<Vec<u8>> {
    // The script packed it a moment ago, into memory; neither can fail.
    if decoder.write_all(&piece.bytes).and_then(|()| decoder.flush()).is_ok() {
        piece.bytes = std::mem::take(decoder.get_mut()).into();
    }
    decoder
}

/// The reply of the simulated provider in process: its head, and a body that is still to come.
#[derive(Debug)]
pub struct SimExchange {
    /// The HTTP status.
    pub status: u16,
    /// The headers, `content-length` included where there is one.
    pub headers: HeaderMap,
    /// The body.
    pub body: SimBody,
}

/// A body that comes in pieces.
#[derive(Debug)]
pub struct SimBody {
    pieces: std::vec::IntoIter<Piece>,
    current: Option<Piece>,
    end: End,
    /// Announced bytes that have not come yet.
    left: Option<u64>,
}

impl SimBody {
    /// The next bytes; `None` at the proper end. Dropping the future loses nothing but the pause.
    ///
    /// # Errors
    /// `truncated` for a reset and for a body that is shorter than announced.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.current.is_none() {
            self.current = self.pieces.next();
        }
        let Some(piece) = &mut self.current else { return self.ended().await };
        pause(piece.wait).await;
        piece.wait = Duration::ZERO;
        let bytes = piece.bytes.clone();
        piece.times = piece.times.saturating_sub(1);
        if piece.times == 0 {
            self.current = None;
        }
        self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
        Ok(Some(bytes))
    }

    async fn ended(&self) -> Result<Option<Bytes>, Failure> {
        match self.end {
            End::Complete => Ok(None),
            End::Hang => pending().await,
            End::Reset => Err(Failure::new(
                FailureClass::Truncated(Cut::Stream),
                "the simulated provider reset the connection before the end of its answer",
            )),
            End::CloseEarly => Err(Failure::new(
                FailureClass::Truncated(Cut::Stream),
                format!(
                    "the simulated provider closed the connection {} bytes before the announced \
                     end of its answer",
                    self.left.unwrap_or_default()
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests;
