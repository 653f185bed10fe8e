//! A stream of message events, written from the deltas of any wire format.

use std::collections::BTreeMap;

use backstay_core::record::Usage;
use serde_json::{Value, json};

use super::client::{stop_reason, usage_json};
use crate::{
    accumulate::absorb,
    sse,
    wire::{Delta, Finish, REFUSAL, StreamOpening, StreamWriter},
};

/// Writes `message_start`, the content blocks, `message_delta` and `message_stop`. The format has one
/// answer a message: further ones are left out.
#[derive(Debug)]
pub struct MessageWriter {
    opening: StreamOpening,
    started: bool,
    ended: bool,
    open: Option<Open>,
    /// The number of the next block.
    next: usize,
    /// The block of each tool call by the provider's number.
    tools: BTreeMap<usize, usize>,
    has_words: bool,
    finish: Option<Finish>,
    usage: Usage,
}

/// The block that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    Tool(usize),
}

impl MessageWriter {
    /// A writer for one stream.
    #[must_use]
    pub fn new(opening: StreamOpening) -> Self {
        Self {
            opening,
            started: false,
            ended: false,
            open: None,
            next: 0,
            tools: BTreeMap::new(),
            has_words: false,
            finish: None,
            usage: Usage::default(),
        }
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let message = json!({
            "id": self.opening.id,
            "type": "message",
            "role": "assistant",
            "model": self.opening.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage_json(&self.usage),
        });
        event("message_start", &json!({"type": "message_start", "message": message}), out);
    }

    /// The number of the open block, which is always the last one.
    const fn current(&self) -> usize {
        self.next.saturating_sub(1)
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            let stop = json!({"type": "content_block_stop", "index": self.current()});
            event("content_block_stop", &stop, out);
        }
    }

    fn open(&mut self, kind: Open, block: &Value, out: &mut Vec<u8>) {
        self.start(out);
        if self.open == Some(kind) {
            return;
        }
        self.close(out);
        let start =
            json!({"type": "content_block_start", "index": self.next, "content_block": block});
        event("content_block_start", &start, out);
        self.open = Some(kind);
        self.next = self.next.saturating_add(1);
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        self.has_words = true;
        self.open(Open::Text, &json!({"type": "text", "text": ""}), out);
        piece(self.current(), &json!({"type": "text_delta", "text": text}), out);
    }

    fn thinking(&mut self, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        let block = json!({"type": "thinking", "thinking": "", "signature": ""});
        self.open(Open::Thinking, &block, out);
        piece(self.current(), &json!({"type": "thinking_delta", "thinking": text}), out);
    }

    fn tool(
        &mut self,
        index: usize,
        opens: (Option<&str>, Option<&str>),
        out: &mut Vec<u8>,
    ) -> usize {
        if let Some(block) = self.tools.get(&index) {
            // A provider that goes back to an earlier call: clients add by number.
            return *block;
        }
        let (id, name) = opens;
        let id = id.filter(|id| !id.is_empty());
        let id = id.map_or_else(|| format!("toolu_{index}"), str::to_owned);
        let name = name.unwrap_or_default();
        let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
        self.open(Open::Tool(index), &block, out);
        self.tools.insert(index, self.current());
        self.current()
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.finish == Some(Finish::Refusal) && !self.has_words {
            self.text(REFUSAL, out);
        }
        self.start(out);
        self.close(out);
        self.ended = true;
        let reason = self.finish.as_ref().map_or("end_turn", stop_reason);
        let delta = json!({
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": null},
            "usage": usage_json(&self.usage),
        });
        event("message_delta", &delta, out);
        event("message_stop", &json!({"type": "message_stop"}), out);
    }
}

fn event(name: &str, data: &Value, out: &mut Vec<u8>) {
    sse::write_event(Some(name), data.to_string().as_bytes(), out);
}

fn piece(index: usize, delta: &Value, out: &mut Vec<u8>) {
    let data = json!({"type": "content_block_delta", "index": index, "delta": delta});
    event("content_block_delta", &data, out);
}

impl StreamWriter for MessageWriter {
    fn write(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match delta {
            Delta::Start { id, model, .. } => self.opening.learn(id.as_deref(), model.as_deref()),
            Delta::Text { choice: 0, text } => self.text(text, out),
            Delta::Reasoning { choice: 0, text } => self.thinking(text, out),
            Delta::Refusal { choice: 0, text } => {
                self.text(text, out);
                self.finish = Some(Finish::Refusal);
            }
            Delta::Tool { choice: 0, index, id, name, arguments } => {
                let block = self.tool(*index, (id.as_deref(), name.as_deref()), out);
                if !arguments.is_empty() {
                    let json = json!({"type": "input_json_delta", "partial_json": arguments});
                    piece(block, &json, out);
                }
            }
            Delta::Finish { choice: 0, finish } => {
                // The refusal came first: OpenAI then says only that the answer is at its end.
                if self.finish != Some(Finish::Refusal) {
                    self.finish = Some(finish.clone());
                }
            }
            Delta::Usage(usage) => absorb(&mut self.usage, usage),
            Delta::End => self.end(out),
            Delta::Text { .. }
            | Delta::Reasoning { .. }
            | Delta::Refusal { .. }
            | Delta::Tool { .. }
            | Delta::Finish { .. } => {}
        }
    }
}
