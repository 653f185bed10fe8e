//! Reads the JSON in a model's answer, mending on the spot what needs no second call: code fences,
//! prose around it, a byte order mark, comments, trailing commas.
//!
//! Never invents data: what breaks off is not JSON, and of two different values none is chosen.
//! Whether the value is the right one is the schema's business ([`crate::output`]).
//!
//! A value inside of other text is the answer if it is an object, or an array with an object in it,
//! and is set apart: by a code fence (empty or `json` language), by standing on lines of its own
//! (nothing after it, and before it nothing or a colon), or by being half of the text or more. An
//! array without objects may be a footnote (`[1]`) and is the answer only fenced or as half of the
//! text. Fenced values win over all others; otherwise a second, different value makes the text
//! ambiguous, set apart or not.
//!
//! One pass: a bracket that opens no value is prose, and reading goes on where it broke. But once an
//! object has begun and breaks, the text is not JSON: its inner pieces are not what was meant.

use serde_json::Value;

/// How deep an answer may be nested; `serde_json` reads no deeper either.
const MAX_DEPTH: usize = 128;

/// What an answer's text turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// The whole text is JSON as it is.
    Valid(Value),
    /// JSON was in it, in harmless wrapping.
    Mended {
        /// The value.
        value: Value,
        /// The value as strict JSON: the text to hand on in place of the answer's own.
        json: String,
    },
    /// There is no JSON in it that can be relied on.
    NotJson {
        /// Why, in one sentence without the text itself.
        reason: String,
    },
}

/// Reads the JSON in an answer. Linear in the length of the text.
#[must_use]
pub fn parse_answer(text: &str) -> Parsed {
    if let Ok(value) = serde_json::from_str(text) {
        return Parsed::Valid(value);
    }
    let bare =
        text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}'));
    if bare.is_empty() {
        return Parsed::NotJson { reason: "the answer is empty".to_owned() };
    }
    if let Ok(value) = serde_json::from_str(bare) {
        return Parsed::Mended { value, json: bare.to_owned() };
    }
    let found = find_values(bare).and_then(choose);
    match found {
        Ok(Found { value, json, .. }) => Parsed::Mended { value, json },
        Err(reason) => Parsed::NotJson { reason },
    }
}

/// A value inside of a text.
struct Found {
    value: Value,
    json: String,
    fenced: bool,
    /// Half of the text or more, or on lines of its own.
    stands_out: bool,
    /// Without any object in it, and less than half of the text.
    footnote: bool,
}

fn find_values(text: &str) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = text.get(at..).and_then(|rest| rest.find(['{', '['])) {
        let start = at + offset;
        let mut scan = Scan::new(text, start);
        let end = match scan.value() {
            Ok(end) => end,
            Err(broken) if broken.prose => {
                at = scan.at.max(start + 1);
                continue;
            }
            Err(broken) => return Err(explain(text, scan.at, broken.what)),
        };
        let json = scan.out;
        let most = 2 * (end - start) >= text.len();
        match serde_json::from_str(&json) {
            Ok(value) => found.push(Found {
                value,
                fenced: is_fence(text.get(..start).unwrap_or_default()),
                stands_out: most || is_apart(text, start, end),
                footnote: !most && !scan.objects,
                json,
            }),
            Err(_) if !scan.objects => {}
            Err(_) => return Err(explain(text, start, "this value is not valid JSON")),
        }
        at = end;
    }
    Ok(found)
}

fn choose(found: Vec<Found>) -> Result<Found, String> {
    let any_fenced = found.iter().any(|one| one.fenced);
    let mut meant =
        found.into_iter().filter(|one| if any_fenced { one.fenced } else { !one.footnote });
    let Some(first) = meant.next() else {
        return Err("the answer is prose, not JSON".to_owned());
    };
    if meant.any(|other| other.value != first.value) {
        return Err("the answer holds several different JSON values".to_owned());
    }
    if first.fenced || first.stands_out {
        return Ok(first);
    }
    Err("the answer is prose that mentions JSON in passing".to_owned())
}

