//! What the rules about more than one key share: where a rule's mistake is shown, and the forms of
//! addresses and header names.

use super::{mistake::Mistake, place::Toml};

/// Collects the mistakes that rules find.
pub(crate) struct Rules<'a> {
    /// The file that the rules are about.
    own: &'a Toml<'a>,
    /// `backstay.toml`, whose `defaults` may hold a key that `own` does not.
    defaults: Option<&'a Toml<'a>>,
    /// Paths of values whose shape is wrong: enough was said about them.
    broken: &'a [Vec<String>],
    mistakes: Vec<Mistake>,
}

impl<'a> Rules<'a> {
    pub(crate) fn new(
        own: &'a Toml<'a>,
        defaults: Option<&'a Toml<'a>>,
        broken: &'a [Vec<String>],
    ) -> Self {
        Self { own, defaults, broken, mistakes: Vec::new() }
    }

    /// A mistake in the value at `path`, shown where that value was typed.
    pub(crate) fn say(
        &mut self,
        path: &[&str],
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let path = owned(path);
        if self.broken.iter().any(|cut| cut.starts_with(&path) || path.starts_with(cut)) {
            return;
        }
        let finding = (reason.into(), remedy.into());
        let from_defaults = [owned(&["defaults"]), path.clone()].concat();
        let mistake = match self.defaults {
            Some(defaults) if !self.own.has(&path) && defaults.has(&from_defaults) => {
                defaults.mistake(&from_defaults, finding)
            }
            Some(_) | None => self.own.mistake(&path, finding),
        };
        self.mistakes.push(mistake);
    }

    /// Whether the file itself has this key.
    pub(crate) fn typed(&self, path: &[&str]) -> bool {
        self.own.has(&owned(path))
    }

    pub(crate) fn add(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// `value` if no rule was broken.
    pub(crate) fn done<T>(self, value: T) -> Result<T, Vec<Mistake>> {
        if self.mistakes.is_empty() { Ok(value) } else { Err(self.mistakes) }
    }
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|segment| (*segment).to_owned()).collect()
}

/// What is wrong with the address of a server, if anything. Never repeats it: it may hold a password.
pub(crate) fn url_fault(url: &str) -> Option<&'static str> {
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return Some("this is not an address that begins with https:// or http://");
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Some("a user name or password stands in this address");
    }
    if url.contains(['?', '#']) {
        return Some("this address has a query or fragment");
    }
    if url.chars().any(|c| c.is_whitespace() || c.is_control() || !c.is_ascii()) {
        return Some("this address has characters that must be encoded");
    }
    let (host, port) = split_port(authority);
    if host.is_empty() || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Some("this address has no valid host and port");
    }
    None
}

/// Whether the address names a loopback or private host itself.
pub(crate) fn names_private_host(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, _) = split_port(rest.split('/').next().unwrap_or_default());
    if host == "localhost" {
        return true;
    }
    match host.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private(),
        Ok(std::net::IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        Err(_) => false,
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    }
}

/// Whether `name` is the name of a header.
pub(crate) fn is_header_name(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.len() <= 200 && name.bytes().all(token)
}

/// Whether a header of this name carries a credential.
pub(crate) fn is_secret_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["authorization", "cookie", "key", "token", "secret", "password"]
        .iter()
        .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["https://a.b/v1", "http://127.0.0.1:8000/v1", "http://[::1]:80", "https://a"] {
            assert_eq!(url_fault(good), None, "{good}");
        }
        for bad in ["", "a.b", "ftp://a", "https://", "https://u:p@a", "http://a:x", "http://a?b"] {
            assert!(url_fault(bad).is_some(), "{bad}");
        }
        assert!(names_private_host("http://localhost:8000/v1"));
        assert!(names_private_host("http://[::1]:8000/v1"));
        assert!(names_private_host("http://10.0.0.1"));
        assert!(!names_private_host("https://api.openai.com/v1"));
        assert!(!names_private_host("http://169.254.169.254/latest"));
    }
}
