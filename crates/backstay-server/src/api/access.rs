//! Who may ask: a key in a header, the cookie of a session, or, without keys, this machine alone.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{CACHE_CONTROL, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS},
};

use super::session;
use crate::{
    auth::{self, Keys, Visitor},
    desk::{ApiError, sessions::Ticket},
    state::Server,
};

const CSRF: HeaderName = HeaderName::from_static("x-backstay-csrf");

/// Lets a request on its way with the [`Visitor`] beside it, or refuses it.
pub(super) async fn guard(
    State(server): State<Arc<Server>>,
    mut request: Request,
    next: Next,
) -> Response {
    match visitor(&server, request.method(), request.headers()) {
        Ok(visitor) => {
            if let Some(token) = session_of(&server.keys(), request.headers()) {
                let ticket = Ticket::of(token);
                request.extensions_mut().insert(ticket);
            }
            request.extensions_mut().insert(visitor);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// What every answer of the API says to browsers: keep nothing, guess nothing.
pub(super) async fn for_browsers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Who sends this request.
pub(super) fn visitor(
    server: &Server,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Visitor, ApiError> {
    let keys = server.keys();
    let Some(token) = session_of(&keys, headers) else {
        return Ok(keys.visitor(headers)?);
    };
    let visitor = server.desk().sessions().visitor(token, server.now_ms(), &keys);
    let visitor = visitor.ok_or_else(|| {
        ApiError::unauthenticated("the session is over; sign in again with an API key")
    })?;
    if changes(method) && !headers.contains_key(CSRF) && !is_same_origin(headers) {
        return Err(ApiError::forbidden(
            "x-backstay-csrf",
            "a request that changes something and comes with a cookie needs the header \
             `x-backstay-csrf: 1`",
        ));
    }
    Ok(visitor)
}

/// The cookie that a request is let in by, where it is not by a key.
fn session_of<'a>(keys: &Keys, headers: &'a HeaderMap) -> Option<&'a str> {
    session::token(headers).filter(|_| keys.required() && auth::shown(headers).is_none())
}

fn changes(method: &Method) -> bool {
    !(method == Method::GET || method == Method::HEAD)
}

/// Whether a browser says that the request comes from a page of this very server.
pub(super) fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text(ORIGIN).and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, host)| Some(host) == text(HOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_very_server_is_the_same_origin() {
        let same = |origin: Option<&str>| {
            let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("b:4700"))]);
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            is_same_origin(&headers)
        };
        assert!(same(Some("http://b:4700")) && same(Some("https://b:4700")));
        for other in [Some("http://b"), Some("http://b:4701"), Some("null"), Some(""), None] {
            assert!(!same(other), "{other:?}");
        }
    }
}