/// Whether a text ends in the opening of a code fence for JSON.
fn is_fence(before: &str) -> bool {
    let before = before.trim_end();
    let word = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric());
    let language = before.get(word.len()..).unwrap_or_default();
    let json =
        ["", "json", "json5", "jsonc"].iter().any(|known| language.eq_ignore_ascii_case(known));
    json && word.ends_with("```")
}

fn is_apart(text: &str, start: usize, end: usize) -> bool {
    let before = text.get(..start).unwrap_or_default().trim_end_matches([' ', '\t']);
    let after = text.get(end..).unwrap_or_default().trim_start_matches([' ', '\t', '\r']);
    (before.is_empty() || before.ends_with(['\n', ':']))
        && (after.is_empty() || after.starts_with('\n'))
}

/// A reason with its place: line and column count from 1, columns in characters.
fn explain(text: &str, at: usize, what: &str) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}: {what}")
}

/// What may come next inside of a value.
#[derive(Clone, Copy, PartialEq)]
enum Expect {
    Value,
    ValueOrEnd,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
}

/// Why a value could not be read to its end.
struct Broken {
    what: &'static str,
    /// No object has begun, so it may have been a bracket in prose.
    prose: bool,
}

/// Reads one lenient value and writes it as strict JSON. It checks the structure; `serde_json` then
/// checks every string and number.
struct Scan<'t> {
    text: &'t str,
    at: usize,
    out: String,
    open: Vec<u8>,
    objects: bool,
    /// A comma that was read but not written yet: it is dropped if the container ends.
    comma: bool,
}

impl<'t> Scan<'t> {
    fn new(text: &'t str, start: usize) -> Self {
        let (out, open) = (String::new(), Vec::new());
        Self { text, at: start, out, open, objects: false, comma: false }
    }

    /// Reads to the end of the value and says where that is.
    fn value(&mut self) -> Result<usize, Broken> {
        let mut expect = Expect::Value;
        loop {
            self.skip_blank_and_comments();
            let Some(byte) = self.peek() else {
                return Err(Broken { what: "the JSON breaks off here", prose: false });
            };
            expect = match (expect, byte) {
                (Expect::Value | Expect::ValueOrEnd, b'{' | b'[') => self.enter(byte)?,
                (Expect::Value | Expect::ValueOrEnd, _) if byte != b']' => {
                    self.scalar(byte)?;
                    Expect::CommaOrEnd
                }
                (Expect::KeyOrEnd, b'"') => {
                    self.string()?;
                    Expect::Colon
                }
                (Expect::Colon, b':') => {
                    self.push(1);
                    Expect::Value
                }
                (Expect::CommaOrEnd, b',') => {
                    self.at += 1;
                    self.comma = true;
                    let object = self.open.last() == Some(&b'{');
                    if object { Expect::KeyOrEnd } else { Expect::ValueOrEnd }
                }
                (Expect::CommaOrEnd | Expect::KeyOrEnd, b'}')
                | (Expect::CommaOrEnd | Expect::ValueOrEnd, b']')
                    if self.open.last() == Some(&(byte - 2)) =>
                {
                    self.comma = false;
                    self.open.pop();
                    self.push(1);
                    if self.open.is_empty() {
                        return Ok(self.at);
                    }
                    Expect::CommaOrEnd
                }
                (Expect::KeyOrEnd, _) => return self.broken("a key in quotes is missing"),
                (Expect::Colon, _) => return self.broken("a colon is missing"),
                (Expect::CommaOrEnd, _) => return self.broken("a comma or a bracket is missing"),
                (Expect::Value | Expect::ValueOrEnd, _) => {
                    return self.broken("a value is missing");
                }
            };
        }
    }

