//! Texts of a call, for those who asked for them: already redacted, in the conventions' shape, as JSON
//! that stays valid however long the texts are.

use backstay_core::record::{CallRecord, Degraded};
use serde_json::{Map, Value, json};

use super::{names::Field, value::Attributes};

/// How many bytes of text one attribute holds.
const LONGEST: usize = 16 << 10;
/// How many bytes a part counts besides its text, so that their number is bounded too.
const PART: usize = 32;

/// Adds the texts of a call.
pub(super) fn add(record: &CallRecord, to: &mut Attributes) {
    to.add(Field::Message, record.message.as_deref());
    if let Some(request) = &record.request {
        add_request(request, to);
    }
    // What was answered in the model's place is not the model's.
    let answer = match record.degraded {
        Degraded::None => record.answer.as_deref().or(record.rejected.as_deref()),
        Degraded::Stale | Degraded::Static | Degraded::Message => record.rejected.as_deref(),
    };
    if let Some(answer) = answer {
        let mut room = Room(LONGEST);
        let assumed = if record.outcome.failure().is_none() { "stop" } else { "error" };
        let message = json!({
            "role": "assistant",
            "parts": [text_part(answer, &mut room)],
            "finish_reason": record.finish.as_deref().unwrap_or(assumed),
        });
        to.add(Field::OutputMessages, Some(json!([message]).to_string()));
    }
}

fn add_request(request: &str, to: &mut Attributes) {
    let Ok(Value::Object(body)) = serde_json::from_str(request) else {
        // It was cut for the call log, or is not JSON at all.
        let part = text_part(request, &mut Room(LONGEST));
        let messages = json!([{"role": "user", "parts": [part]}]);
        return to.add(Field::InputMessages, Some(messages.to_string()));
    };
    if let Some(system) = body.get("system") {
        let parts = parts_of(system, &mut Room(LONGEST));
        to.add(Field::SystemInstructions, Some(Value::from(parts).to_string()));
    }
    if let Some(Value::Array(messages)) = body.get("messages") {
        let mut room = Room(LONGEST);
        let messages: Vec<_> = messages
            .iter()
            .filter_map(Value::as_object)
            .map_while(|message| (room.0 > 0).then(|| message_of(message, &mut room)))
            .collect();
        to.add(Field::InputMessages, Some(Value::from(messages).to_string()));
    }
    let whole = |value: &Value| Some(value.to_string()).filter(|text| text.len() <= LONGEST);
    to.add(Field::ToolDefinitions, body.get("tools").and_then(whole));
    let options = body.get("backstay").and_then(|options| options.get("inputs"));
    to.add(Field::Inputs, options.or_else(|| body.get("inputs")).and_then(whole));
}

fn message_of(message: &Map<String, Value>, room: &mut Room) -> Value {
    let role = message.get("role").and_then(Value::as_str).unwrap_or("user");
    let mut parts = match message.get("content") {
        Some(Value::String(text)) if role == "tool" => {
            let id = message.get("tool_call_id").cloned().unwrap_or_default();
            vec![json!({"type": "tool_call_response", "id": id, "response": room.take(text)})]
        }
        Some(content) => parts_of(content, room),
        None => Vec::new(),
    };
    let calls = message.get("tool_calls").and_then(Value::as_array);
    parts.extend(calls.into_iter().flatten().map_while(|call| {
        let function = call.get("function").unwrap_or(&Value::Null);
        let arguments = function.get("arguments").and_then(Value::as_str).unwrap_or_default();
        (room.0 > 0).then(|| tool_call(call.get("id"), function.get("name"), &room.take(arguments)))
    }));
    json!({"role": role.chars().take(64).collect::<String>(), "parts": parts})
}

fn tool_call(id: Option<&Value>, name: Option<&Value>, arguments: &str) -> Value {
    json!({"type": "tool_call", "id": id, "name": name, "arguments": arguments})
}

/// The parts of a content that is a text or a list of blocks.
fn parts_of(content: &Value, room: &mut Room) -> Vec<Value> {
    match content {
        Value::String(text) => vec![text_part(text, room)],
        Value::Array(blocks) => {
            blocks.iter().map_while(|block| (room.0 > 0).then(|| part_of(block, room))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

fn part_of(block: &Value, room: &mut Room) -> Value {
    let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "text" => text_part(block.get("text").and_then(Value::as_str).unwrap_or_default(), room),
        "tool_use" => {
            let input = block.get("input").map(Value::to_string).unwrap_or_default();
            tool_call(block.get("id"), block.get("name"), &room.take(&input))
        }
        "tool_result" => {
            let result = block.get("content").map(Value::to_string).unwrap_or_default();
            let id = block.get("tool_use_id");
            json!({"type": "tool_call_response", "id": id, "response": room.take(&result)})
        }
        // Pictures and sound: that they were there, not what they were.
        other => json!({"type": room.take(other)}),
    }
}

fn text_part(text: &str, room: &mut Room) -> Value {
    json!({"type": "text", "content": room.take(text)})
}

/// How many bytes of text still fit.
struct Room(usize);

impl Room {
    /// As much of `text` as fits, marked if that is not all.
    fn take(&mut self, text: &str) -> String {
        let fits = text.len().min(self.0);
        let end = (0..=fits).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        self.0 = self.0.saturating_sub(end + PART);
        let kept = text.get(..end).unwrap_or_default();
        if end < text.len() {
            self.0 = 0;
            format!("{kept}… [cut: {} bytes in all]", text.len())
        } else {
            kept.to_owned()
        }
    }
}
