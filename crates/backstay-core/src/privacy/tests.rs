//! What the lists and annotations of a call take out, and what they leave.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn privacy(units: Units) -> Privacy {
    Privacy { key: PseudonymKey::new(b"0123456789abcdef").ok(), units }
}

fn lists(deny: &[&str], allow: &[&str], pseudonymize: &[&str]) -> Lists {
    let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    Lists { deny: owned(deny), allow: owned(allow), pseudonymize: owned(pseudonymize) }
}

fn policy(deny: &[&str], allow: &[&str], pseudonymize: &[&str]) -> Policy {
    Policy::compile(&lists(deny, allow, pseudonymize)).unwrap()
}

fn kept(policy: &Policy, text: &str, document: Document) -> String {
    policy.kept(text, document, Capture::Redacted, &privacy(Units::Redacted)).into_owned()
}

fn kept_json(policy: &Policy, document: &Value) -> Value {
    serde_json::from_str(&kept(policy, &document.to_string(), Document::Request)).unwrap()
}

#[test]
fn lists_take_out_what_stands_at_their_places() {
    let policy = policy(
        &["$.inputs.patient.name", "$..ssn", "$.messages[1].content"],
        &["$.inputs.order_id"],
        &["$.inputs.customer", "$.unit"],
    );
    let alice = privacy(Units::Redacted).key.unwrap().of("alice");
    let native = json!({
        "inputs": {"patient": {"name": {"first": "Ada"}, "ssn": 123}, "order_id": "+49 171 1234567",
            "customer": "alice", "phone": "+49 171 1234567"},
        "unit": "alice",
        "messages": [{"content": "hello"}, {"content": ["Ada"]}],
    });
    let expected = json!({
        "inputs": {"patient": {"name": "[redacted:denied]", "ssn": "[redacted:denied]"},
            "order_id": "+49 171 1234567", "customer": alice, "phone": "[redacted:phone]"},
        "unit": alice,
        "messages": [{"content": "hello"}, {"content": "[redacted:denied]"}],
    });
    assert_eq!(kept_json(&policy, &native), expected);
    // In the body of an SDK, inputs and unit stand elsewhere.
    let openai =
        json!({"backstay": {"inputs": native["inputs"], "unit": "alice"}, "user": "alice"});
    let wanted = json!({"backstay": {"inputs": expected["inputs"], "unit": alice}, "user": alice});
    assert_eq!(kept_json(&policy, &openai), wanted);
}