    fn enter(&mut self, byte: u8) -> Result<Expect, Broken> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Broken { what: "nested deeper than 128 levels", prose: false });
        }
        if byte == b'{' {
            // `{` before anything but a key or its end is prose, as in `{name}`.
            let rest = self.text.get(self.at + 1..).unwrap_or_default().trim_start();
            self.objects |= rest.is_empty() || rest.starts_with(['"', '}', '/', '\'']);
        }
        self.put_comma();
        self.open.push(byte);
        self.push(1);
        Ok(if byte == b'{' { Expect::KeyOrEnd } else { Expect::ValueOrEnd })
    }

    fn scalar(&mut self, first: u8) -> Result<(), Broken> {
        if first == b'"' {
            return self.string();
        }
        let rest = self.text.get(self.at..).unwrap_or_default();
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let token = rest.split(|c| !inside(c)).next().unwrap_or_default();
        let number = first == b'-' || first.is_ascii_digit();
        if !number && !matches!(token, "true" | "false" | "null") {
            return self.broken("this is no JSON value");
        }
        self.put_comma();
        self.push(token.len());
        Ok(())
    }

    fn string(&mut self) -> Result<(), Broken> {
        let mut escaped = true; // The opening quote closes nothing.
        let rest = self.text.get(self.at..).unwrap_or_default();
        let closing = rest.bytes().position(|byte| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        });
        let Some(closing) = closing else {
            return Err(Broken { what: "the string that begins here has no end", prose: false });
        };
        self.put_comma();
        self.push(closing + 1);
        Ok(())
    }

    fn broken<T>(&self, what: &'static str) -> Result<T, Broken> {
        Err(Broken { what, prose: !self.objects })
    }

    fn put_comma(&mut self) {
        if std::mem::take(&mut self.comma) {
            self.out.push(',');
        }
    }

    fn push(&mut self, bytes: usize) {
        let end = self.at + bytes;
        self.out.push_str(self.text.get(self.at..end).unwrap_or_default());
        self.at = end;
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blank_and_comments(&mut self) {
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let bare = rest.trim_start_matches([' ', '\t', '\r', '\n', '\u{a0}', '\u{feff}']);
            self.at += rest.len() - bare.len();
            let comment = if bare.starts_with("//") {
                bare.find('\n').unwrap_or(bare.len())
            } else if bare.starts_with("/*") {
                bare.find("*/").map_or(bare.len(), |end| end + 2)
            } else {
                return;
            };
            self.at += comment;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn mended(text: &str) -> Option<Value> {
        match parse_answer(text) {
            Parsed::Mended { value, json } => {
                assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), value, "{text}");
                Some(value)
            }
            Parsed::Valid(_) | Parsed::NotJson { .. } => None,
        }
    }

    #[test]
    fn strict_json_is_valid_as_it_is() {
        for (text, value) in [
            (" {\"a\": [1, 2]}\n", json!({"a": [1, 2]})),
            ("[1]", json!([1])),
            ("42", json!(42)),
            ("\"```json\"", json!("```json")),
            ("null", json!(null)),
        ] {
            assert_eq!(parse_answer(text), Parsed::Valid(value));
        }
    }

    #[test]
    fn harmless_wrapping_is_mended() {
        let a = json!({"a": 1});
        for text in [
            "\u{feff}{\"a\": 1}",
            "\u{a0}{\"a\":\u{a0}1}\u{a0}",
            "```json\n{\"a\": 1}\n```",
            "```\n{\"a\": 1}\n```",
            "```JSON {\"a\": 1}```",
            "Sure, here you are, as you wished:\n\n```json\n{\"a\": 1}\n```\nAnything else?",
            "```json\n{\"a\": 1}",
            "Here is the JSON that you asked for: {\"a\": 1}",
            "Here it is, as you wished.\n{\"a\": 1}\nLet me know whether you need anything else!",
            "{\"a\": 1,}",
            "{\"a\": 1 // one\n}",
            "{/* one, {two} */\"a\": 1, /* three */}",
            "As in [1] and [see 2], for {name}:\n{\"a\": 1}\n",
            "{\"a\": 1}\n\nAgain:\n{\"a\":1}",
            "It could be {\"b\": 2}, but:\n```json\n{\"a\": 1}\n```",
        ] {
            assert_eq!(mended(text), Some(a.clone()), "{text}");
        }
        assert_eq!(mended("Items: [1, 2, 3, 4,]"), Some(json!([1, 2, 3, 4])));
        assert_eq!(mended("```json\n[]\n```"), Some(json!([])));
        assert_eq!(mended("Found these:\n[{\"a\": \"// }\"}]"), Some(json!([{"a": "// }"}])));
        let one = r#"{"code": "```py\nx = {1}\n```", "b": "\\\"}"}"#;
        let value: Value = serde_json::from_str(one).unwrap();
        assert_eq!(mended(&format!("```json\n{one}\n```")), Some(value));
    }

    #[test]
    fn what_cannot_be_relied_on_is_not_json() {
        for (text, expected) in [
            ("", "empty"),
            (" \u{feff}\n", "empty"),
            ("No invoice was found.", "prose"),
            ("The sky is blue [1], says Smith [2].\n\n[1] Smith, 1990\n[2] Jones", "prose"),
            ("The sky is blue. As everyone knows:\n[1]", "prose"),
            ("You could send {\"a\": 1} to them, or else you could write a letter.", "in passing"),
            ("{\"a\": 1, \"b\": ", "line 1, column 14: the JSON breaks off"),
            ("{\"a\": \"one", "column 7: the string"),
            ("```json\n{\"a\": [1, 2\n```", "line 3, column 1: a comma"),
            ("{\"a\": {\"b\": 1} oops}", "column 16: a comma"),
            ("[{\"a\": 1}, oops]", "no JSON value"),
            ("{\"a\": 1}\n{\"a\": 2}", "several different"),
            ("```json\n{\"a\": 1}\n```\n```json\n{\"a\": 2}\n```", "several different"),
            ("{\"a\": 01}", "not valid JSON"),
            ("{'a': 1}", "a key in quotes"),
            ("{\"a\" 1}", "a colon"),
            ("{\"a\": 1]", "a comma or a bracket"),
            ("{\"a\":, }", "no JSON value"),
            ("{,}", "prose"),
            ("{\"a\": /* ", "breaks off"),
        ] {
            match parse_answer(text) {
                Parsed::NotJson { reason } => {
                    assert!(reason.contains(expected), "{text}: `{reason}` / `{expected}`");
                }
                other @ (Parsed::Valid(_) | Parsed::Mended { .. }) => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn hostile_megabytes_come_to_an_end() {
        // Quadratic reading of these would take hours.
        let n = 1_000_000;
        for piece in [
            "[", "{", "`", "{\"", "[1,", "{\"a\":", "/*", "{/*", "[x", "[[1],", "\\", "{}", "[1]",
            "{ ", "[\"",
        ] {
            let text = piece.repeat(n / piece.len());
            assert!(!matches!(parse_answer(&text), Parsed::Valid(_)), "{piece}");
        }
        let deep = format!("{}1{}", "[".repeat(100), ",]".repeat(100));
        assert!(mended(&deep).is_some());
        let too_deep = format!("{}1{}", "{\"a\":[".repeat(70), ",]}".repeat(70));
        assert_eq!(mended(&too_deep), None);
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(".*", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[\\[\\]{}`\",:/*\\\\ 1a\njsoné\u{feff}]{0,60}") {
            mended(&text);
        }

        #[test]
        fn a_fenced_object_is_read_as_it_was_written(value in json_value(), pretty: bool) {
            let object = json!({ "value": value });
            let json = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
            prop_assert_eq!(parse_answer(&json), Parsed::Valid(object.clone()));
            prop_assert_eq!(mended(&format!("So:\n```json\n{json}\n```\nDone.")), Some(object));
        }

        #[test]
        fn a_truncated_object_is_never_completed(value in json_value(), share in 0.0f64..1.0) {
            let json = json!({ "value": value, "end": 1 }).to_string();
            let cut = json.char_indices().map(|(at, _)| at).nth((json.chars().count() as f64 * share) as usize);
            let text = &json[..cut.unwrap_or(0)];
            let not_json = matches!(parse_answer(text), Parsed::NotJson { .. });
            prop_assert!(not_json, "{}", text);
        }
    }
}
