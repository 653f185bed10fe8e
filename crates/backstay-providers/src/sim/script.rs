//! What the simulated provider does with one request, as a value: [`script`] is a pure function, and
//! the player in process and the server over sockets only play what it returns.

use std::{
    io::Write as _,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, RETRY_AFTER},
};
use serde_json::Value;

use super::{
    answer::{Answer, Content, answer},
    anthropic,
    config::{Latency, SimConfig},
    dice,
    fault::{Drop, Effect, ErrorReply, Fault, Hint, Says, Sends},
    frames::Mark,
    openai,
    request::SimRequest,
};
use crate::wire::Protocol;

/// Between the pieces of `slow-stream`.
const SLOW: Duration = Duration::from_millis(250);

/// Where the 50 MiB go. At most 12 characters, so that it is streamed as one piece.
const PLACE: &str = "@@50-MIB@@";
static FILLER: [u8; 65_536] = [b'x'; 65_536];
const FILLER_TIMES: u32 = 800;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// When and as which one a request comes.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// How many requests came before it.
    pub number: u64,
    /// How many of them named the same model.
    pub of_model: u64,
    /// The time since the simulated provider began.
    pub elapsed: Duration,
    /// The wall clock, for `429-retry-after-date`.
    pub wall: SystemTime,
    /// A fault that comes before everything the request says.
    pub forced: Option<Fault>,
}

/// How long until the headers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// So long.
    For(Duration),
    /// They never come.
    Forever,
}

/// Bytes of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The pause before it.
    pub wait: Duration,
    /// What is sent.
    pub bytes: Bytes,
    /// How many times, so that a huge body needs no huge buffer.
    pub times: u32,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As HTTP wants it.
    Complete,
    /// Not at all.
    Hang,
    /// With a reset of the connection.
    Reset,
    /// With the end of the connection, before the announced length.
    CloseEarly,
}

/// What is done with one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// No reply at all; the rest has no meaning then.
    pub drop: Option<Drop>,
    /// The pause before the headers.
    pub wait: Wait,
    /// The HTTP status.
    pub status: u16,
    /// The headers, without those that frame the body.
    pub headers: HeaderMap,
    /// The announced length in bytes; `None` for streams.
    pub length: Option<u64>,
    /// The body.
    pub pieces: Vec<Piece>,
    /// What comes after the last piece.
    pub end: End,
}

impl Script {
    fn new(status: u16, content_type: HeaderValue) -> Self {
        Self {
            drop: None,
            wait: Wait::For(Duration::ZERO),
            status,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, content_type)]),
            length: None,
            pieces: Vec::new(),
            end: End::Complete,
        }
    }

    fn whole(status: u16, content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let length = Some(body.len() as u64);
        Self { length, pieces: vec![piece(body)], ..Self::new(status, content_type) }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

const fn after(wait: Duration, bytes: Bytes) -> Piece {
    Piece { wait, bytes, times: 1 }
}

const fn piece(bytes: Bytes) -> Piece {
    after(Duration::ZERO, bytes)
}

/// What is done with `request`.
#[must_use]
pub fn script(request: &SimRequest<'_>, config: &SimConfig, moment: &Moment) -> Script {
    let id = dice::hash(config.seed, &moment.number.to_be_bytes());
    let scene = Scene { request, config, moment, id };
    let effect = match choose(request, config, moment) {
        Ok(fault) => fault.effect(),
        Err(complaint) => return complain(request.protocol, &complaint, id),
    };
    let mut script = match effect {
        Effect::Nothing => scene.reply(None, None),
        Effect::Drop(drop) => Script { drop: Some(drop), ..Script::new(502, JSON) },
        Effect::Error(reply) => scene.error(reply),
        Effect::Html => Script::whole(200, HTML, "<!doctype html>\n<title>Sign in</title>\n"),
        Effect::Says(says) => scene.reply(Some(says), None),
        Effect::Sends(sends) => scene.reply(None, Some(sends)),
    };
    let request_id = match request.protocol {
        Protocol::OpenAi => HeaderName::from_static("x-request-id"),
        Protocol::Anthropic => HeaderName::from_static("request-id"),
    };
    if let Ok(value) = HeaderValue::from_str(&format!("req_sim{id:016x}")) {
        script.headers.insert(request_id, value);
    }
    script
}

/// The reply to a request that cannot be followed: status 400, in the vendor's shape.
pub(super) fn complain(protocol: Protocol, message: &str, id: u64) -> Script {
    let body = match protocol {
        Protocol::OpenAi => openai::complaint(message),
        Protocol::Anthropic => anthropic::complaint(message, id),
    };
    Script::whole(400, JSON, body.to_string())
}

/// Which fault strikes: forced, header, model, schedule, share, in this order.
fn choose(request: &SimRequest<'_>, config: &SimConfig, moment: &Moment) -> Result<Fault, String> {
    if let Some(fault) = moment.forced {
        return Ok(fault);
    }
    if let Some(name) = request.fault_header {
        return Fault::from_name(name.trim()).ok_or_else(|| {
            format!("x-sim-fault: {name} is no fault of the simulated provider; GET /v1/models lists them")
        });
    }
    if let Some(named) = Named::parse(&request.model) {
        let spared = moment.of_model < named.after;
        let over = named.times.is_some_and(|times| moment.of_model >= named.after + times);
        let healed = named.heals && request.is_repair();
        return Ok(if spared || over || healed { Fault::None } else { named.fault });
    }
    let scheduled = config.schedule.iter().find(|schedule| {
        let since = moment.elapsed.checked_sub(schedule.after);
        since.is_some_and(|since| schedule.lasts.is_none_or(|lasts| since < lasts))
    });
    if let Some(schedule) = scheduled {
        return Ok(schedule.fault);
    }
    let mut left = dice::unit(dice::hash(config.seed ^ 0xfa, &moment.number.to_be_bytes()));
    let struck = config.faults.iter().find(|share| {
        left -= share.rate;
        left < 0.0
    });
    Ok(struck.map_or(Fault::None, |share| share.fault))
}

/// A model's name that asks for a fault: `stall`, `stall~1`, `stall*2`, `wrong-type+heals`,
/// `any/stall`.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    fault: Fault,
    /// Requests before the fault begins.
    after: u64,
    times: Option<u64>,
    heals: bool,
}

