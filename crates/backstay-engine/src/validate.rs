//! Is this reply an answer? The semantic side of a call: a reply that came with HTTP 200 and is
//! nevertheless a failure. Pure.

use std::sync::Arc;

use backstay_core::{
    failure::{Cut, Failure, FailureClass, Violation},
    mend::{Parsed, parse_answer},
    output::{CompiledChecks, Schema},
};
use backstay_providers::wire::{Choice, Finish, Reply, ToolCall};
use serde_json::{Map, Value};

/// What the answer of a call has to be.
#[derive(Clone, Debug)]
pub(crate) enum Expectation {
    /// Any text.
    Text,
    /// One JSON object.
    JsonObject,
    /// JSON that satisfies a schema.
    Schema(Arc<Schema>),
}

/// Checks every choice of `reply`, and mends harmlessly wrapped JSON in place.
///
/// Returns whether anything was mended (then `reply.changed` is set too).
///
/// # Errors
/// `refused`, `content_filter`, `truncated_length`, `empty`, `malformed`, `schema` or `check`.
pub(crate) fn verify(
    reply: &mut Reply,
    expectation: &Expectation,
    checks: &CompiledChecks,
) -> Result<bool, Failure> {
    if reply.choices.is_empty() {
        return Err(Failure::new(FailureClass::Empty, "the reply has no choices"));
    }
    let mut mended = false;
    for choice in &mut reply.choices {
        mended |= verify_choice(choice, expectation, checks)?;
    }
    reply.changed |= mended;
    Ok(mended)
}

fn verify_choice(
    choice: &mut Choice,
    expectation: &Expectation,
    checks: &CompiledChecks,
) -> Result<bool, Failure> {
    stopped_early(choice)?;
    if !choice.tool_calls.is_empty() {
        choice.tool_calls.iter().try_for_each(verify_tool_call)?;
        return Ok(false);
    }
    if choice.text.trim().is_empty() {
        let what = if choice.reasoning.is_empty() { "" } else { " but reasoning" };
        return Err(Failure::new(
            FailureClass::Empty,
            format!("the answer has nothing in it{what}"),
        ));
    }
    let mended = match expectation {
        Expectation::Text => None,
        Expectation::JsonObject => expect_json(&choice.text, None)?,
        Expectation::Schema(schema) => expect_json(&choice.text, Some(schema))?,
    };
    let changed = mended.is_some();
    if let Some(json) = mended {
        choice.text = json;
    }
    checks.verify(&choice.text).map_err(|violation| {
        let message = format!("the answer fails the check `{}`", violation.rule);
        Failure::new(FailureClass::Check, message).with_violation(violation)
    })?;
    Ok(changed)
}

fn stopped_early(choice: &Choice) -> Result<(), Failure> {
    if choice.refusal.as_deref().is_some_and(|text| !text.is_empty()) {
        return Err(Failure::new(FailureClass::Refused, "the model declined to answer"));
    }
    match &choice.finish {
        Some(Finish::Refusal) => {
            Err(Failure::new(FailureClass::Refused, "the model declined to answer"))
        }
        Some(Finish::ContentFilter) => Err(Failure::new(
            FailureClass::ContentFilter,
            "a content filter of the provider stopped the answer",
        )),
        Some(Finish::Length) => Err(Failure::new(
            FailureClass::Truncated(Cut::Length),
            "the answer reached the output limit before its end; raise max_tokens",
        )),
        Some(Finish::Stop | Finish::ToolCalls | Finish::Other(_)) | None => Ok(()),
    }
}

/// Whether every tool call in `reply` can be read; one that was stopped half-way cannot.
pub(crate) fn has_whole_tool_calls(reply: &Reply) -> bool {
    let mut calls = reply.choices.iter().flat_map(|choice| &choice.tool_calls);
    calls.all(|call| verify_tool_call(call).is_ok())
}

fn verify_tool_call(call: &ToolCall) -> Result<(), Failure> {
    let arguments = call.arguments.trim();
    let is_object = || serde_json::from_str::<Map<String, Value>>(arguments).is_ok();
    if arguments.is_empty() || is_object() {
        return Ok(());
    }
    let violation = Violation {
        path: "$".to_owned(),
        rule: "json".to_owned(),
        reason: "the arguments of a tool call are not a JSON object".to_owned(),
    };
    Err(Failure::new(FailureClass::Malformed, violation.reason.clone()).with_violation(violation))
}

