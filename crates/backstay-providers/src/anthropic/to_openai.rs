//! A request in Anthropic's shape, said in OpenAI's. What has no counterpart and only tunes the answer
//! is left out (`thinking`, `top_k`, cache marks); what would change its meaning is refused by name.

use backstay_core::failure::Failure;
use serde_json::{Map, Value, json};

/// The whole body, without `model` and `stream`.
///
/// # Errors
/// `bad_request` for a block or tool that OpenAI's format cannot say.
pub(crate) fn to_openai(body: &Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    let mut out = Map::new();
    let mut messages = Vec::new();
    if let Some(system) = body.get("system").filter(|system| !system.is_null()) {
        messages.push(json!({"role": "system", "content": text(system, "system")?}));
    }
    match body.get("messages") {
        Some(Value::Array(turns)) => {
            for (index, turn) in turns.iter().enumerate() {
                add_turn(turn, &format!("messages[{index}]"), &mut messages)?;
            }
        }
        None | Some(Value::Null) => {}
        Some(_) => return Err(bad("messages", "`messages` must be an array")),
    }
    out.insert("messages".to_owned(), messages.into());
    for (key, value) in body.iter().filter(|(_, value)| !value.is_null()) {
        let translated = match key.as_str() {
            "max_tokens" | "temperature" | "top_p" => Some((key.as_str(), value.clone())),
            "stop_sequences" => Some(("stop", value.clone())),
            "metadata" => value.get("user_id").map(|user| ("user", user.clone())),
            "tools" => Some(("tools", tools(value)?)),
            "tool_choice" => Some(("tool_choice", tool_choice(value)?)),
            "output_config" => value.pointer("/format/schema").map(|schema| {
                let format = json!({"name": "answer", "schema": schema, "strict": false});
                ("response_format", json!({"type": "json_schema", "json_schema": format}))
            }),
            _ => None,
        };
        if let Some((name, value)) = translated {
            out.insert(name.to_owned(), value);
        }
    }
    let serial = body.get("tool_choice").and_then(|c| c.get("disable_parallel_tool_use"));
    if serial == Some(&Value::Bool(true)) {
        out.insert("parallel_tool_calls".to_owned(), false.into());
    }
    Ok(out)
}

fn tools(tools: &Value) -> Result<Value, Failure> {
    let tools = tools.as_array().ok_or_else(|| bad("tools", "`tools` must be an array"))?;
    let translate = |(index, tool): (usize, &Value)| {
        let path = format!("tools[{index}]");
        if tool.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "custom") {
            let message = format!("`{path}` runs at Anthropic; this target cannot call it");
            return Err(bad(&path, message));
        }
        let mut function = Map::new();
        let names =
            [("name", "name"), ("description", "description"), ("input_schema", "parameters")];
        for (ours, theirs) in names {
            if let Some(value) = tool.get(ours) {
                function.insert(theirs.to_owned(), value.clone());
            }
        }
        Ok(json!({"type": "function", "function": function}))
    };
    tools.iter().enumerate().map(translate).collect()
}

fn tool_choice(choice: &Value) -> Result<Value, Failure> {
    Ok(match choice.get("type").and_then(Value::as_str) {
        Some("auto") => "auto".into(),
        Some("none") => "none".into(),
        Some("any") => "required".into(),
        Some("tool") => {
            let name = choice.get("name").unwrap_or(&Value::Null);
            json!({"type": "function", "function": {"name": name}})
        }
        Some(_) | None => {
            let message = "`tool_choice.type` must be auto, any, tool or none";
            return Err(bad("tool_choice", message));
        }
    })
}

/// A turn becomes one message, and one more for each tool result in it. Those come first: OpenAI wants
/// them right after the calls.
fn add_turn(turn: &Value, path: &str, messages: &mut Vec<Value>) -> Result<(), Failure> {
    let content = turn.get("content").unwrap_or(&Value::Null);
    let content_path = format!("{path}.content");
    match turn.get("role").and_then(Value::as_str) {
        Some("user") => user(content, &content_path, messages),
        Some("assistant") => {
            messages.push(assistant(content, &content_path)?);
            Ok(())
        }
        Some(_) | None => {
            let place = format!("{path}.role");
            Err(bad(&place, format!("`{place}` must be user or assistant")))
        }
    }
}