#[test]
fn answers_have_their_own_root_and_json_in_strings_is_followed() {
    let policy = policy(&["$.answer.name", "$..ssn"], &[], &[]);
    let json = Document::Answer { json: true };
    assert_eq!(
        kept(&policy, r#"{"name":"Ada","note":"ok","a":[{"ssn":"1"}]}"#, json),
        r#"{"name":"[redacted:denied]","note":"ok","a":[{"ssn":"[redacted:denied]"}]}"#
    );
    let tools = json!({"text": "", "tool_calls": [{"arguments": "{\"ssn\": 7, \"x\": 1}"}]});
    let wanted =
        r#"{"text":"","tool_calls":[{"arguments":"{\"ssn\":\"[redacted:denied]\",\"x\":1}"}]}"#;
    assert_eq!(kept(&policy, &tools.to_string(), json), wanted);
    let broken = json!({"messages": [{"content": "{\"ssn\": 7, "}]});
    let found = kept_json(&policy, &broken);
    assert_eq!(found["messages"][0]["content"], "[not kept: this is not whole JSON]");
    let mut deep = json!({"ssn": "Ada"}).to_string();
    for _ in 0..6 {
        deep = json!({ "x": deep }).to_string();
    }
    assert!(!kept(&policy, &deep, json).contains("Ada"));
}

#[test]
fn what_cannot_be_searched_is_not_kept() {
    let hiding = policy(&["$.answer.name", "$.messages"], &[], &[]);
    let json = Document::Answer { json: true };
    let prose = Document::Answer { json: false };
    for (text, document) in [
        (r#"{"name": "Ada"#, json),
        ("the name is Ada", json),
        (r#"Here you are: {"name": "Ada"}"#, prose),
        (r#"{"messages": ["Ada"#, Document::Request),
        (
            &format!("{{\"messages\": 1, \"x\": \"Ada{}\"}}", "y".repeat(600 << 10)),
            Document::Request,
        ),
    ] {
        let found = kept(&hiding, text, document);
        assert!(found.starts_with("[not kept: ") && !found.contains("Ada"), "{found}");
    }
    assert_eq!(kept(&hiding, "No names here.", prose), "No names here.");
    // Nothing is to be taken out of these.
    let requests_only = policy(&["$.messages"], &[], &[]);
    assert_eq!(kept(&requests_only, "{\"name\": \"A", json), "{\"name\": \"A");
    let allowing = policy(&[], &["$.answer.id"], &[]);
    assert_eq!(kept(&allowing, "{\"id\": \"A", json), "{\"id\": \"A");
    // A whole answer can be taken out, whatever it is.
    for (action, wanted) in [
        (policy(&["$.answer"], &[], &[]), "[redacted:denied]".to_owned()),
        (
            policy(&[], &[], &["$.answer"]),
            privacy(Units::Redacted).key.unwrap().of("the name is Ada"),
        ),
    ] {
        assert_eq!(kept(&action, "the name is Ada", prose), wanted);
    }
}

#[test]
fn deny_holds_when_everything_is_kept_and_allow_never_lets_secrets_through() {
    let key = "sk-abcdefghijklmnopqrst";
    let policy = policy(&["$.inputs.a.b"], &["$.inputs.a", "$.inputs.password"], &[]);
    let text = json!({"inputs": {"a": {"b": "Ada", "c": "a@example.com", "d": key},
        "e": "a@example.com", "password": "hunter22"}})
    .to_string();
    let full = policy.kept(&text, Document::Request, Capture::Full, &privacy(Units::Redacted));
    let full: Value = serde_json::from_str(&full).unwrap();
    assert_eq!(full["inputs"]["a"]["b"], "[redacted:denied]");
    assert_eq!(full["inputs"]["e"], "a@example.com");
    let found = kept_json(&policy, &serde_json::from_str(&text).unwrap());
    assert_eq!(
        found["inputs"],
        json!({"a": {"b": "[redacted:denied]", "c": "a@example.com", "d": "[redacted:api_key]"},
            "e": "[redacted:email]", "password": "[redacted:secret]"})
    );
    let none = policy.kept(&text, Document::Request, Capture::None, &privacy(Units::Redacted));
    assert_eq!(none, "");
}

#[test]
fn units_can_be_told_apart_and_found_again() {
    let (plain, all) = (privacy(Units::Redacted), privacy(Units::Pseudonym));
    let nothing = Policy::default();
    assert_eq!(nothing.unit("user-17", &plain).as_deref(), Some("user-17"));
    let mail = nothing.unit("ada@example.com", &plain).unwrap();
    assert_ne!(mail, nothing.unit("bob@example.com", &plain).unwrap(), "no two people are one");
    let hidden = nothing.unit("user-17", &all).unwrap();
    for (unit, stored) in [("user-17", "user-17"), ("user-17", &hidden), ("ada@example.com", &mail)]
    {
        assert!(plain.names_of(unit).iter().any(|name| name == stored), "{unit}");
    }
    assert_eq!(policy(&["$.unit"], &[], &[]).unit("user-17", &all), None);
    assert_eq!(policy(&[], &[], &["$.unit"]).unit("user-17", &plain), Some(hidden.clone()));
    // Requests do not tell what the record hides.
    let body = json!({"metadata": {"user_id": "user-17"}, "safety_identifier": "user-17"});
    let text = body.to_string();
    let kept = nothing.kept(&text, Document::Request, Capture::Full, &all);
    assert_eq!(
        kept,
        json!({"metadata": {"user_id": hidden}, "safety_identifier": hidden}).to_string()
    );
    let keyless = Privacy { key: None, units: Units::Pseudonym };
    assert_eq!(nothing.unit("user-17", &keyless).as_deref(), Some("[redacted:no_key]"));
}

#[test]
fn sentences_do_not_quote_what_is_taken_out() {
    let policy = policy(&["$.answer.patient.name", "$.inputs.x"], &[], &[]);
    let at = |path: &str, document| {
        let violation =
            Violation { path: path.to_owned(), rule: "type".to_owned(), reason: String::new() };
        policy.hides_at(&violation, document)
    };
    let answer = Document::Answer { json: true };
    assert!(at("$", answer) && at("$.patient", answer) && at("$.patient['name']", answer));
    assert!(at("$.patient.name.first[0]", answer) && at("$.cut…", answer));
    assert!(!at("$.total", answer) && !at("$.patient.age", answer));
    assert!(at("$.x", Document::Inputs) && !at("$.y", Document::Inputs));
    assert!(policy.hides() && !Policy::default().hides());
}

#[test]
fn reports_get_what_any_call_takes_out() {
    let (a, b) = (policy(&["$.answer.name"], &["$.answer.id"], &[]), policy(&[], &[], &["$..ssn"]));
    let all = Policy::strictest([&a, &b].into_iter());
    let mut expected = json!({"name": "Ada", "ssn": "1", "id": "7"});
    all.clean_expected(&mut expected, &privacy(Units::Redacted));
    assert_eq!((&expected["name"], &expected["id"]), (&json!("[redacted:denied]"), &json!("7")));
    assert!(expected["ssn"].as_str().unwrap().starts_with("p_"));
}

#[test]
fn schemas_say_what_is_private() {
    let schema = json!({
        "$defs": {
            "person": {"properties": {
                "name": {"x-backstay-redact": true},
                "friends": {"items": {"$ref": "#/$defs/person"}},
            }},
        },
        "properties": {
            "owner": {"$ref": "#/$defs/person"},
            "id": {"x-backstay-keep": true},
            "lines": {"items": {"properties": {"user": {"x-backstay-redact": "pseudonym"}}}},
            "x-backstay-redact": {"type": "string"},
        },
        "anyOf": [{"additionalProperties": {"x-backstay-redact": true}}],
    });
    let found = annotations::lists(&schema, "answer");
    assert_eq!(
        found.deny,
        [
            "$['answer'][*]",
            "$['answer']['owner']['name']",
            "$['answer']['owner']['friends'][*]..['name']",
        ]
    );
    assert_eq!(found.allow, ["$['answer']['id']"]);
    assert_eq!(found.pseudonymize, ["$['answer']['lines'][*]['user']"]);
    assert_eq!(annotations::faults(&schema), []);
    let plain = annotations::without(&schema);
    assert_eq!(plain["properties"]["id"], json!({}));
    assert_eq!(plain["properties"]["x-backstay-redact"], json!({"type": "string"}));
    let policy = Policy::compile(&annotations::lists(&schema["$defs"]["person"], "answer"));
    assert!(policy.is_ok());
}

#[test]
fn annotations_that_cannot_be_honoured_are_mistakes() {
    for (schema, at) in [
        (json!({"x-backstay-redact": "yes"}), "x-backstay-redact"),
        (json!({"properties": {"a": {"x-backstay-keep": false}}}), "properties.a.x-backstay-keep"),
        (json!({"x-backstay-keep": true, "x-backstay-redact": true}), "x-backstay-keep"),
        (json!({"additionalProperties": {"x-backstay-keep": true}}), "additionalProperties"),
        (json!({"patternProperties": {"^a": {"x-backstay-keep": true}}}), "patternProperties"),
        (json!({"allOf": [{"x-backstay-redact": 1}]}), "allOf.0.x-backstay-redact"),
    ] {
        let found = annotations::faults(&schema);
        assert_eq!(found.iter().map(|fault| fault.at.join(".")).collect::<Vec<_>>(), [at]);
    }
    for fine in [
        json!({"const": {"x-backstay-redact": 7}}),
        json!({"properties": {"x-backstay-keep": {"type": "string"}}}),
    ] {
        assert_eq!(annotations::faults(&fine), []);
    }
}

#[test]
fn json_in_a_string_in_a_string_is_searched_and_quoted_prose_is_left() {
    let policy = policy(&["$..ssn"], &[], &[]);
    let inner = json!({"ssn": "MARKER"}).to_string();
    let twice = json!(json!(inner).to_string());
    assert!(
        !kept(&policy, &json!({ "a": twice }).to_string(), Document::Request).contains("MARKER")
    );
    assert!(!kept(&policy, &twice.to_string(), Document::Request).contains("MARKER"));
    let prose = json!({"a": "\"Never\", she said"});
    assert_eq!(kept_json(&policy, &prose), prose);
}

/// Documents with a marked value under the name `ssn` somewhere.
fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!("a@example.com")),
        any::<i32>().prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        let name = proptest::sample::select(&["a", "b", "ssn", "unit"][..]);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name, inner.clone()), 0..4).prop_map(|entries| {
                Value::Object(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
            inner.clone().prop_map(|v| json!(v.to_string())),
            inner.prop_map(|v| json!({"ssn": ["MARKER", v]})),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_denied_survives_and_documents_stay_json(value in document(), bodies: bool) {
        let policy = policy(&["$..ssn"], &["$..a"], &["$..b"]);
        let capture = if bodies { Capture::Full } else { Capture::Redacted };
        let text = value.to_string();
        let kept = policy.kept(&text, Document::Request, capture, &privacy(Units::Pseudonym));
        prop_assert!(!kept.contains("MARKER"), "{kept} from {text}");
        prop_assert!(serde_json::from_str::<Value>(&kept).is_ok(), "{kept} from {text}");
    }
}
