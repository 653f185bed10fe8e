//! What redaction takes out, and what it leaves.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[test]
fn credentials_go() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
    for (text, expected) in [
        ("key sk-ant-api03-abcdefghijklmnop.", "key [redacted:api_key]."),
        ("bsk_0123456789abcdef0123", "[redacted:api_key]"),
        ("AKIAIOSFODNN7EXAMPLE", "[redacted:aws_key]"),
        ("ghp_0123456789abcdefghij0123456789", "[redacted:api_key]"),
        ("github_pat_0123456789abcdefghij", "[redacted:api_key]"),
        ("xoxb-123456789012-abc", "[redacted:api_key]"),
        ("AIzaSyA0123456789abcdefghijklmnopqrstu", "[redacted:api_key]"),
        ("Authorization: Bearer abc.def-123=", "Authorization: Bearer [redacted:bearer]"),
        (jwt, "[redacted:jwt]"),
        ("password=hunter22&x=1", "password=[redacted:secret]&x=1"),
        ("{\"api_key\": \"a b\\\"c\"}", "{\"api_key\": \"[redacted:secret]\"}"),
        ("client-secret: 'a b c'", "client-secret: '[redacted:secret]'"),
        (
            r#"{"t": "{\"password\": \"hunter2\"}"}"#,
            r#"{"t": "{\"password\": \"[redacted:secret]\"}"}"#,
        ),
        ("postgres://me:pa55@db/x", "postgres://me:[redacted:password]@db/x"),
        (
            "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE+/=\n-----END RSA PRIVATE KEY-----\nb",
            "a\n[redacted:private_key]\nb",
        ),
        ("secret_access_key = wJalrXUtnFEMI/K7MDENG", "secret_access_key = [redacted:secret]"),
        ("token=0a1b2c3d4e", "token=[redacted:secret]"),
        ("{\"page_token\": \"0a1b2c3d4e\"}", "{\"page_token\": \"[redacted:secret]\"}"),
        ("access-token: hunter22", "access-token: [redacted:secret]"),
        (r"\nsk-abcdefghijklmnopqrst", r"\n[redacted:api_key]"),
    ] {
        assert_eq!(redact_secrets(text), expected);
        assert_eq!(redact(text), expected);
    }
}

