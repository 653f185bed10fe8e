//! A request in the OpenAI shape, said in Anthropic's. What has no counterpart and only tunes the
//! answer is left out; what would change its meaning is refused by name.

use backstay_core::failure::Failure;
use serde_json::{Map, Value, json};

use super::{encode::Turns, schema};

/// The whole body: parameters, `system` and `messages`.
pub(super) fn body(openai: &Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    let mut out = params(openai)?;
    let mut conversation = Conversation::default();
    match openai.get("messages") {
        Some(Value::Array(messages)) => {
            for (index, message) in messages.iter().enumerate() {
                conversation.add(message, &format!("messages[{index}]"))?;
            }
        }
        None | Some(Value::Null) => {}
        Some(_) => return Err(Failure::bad_request("messages", "`messages` must be an array")),
    }
    if !conversation.system.is_empty() {
        out.insert("system".to_owned(), conversation.system.into());
    }
    out.insert("messages".to_owned(), conversation.turns.into_value());
    Ok(out)
}

/// Everything but the messages, from a client's body or from a release's parameters.
pub(super) fn params(openai: &Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    let mut out = Map::new();
    for (key, value) in openai.iter().filter(|(_, value)| !value.is_null()) {
        let translated = match key.as_str() {
            "max_tokens" | "max_completion_tokens" => Some(("max_tokens", value.clone())),
            "stop" => Some(("stop_sequences", sequences(value))),
            "user" | "safety_identifier" => Some(("metadata", json!({"user_id": value}))),
            "tools" => Some(("tools", tools(value)?)),
            "tool_choice" => Some(("tool_choice", tool_choice(value)?)),
            "response_format" => value
                .pointer("/json_schema/schema")
                .and_then(schema::output_format)
                .map(|format| ("output_config", format)),
            "n" if value.as_u64() != Some(1) => {
                return Err(bad("n", "this target gives one answer a request; leave out `n`"));
            }
            "functions" | "function_call" => {
                return Err(bad(key, format!("this target has no `{key}`; use `tools`")));
            }
            // The same in both formats, or Anthropic's own.
            "temperature" | "top_p" | "top_k" | "thinking" | "stop_sequences" | "output_config" => {
                Some((key.as_str(), value.clone()))
            }
            _ => None,
        };
        if let Some((name, value)) = translated {
            out.insert(name.to_owned(), value);
        }
    }
    if openai.get("parallel_tool_calls") == Some(&Value::Bool(false))
        && openai.contains_key("tools")
    {
        let choice = out.entry("tool_choice").or_insert_with(|| json!({"type": "auto"}));
        if let Value::Object(choice) = choice
            && choice.get("type").is_some_and(|kind| kind != "none")
        {
            choice.insert("disable_parallel_tool_use".to_owned(), true.into());
        }
    }
    Ok(out)
}

fn sequences(stop: &Value) -> Value {
    if stop.is_string() { json!([stop]) } else { stop.clone() }
}

fn tools(tools: &Value) -> Result<Value, Failure> {
    let tools = tools.as_array().ok_or_else(|| bad("tools", "`tools` must be an array"))?;
    let translate = |(index, tool): (usize, &Value)| {
        let path = format!("tools[{index}]");
        let function = tool.get("function").and_then(Value::as_object).ok_or_else(|| {
            bad(&path, format!("`{path}` is not a function; this target knows no other tools"))
        })?;
        let no_input = || json!({"type": "object", "properties": {}});
        let mut out = Map::new();
        out.insert("name".to_owned(), function.get("name").cloned().unwrap_or_default());
        if let Some(description) = function.get("description").filter(|text| text.is_string()) {
            out.insert("description".to_owned(), description.clone());
        }
        let input = function.get("parameters").filter(|schema| !schema.is_null()).cloned();
        out.insert("input_schema".to_owned(), input.unwrap_or_else(no_input));
        Ok(Value::Object(out))
    };
    tools.iter().enumerate().map(translate).collect()
}

fn tool_choice(choice: &Value) -> Result<Value, Failure> {
    Ok(match (choice.as_str(), choice.pointer("/function/name")) {
        (Some("auto"), _) => json!({"type": "auto"}),
        (Some("none"), _) => json!({"type": "none"}),
        (Some("required"), _) => json!({"type": "any"}),
        (_, Some(name)) => json!({"type": "tool", "name": name}),
        (_, None) => {
            let message = "`tool_choice` must be auto, none, required or a function's name";
            return Err(bad("tool_choice", message));
        }
    })
}

#[derive(Default)]
struct Conversation {
    system: Vec<Value>,
    turns: Turns,
}

