//! Streams towards the client: passed through while they are live, or replayed from a whole answer.
//!
//! Whatever happens, a stream that was begun ends with exactly one terminal event: the protocol's own
//! or an error event, never both.

use std::time::Duration;

use backstay_core::failure::Failure;
use backstay_providers::{
    sse::write_event,
    wire::{Choice, Delta, Finish, Frame, Protocol, Reply, StreamOpening, StreamWriter},
};
use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use crate::{
    answer::Piece,
    attempt::{Live, cut, deadline_passed, stood_still},
    frames::is_terminal,
};

/// Writes a stream in the client's protocol.
#[derive(Debug)]
pub(crate) struct StreamOut {
    client: Protocol,
    /// `None`: the provider speaks the client's protocol and its events pass as they are.
    translator: Option<Box<dyn StreamWriter>>,
    include_usage: bool,
    ended: bool,
}

impl StreamOut {
    pub(crate) fn new(client: Protocol, upstream: Protocol, opening: StreamOpening) -> Self {
        let include_usage = opening.include_usage;
        let translator = (client != upstream).then(|| client.stream_writer(opening));
        Self { client, translator, include_usage, ended: false }
    }

    /// Writes one frame; nothing after the terminal event.
    pub(crate) fn frame(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        self.ended = is_terminal(frame);
        let unasked = self.unasked_usage(frame);
        match &mut self.translator {
            Some(writer) => frame.deltas.iter().for_each(|delta| writer.write(delta, out)),
            None if unasked => {}
            None => write_event(frame.event.name.as_deref(), &frame.event.data, out),
        }
    }

    /// Usage is always asked of the provider; a client that did not ask must not see the extra chunk.
    fn unasked_usage(&self, frame: &Frame) -> bool {
        let only_usage = |delta: &Delta| match delta {
            Delta::Usage(_) | Delta::Start { .. } => true,
            Delta::Text { .. }
            | Delta::Reasoning { .. }
            | Delta::Refusal { .. }
            | Delta::Tool { .. }
            | Delta::Finish { .. }
            | Delta::End => false,
        };
        self.client == Protocol::OpenAi
            && !self.include_usage
            && frame.deltas.iter().any(|delta| matches!(delta, Delta::Usage(_)))
            && frame.deltas.iter().all(only_usage)
    }

    /// The protocol's terminal event, if it has not been written.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        match &mut self.translator {
            Some(writer) => writer.write(&Delta::End, out),
            None => out.extend_from_slice(self.client.terminal_event()),
        }
    }
}

/// A whole answer as a stream in the client's protocol. The provider's own events are replayed if
/// there are any and nothing in them was changed.
pub(crate) fn replay(
    reply: &Reply,
    frames: &[Frame],
    client: Protocol,
    opening: StreamOpening,
) -> Bytes {
    let mut out = Vec::new();
    if !frames.is_empty() && !reply.changed {
        let mut stream = StreamOut::new(client, reply.protocol, opening);
        frames.iter().for_each(|frame| stream.frame(frame, &mut out));
        stream.end(&mut out);
        return out.into();
    }
    let mut writer = client.stream_writer(opening);
    deltas(reply).iter().for_each(|delta| writer.write(delta, &mut out));
    out.into()
}

fn deltas(reply: &Reply) -> Vec<Delta> {
    let mut all = vec![Delta::Start {
        id: reply.id.clone(),
        model: reply.model.clone(),
        fingerprint: reply.fingerprint.clone(),
    }];
    for (number, choice) in reply.choices.iter().enumerate() {
        all.extend(choice_deltas(number, choice));
    }
    all.extend(reply.usage.map(Delta::Usage));
    all.push(Delta::End);
    all
}

fn choice_deltas(choice: usize, answer: &Choice) -> Vec<Delta> {
    let mut all = Vec::new();
    if !answer.reasoning.is_empty() {
        all.push(Delta::Reasoning { choice, text: answer.reasoning.clone() });
    }
    if !answer.text.is_empty() {
        all.push(Delta::Text { choice, text: answer.text.clone() });
    }
    all.extend(answer.refusal.iter().map(|text| Delta::Refusal { choice, text: text.clone() }));
    all.extend(answer.tool_calls.iter().enumerate().map(|(index, call)| Delta::Tool {
        choice,
        index,
        id: Some(call.id.clone()),
        name: Some(call.name.clone()),
        arguments: call.arguments.clone(),
    }));
    let finish = answer.finish.clone().unwrap_or(Finish::Stop);
    all.push(Delta::Finish { choice, finish });
    all
}

/// Why a live stream did not come to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It failed; the client has to be told.
    Failed(Failure),
    /// The client went away.
    Gone,
    /// The process ends and cannot wait.
    CutOff,
    /// The deadline passed while the client did not read: not the provider's fault.
    Unread,
}

/// Passes a live stream through until its end. Returns the bytes of the terminal event, unsent, so
/// that the call can be judged and recorded before the client learns that it is over; empty if the
/// provider sent a finish reason and no terminal event.
///
/// # Errors
/// The stream's failure, with everything before it sent, or the client's departure.
pub(crate) async fn pump(
    live: &mut Live,
    out: &mut StreamOut,
    to: &mpsc::Sender<Piece>,
    (deadline, idle): (Instant, Duration),
) -> Result<Vec<u8>, Broken> {
    let mut bytes = Vec::new();
    live.held.drain(..).for_each(|frame| out.frame(&frame, &mut bytes));
    loop {
        let arrived = arrived(live, out, &mut bytes);
        send(to, std::mem::take(&mut bytes), deadline).await?;
        if let Some(tail) = arrived.map_err(Broken::Failed)? {
            return Ok(tail);
        }
        let limit = deadline.min(Instant::now() + idle);
        let more = tokio::select! {
            more = timeout_at(limit, live.frames.fill()) => more,
            () = to.closed() => return Err(Broken::Gone),
        };
        match more {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) if live.sum.finished() => return Ok(Vec::new()),
            Ok(Ok(false)) => return Err(Broken::Failed(cut())),
            Ok(Err(failure)) => return Err(Broken::Failed(failure)),
            Err(_) if limit == deadline => return Err(Broken::Failed(deadline_passed())),
            Err(_) => return Err(Broken::Failed(stood_still())),
        }
    }
}

/// Takes in every frame that has arrived. `Some`: the terminal event was among them, as written.
fn arrived(
    live: &mut Live,
    out: &mut StreamOut,
    bytes: &mut Vec<u8>,
) -> Result<Option<Vec<u8>>, Failure> {
    while let Some(frame) = live.frames.next_arrived()? {
        frame.deltas.iter().try_for_each(|delta| live.sum.push(delta))?;
        if is_terminal(&frame) {
            let mut tail = Vec::new();
            out.frame(&frame, &mut tail);
            return Ok(Some(tail));
        }
        out.frame(&frame, bytes);
    }
    Ok(None)
}

/// Sends `bytes` if there are any. A client that does not read holds its own stream up, but not
/// beyond the deadline.
async fn send(to: &mpsc::Sender<Piece>, bytes: Vec<u8>, deadline: Instant) -> Result<(), Broken> {
    if bytes.is_empty() {
        return Ok(());
    }
    match timeout_at(deadline, to.send(Piece::More(bytes.into()))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Broken::Gone),
        Err(_) => Err(Broken::Unread),
    }
}
