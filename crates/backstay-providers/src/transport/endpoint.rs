//! Where a provider is and how it is addressed: base URL, fixed headers and query, credentials.
//!
//! Pure: it writes requests and sends nothing. Credentials go in and never come out: not in `Debug`,
//! not in an error.

use std::{
    fmt::{self, Write as _},
    net::IpAddr,
};

use backstay_core::failure::{Failure, FailureClass};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{self, ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::Full;

use crate::wire::WireRequest;

const LONGEST_URL: usize = 2048;

/// Headers that frame a message or steer the connection: the transport's own business.
const RESERVED: [HeaderName; 9] = [
    ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::EXPECT,
    HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The machine that a base URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// An address, written out.
    Address(IpAddr),
    /// A name to be resolved, in lower case.
    Name(String),
}

/// A provider's base URL with everything that each request to it carries.
#[derive(Clone)]
pub struct Endpoint {
    https: bool,
    host: Host,
    port: u16,
    /// `host` or `host:port`, as in the `host` header.
    authority: HeaderValue,
    /// `host:port`, for people.
    peer: String,
    /// Path of the base URL without a slash at its end.
    path: String,
    /// Query of the base URL and of [`Self::with_query`], without the question mark.
    query: String,
    /// The user's headers and the credentials; a later one replaces an earlier one of its name.
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Endpoint {
    /// Reads a base URL: `https://api.openai.com/v1`, `http://127.0.0.1:8000/v1?api-version=1`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and how to mend it. It does not repeat the URL, which may
    /// hold a password by mistake.
    pub fn parse(base_url: &str) -> Result<Self, String> {
        if base_url.len() > LONGEST_URL {
            return Err(format!("is longer than {LONGEST_URL} bytes: shorten the URL"));
        }
        if base_url.contains('#') {
            return Err("has a fragment (`#…`), which is never sent: remove it".into());
        }
        let uri: Uri = base_url.parse().map_err(|_| {
            "is not a URL: write it like `https://api.example.com/v1`, without spaces".to_owned()
        })?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err("has an unknown scheme: write `https://` or `http://`".into()),
            None => return Err("has no scheme: put `https://` or `http://` before the host".into()),
        };
        let authority = uri.authority().ok_or("has no host: write `https://host/path`")?;
        if authority.as_str().contains('@') {
            return Err("holds a user name or password: remove it and use `api_key`".into());
        }
        let host = parse_host(authority.host())?;
        let port = match (authority.port_u16(), https) {
            (Some(0), _) => return Err("has port 0: name the port that the server uses".into()),
            (Some(port), _) => port,
            (None, _) if authority.as_str().len() != authority.host().len() => {
                return Err("has a port outside 1 to 65535: correct it".into());
            }
            (None, true) => 443,
            (None, false) => 80,
        };
        let default_port = port == if https { 443 } else { 80 };
        let peer = format!("{}:{port}", authority.host());
        let authority = if default_port { authority.host() } else { &peer };
        let authority = HeaderValue::from_str(authority)
            .map_err(|_| "has characters in its host that cannot be sent".to_owned())?;
        let path = uri.path().trim_end_matches('/').to_owned();
        let query = uri.query().unwrap_or_default().to_owned();
        Ok(Self { https, host, port, authority, peer, path, query, headers: Vec::new() })
    }

    /// Adds a query parameter to every request, `api-version=2024-10-21`; both parts get escaped.
    #[must_use]
    pub fn with_query(mut self, name: &str, value: &str) -> Self {
        if !self.query.is_empty() {
            self.query.push('&');
        }
        push_escaped(&mut self.query, name);
        self.query.push('=');
        push_escaped(&mut self.query, value);
        self
    }

    /// Adds a header to every request; it wins over the wire format's own.
    ///
    /// # Errors
    /// The name or the value cannot be sent, or the header is the transport's own.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, String> {
        let name = header_name(name)?;
        let value = HeaderValue::from_str(value).map_err(|_| {
            format!("the value of header `{name}` has a line break or another control character")
        })?;
        self.headers.push((name, value));
        Ok(self)
    }

    /// Sends `authorization: Bearer KEY` with every request.
    ///
    /// # Errors
    /// The key holds a character that cannot be sent.
    pub fn with_bearer(mut self, key: &str) -> Result<Self, String> {
        self.headers.push((AUTHORIZATION, secret_value(&format!("Bearer {key}"))?));
        Ok(self)
    }

    /// Sends the key in a header of its own with every request: `x-api-key`, `api-key`.
    ///
    /// # Errors
    /// The name is no header name, or the key holds a character that cannot be sent.
    pub fn with_key_header(mut self, name: &str, key: &str) -> Result<Self, String> {
        let name = header_name(name)?;
        self.headers.push((name, secret_value(key)?));
        Ok(self)
    }

    /// `host:port`, as messages name it.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }

    pub(super) fn is_https(&self) -> bool {
        self.https
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Writes the request in the shape that `version` wants: HTTP/1.1 names the host in a header,
    /// HTTP/2 in the target.
    pub(super) fn request(
        &self,
        wire: &WireRequest,
        version: Version,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let http2 = version == Version::HTTP_2;
        let mut target = String::with_capacity(128);
        if http2 {
            target.push_str(if self.https { "https://" } else { "http://" });
            target.push_str(self.authority.to_str().unwrap_or_default());
        }
        target.push_str(&self.path);
        target.push_str(wire.path);
        if !self.query.is_empty() {
            target.push('?');
            target.push_str(&self.query);
        }
        let target = Uri::try_from(target).map_err(|_| {
            let message = format!("the path of the request to {} cannot be sent", self.peer);
            Failure::new(FailureClass::BadRequest, message)
        })?;
        let mut request = Request::new(Full::new(wire.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target;
        *request.version_mut() = version;
        let headers = request.headers_mut();
        headers.reserve(6 + wire.headers.len() + self.headers.len());
        if !http2 {
            headers.insert(HOST, self.authority.clone());
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("backstay/", env!("CARGO_PKG_VERSION"))),
        );
        for (name, value) in wire.headers.iter().chain(&self.headers) {
            headers.insert(name.clone(), value.clone());
        }
        Ok(request)
    }
}

/// Names what is sent, never a value: query and headers may hold keys.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("https", &self.https)
            .field("peer", &self.peer)
            .field("path", &self.path)
            .field("headers", &self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

fn parse_host(host: &str) -> Result<Host, String> {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address = address.parse().map_err(|_| "has a malformed IPv6 address".to_owned())?;
        return Ok(Host::Address(IpAddr::V6(address)));
    }
    if host.is_empty() {
        return Err("has no host: write `https://host/path`".into());
    }
    Ok(host.parse().map_or_else(|_| Host::Name(host.to_ascii_lowercase()), Host::Address))
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    let parsed: HeaderName = name.parse().map_err(|_| {
        format!("`{name}` is not a header name: use letters, digits and dashes, no spaces")
    })?;
    if RESERVED.contains(&parsed) {
        return Err(format!("header `{parsed}` is set by the transport: remove it"));
    }
    Ok(parsed)
}

fn secret_value(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        "the key holds a character that cannot be sent in a header: is there a line break at its \
         end?"
            .to_owned()
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// RFC 3986, section 2.3: everything but the unreserved characters is escaped.
fn push_escaped(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(out, "%{byte:02X}").unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> WireRequest {
        let accept = (ACCEPT, HeaderValue::from_static("text/event-stream"));
        WireRequest {
            path: "/chat/completions",
            headers: vec![accept, (HeaderName::from_static("x-wire"), HeaderValue::from(1))],
            body: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn a_request_has_the_base_path_the_query_and_all_headers() {
        let endpoint = Endpoint::parse("https://Example.com:8443/v1/?a=b")
            .unwrap()
            .with_query("api version", "1&2")
            .with_header("x-wire", "user's")
            .unwrap()
            .with_bearer("sk-1")
            .unwrap();
        let request = endpoint.request(&wire(), Version::HTTP_11).unwrap();
        assert_eq!(request.uri(), "/v1/chat/completions?a=b&api%20version=1%262");
        assert_eq!(request.headers()[HOST], "Example.com:8443");
        assert_eq!(request.headers()[ACCEPT], "text/event-stream");
        assert_eq!(request.headers()["x-wire"], "user's");
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer sk-1");
        assert!(request.headers()[AUTHORIZATION].is_sensitive());
        let request = endpoint.request(&wire(), Version::HTTP_2).unwrap();
        assert!(!request.headers().contains_key(HOST));
        let target = "https://Example.com:8443/v1/chat/completions?a=b&api%20version=1%262";
        assert_eq!(request.uri(), target);
    }

    #[test]
    fn hosts_and_ports_are_told_apart() {
        let table = [
            ("https://a.example", ("a.example:443", Host::Name("a.example".into()))),
            ("http://LOCALHOST/v1", ("LOCALHOST:80", Host::Name("localhost".into()))),
            ("http://127.0.0.1:81", ("127.0.0.1:81", Host::Address([127, 0, 0, 1].into()))),
            ("http://[::1]:8000/", ("[::1]:8000", Host::Address("::1".parse().unwrap()))),
        ];
        for (url, (peer, host)) in table {
            let endpoint = Endpoint::parse(url).unwrap();
            assert_eq!((endpoint.peer(), endpoint.host()), (peer, &host), "{url}");
        }
    }

    #[test]
    fn mistakes_are_explained_without_repeating_the_url() {
        let table = [
            ("api.openai.com/v1", "is not a URL"),
            ("/v1", "no scheme"),
            ("ftp://hunter2.example", "unknown scheme"),
            ("https://user:hunter2@a.example", "use `api_key`"),
            ("https://a.example/#hunter2", "fragment"),
            ("https://a.example:0", "port 0"),
            ("https://a.example:99999", "port outside"),
            ("https:// a", "is not a URL"),
        ];
        for (url, expected) in table {
            let error = Endpoint::parse(url).unwrap_err();
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{url}: {error}");
        }
        let endpoint = Endpoint::parse("http://a.example").unwrap();
        assert!(endpoint.clone().with_header("Host", "b").unwrap_err().contains("remove it"));
        assert!(endpoint.clone().with_header("a b", "c").unwrap_err().contains("not a header"));
        let error = endpoint.with_bearer("hunter2\n").unwrap_err();
        assert!(error.contains("line break") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn debug_shows_no_credentials() {
        let endpoint = Endpoint::parse("https://a.example/v1?key=hunter2")
            .unwrap()
            .with_query("key", "hunter2")
            .with_header("x-tenant", "hunter2")
            .unwrap()
            .with_key_header("api-key", "hunter2")
            .unwrap()
            .with_bearer("hunter2")
            .unwrap();
        let shown = format!("{endpoint:?} {endpoint:#?}");
        assert!(shown.contains("api-key") && !shown.contains("hunter2"), "{shown}");
    }
}