impl Conversation {
    fn add(&mut self, message: &Value, path: &str) -> Result<(), Failure> {
        let content = message.get("content").unwrap_or(&Value::Null);
        let content_path = format!("{path}.content");
        match message.get("role").and_then(Value::as_str) {
            Some("system" | "developer") => {
                self.system.extend(parts(content, &content_path)?);
            }
            Some("user") => self.join("user", parts(content, &content_path)?),
            Some("assistant") => {
                let mut blocks = parts(content, &content_path)?;
                blocks.extend(message.get("refusal").and_then(text_block));
                blocks.extend(tool_uses(message.get("tool_calls"), path)?);
                self.join("assistant", blocks);
            }
            Some("tool") => {
                let result = json!({
                    "type": "tool_result",
                    "tool_use_id": message.get("tool_call_id").unwrap_or(&Value::Null),
                    "content": parts(content, &content_path)?,
                });
                self.join("user", vec![result]);
            }
            Some(_) | None => {
                let place = format!("{path}.role");
                let message =
                    format!("`{place}` must be system, developer, user, assistant or tool");
                return Err(bad(&place, message));
            }
        }
        Ok(())
    }

    /// A turn without content says nothing and is refused by the format.
    fn join(&mut self, role: &str, blocks: Vec<Value>) {
        if !blocks.is_empty() {
            self.turns.join(role, blocks.into());
        }
    }
}

/// Blocks of a message's content: a text, or an array of parts. Empty texts are left out, since the
/// format refuses them.
fn parts(content: &Value, path: &str) -> Result<Vec<Value>, Failure> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::String(_) => Ok(text_block(content).into_iter().collect()),
        Value::Array(parts) => {
            let mut blocks = Vec::with_capacity(parts.len());
            for (index, part) in parts.iter().enumerate() {
                blocks.extend(block(part, &format!("{path}[{index}]"))?);
            }
            Ok(blocks)
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            Err(bad(path, format!("`{path}` must be a text or an array of parts")))
        }
    }
}

fn text_block(text: &Value) -> Option<Value> {
    text.as_str().filter(|text| !text.is_empty()).map(|text| json!({"type": "text", "text": text}))
}

fn block(part: &Value, path: &str) -> Result<Option<Value>, Failure> {
    let kind = part.get("type").and_then(Value::as_str);
    let mut block = match kind {
        Some("text") => part.get("text").and_then(text_block),
        Some("refusal") => part.get("refusal").and_then(text_block),
        Some("image_url") => {
            let image = part.get("image_url").unwrap_or(&Value::Null);
            let url = image.as_str().or_else(|| image.get("url")?.as_str()).unwrap_or_default();
            Some(json!({"type": "image", "source": source(url, path)?}))
        }
        Some("file") => {
            let data = part.pointer("/file/file_data").and_then(Value::as_str).unwrap_or_default();
            if !data.starts_with("data:") {
                let message = format!("`{path}` must hold its file as a data: URL for this target");
                return Err(bad(path, message));
            }
            Some(json!({"type": "document", "source": source(data, path)?}))
        }
        Some(_) | None => {
            let message = format!("`{path}` is of a type that this target cannot read");
            return Err(bad(path, message));
        }
    };
    if let (Some(Value::Object(block)), Some(cache)) = (&mut block, part.get("cache_control")) {
        block.insert("cache_control".to_owned(), cache.clone());
    }
    Ok(block)
}

fn source(url: &str, path: &str) -> Result<Value, Failure> {
    let Some(inline) = url.strip_prefix("data:") else {
        return Ok(json!({"type": "url", "url": url}));
    };
    let (media_type, data) = inline.split_once(";base64,").ok_or_else(|| {
        bad(path, format!("`{path}` must be of the form data:<type>;base64,<data>"))
    })?;
    Ok(json!({"type": "base64", "media_type": media_type, "data": data}))
}

fn tool_uses(calls: Option<&Value>, path: &str) -> Result<Vec<Value>, Failure> {
    let calls = calls.and_then(Value::as_array).into_iter().flatten().enumerate();
    calls
        .map(|(index, call)| {
            let arguments = call.pointer("/function/arguments").and_then(Value::as_str);
            let arguments = arguments.filter(|text| !text.trim().is_empty()).unwrap_or("{}");
            let input: Map<String, Value> = serde_json::from_str(arguments).map_err(|_| {
                let place = format!("{path}.tool_calls[{index}].function.arguments");
                bad(&place, format!("`{place}` must be the text of a JSON object"))
            })?;
            Ok(json!({
                "type": "tool_use",
                "id": call.get("id").unwrap_or(&Value::Null),
                "name": call.pointer("/function/name").unwrap_or(&Value::Null),
                "input": input,
            }))
        })
        .collect()
}

fn bad(param: &str, message: impl Into<String>) -> Failure {
    Failure::bad_request(param, message)
}