impl Named {
    fn parse(model: &str) -> Option<Self> {
        let name = model.rsplit('/').next().unwrap_or_default();
        let (name, heals) = match name.strip_suffix("+heals") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let (name, times) = match name.rsplit_once('*') {
            Some((name, times)) => (name, Some(u64::from(times.parse::<u32>().ok()?))),
            None => (name, None),
        };
        let (name, after) = match name.rsplit_once('~') {
            Some((name, after)) => (name, u64::from(after.parse::<u32>().ok()?)),
            None => (name, 0),
        };
        Fault::from_name(name).map(|fault| Self { fault, after, times, heals })
    }
}

/// One request with all that its reply depends on.
#[derive(Clone, Copy)]
struct Scene<'a> {
    request: &'a SimRequest<'a>,
    config: &'a SimConfig,
    moment: &'a Moment,
    id: u64,
}

impl Scene<'_> {
    fn error(&self, reply: ErrorReply) -> Script {
        let wait = Wait::For(latency(self.config.latency, self.id));
        if reply == ErrorReply::BadGateway {
            let page = "<html>\n<head><title>502 Bad Gateway</title></head>\n<body>\n\
                        <center><h1>502 Bad Gateway</h1></center>\n</body>\n</html>\n";
            return Script { wait, ..Script::whole(502, HTML, page) };
        }
        let body = match self.request.protocol {
            Protocol::OpenAi => openai::error(reply),
            Protocol::Anthropic => anthropic::error(reply, self.id),
        };
        let script = Script { wait, ..Script::whole(reply.status(), JSON, body.to_string()) };
        let ErrorReply::RateLimited(hint) = reply else { return script };
        match hint {
            Hint::Absent => script,
            Hint::Seconds => script.with(RETRY_AFTER, HeaderValue::from_static("2")),
            Hint::Millis => script
                .with(HeaderName::from_static("retry-after-ms"), HeaderValue::from_static("250")),
            Hint::Date => {
                // Dates have whole seconds: three ahead is at least two. As any server, it says what
                // its own clock shows.
                let date = |ahead| {
                    let date = self.moment.wall + Duration::from_secs(ahead);
                    HeaderValue::from_str(&httpdate::fmt_http_date(date)).ok()
                };
                let Some((now, then)) = date(0).zip(date(3)) else { return script };
                script.with(DATE, now).with(RETRY_AFTER, then)
            }
        }
    }

    fn reply(&self, says: Option<Says>, sends: Option<Sends>) -> Script {
        let mut answer = answer(self.request, self.config.seed, says);
        if sends == Some(Sends::Huge) {
            answer.content = Content::Text(PLACE.to_owned());
        }
        if sends == Some(Sends::ErrorInside) && !self.request.stream {
            return Script::whole(200, JSON, self.error_inside().to_string());
        }
        let gap = self.config.tokens_per_second.map_or(Duration::ZERO, |speed| {
            Duration::try_from_secs_f64(1.0 / speed).unwrap_or_default()
        });
        let begins = latency(self.config.latency, self.id);
        let mut script = if self.request.stream {
            self.stream(&answer, gap, sends)
        } else {
            self.body(&answer, sends)
        };
        let written = if self.request.stream { 0 } else { answer.size() };
        let written = gap.saturating_mul(u32::try_from(written).unwrap_or(u32::MAX));
        script.wait = match sends {
            Some(Sends::HangHeaders) => Wait::Forever,
            Some(_) | None => Wait::For(begins.saturating_add(written)),
        };
        script
    }

    fn body(&self, answer: &Answer, sends: Option<Sends>) -> Script {
        let request = self.request;
        let body = match request.protocol {
            Protocol::OpenAi => openai::whole(answer, &request.model, self.id),
            Protocol::Anthropic => anthropic::whole(answer, &request.model, self.id),
        };
        let body = Bytes::from(body.to_string());
        let half = piece(body.slice(..body.len() / 2));
        let script = Script::whole(200, JSON, body.clone());
        match sends {
            None
            | Some(Sends::NoTerminal | Sends::BadLine | Sends::ErrorInside | Sends::HangHeaders) => {
                script
            }
            Some(Sends::HangBody) => Script { pieces: Vec::new(), end: End::Hang, ..script },
            Some(Sends::Stall) => Script { pieces: vec![half], end: End::Hang, ..script },
            Some(Sends::Slow) => {
                let step = body.len().div_ceil(8).max(1);
                let parts = (0..body.len()).step_by(step);
                let part = |at: usize| body.slice(at..(at + step).min(body.len()));
                Script { pieces: parts.map(|at| after(SLOW, part(at))).collect(), ..script }
            }
            Some(Sends::ResetAfterHeaders) => {
                Script { pieces: Vec::new(), end: End::Reset, ..script }
            }
            Some(Sends::CutJson) => Script::whole(200, JSON, half.bytes),
            Some(Sends::Cut) => Script { pieces: vec![half], end: End::CloseEarly, ..script },
            Some(Sends::Gzip) => {
                let zipped = gzip([body]).pop().unwrap_or_default();
                Script::whole(200, JSON, zipped)
                    .with(CONTENT_ENCODING, HeaderValue::from_static("gzip"))
            }
            Some(Sends::Huge) => {
                let pieces = filled(&body);
                let bytes = |piece: &Piece| piece.bytes.len() as u64 * u64::from(piece.times);
                let length = Some(pieces.iter().map(bytes).sum());
                Script { pieces, length, ..script }
            }
            Some(Sends::WrongType) => {
                script.with(CONTENT_TYPE, HeaderValue::from_static("text/plain"))
            }
        }
    }

    fn stream(&self, answer: &Answer, gap: Duration, sends: Option<Sends>) -> Script {
        let request = self.request;
        let frames = match request.protocol {
            Protocol::OpenAi => {
                openai::frames(answer, &request.model, self.id, request.wants_usage())
            }
            Protocol::Anthropic => anthropic::frames(answer, &request.model, self.id),
        };
        let contents = frames.iter().filter(|(mark, _)| *mark == Mark::Content).count();
        let mut script = Script::new(200, EVENTS);
        match sends {
            None | Some(Sends::HangHeaders) => script.pieces = paced(frames, gap),
            Some(Sends::HangBody) => script.end = End::Hang,
            Some(Sends::ResetAfterHeaders) => script.end = End::Reset,
            Some(Sends::Stall) => {
                script.pieces = paced(until(frames, contents.div_ceil(2)), gap);
                script.end = End::Hang;
            }
            Some(Sends::Cut) => script.pieces = paced(until(frames, contents.div_ceil(2)), gap),
            Some(Sends::Slow) => script.pieces = paced(frames, SLOW.max(gap)),
            Some(Sends::CutJson) => {
                let mut kept = until(frames, contents);
                if let Some((_, last)) = kept.last_mut() {
                    last.truncate(last.len() / 2);
                }
                script.pieces = paced(kept, gap);
            }
            Some(Sends::NoTerminal) => {
                let kept = frames.into_iter().filter(|(mark, _)| *mark != Mark::Terminal);
                script.pieces = paced(kept.collect(), gap);
            }
            Some(Sends::BadLine) => {
                let bad = Bytes::from_static(b"data: {\"this is\": not JSON\n\n");
                let at = after_first_content(&frames);
                let mut frames = frames;
                frames.insert(at, (Mark::Content, bad));
                script.pieces = paced(frames, gap);
            }
            Some(Sends::ErrorInside) => {
                let error = self.error_inside();
                let event = match request.protocol {
                    Protocol::OpenAi => format!("data: {error}\n\n"),
                    Protocol::Anthropic => format!("event: error\ndata: {error}\n\n"),
                };
                let mut kept = until(frames, contents.div_ceil(2));
                kept.push((Mark::Terminal, Bytes::from(event)));
                script.pieces = paced(kept, gap);
            }
            Some(Sends::Gzip) => {
                let (marks, bytes): (Vec<_>, Vec<_>) = frames.into_iter().unzip();
                script.pieces = paced(marks.into_iter().zip(gzip(bytes)).collect(), gap);
                return script.with(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            Some(Sends::Huge) => {
                script.pieces = frames.iter().flat_map(|(_, bytes)| filled(bytes)).collect();
            }
            Some(Sends::WrongType) => {
                script.pieces = paced(frames, gap);
                return script.with(CONTENT_TYPE, JSON);
            }
        }
        script
    }

    fn error_inside(&self) -> Value {
        match self.request.protocol {
            Protocol::OpenAi => openai::error_inside(),
            Protocol::Anthropic => anthropic::error_inside(self.id),
        }
    }
}

/// The frames up to and with the `count`-th piece of the answer.
fn until(mut frames: Vec<(Mark, Bytes)>, count: usize) -> Vec<(Mark, Bytes)> {
    let contents = frames.iter().enumerate().filter(|(_, (mark, _))| *mark == Mark::Content);
    let last = contents.take(count).last().map_or(0, |(index, _)| index);
    frames.truncate(last + 1);
    frames
}

fn after_first_content(frames: &[(Mark, Bytes)]) -> usize {
    let first = frames.iter().position(|(mark, _)| *mark == Mark::Content);
    first.map_or(1, |first| first + 1).min(frames.len())
}

/// Puts `gap` between the pieces of the answer.
fn paced(frames: Vec<(Mark, Bytes)>, gap: Duration) -> Vec<Piece> {
    let mut first = true;
    let pace = |(mark, bytes)| {
        let waits = mark == Mark::Content && !std::mem::take(&mut first);
        if waits { after(gap, bytes) } else { piece(bytes) }
    };
    frames.into_iter().map(pace).collect()
}

/// `bytes` with the 50 MiB in their place, if they have it.
fn filled(bytes: &Bytes) -> Vec<Piece> {
    let place = bytes.windows(PLACE.len()).rposition(|window| window == PLACE.as_bytes());
    let Some(place) = place else { return vec![piece(bytes.clone())] };
    let filler =
        Piece { wait: Duration::ZERO, bytes: Bytes::from_static(&FILLER), times: FILLER_TIMES };
    vec![piece(bytes.slice(..place)), filler, piece(bytes.slice(place + PLACE.len()..))]
}

/// One gzip member, flushed after each part so that every part can be read when it arrives.
fn gzip(parts: impl IntoIterator<Item = Bytes>) -> Vec<Bytes> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut zipped = Vec::new();
    for part in parts {
        // Writing to a Vec cannot fail.
        let _infallible = encoder.write_all(&part).and_then(|()| encoder.flush());
        zipped.push(std::mem::take(encoder.get_mut()));
    }
    let trailer = encoder.finish().unwrap_or_default();
    if let Some(last) = zipped.last_mut() {
        last.extend(trailer);
    }
    zipped.into_iter().map(Bytes::from).collect()
}

/// One draw from the distribution; the 99th percentile of the normal one is 2.326.
fn latency(latency: Latency, id: u64) -> Duration {
    if latency.p50 == latency.p99 {
        return latency.p50;
    }
    let p50 = latency.p50.as_secs_f64().max(1e-6);
    let sigma = (latency.p99.as_secs_f64() / p50).ln() / 2.326;
    // Nobody waits for the one in a million: ten times the p99 is the end.
    let drawn = p50 * (sigma * dice::normal(id)).exp();
    Duration::try_from_secs_f64(drawn).unwrap_or(latency.p99).min(latency.p99.saturating_mul(10))
}
