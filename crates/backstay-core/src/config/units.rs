//! Values that are typed with a unit: durations, shares, percentage points, sizes; and references to
//! secrets. Each one knows how it is written, how it is read and its JSON Schema; none of them knows
//! which key it stands under.

use std::{borrow::Cow, fmt, path::PathBuf, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A duration: a number and `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(pub Duration);

/// A share of a whole, 0 to 1: typed as `"2%"` or `0.02`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "String")]
pub struct Share(pub f64);

/// A difference between two shares, 0 to 1: typed as `"5pp"` (percentage points) or `0.05`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "String")]
pub struct Points(pub f64);

/// A size in bytes: a number and `B`, `KB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

/// Where a secret is found. Project files name secrets and never hold them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// `env:NAME`: an environment variable.
    Env(String),
    /// `file:PATH`: the content of a file, without the line break at its end.
    File(PathBuf),
}

/// Milliseconds of each unit of time, longest first.
const TIMES: [(&str, u64); 5] =
    [("ms", 1), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

/// Bytes of each unit of size; a unit stands before those that it ends in.
const SIZES: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl TryFrom<String> for Time {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a duration");
        let (number, millis) = TIMES
            .iter()
            .find_map(|(u, ms)| Some((text.strip_suffix(u)?, *ms)))
            .ok_or_else(wrong)?;
        let number = decimal(number).filter(|n| *n < 1e9).ok_or_else(wrong)?;
        #[expect(clippy::cast_precision_loss, reason = "a day in milliseconds is far below 2^52")]
        let seconds = number * millis as f64 / 1e3;
        Duration::try_from_secs_f64(seconds).map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Time {
    /// The longest unit that needs no fraction; days from two days on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let units = [(86_400_000, 2, "d"), (3_600_000, 1, "h"), (60_000, 1, "m"), (1_000, 0, "s")];
        for (unit, at_least, name) in units {
            if millis.is_multiple_of(unit) && millis / unit >= at_least {
                return write!(f, "{}{name}", millis / unit);
            }
        }
        write!(f, "{millis}ms")
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

impl TryFrom<Value> for Share {
    type Error = String;
    fn try_from(value: Value) -> Result<Self, String> {
        fraction(&value, "%").map(Self).ok_or_else(|| format!("{value} is not a share"))
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        format!("{}%", per_cent(share.0))
    }
}

impl TryFrom<Value> for Points {
    type Error = String;
    fn try_from(value: Value) -> Result<Self, String> {
        fraction(&value, "pp").map(Self).ok_or_else(|| format!("{value} is not a difference"))
    }
}

impl From<Points> for String {
    fn from(points: Points) -> Self {
        format!("{}pp", per_cent(points.0))
    }
}

impl TryFrom<String> for Size {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        SIZES
            .iter()
            .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)))
            .and_then(|(number, bytes)| number.parse::<u64>().ok()?.checked_mul(*bytes))
            .map(Self)
            .ok_or_else(|| format!("\"{text}\" is not a size"))
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        let unit = ["GB", "GiB", "MB", "MiB", "KB", "KiB"].into_iter().find_map(|name| {
            let (_, bytes) = SIZES.iter().find(|(unit, _)| *unit == name)?;
            (size.0 > 0 && size.0.is_multiple_of(*bytes))
                .then(|| format!("{}{name}", size.0 / bytes))
        });
        unit.unwrap_or_else(|| format!("{}B", size.0))
    }
}

impl SecretRef {
    /// Reads `env:NAME` or `file:PATH`.
    ///
    /// # Errors
    /// Anything else is most likely the secret itself, so the message does not repeat it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        match text.split_once(':') {
            Some(("env", var)) if !var.is_empty() && var.chars().all(name) => {
                Ok(Self::Env(var.to_owned()))
            }
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(_) | None => Err("this is not a reference to a secret".to_owned()),
        }
    }
}

impl TryFrom<String> for SecretRef {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl From<SecretRef> for String {
    fn from(secret: SecretRef) -> Self {
        secret.to_string()
    }
}

/// A plain decimal number: digits, perhaps a point and more digits.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (plain && text.starts_with(|c: char| c.is_ascii_digit())).then(|| text.parse().ok())?
}

