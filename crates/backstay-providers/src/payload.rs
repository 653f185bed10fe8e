//! Reads a provider's JSON into types, says where it is not what the format promises, and writes JSON.
//!
//! The message names the place and what was expected there. It never quotes the payload, which can
//! hold what users wrote.

use backstay_core::failure::{Failure, FailureClass};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Reads `bytes`, which the sentence calls `what` ("reply", "stream event").
///
/// # Errors
/// `upstream_error` with path and expectation, or with the position of a syntax error.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Failure> {
    // To keep track of the place costs an allocation a field: only a mistake is read twice.
    serde_json::from_slice(bytes).or_else(|_| read_tracked(bytes, what))
}

fn read_tracked<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Failure> {
    use serde_json::error::Category;
    if bytes.trim_ascii().is_empty() {
        return Err(upstream(format!("the provider's {what} is empty")));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let at = error.inner();
        upstream(match at.classify() {
            Category::Data => {
                format!("the provider's {what} has {} at `{}`", mismatch(at), error.path())
            }
            Category::Eof => format!("the provider's {what} ends in the middle of its JSON"),
            Category::Syntax | Category::Io => format!(
                "the provider's {what} is not JSON (line {}, column {})",
                at.line(),
                at.column()
            ),
        })
    })?;
    reader.end().map_err(|_| upstream(format!("the provider's {what} goes on after its JSON")))?;
    Ok(value)
}

/// What is wrong, out of serde's sentence `invalid type: string "…", expected u64 at line 1 column 2`
/// and without the part that quotes the payload.
fn mismatch(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(before, _)| before);
    if let Some((_, expected)) = text.rsplit_once(", expected ") {
        let expected =
            if matches!(expected, "u64" | "usize") { "a whole number" } else { expected };
        return format!("something other than {expected}");
    }
    // The only other sentence that our types can cause names a field of our own.
    match text.strip_prefix("missing field ") {
        Some(field) => format!("no field {field}"),
        None => "an unexpected value".to_owned(),
    }
}

/// The bytes of a body.
pub(crate) fn to_bytes(body: &impl Serialize) -> Result<Bytes, Failure> {
    // JSON can always be written to memory; the failure keeps this total.
    serde_json::to_vec(body).map(Bytes::from).map_err(|_| {
        Failure::new(FailureClass::BadRequest, "the request cannot be written as JSON")
    })
}

fn upstream(message: String) -> Failure {
    Failure::new(FailureClass::UpstreamError, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Probe {
        #[expect(dead_code, reason = "only its type matters")]
        items: Vec<u64>,
    }

    fn message(json: &str) -> String {
        read::<Probe>(json.as_bytes(), "reply").unwrap_err().message
    }

    #[test]
    fn a_mistake_is_named_by_place_and_expectation_and_never_quoted() {
        assert_eq!(
            message(r#"{"items":[1,"my secret, expected u8"]}"#),
            "the provider's reply has something other than a whole number at `items[1]`"
        );
        assert_eq!(message(" "), "the provider's reply is empty");
        assert_eq!(message("{}"), "the provider's reply has no field `items` at `.`");
        assert_eq!(message("<html>"), "the provider's reply is not JSON (line 1, column 1)");
        assert_eq!(message(r#"{"items":["#), "the provider's reply ends in the middle of its JSON");
        assert_eq!(message(r#"{"items":[]} x"#), "the provider's reply goes on after its JSON");
        assert!(!message(r#"{"secret":"a b", "items": {"secret":1}}"#).contains("secret"));
    }
}
