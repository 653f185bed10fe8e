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
        (r"\u00e9sk-abcdefghijklmnopqrst", r"\u00e9[redacted:api_key]"),
    ] {
        assert_eq!(redact_secrets(text), expected);
        assert_eq!(redact(text), expected);
    }
}

/// One key of each provider, of the length that they have.
#[test]
fn keys_of_all_known_providers_go() {
    let random = |length: usize| "a1B2c3D4e5F6g7H8i9J0".repeat(9)[..length].to_owned();
    for (prefix, length) in [
        ("sk-", 48),
        ("sk-proj-", 120),
        ("sk-svcacct-", 120),
        ("sk-ant-api03-", 95), // OpenAI, Anthropic
        ("sk-or-v1-", 64),
        ("gsk_", 52),
        ("hf_", 34),
        ("r8_", 37),
        ("pplx-", 48),
        ("xai-", 80),
        ("fw_", 22),
        ("csk-", 48),
        ("nvapi-", 64),
        ("tgp_v1_", 43),
        ("pa-", 43),
        ("jina_", 58),
        ("AIza", 35),
        ("GOCSPX-", 28),
        ("lsv2_pt_", 43),
        ("tvly-", 32),
        ("sk_", 48),
        ("ghp_", 36),
        ("gho_", 36),
        ("ghu_", 36),
        ("ghs_", 36),
        ("ghr_", 76),
        ("github_pat_", 82),
        ("glpat-", 20),
        ("xoxb-", 50),
        ("xoxp-", 70),
        ("xapp-", 90),
        ("sk_live_", 24),
        ("rk_live_", 24),
        ("whsec_", 32),
        ("npm_", 36),
        ("pypi-", 160),
        ("dop_v1_", 64),
        ("dckr_pat_", 27),
        ("shpat_", 32),
        ("lin_api_", 40),
        ("ntn_", 46),
        ("sbp_", 40),
        ("glsa_", 41),
        ("NRAK-", 27),
        ("PMAK-", 59),
        ("bsk_", 32),
    ] {
        let key = format!("{prefix}{}", random(length));
        let text = format!("the key is {key}, and {{\"k\": \"{key}\"}} {key}");
        let kept = redact_secrets(&text);
        assert_eq!(kept.matches("[redacted:").count(), 3, "{text} became {kept}");
        assert!(!kept.contains(&random(12)), "{text} became {kept}");
    }
    let hex = "0123456789abcdef".repeat(2);
    for key in [format!("SK{hex}"), format!("SG.{}.{}", random(22), random(43))] {
        assert_eq!(redact_secrets(&key), "[redacted:api_key]");
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
        ("DE89-3704-0044-0532-0130-00", "[redacted:iban]"),
        ("67595772-7991-4359-a000-000000000000", "67595772-7991-4359-a000-000000000000"),
        // Part of a UUID that happens to pass the check.
        ("912766e4-c09b-48e0-be02-68d369488771", "912766e4-c09b-48e0-be02-68d369488771"),
        ("GB82WEST12345698765432", "[redacted:iban]"),
        ("call 0049 171 1234567", "call [redacted:phone]"),
        ("phone: 0171 1234567, tel=1234567", "phone: [redacted:phone], tel=[redacted:phone]"),
        (r#"{"mobile": "(030) 1234567"}"#, r#"{"mobile": "[redacted:phone]"}"#),
        (r#"{"phone_number": 4917112345678}"#, r#"{"phone_number": "[redacted:phone]"}"#),
        (
            r#"{"t": "{\"phone\": \"01711234567\"}"}"#,
            r#"{"t": "{\"phone\": \"[redacted:phone]\"}"}"#,
        ),
        ("jürgen.müller@bücher.de, вася@почта.рф", "[redacted:email], [redacted:email]"),
        (r#""j\u00fcrgen@b.de""#, r#""[redacted:email]""#),
        ("联系john@example.com谢谢", "联系[redacted:email]谢谢"),
        ("a@xn--80a1acny.xn--p1ai", "[redacted:email]"),
        ("/invite?to=bob%40example.com&x=1", "/invite?to=[redacted:email]&x=1"),
        (
            "Amex 378282246310005, Maestro 6759649826438453",
            "Amex [redacted:card], Maestro [redacted:card]",
        ),
        (
            "de89370400440532013000 or DE89-3704-0044-0532-0130-00",
            "[redacted:iban] or [redacted:iban]",
        ),
        (
            "NO93 8601 1117 947, MT84 MALT 0110 0001 2345 MTLC AST0 01S",
            "[redacted:iban], [redacted:iban]",
        ),
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
        // Times, prices, numbers of orders, versions, products and networks.
        "20261126102059, 2026-11-26T10:20:59.123456Z, 1795435200000, 1795435200123456789",
        "4006381333931, 978-3-16-148410-0, 5901234123457", // EAN, ISBN
        "order 112-1234567-1234567, RMA 100-200-3000, invoice 4500000001, #555-1234",
        "1.234,56 EUR, $1,234,567.89, +5 %, + 12345678, 10.0.0.1:8080, 192.168.100.1234",
        "a3b5c7d9-1234-4234-8234-123456789012, 5425d6a0-4111-4111-8111-111111111111",
        "9F86D081884C7D659A2FEAA0C55AD015, DE893704004405320130ABCDEF012345",
        "task-force sk-learn hf_hub_download_of_a_really_long_name pa-rt fw_update xai-model",
        "self_sk_test, my_sk-abcdefghijklmnopqrst, github_pattern, npm_config_registry_of_the_team",
        "hotel: 1234567, phones: 1234567, phone_id: 1234567, phone: none, phone: 12345",
        "{\"phone\": 12.5, \"mobile\": true, \"fax\": \"12345678901234567\"}",
        "50%40, 100%4, SK, SG.x, SKU 0123456789, 0012345678",
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
        "phone: ",
        "phone:1 ",
        "0049 1 ",
        "DE89 ",
        "de89",
        "sk_live_",
        "%40",
        "\\u0041@",
        "ü@ü.",
        "SG.",
        "AKIA",
        "hf_",
    ] {
        let text = piece.repeat(200_000 / piece.len());
        assert!(!redact(&text).is_empty());
    }
}

fn piece() -> impl Strategy<Value = String> {
    const SHAPES: [&str; 32] = [
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
        "phone: ",
        "0049 171",
        "%40b.co",
        "ü",
        "hf_0123456789012345678901234567890",
        "\\u00e9",
        "de89370400440532013000",
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

    /// What systems number things with is no person's data.
    #[test]
    fn ids_and_times_stay(random: u128, millis in 1_000_000_000_000_u64..2_000_000_000_000) {
        let uuid = uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid();
        let dense = uuid.simple().to_string();
        let seconds = std::time::Duration::from_millis(millis).as_secs();
        let (day, clock) = (seconds / 86_400 % 28 + 1, seconds % 60);
        let texts = [
            uuid.to_string(), uuid.to_string().to_uppercase(), dense.to_uppercase(), dense,
            millis.to_string(), format!("{millis}123456"), format!("{millis}123"),
            format!("202611{day:02}1020{clock:02}"), format!("202611{day:02}1020{clock:02}123"),
            format!("{{\"id\": \"{uuid}\", \"at\": {millis}, \"price\": {}.{day:02}}}", seconds % 100_000),
        ];
        for text in texts {
            prop_assert!(matches!(redact(&text), Cow::Borrowed(_)), "{text} became {}", redact(&text));
        }
    }

    #[test]
    fn text_without_triggers_is_borrowed(text in "[acdf.,;!? \nöß]*") {
        prop_assert!(matches!(redact(&text), Cow::Borrowed(_)));
    }

    #[test]
    fn no_known_key_survives(before in "[ \n.,é]{0,3}", after in "[ \n.,é]{0,3}") {
        let text = format!("{before}sk-abcdefghijklmnopqrst{after}");
        prop_assert!(!redact_secrets(&text).contains("sk-"));
    }
}
