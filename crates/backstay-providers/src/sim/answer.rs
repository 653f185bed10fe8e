//! What the simulated model says: a healthy answer, and the answers of a model that does not keep
//! its word. In no wire format.

use backstay_core::record::Usage;
use serde_json::{Map, Value, json};

use super::{
    dice::{self, WORDS},
    fault::Says,
    instance::instance,
    request::{SimRequest, Wanted},
};

/// What an answer consists of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Text(String),
    Tool {
        name: String,
        arguments: String,
    },
    Refusal(String),
    /// The content is `null`.
    Null,
    /// There is not even an answer to hold a content.
    Nothing,
}

/// Why the model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    End,
    Tool,
    Length,
    Filter,
    Refusal,
}

/// An answer in no wire format.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) content: Content,
    pub(super) stop: Stop,
    /// Words; `None` where the provider does not report it.
    pub(super) usage: Option<Usage>,
    pub(super) usage_twice: bool,
}

impl Answer {
    /// How many pieces a stream of it has.
    pub(super) fn size(&self) -> usize {
        match &self.content {
            Content::Text(text) | Content::Refusal(text) => pieces(text).count(),
            Content::Tool { arguments, .. } => pieces(arguments).count(),
            Content::Null | Content::Nothing => 0,
        }
    }
}

/// The answer to `request`, changed by `says`.
pub(super) fn answer(request: &SimRequest<'_>, seed: u64, says: Option<Says>) -> Answer {
    let seed = dice::hash(seed, request.last_user_text().as_bytes());
    let wanted = match (request.wanted(), says) {
        // The faults of JSON show themselves even where nobody asked for JSON.
        (Wanted::Text, Some(says)) if is_about_json(says) => Wanted::Object,
        (wanted, _) => wanted,
    };
    let write = |schema: &Value| json_text(instance(schema, seed), seed, says);
    let (content, stop) = match wanted {
        Wanted::Text => (Content::Text(sentence(seed)), Stop::End),
        Wanted::Object => {
            let text = json_text(json!({ "answer": sentence(seed) }), seed, says);
            (Content::Text(text), Stop::End)
        }
        Wanted::Json(schema) => (Content::Text(write(schema)), Stop::End),
        Wanted::Tool(name, schema) => {
            let arguments = match write(schema) {
                text if schema.is_object() => text,
                _ => "{}".to_owned(),
            };
            (Content::Tool { name: name.to_owned(), arguments }, Stop::Tool)
        }
    };
    let whole = Answer { content, stop, usage: None, usage_twice: false };
    let changed = match says {
        Some(says) => change(whole, says),
        None => whole,
    };
    with_usage(changed, request, says)
}

/// The pieces in which a text is streamed: words with the space behind them, long ones cut.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ').flat_map(|word| {
        let mut rest = word;
        std::iter::from_fn(move || {
            let end = rest.char_indices().nth(12).map_or(rest.len(), |(index, _)| index);
            let (piece, left) = rest.split_at(end);
            rest = left;
            (!piece.is_empty()).then_some(piece)
        })
    })
}

fn sentence(seed: u64) -> String {
    let mut text = String::from("The simulated answer is:");
    let mut seed = seed;
    for _ in 0..8 + seed % 5 {
        seed = dice::mix(seed);
        text.push(' ');
        text.push_str(dice::pick(&WORDS, seed).copied().unwrap_or_default());
    }
    text.push('.');
    text
}

fn with_usage(answer: Answer, request: &SimRequest<'_>, says: Option<Says>) -> Answer {
    let size = u64::try_from(answer.size()).unwrap_or(u64::MAX);
    let input = request.words();
    let reasoning = if request.reasons() { 8 } else { 0 };
    let usage = Usage {
        input,
        output: size + reasoning,
        cache_read: input / 2,
        reasoning,
        ..Usage::default()
    };
    Answer {
        usage: (says != Some(Says::NoUsage)).then_some(usage),
        usage_twice: says == Some(Says::UsageTwice),
        ..answer
    }
}

