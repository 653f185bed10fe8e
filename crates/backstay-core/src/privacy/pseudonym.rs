//! Pseudonyms: the same name always gets the same one, and without the key there is no way back, not
//! even by trying all names. HMAC-SHA-256 (RFC 2104), cut to 80 bits: two of a million names share one
//! with a chance below 10⁻¹².

use std::fmt;

use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

/// The fewest bytes of a key.
pub const SHORTEST_KEY: usize = 16;
/// Bytes of a pseudonym.
const KEPT: usize = 10;
/// What a pseudonym begins with.
const PREFIX: &str = "p_";
/// What stands where there is no key: nothing can be told apart, and nothing leaks.
const KEYLESS: &str = "[redacted:no_key]";

/// The key of pseudonyms.
#[derive(Clone)]
pub struct PseudonymKey(Hmac<Sha256>);

impl fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PseudonymKey")
    }
}

impl PseudonymKey {
    /// A key made of any bytes.
    ///
    /// # Errors
    /// When there are too few of them.
    pub fn new(secret: &[u8]) -> Result<Self, String> {
        if secret.len() < SHORTEST_KEY {
            return Err(format!(
                "a key of pseudonyms has {SHORTEST_KEY} bytes or more; make one with `openssl rand -hex 32`"
            ));
        }
        Hmac::new_from_slice(secret).map(Self).map_err(|error| error.to_string())
    }

    /// The pseudonym of `name`: `p_` and 20 hex digits.
    #[must_use]
    pub fn of(&self, name: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(name.as_bytes());
        let digest = mac.finalize().into_bytes();
        let hex = digest.iter().take(KEPT).map(|byte| format!("{byte:02x}"));
        PREFIX.chars().map(String::from).chain(hex).collect()
    }
}

/// The pseudonym of `name`, or a mark that says that there is no key.
pub(super) fn of(key: Option<&PseudonymKey>, name: &str) -> String {
    key.map_or_else(|| KEYLESS.to_owned(), |key| key.of(name))
}

/// Puts pseudonyms in the place of everything in `value` but null and marks of redaction.
pub(super) fn cover(key: Option<&PseudonymKey>, value: &mut Value) {
    match value {
        Value::Null => {}
        Value::String(text) if text.starts_with("[redacted:") => {}
        Value::String(text) => *text = of(key, text),
        Value::Bool(_) | Value::Number(_) => *value = of(key, &value.to_string()).into(),
        Value::Array(items) => items.iter_mut().for_each(|item| cover(key, item)),
        Value::Object(map) => map.values_mut().for_each(|item| cover(key, item)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_one_pseudonym_and_another_key_another() {
        let key = PseudonymKey::new(b"0123456789abcdef").unwrap();
        // From Python: hmac.new(b"0123456789abcdef", b"alice", "sha256").hexdigest()[:20]
        assert_eq!(key.of("alice"), "p_fdbf8b1cacd3d578e062");
        assert_eq!(key.of("alice"), key.of("alice"));
        assert_ne!(key.of("alice"), key.of("alicf"));
        assert_ne!(key.of("alice"), PseudonymKey::new(b"0123456789abcdeg").unwrap().of("alice"));
        assert!(PseudonymKey::new(b"short").unwrap_err().contains("16 bytes"));
        assert!(!format!("{key:?}").contains('0'));
    }

    #[test]
    fn marks_and_nothing_stay() {
        let key = PseudonymKey::new(b"0123456789abcdef").ok();
        let mut value = serde_json::json!([null, "[redacted:denied]", 17, "17", {"a": true}]);
        cover(key.as_ref(), &mut value);
        assert_eq!(value[0], Value::Null);
        assert_eq!(value[1], "[redacted:denied]");
        assert_eq!(value[2], value[3], "a number joins with its text");
        assert!(value[4]["a"].as_str().unwrap().starts_with("p_"));
        let mut value = serde_json::json!("alice");
        cover(None, &mut value);
        assert_eq!(value, KEYLESS);
    }
}
