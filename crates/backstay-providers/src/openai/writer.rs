//! A stream of `chat.completion.chunk` events, written from the deltas of any wire format.

use std::collections::BTreeMap;

use backstay_core::record::Usage;
use serde_json::{Value, json};

use super::client::{finish_reason, usage_json};
use crate::{
    accumulate::absorb,
    sse,
    wire::{Delta, Finish, REFUSAL, StreamOpening, StreamWriter},
};

/// Writes chunks. The first of each answer carries the role; usage comes last, if the client asked
/// for it, and then `[DONE]`.
#[derive(Debug)]
pub struct ChunkWriter {
    opening: StreamOpening,
    answers: BTreeMap<usize, Answer>,
    usage: Option<Usage>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Answer {
    /// The position that the client sees by the provider's number, which may have gaps, and whether
    /// the call has arguments yet.
    tools: BTreeMap<usize, (usize, bool)>,
    refused: bool,
    finished: bool,
}

impl ChunkWriter {
    /// A writer for one stream.
    #[must_use]
    pub const fn new(opening: StreamOpening) -> Self {
        Self { opening, answers: BTreeMap::new(), usage: None, ended: false }
    }

    fn event(&self, choices: &Value, out: &mut Vec<u8>) {
        let chunk = json!({
            "id": self.opening.id,
            "object": "chat.completion.chunk",
            "created": self.opening.created_unix,
            "model": self.opening.model,
            "choices": choices,
        });
        sse::write_event(None, chunk.to_string().as_bytes(), out);
    }

    fn chunk(&self, choice: usize, delta: &Value, finish: Option<&str>, out: &mut Vec<u8>) {
        let choices = json!([{"index": choice, "delta": delta, "finish_reason": finish}]);
        self.event(&choices, out);
    }

    /// The answer numbered `choice`, after its first chunk.
    fn answer(&mut self, choice: usize, out: &mut Vec<u8>) -> &mut Answer {
        if !self.answers.contains_key(&choice) {
            self.chunk(choice, &json!({"role": "assistant", "content": ""}), None, out);
        }
        self.answers.entry(choice).or_default()
    }

    fn tool(&mut self, choice: usize, piece: &ToolPiece<'_>, out: &mut Vec<u8>) {
        let answer = self.answer(choice, out);
        let next = answer.tools.len();
        let opens = !answer.tools.contains_key(&piece.index);
        let (position, has_arguments) = answer.tools.entry(piece.index).or_insert((next, false));
        *has_arguments |= !piece.arguments.is_empty();
        let position = *position;
        let call = if opens {
            let id = piece.id.filter(|id| !id.is_empty());
            let id = id.map_or_else(|| format!("call_{position}"), str::to_owned);
            let name = piece.name.unwrap_or_default();
            let function = json!({"name": name, "arguments": piece.arguments});
            json!({"index": position, "id": id, "type": "function", "function": function})
        } else {
            json!({"index": position, "function": {"arguments": piece.arguments}})
        };
        self.chunk(choice, &json!({"tool_calls": [call]}), None, out);
    }

    fn finish(&mut self, choice: usize, finish: &Finish, out: &mut Vec<u8>) {
        let answer = self.answer(choice, out);
        if std::mem::replace(&mut answer.finished, true) {
            return;
        }
        let wordless = *finish == Finish::Refusal && !answer.refused;
        // Anthropic streams nothing at all for a call without arguments; JSON is promised here.
        let bare: Vec<usize> =
            answer.tools.values().filter(|(_, has)| !has).map(|(position, _)| *position).collect();
        for position in bare {
            let call = json!({"index": position, "function": {"arguments": "{}"}});
            self.chunk(choice, &json!({"tool_calls": [call]}), None, out);
        }
        if wordless {
            self.chunk(choice, &json!({"refusal": REFUSAL}), None, out);
        }
        self.chunk(choice, &json!({}), Some(finish_reason(finish)), out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.ended = true;
        if let (true, Some(usage)) = (self.opening.include_usage, &self.usage) {
            let chunk = json!({
                "id": self.opening.id,
                "object": "chat.completion.chunk",
                "created": self.opening.created_unix,
                "model": self.opening.model,
                "choices": [],
                "usage": usage_json(usage),
            });
            sse::write_event(None, chunk.to_string().as_bytes(), out);
        }
        sse::write_event(None, b"[DONE]", out);
    }
}

/// One piece of a tool call.
struct ToolPiece<'d> {
    index: usize,
    id: Option<&'d str>,
    name: Option<&'d str>,
    arguments: &'d str,
}

impl StreamWriter for ChunkWriter {
    fn write(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match delta {
            Delta::Start { id, model, .. } => {
                // What the first chunk said stays: clients take all chunks for one object.
                if self.answers.is_empty() {
                    self.opening.learn(id.as_deref(), model.as_deref());
                }
            }
            Delta::Text { choice, text } => {
                self.answer(*choice, out);
                self.chunk(*choice, &json!({"content": text}), None, out);
            }
            Delta::Reasoning { choice, text } => {
                self.answer(*choice, out);
                self.chunk(*choice, &json!({"reasoning_content": text}), None, out);
            }
            Delta::Refusal { choice, text } => {
                self.answer(*choice, out).refused = true;
                self.chunk(*choice, &json!({"refusal": text}), None, out);
            }
            Delta::Tool { choice, index, id, name, arguments } => {
                let (id, name) = (id.as_deref(), name.as_deref());
                self.tool(*choice, &ToolPiece { index: *index, id, name, arguments }, out);
            }
            Delta::Finish { choice, finish } => self.finish(*choice, finish, out),
            Delta::Usage(usage) => absorb(self.usage.get_or_insert_default(), usage),
            Delta::End => self.end(out),
        }
    }
}