const fn is_about_json(says: Says) -> bool {
    match says {
        Says::FencedJson
        | Says::ProseJson
        | Says::MalformedJson
        | Says::RenamedField
        | Says::WrongType
        | Says::ExtraField
        | Says::MissingField => true,
        Says::FilterStop
        | Says::Refusal
        | Says::NoChoices
        | Says::Null
        | Says::Empty
        | Says::TooLong
        | Says::UsageTwice
        | Says::NoUsage => false,
    }
}

/// The changes that replace or shorten an answer.
fn change(answer: Answer, says: Says) -> Answer {
    match says {
        Says::FilterStop => half(answer, Stop::Filter),
        Says::TooLong => half(answer, Stop::Length),
        Says::Refusal => {
            let content = Content::Refusal("I am sorry, but I cannot help with that.".to_owned());
            Answer { content, stop: Stop::Refusal, ..answer }
        }
        Says::NoChoices => Answer { content: Content::Nothing, stop: Stop::End, ..answer },
        Says::Null => Answer { content: Content::Null, stop: Stop::End, ..answer },
        Says::Empty => Answer { content: Content::Text(String::new()), stop: Stop::End, ..answer },
        Says::FencedJson
        | Says::ProseJson
        | Says::MalformedJson
        | Says::RenamedField
        | Says::WrongType
        | Says::ExtraField
        | Says::MissingField
        | Says::UsageTwice
        | Says::NoUsage => answer,
    }
}

fn half(answer: Answer, stop: Stop) -> Answer {
    let cut = |text: &str| {
        let count = pieces(text).count().div_ceil(2);
        let kept: String = pieces(text).take(count).collect();
        // A text of one piece is cut inside it.
        if count > 1 { kept } else { kept.chars().take(kept.chars().count() / 2).collect() }
    };
    let content = match answer.content {
        Content::Text(text) => Content::Text(cut(&text)),
        Content::Tool { name, arguments } => Content::Tool { name, arguments: cut(&arguments) },
        other @ (Content::Refusal(_) | Content::Null | Content::Nothing) => other,
    };
    Answer { content, stop, ..answer }
}

/// A JSON answer as text, after the fault has been at it.
fn json_text(mut value: Value, seed: u64, says: Option<Says>) -> String {
    match says {
        Some(Says::RenamedField) => alter(&mut value, &|object, name| {
            let renamed = std::mem::take(object).into_iter().map(|(key, value)| {
                if key == name { (format!("{key}_value"), value) } else { (key, value) }
            });
            *object = renamed.collect();
        }),
        Some(Says::WrongType) => alter(&mut value, &|object, name| {
            if let Some(value) = object.get_mut(name) {
                *value = of_another_type(value);
            }
        }),
        Some(Says::ExtraField) => alter(&mut value, &|object, _| {
            object.insert("unexpected_field".to_owned(), json!("nobody asked for this"));
        }),
        Some(Says::MissingField) => alter(&mut value, &|object, name| {
            object.shift_remove(name);
        }),
        Some(Says::FencedJson) => return format!("```json\n{value:#}\n```"),
        Some(Says::MalformedJson) => return unquoted(&value.to_string()),
        Some(Says::ProseJson) => {
            let word = dice::pick(&WORDS, seed).copied().unwrap_or_default();
            return format!(
                "Sure! Here is the {word} you asked for:\n\n{value}\n\nLet me know if you need more."
            );
        }
        Some(
            Says::FilterStop
            | Says::Refusal
            | Says::NoChoices
            | Says::Null
            | Says::Empty
            | Says::TooLong
            | Says::UsageTwice
            | Says::NoUsage,
        )
        | None => {}
    }
    value.to_string()
}

/// The same without its last quote, or a word that is no JSON where it has none.
fn unquoted(json: &str) -> String {
    json.rsplit_once('"')
        .map_or_else(|| "undefined".to_owned(), |(head, tail)| [head, tail].concat())
}

/// Alters the first field of the outermost object that has one; a value without any field is
/// replaced by one of another type.
fn alter(value: &mut Value, change: &impl Fn(&mut Map<String, Value>, &str)) {
    if !alter_object(value, change) {
        *value = of_another_type(value);
    }
}

