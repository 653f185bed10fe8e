//! The dashboard: the files that `ui/` was built into, inside the binary, and nothing of the calls.
//!
//! Whoever can connect may load the page, for it holds no data; all that it shows it asks `/api/v1` for.
//! Nothing is fetched from anywhere else, and the policy that is sent with every file sees to it.

use std::{borrow::Cow, io::Write, sync::Arc};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
        ETAG, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};
use rust_embed::RustEmbed;

use crate::{gateway, state::Server};

#[derive(RustEmbed)]
#[folder = "../../ui/dist"]
struct Built;

/// Where the page finds its way by itself.
const PAGES: [&str; 6] = ["/", "/calls/{*name}", "/log", "/log/{*id}", "/alerts", "/health"];

const POLICIES: [(HeaderName, &str); 6] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; font-src 'self'; base-uri 'none'; frame-ancestors 'none'; \
         form-action 'self'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The routes of the dashboard.
pub(crate) fn routes() -> Router<Arc<Server>> {
    let built = Built::iter().filter_map(|name| {
        let file = Built::get(&name)?;
        Some((name.into_owned(), File::new(&file.metadata.sha256_hash(), file.data)))
    });
    routes_of(built)
}

fn routes_of(files: impl Iterator<Item = (String, File)>) -> Router<Arc<Server>> {
    let mut router = Router::new();
    for (name, file) in files {
        if name == "index.html" {
            let file = Arc::new(file.named("index.html"));
            for page in PAGES {
                router = router.route(page, serving(&file));
            }
        } else {
            let file = Arc::new(file.named(&name));
            router = router.route(&format!("/{name}"), serving(&file));
        }
    }
    router.method_not_allowed_fallback(gateway::wrong_method)
}

fn serving(file: &Arc<File>) -> axum::routing::MethodRouter<Arc<Server>> {
    let file = Arc::clone(file);
    get(move |headers: HeaderMap| std::future::ready(file.answer(&headers)))
}

/// One file, ready to be sent.
#[derive(Debug)]
struct File {
    plain: Bytes,
    /// Absent where it would not be smaller.
    gzip: Option<Bytes>,
    etag: String,
    kind: &'static str,
    caching: &'static str,
}

impl File {
    fn new(sha256: &[u8; 32], content: Cow<'static, [u8]>) -> Self {
        let etag =
            sha256.iter().take(16).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let plain = match content {
            Cow::Borrowed(content) => Bytes::from_static(content),
            Cow::Owned(content) => Bytes::from(content),
        };
        let gzip = gzip(&plain).filter(|gzip| gzip.len() < plain.len());
        Self { plain, gzip, etag, kind: "application/octet-stream", caching: "no-cache" }
    }

    fn named(mut self, name: &str) -> Self {
        self.kind = kind(name);
        // The names of those hold a hash of their content.
        if name.starts_with("assets/") {
            self.caching = "public, max-age=31536000, immutable";
        }
        self
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let (body, etag, encoding) = match &self.gzip {
            Some(gzip) if takes_gzip(headers) => {
                (gzip, format!("\"{}-gzip\"", self.etag), Some(HeaderValue::from_static("gzip")))
            }
            Some(_) | None => (&self.plain, format!("\"{}\"", self.etag), None),
        };
        let is_known = headers.get_all(IF_NONE_MATCH).iter().any(|known| {
            known.to_str().is_ok_and(|known| known.split(',').any(|one| one.trim() == etag))
        });
        let mut response = if is_known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            Response::new(Body::from(body.clone()))
        };
        let told = response.headers_mut();
        told.extend(POLICIES.map(|(name, value)| (name, HeaderValue::from_static(value))));
        told.insert(CACHE_CONTROL, HeaderValue::from_static(self.caching));
        told.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if let Ok(etag) = HeaderValue::try_from(etag) {
            told.insert(ETAG, etag);
        }
        if !is_known {
            told.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
            encoding.map(|encoding| told.insert(CONTENT_ENCODING, encoding));
        }
        response
    }
}

fn gzip(content: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|codings| codings.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("txt") => "text/plain; charset=utf-8",
        Some(_) | None => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn file(name: &str, content: &'static [u8]) -> File {
        File::new(&[7; 32], Cow::Borrowed(content)).named(name)
    }

    #[test]
    fn the_page_is_asked_for_each_time_and_hashed_files_never_again() {
        let caching = |name| file(name, b"x").answer(&asked(&[])).headers()[CACHE_CONTROL].clone();
        assert_eq!(caching("index.html"), "no-cache");
        assert_eq!(caching("icon.svg"), "no-cache");
        assert_eq!(caching("assets/index-a1b2.js"), "public, max-age=31536000, immutable");
    }

    #[test]
    fn what_the_browser_has_is_not_sent_again() {
        let page = file("index.html", &[b'x'; 1000]);
        let gzip = [(ACCEPT_ENCODING, "br, gzip;q=0.8")];
        let first = page.answer(&asked(&gzip));
        assert_eq!(
            (first.status(), &first.headers()[CONTENT_ENCODING]),
            (StatusCode::OK, &"gzip".parse().unwrap())
        );
        let etag = first.headers()[ETAG].to_str().unwrap().to_owned();
        let known = [(IF_NONE_MATCH, etag.as_str()), gzip[0].clone()];
        assert_eq!(page.answer(&asked(&known)).status(), StatusCode::NOT_MODIFIED);
        let other = page.answer(&asked(&known[..1]));
        assert_eq!(other.status(), StatusCode::OK, "the plain file is another one");
        assert!(other.headers().get(CONTENT_ENCODING).is_none());
    }

    #[test]
    fn gzip_is_sent_only_to_those_who_take_it() {
        let takes = |accepts: &str| takes_gzip(&asked(&[(ACCEPT_ENCODING, accepts)]));
        assert!(takes("gzip") && takes("br, GZIP ;q=1.0"));
        assert!(!takes("gzip;q=0") && !takes("br") && !takes("x-gzip-ish") && !takes(""));
        let small = file("icon.svg", b"<svg/>").answer(&asked(&[(ACCEPT_ENCODING, "gzip")]));
        assert!(small.headers().get(CONTENT_ENCODING).is_none(), "gzip would be larger");
    }
}