fn user(content: &Value, path: &str, messages: &mut Vec<Value>) -> Result<(), Failure> {
    let Value::Array(blocks) = content else {
        messages.push(json!({"role": "user", "content": text(content, path)?}));
        return Ok(());
    };
    let mut parts = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if kind(block) == Some("tool_result") {
            let (result, images) = tool_result(block, &path)?;
            messages.push(result);
            parts.extend(images);
        } else {
            parts.push(part(block, &path)?);
        }
    }
    if !parts.is_empty() {
        messages.push(json!({"role": "user", "content": parts}));
    }
    Ok(())
}

/// The tool message, and the images of the result, which only a user may show to an OpenAI model.
fn tool_result(block: &Value, path: &str) -> Result<(Value, Vec<Value>), Failure> {
    let path = format!("{path}.content");
    let content = block.get("content").unwrap_or(&Value::Null);
    let (mut texts, mut images) = (Vec::new(), Vec::new());
    if let Value::Array(blocks) = content {
        for (index, block) in blocks.iter().enumerate() {
            let part = part(block, &format!("{path}[{index}]"))?;
            match part.get("text").and_then(Value::as_str) {
                Some(text) => texts.push(text.to_owned()),
                None => images.push(part),
            }
        }
    } else {
        texts.push(text(content, &path)?);
    }
    let id = block.get("tool_use_id").unwrap_or(&Value::Null);
    let message = json!({"role": "tool", "tool_call_id": id, "content": texts.join("\n")});
    Ok((message, images))
}

fn assistant(content: &Value, path: &str) -> Result<Value, Failure> {
    let Value::Array(blocks) = content else {
        return Ok(json!({"role": "assistant", "content": text(content, path)?}));
    };
    let (mut said, mut calls) = (String::new(), Vec::new());
    for (index, block) in blocks.iter().enumerate() {
        match kind(block) {
            Some("text") => {
                said.push_str(block.get("text").and_then(Value::as_str).unwrap_or_default());
            }
            Some("tool_use") => {
                let input = block.get("input").map_or_else(|| "{}".to_owned(), Value::to_string);
                calls.push(json!({
                    "id": block.get("id").unwrap_or(&Value::Null),
                    "type": "function",
                    "function": {
                        "name": block.get("name").unwrap_or(&Value::Null),
                        "arguments": input,
                    },
                }));
            }
            // Signed for Anthropic's models; of no use to another.
            Some("thinking" | "redacted_thinking") => {}
            Some(_) | None => return Err(unreadable(&format!("{path}[{index}]"))),
        }
    }
    let mut message = Map::new();
    message.insert("role".to_owned(), "assistant".into());
    let said = if said.is_empty() && !calls.is_empty() { Value::Null } else { said.into() };
    message.insert("content".to_owned(), said);
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), calls.into());
    }
    Ok(Value::Object(message))
}

fn part(block: &Value, path: &str) -> Result<Value, Failure> {
    let source = |name: &str| block.get("source")?.get(name)?.as_str();
    let inline = || Some(format!("data:{};base64,{}", source("media_type")?, source("data")?));
    let part = match (kind(block), source("type")) {
        (Some("text"), _) => {
            let text = block.get("text").and_then(Value::as_str).unwrap_or_default();
            Some(json!({"type": "text", "text": text}))
        }
        (Some("image"), Some("url")) => {
            source("url").map(|url| json!({"type": "image_url", "image_url": {"url": url}}))
        }
        (Some("image"), Some("base64")) => {
            inline().map(|url| json!({"type": "image_url", "image_url": {"url": url}}))
        }
        (Some("document"), Some("text")) => {
            source("data").map(|text| json!({"type": "text", "text": text}))
        }
        (Some("document"), Some("base64")) => inline().map(|data| {
            let name = block.get("title").and_then(Value::as_str).unwrap_or("document.pdf");
            json!({"type": "file", "file": {"filename": name, "file_data": data}})
        }),
        (_, _) => None,
    };
    part.ok_or_else(|| unreadable(path))
}

/// A text, or text blocks joined.
fn text(content: &Value, path: &str) -> Result<String, Failure> {
    match content {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(blocks) => {
            let texts = blocks.iter().enumerate().map(|(index, block)| {
                let text = block.get("text").and_then(Value::as_str);
                text.ok_or_else(|| unreadable(&format!("{path}[{index}]")))
            });
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n\n"))
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            Err(bad(path, format!("`{path}` must be a text or an array of blocks")))
        }
    }
}

fn kind(block: &Value) -> Option<&str> {
    block.get("type").and_then(Value::as_str)
}

fn unreadable(path: &str) -> Failure {
    bad(path, format!("`{path}` is of a type that this target cannot read"))
}

fn bad(param: &str, message: impl Into<String>) -> Failure {
    Failure::bad_request(param, message)
}