#[test]
fn personal_data_goes_but_only_when_asked() {
    for (text, expected) in [
        ("to a.b+c@example.co.uk.", "to [redacted:email]."),
        (r#"{"a":"\nbob@example.com"}"#, r#"{"a":"\n[redacted:email]"}"#),
        ("call +49 171 1234567 now", "call [redacted:phone] now"),
        ("call +1 (555) 123-4567", "call [redacted:phone]"),
        ("(555) 123-4567 or 555-123-4567", "[redacted:phone] or [redacted:phone]"),
        ("card 4111 1111 1111 1111,", "card [redacted:card],"),
        ("5500-0000-0000-0004", "[redacted:card]"),
        ("IBAN DE89 3704 0044 0532 0130 00 ok", "IBAN [redacted:iban] ok"),
        ("GB82WEST12345698765432", "[redacted:iban]"),
        (r#"{"card": 4111111111111111}"#, r#"{"card": "[redacted:card]"}"#),
        (
            r#"{"password":"abc","c":[4111111111111111]}"#,
            r#"{"password":"[redacted:secret]","c":["[redacted:card]"]}"#,
        ),
    ] {
        assert_eq!(redact(text), expected);
        if !text.contains("password") {
            assert_eq!(redact_secrets(text), text);
        }
    }
}

#[test]
fn ordinary_text_is_borrowed() {
    for text in [
        "",
        "The task-force met at 10:30 on 2026-11-23; version 1.2.3+4567.",
        "id 4111111111111112, DE89370400440532013001, order 1234567890123456",
        "x@y, @mention, user@localhost, sk-short, AKIA, eyJ.a.b",
        "{\"max_tokens\": 123, \"password\": null, \"total\": -4111111111111111}",
        "ISO 8601, EU 2016, password? yes, no, https://host:8080/a@b",
        "token: represents, first_token = 8s, {\"max_tokens\": \"10000000\"}",
        "[redacted:email] password=[redacted:secret]",
    ] {
        assert!(matches!(redact(text), Cow::Borrowed(_)), "{text} became {}", redact(text));
    }
}

#[test]
fn long_credentials_leave_no_tail() {
    let long = "Zm9v".repeat(5000);
    for (text, expected) in [
        (format!("eyJh.{long}.sig. x"), "[redacted:jwt] x".to_owned()),
        (format!("eyJ{long}.e30.sig x"), "[redacted:jwt] x".to_owned()),
        (format!("sk-{long} x"), "[redacted:api_key] x".to_owned()),
        (format!("Bearer {long} x"), "Bearer [redacted:bearer] x".to_owned()),
        (format!("password={long} x"), "password=[redacted:secret] x".to_owned()),
        (
            format!("-----BEGIN PRIVATE KEY-----\n{long}\n-----END PRIVATE KEY-----. x"),
            "[redacted:private_key]. x".to_owned(),
        ),
    ] {
        assert_eq!(redact_secrets(&text), expected);
    }
}

#[test]
fn hostile_megabytes_come_to_an_end() {
    // Quadratic scanning of these would take hours.
    for piece in [
        "password=\"",
        "password='",
        "@",
        "a@",
        "4",
        "4 ",
        "+1",
        "DE89",
        "-----BEGIN ",
        "eyJ",
        "-----BEGIN PRIVATE KEY-----",
        "Bearer ",
        "\\",
        "\"\\",
        "sk-",
        "://a:",
        "(",
        "secret:\\",
    ] {
        let text = piece.repeat(200_000 / piece.len());
        assert!(!redact(&text).is_empty());
    }
}

fn piece() -> impl Strategy<Value = String> {
    const SHAPES: [&str; 25] = [
        "sk-abcdefghijklmnopqrst",
        "password=",
        "\"",
        "\\",
        "'",
        " ",
        "a@b.co",
        "4111111111111111",
        "+49 171 1234567",
        "DE89370400440532013000",
        "secret: ",
        "\n",
        "{",
        "}",
        ":",
        ",",
        "é",
        "b",
        "-----BEGIN PRIVATE KEY-----",
        "Bearer abcdefghij",
        "://u:p@h",
        "7",
        "\\n",
        "api_key",
        "@",
    ];
    prop_oneof![4 => proptest::sample::select(&SHAPES[..]).prop_map(str::to_owned), 1 => ".{0,4}"]
}

fn soup() -> impl Strategy<Value = String> {
    proptest::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn twice_is_once(text in soup()) {
        let once = redact(&text).into_owned();
        prop_assert_eq!(&redact(&once), &once);
    }

    #[test]
    fn a_json_document_stays_one(key in soup(), value in soup(), number: u64, nested: bool) {
        let inner = json!({ key: value, "n": [number, 4_111_111_111_111_111_u64, 1.5e300] });
        let document = if nested { json!({ "password": inner.to_string() , "text": inner.to_string()}) } else { inner };
        let kept = redact(&document.to_string()).into_owned();
        prop_assert!(serde_json::from_str::<Value>(&kept).is_ok(), "{} from {}", kept, document);
    }

    #[test]
    fn text_without_triggers_is_borrowed(text in "[ac-df-f.,;!? \nöß]*") {
        prop_assert!(matches!(redact(&text), Cow::Borrowed(_)));
    }

    #[test]
    fn no_known_key_survives(before in "[ \n.,é]{0,3}", after in "[ \n.,é]{0,3}") {
        let text = format!("{before}sk-abcdefghijklmnopqrst{after}");
        prop_assert!(!redact_secrets(&text).contains("sk-"));
    }
}
