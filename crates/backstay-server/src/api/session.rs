//! Sign-in of the dashboard.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{COOKIE, ORIGIN, SET_COOKIE},
};

use super::{
    access, body,
    types::{Session, SignIn},
};
use crate::{
    desk::{
        ApiError, ErrorBody,
        sessions::{LASTS_MS, TOKEN_BYTES},
    },
    state::{Peer, Server},
};

const NAME: &str = "backstay_session";

/// The cookie of a request.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .find_map(|cookie| cookie.trim().strip_prefix(NAME)?.strip_prefix('='))
        .filter(|token| token.len() == 2 * TOKEN_BYTES)
}

/// Whether a key is needed, and whether this request came with one.
#[utoipa::path(
    get, path = "/api/v1/session", operation_id = "session", tag = "session", security(()),
    responses((status = 200, description = "The session", body = Session))
)]
pub(super) async fn session(State(server): State<Arc<Server>>, request: Request) -> Json<Session> {
    let signed_in = access::visitor(&server, request.method(), request.headers()).is_ok();
    let version = signed_in.then(|| env!("CARGO_PKG_VERSION").to_owned());
    Json(Session { required: server.keys().required(), signed_in, version })
}

/// Makes a session for a key; it comes as the cookie `backstay_session` and lasts twelve hours.
#[utoipa::path(
    post, path = "/api/v1/session", operation_id = "sign_in", tag = "session", security(()),
    request_body = SignIn,
    responses(
        (status = 204, description = "Signed in; the cookie is set"),
        (status = 401, description = "The key is not valid", body = ErrorBody),
        (status = 429, description = "Too many failed attempts", body = ErrorBody),
        (status = "4XX", description = "Refused", body = ErrorBody)
    )
)]
pub(super) async fn sign_in(
    State(server): State<Arc<Server>>,
    request: Request,
) -> Result<Response, ApiError> {
    let keys = server.keys();
    if !keys.required() {
        keys.admit(request.headers())?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    if request.headers().contains_key(ORIGIN) && !access::is_same_origin(request.headers()) {
        return Err(ApiError::forbidden("origin", "sign in on a page of this server"));
    }
    let peer = request.extensions().get::<Peer>().map(|Peer(address)| *address);
    let peer = peer.ok_or_else(ApiError::defect)?;
    let is_https = is_https(request.headers());
    let now_ms = server.now_ms();
    let sessions = server.desk().sessions();
    let SignIn { key } = body::read(request).await?;
    let Some(visitor) = keys.owner(key.trim()) else {
        // Only wrong keys are slowed down: behind one proxy a guesser must not lock all others out.
        sessions.may_try(peer, now_ms).map_err(|seconds| {
            let why = format!("too many keys were wrong; try again in {seconds} s");
            ApiError::too_many(why, seconds)
        })?;
        sessions.failed(peer, now_ms);
        return Err(ApiError::unauthenticated(
            "the key is not valid, or was revoked; `backstay keys create` makes one",
        ));
    };
    let mut random = [0; TOKEN_BYTES];
    if let Err(error) = getrandom::fill(&mut random) {
        tracing::error!(%error, "the system gives no random numbers");
        return Err(ApiError::busy("the system gives no random numbers", 5));
    }
    let token = sessions.begin(visitor, random, now_ms);
    Ok(with_cookie(&token, LASTS_MS / 1000, is_https))
}

/// Ends the session of this request's cookie.
#[utoipa::path(
    delete, path = "/api/v1/session", operation_id = "sign_out", tag = "session", security(()),
    responses(
        (status = 204, description = "Signed out"),
        (status = "4XX", description = "Refused", body = ErrorBody)
    )
)]
pub(super) async fn sign_out(
    State(server): State<Arc<Server>>,
    request: Request,
) -> Result<Response, ApiError> {
    access::visitor(&server, request.method(), request.headers())?;
    if let Some(token) = token(request.headers()) {
        server.desk().sessions().end(token);
    }
    Ok(with_cookie("", 0, is_https(request.headers())))
}

/// Whether the client speaks TLS to a proxy in front of this server. A client that lies about it only
/// gets a cookie that it does not send back.
fn is_https(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https")
}

fn with_cookie(token: &str, seconds: u64, is_https: bool) -> Response {
    let secure = if is_https { "; Secure" } else { "" };
    let cookie =
        format!("{NAME}={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}{secure}");
    let mut response = StatusCode::NO_CONTENT.into_response();
    match HeaderValue::try_from(cookie) {
        Ok(cookie) => {
            response.headers_mut().insert(SET_COOKIE, cookie);
            response
        }
        Err(_) => ApiError::defect().into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others_and_nothing_else_is_taken_for_it() {
        let good = "a".repeat(64);
        let of = |cookie: &str| {
            let headers = HeaderMap::from_iter([(COOKIE, cookie.parse().unwrap())]);
            token(&headers).map(str::to_owned)
        };
        assert_eq!(of(&format!("theme=dark; {NAME}={good}; x=1")), Some(good.clone()));
        for bad in [format!("{NAME}=short"), format!("x{NAME}={good}"), format!("{NAME}x={good}")] {
            assert_eq!(of(&bad), None, "{bad}");
        }
    }
}