/// The text as it should have been written, if it had to be mended.
fn expect_json(text: &str, schema: Option<&Schema>) -> Result<Option<String>, Failure> {
    let (value, mended) = match parse_answer(text) {
        Parsed::Valid(value) => (value, None),
        Parsed::Mended { value, json } => (value, Some(json)),
        Parsed::NotJson { reason } => {
            let violation =
                Violation { path: "$".to_owned(), rule: "json".to_owned(), reason: reason.clone() };
            let message = format!("the answer is not valid JSON: {reason}");
            return Err(Failure::new(FailureClass::Malformed, message).with_violation(violation));
        }
    };
    let held = match schema {
        Some(schema) => schema.validate(&value),
        None if value.is_object() => Ok(()),
        None => Err(Violation {
            path: "$".to_owned(),
            rule: "type".to_owned(),
            reason: "the answer is JSON, but not an object".to_owned(),
        }),
    };
    match held {
        Ok(()) => Ok(mended),
        Err(violation) => {
            let message = format!(
                "the answer violates the schema at {}: {}",
                violation.path, violation.reason
            );
            Err(Failure::new(FailureClass::Schema, message).with_violation(violation))
        }
    }
}

#[cfg(test)]
mod tests {
    use backstay_core::release::Checks;
    use backstay_providers::wire::Protocol;
    use serde_json::json;

    use super::*;

    fn said(choice: Choice) -> Reply {
        Reply {
            protocol: Protocol::OpenAi,
            raw: Default::default(),
            id: None,
            model: None,
            choices: vec![choice],
            usage: None,
            fingerprint: None,
            changed: false,
        }
    }

    fn text(text: &str) -> Choice {
        Choice { text: text.to_owned(), finish: Some(Finish::Stop), ..Choice::default() }
    }

    fn judge(choice: Choice, expectation: &Expectation) -> Result<(bool, String), FailureClass> {
        let mut reply = said(choice);
        let checks = CompiledChecks::compile(&Checks::default()).unwrap();
        let mended = verify(&mut reply, expectation, &checks).map_err(|failure| failure.class)?;
        assert_eq!(reply.changed, mended);
        Ok((mended, reply.choices[0].text.clone()))
    }

    #[test]
    fn a_text_is_an_answer_unless_there_is_nothing_in_it() {
        let judge = |choice| judge(choice, &Expectation::Text);
        assert_eq!(judge(text("hi")), Ok((false, "hi".to_owned())));
        assert_eq!(judge(text(" \n")), Err(FailureClass::Empty));
        let thoughts = Choice { reasoning: "hm".to_owned(), ..text("") };
        assert_eq!(judge(thoughts), Err(FailureClass::Empty));
        for (finish, class) in [
            (Finish::Length, FailureClass::Truncated(Cut::Length)),
            (Finish::ContentFilter, FailureClass::ContentFilter),
            (Finish::Refusal, FailureClass::Refused),
        ] {
            assert_eq!(judge(Choice { finish: Some(finish), ..text("hi") }), Err(class));
        }
        let refusal = Choice { refusal: Some("no".to_owned()), ..text("hi") };
        assert_eq!(judge(refusal), Err(FailureClass::Refused));
    }

    #[test]
    fn json_is_taken_out_of_its_wrapping_and_held_against_its_schema() {
        let schema = json!({ "type": "object", "required": ["a"] });
        let schema = Expectation::Schema(Arc::new(Schema::compile(&schema).unwrap()));
        let judge = |said: &str| judge(text(said), &schema);
        assert_eq!(judge(r#"{"a":1}"#), Ok((false, r#"{"a":1}"#.to_owned())));
        assert_eq!(judge("```json\n{\"a\":1}\n```"), Ok((true, r#"{"a":1}"#.to_owned())));
        assert_eq!(judge(r#"{"b":1}"#), Err(FailureClass::Schema));
        assert_eq!(judge("a is 1"), Err(FailureClass::Malformed));
    }

    #[test]
    fn arguments_of_a_tool_are_an_object() {
        for (arguments, holds) in
            [("", true), ("{}", true), (r#"{"a":1}"#, true), ("7", false), (r#"{"a":"#, false)]
        {
            let call = ToolCall { arguments: arguments.to_owned(), ..ToolCall::default() };
            let choice = Choice { tool_calls: vec![call], ..Choice::default() };
            assert_eq!(has_whole_tool_calls(&said(choice.clone())), holds, "{arguments}");
            assert_eq!(judge(choice, &Expectation::Text).is_ok(), holds, "{arguments}");
        }
    }
}
