//! API keys: `bsk_<id>_<secret>`. Only the SHA-256 of a key is kept; hashes are compared in
//! constant time. As long as no key was ever made the server is open, and then it listens on loopback
//! addresses only and turns browsers of other sites away.

use std::{collections::HashMap, net::IpAddr};

use backstay_core::failure::{Failure, Refusal};
use backstay_store::KeyRow;
use http::{
    HeaderMap,
    header::{AUTHORIZATION, HOST, ORIGIN},
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The keys in force.
#[derive(Debug, Default)]
pub struct Keys {
    /// Names and hashes by key id, without revoked keys.
    known: HashMap<String, Known>,
    /// Whether a key was ever made: from then on every request needs one.
    required: bool,
}

#[derive(Debug)]
struct Known {
    name: String,
    sha256: [u8; 32],
}

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Visitor {
    /// Somebody on this machine; no keys are configured.
    Local,
    /// Somebody with a key.
    Key {
        /// The key's id.
        id: String,
        /// What people call the key.
        name: String,
        /// Its hash.
        sha256: [u8; 32],
    },
}

impl Visitor {
    fn of((id, known): (&str, &Known)) -> Self {
        Self::Key { id: id.to_owned(), name: known.name.clone(), sha256: known.sha256 }
    }

    /// What stands where people want to know who did something.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Local => "local",
            Self::Key { name, .. } => name,
        }
    }
}

/// The hash under which a key is kept.
#[must_use]
pub fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// A new key and the row that the registry keeps of it. `random` is 24 bytes from the system.
#[must_use]
pub fn make(name: &str, random: &[u8; 24], now_ms: u64) -> (String, KeyRow) {
    let hex = random.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let (id, secret) = hex.split_at(8);
    let key = format!("bsk_{id}_{secret}");
    let row = KeyRow {
        id: id.to_owned(),
        name: name.to_owned(),
        sha256: hash(&key),
        created_ms: now_ms,
        revoked_ms: None,
    };
    (key, row)
}

impl Keys {
    /// The keys in force according to the registry.
    #[must_use]
    pub fn new(rows: &[KeyRow]) -> Self {
        let valid = rows.iter().filter(|row| row.revoked_ms.is_none());
        Self {
            known: valid
                .map(|row| (row.id.clone(), Known { name: row.name.clone(), sha256: row.sha256 }))
                .collect(),
            required: !rows.is_empty(),
        }
    }

    /// Whether requests need a key.
    #[must_use]
    pub const fn required(&self) -> bool {
        self.required
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// `bad_request` for lack of a valid key or, where none are required, for coming from a web page of
    /// another site.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), Failure> {
        self.shown_key(headers).map(drop)
    }

    /// Who sent a request.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub(crate) fn visitor(&self, headers: &HeaderMap) -> Result<Visitor, Failure> {
        Ok(self.shown_key(headers)?.map_or(Visitor::Local, Visitor::of))
    }

    /// The key that a request shows; `None` where none is needed.
    fn shown_key(&self, headers: &HeaderMap) -> Result<Option<(&str, &Known)>, Failure> {
        if !self.required {
            return local_only(headers).map(|()| None);
        }
        let Some(key) = shown(headers) else {
            return Err(unauthenticated(
                "this server needs a key: send `Authorization: Bearer bsk_…` or `x-api-key`",
            ));
        };
        let valid = self.find(key);
        valid.map(Some).ok_or_else(|| unauthenticated("the key is not valid, or was revoked"))
    }

    /// Id and what is known of a key, if it is in force.
    fn find(&self, key: &str) -> Option<(&str, &Known)> {
        let (id, _) = key.strip_prefix("bsk_").and_then(|rest| rest.split_once('_'))?;
        // An unknown id is compared too, so that ids cannot be told apart by time.
        let entry = self.known.get_key_value(id);
        let equal = entry.map_or(&[0; 32], |(_, known)| &known.sha256).ct_eq(&hash(key));
        entry.filter(|_| bool::from(equal)).map(|(id, known)| (id.as_str(), known))
    }

    /// Whose key this is, if it is in force.
    pub(crate) fn owner(&self, key: &str) -> Option<Visitor> {
        self.find(key).map(Visitor::of)
    }

    /// Whether someone who was let in would be let in now.
    pub(crate) fn still_admits(&self, visitor: &Visitor) -> bool {
        match visitor {
            Visitor::Local => !self.required,
            Visitor::Key { id, sha256, .. } => {
                self.known.get(id).is_some_and(|known| bool::from(known.sha256.ct_eq(sha256)))
            }
        }
    }
}