fn alter_object(value: &mut Value, change: &impl Fn(&mut Map<String, Value>, &str)) -> bool {
    match value {
        Value::Object(object) => {
            let Some(first) = object.keys().next().cloned() else { return false };
            change(object, &first);
            true
        }
        Value::Array(items) => items.iter_mut().any(|item| alter_object(item, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn of_another_type(value: &Value) -> Value {
    match value {
        Value::String(_) | Value::Null => json!(17),
        Value::Bool(_) => json!("yes"),
        Value::Number(_) => json!("seventeen"),
        Value::Array(_) | Value::Object(_) => json!("none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Protocol;

    fn ask(body: &Value, says: Option<Says>) -> Answer {
        let request =
            SimRequest::parse(Protocol::OpenAi, body.to_string().as_bytes(), None).unwrap();
        answer(&request, 1, says)
    }

    fn text(answer: &Answer) -> &str {
        match &answer.content {
            Content::Text(text) => text,
            Content::Tool { arguments, .. } => arguments,
            Content::Refusal(_) | Content::Null | Content::Nothing => panic!("{answer:?}"),
        }
    }

    fn with_schema() -> Value {
        json!({
            "model": "m",
            "messages": [{ "role": "user", "content": "How much is it?" }],
            "response_format": { "type": "json_schema", "json_schema": { "name": "n", "schema": {
                "type": "object",
                "required": ["total", "currency"],
                "additionalProperties": false,
                "properties": {
                    "total": { "type": "number" },
                    "currency": { "type": "string" },
                },
            } } },
        })
    }

    #[test]
    fn the_four_schema_faults_break_the_schema_and_nothing_else_does() {
        let body = with_schema();
        let schema = body.pointer("/response_format/json_schema/schema").unwrap();
        let validator = jsonschema::draft202012::new(schema).unwrap();
        let valid = |says| {
            let answer = ask(&body, says);
            let value: Value = serde_json::from_str(text(&answer)).unwrap();
            validator.is_valid(&value)
        };
        assert!(valid(None));
        for says in [Says::RenamedField, Says::WrongType, Says::ExtraField, Says::MissingField] {
            assert!(!valid(Some(says)), "{says:?}");
        }
    }

    #[test]
    fn wrapped_and_halved_json_is_not_json() {
        for says in [Says::FencedJson, Says::ProseJson, Says::TooLong] {
            let answer = ask(&with_schema(), Some(says));
            assert!(serde_json::from_str::<Value>(text(&answer)).is_err(), "{says:?}");
        }
    }

    #[test]
    fn a_tool_is_called_when_it_has_to_be_and_not_after_its_result() {
        let tool = json!({ "type": "function", "function": { "name": "weather", "parameters": {
            "type": "object", "required": ["city"], "properties": { "city": { "type": "string" } },
        } } });
        let mut body = json!({
            "model": "m", "tools": [tool], "tool_choice": "required",
            "messages": [{ "role": "user", "content": "Rain?" }],
        });
        let called = ask(&body, None);
        assert_eq!(called.stop, Stop::Tool);
        assert!(serde_json::from_str::<Value>(text(&called)).unwrap()["city"].is_string());
        body["tool_choice"] = json!("auto");
        assert_eq!(ask(&body, None).stop, Stop::End);
        body["model"] = json!("tools");
        assert_eq!(ask(&body, None).stop, Stop::Tool);
        body["messages"] = json!([{ "role": "tool", "tool_call_id": "c", "content": "dry" }]);
        assert_eq!(ask(&body, None).stop, Stop::End);
    }

    #[test]
    fn text_depends_on_question_and_seed_and_has_several_pieces() {
        let ask = |question: &str, seed| {
            let body = json!({ "messages": [{ "role": "user", "content": question }] });
            let request =
                SimRequest::parse(Protocol::Anthropic, body.to_string().as_bytes(), None).unwrap();
            answer(&request, seed, None)
        };
        assert_eq!(ask("a", 1), ask("a", 1));
        assert_ne!(ask("a", 1), ask("b", 1));
        assert_ne!(ask("a", 1), ask("a", 2));
        assert!(ask("a", 1).size() >= 8);
        let answer = ask("a", 1);
        assert_eq!(pieces(text(&answer)).collect::<String>(), text(&answer));
    }
}