fn fraction(value: &Value, unit: &str) -> Option<f64> {
    let number = match value {
        Value::String(text) => decimal(text.strip_suffix(unit)?)? / 100.0,
        Value::Number(number) => number.as_f64()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (0.0..=1.0).contains(&number).then_some(number)
}

fn per_cent(share: f64) -> String {
    let text = format!("{:.6}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The names of these values in schemas, in the manual and in messages, with how they are written.
pub(crate) const WRITTEN: [(&str, &str); 7] = [
    ("duration", "write a number with a unit (ms, s, m, h, d), such as \"20s\""),
    ("share", "write a percentage such as \"2%\", or a number from 0 to 1"),
    ("difference", "write percentage points such as \"5pp\", or a number from 0 to 1"),
    ("size", "write a whole number with a unit (KB, MB, GB), such as \"16MB\""),
    ("secret reference", SECRET_REMEDY),
    ("target", "write provider/model, such as \"openai/gpt-5-mini\""),
    ("address", "write an IP address and a port, such as \"127.0.0.1:4700\""),
];

/// How a secret is named. Kept apart, because several rules give this advice.
pub(crate) const SECRET_REMEDY: &str = "put the secret into an environment variable and write \
    \"env:NAME\", or into a file and write \"file:/run/secrets/name\"";

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "duration", "type": "string",
            "pattern": "^[0-9]{1,9}(\\.[0-9]{1,9})?(ms|s|m|h|d)$"
        })
    }
}

impl JsonSchema for Share {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "share".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "share", "type": ["string", "number"], "minimum": 0, "maximum": 1,
            "pattern": "^(100(\\.0{1,9})?|[0-9]{1,2}(\\.[0-9]{1,9})?)%$"
        })
    }
}

impl JsonSchema for Points {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "difference".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "difference", "type": ["string", "number"], "minimum": 0, "maximum": 1,
            "pattern": "^(100(\\.0{1,9})?|[0-9]{1,2}(\\.[0-9]{1,9})?)pp$"
        })
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "size".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "size", "type": "string", "pattern": "^[0-9]{1,9}(B|KB|MB|GB|KiB|MiB|GiB)$"
        })
    }
}

impl JsonSchema for SecretRef {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "secret reference".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "secret reference", "type": "string",
            "pattern": "^(env:[A-Za-z0-9_]+|file:.+)$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Result<String, String> {
        Time::try_from(text.to_owned()).map(String::from)
    }

    #[test]
    fn durations_are_read_and_written() {
        for text in ["0s", "1ms", "250ms", "20s", "1m", "90s", "24h", "14d", "400d"] {
            assert_eq!(time(text).unwrap(), text);
        }
        assert_eq!(time("1.5s").unwrap(), "1500ms");
        assert_eq!(time("1d").unwrap(), "24h");
        for wrong in ["", "s", "20", "-1s", "1 s", "1e3s", "1.2.3s", "1w", "9999999999d", "ins"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_and_points_are_read_and_written() {
        for text in ["0%", "2%", "7%", "12.5%", "100%"] {
            assert_eq!(String::from(Share::try_from(Value::from(text)).unwrap()), text);
        }
        assert_eq!(Share::try_from(Value::from(0.02)), Share::try_from(Value::from("2%")));
        assert_eq!(String::from(Points::try_from(Value::from("5pp")).unwrap()), "5pp");
        for wrong in [Value::from("101%"), 2.into(), (-0.1).into(), "2".into(), "5pp".into()] {
            assert!(Share::try_from(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [("16MB", 16_000_000), ("1KiB", 1024), ("7B", 7), ("0B", 0)] {
            let size = Size::try_from(text.to_owned()).unwrap();
            assert_eq!((size.0, String::from(size)), (bytes, text.to_owned()));
        }
        assert!(Size::try_from("16".to_owned()).is_err());
        assert!(Size::try_from("99999999999999999999GB".to_owned()).is_err());
    }

    #[test]
    fn a_secret_is_named_and_never_repeated() {
        assert_eq!(SecretRef::parse("env:A_1"), Ok(SecretRef::Env("A_1".to_owned())));
        assert_eq!(SecretRef::parse("file:/run/x").unwrap().to_string(), "file:/run/x");
        for wrong in ["sk-live-123", "env:", "env:A B", "file:", ""] {
            let error = SecretRef::parse(wrong).unwrap_err();
            assert!(!error.contains("sk-live"), "{error}");
        }
    }
}