/// The key that a request shows.
pub(crate) fn shown(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).or_else(|| headers.get("x-api-key")?.to_str().ok())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn unauthenticated(why: &str) -> Failure {
    Failure::bad_request("authorization", why).because(Refusal::Unauthenticated)
}

/// Without keys, a page in the user's browser must not be able to spend tokens: neither from another
/// site (Origin) nor through a name that was made to resolve to this machine (Host).
fn local_only(headers: &HeaderMap) -> Result<(), Failure> {
    let text =
        |name| headers.get(name).map(|value: &http::HeaderValue| value.to_str().unwrap_or(""));
    let origin =
        text(ORIGIN).map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host));
    for (name, host) in [("origin", origin), ("host", text(HOST))] {
        if host.is_some_and(|host| !is_local(host)) {
            return Err(Failure::bad_request(
                name,
                "without API keys only requests from and to this machine are answered; make a key \
                 with `backstay keys create`",
            )
            .because(Refusal::Forbidden));
        }
    }
    Ok(())
}

fn is_local(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn key(id: &str, secret: &str, revoked_ms: Option<u64>) -> KeyRow {
        KeyRow {
            id: id.into(),
            name: id.into(),
            sha256: hash(&format!("bsk_{id}_{secret}")),
            created_ms: 0,
            revoked_ms,
        }
    }

    #[test]
    fn a_key_opens_by_either_header_and_a_revoked_one_does_not() {
        let keys = Keys::new(&[key("good", "s3cret", None), key("old", "s3cret", Some(1))]);
        assert!(keys.admit(&headers(&[("authorization", "Bearer bsk_good_s3cret")])).is_ok());
        assert!(keys.admit(&headers(&[("x-api-key", "bsk_good_s3cret")])).is_ok());
        for bad in
            ["bsk_good_other", "bsk_old_s3cret", "bsk_none_s3cret", "s3cret", "", "bsk_good_"]
        {
            let refused = keys.admit(&headers(&[("x-api-key", bad)])).unwrap_err();
            assert_eq!(refused.refusal, Refusal::Unauthenticated, "{bad}");
            assert!(!refused.message.contains("s3cret"));
        }
        assert!(keys.admit(&headers(&[])).is_err());
    }

    #[test]
    fn once_all_keys_are_revoked_nobody_gets_in() {
        let keys = Keys::new(&[key("old", "s3cret", Some(1))]);
        assert!(keys.required());
        assert!(keys.admit(&headers(&[])).is_err());
    }

    #[test]
    fn without_keys_other_sites_are_turned_away() {
        let keys = Keys::default();
        for good in ["localhost:4700", "127.0.0.1:4700", "[::1]:4700", "LOCALHOST", "127.0.0.2"] {
            assert!(keys.admit(&headers(&[("host", good)])).is_ok(), "{good}");
            let origin = format!("http://{good}");
            assert!(keys.admit(&headers(&[("origin", &origin)])).is_ok(), "{good}");
        }
        for bad in ["example.com", "localhost.example.com:4700", "10.0.0.1", "127.0.0.1.nip.io:80"]
        {
            assert!(keys.admit(&headers(&[("host", bad)])).is_err(), "{bad}");
        }
        assert!(keys.admit(&headers(&[("origin", "null")])).is_err());
    }
}
