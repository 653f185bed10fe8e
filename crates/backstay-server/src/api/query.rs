//! Reads the parameters of a request; every complaint names the parameter and what it may be.

use axum::extract::Query;
use backstay_core::release::is_call_name;
use http::Uri;
use serde::de::DeserializeOwned;

use crate::desk::ApiError;

/// The longest query that is read.
const LONGEST: usize = 8 << 10;

/// The parameters of `uri`.
///
/// # Errors
/// The first one that is unknown, twice there, or not what it has to be.
pub(crate) fn read<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    if uri.query().is_some_and(|query| query.len() > LONGEST) {
        return Err(ApiError::bad("query", format!("the query has more than {LONGEST} bytes")));
    }
    match Query::try_from_uri(uri) {
        Ok(Query(read)) => Ok(read),
        Err(error) => Err(complaint(&error.body_text())),
    }
}

/// The field that a deserialiser names in its sentence.
pub(super) fn named_field(why: &str) -> Option<String> {
    let name = why.split('`').nth(1)?;
    Some(name.chars().take(40).collect())
}

/// The deserialiser's sentence, `Failed to …: PARAM: WHY`, as an error.
fn complaint(text: &str) -> ApiError {
    let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(text);
    let (param, why) = match text.split_once(": ") {
        Some((param, why)) => (param.to_owned(), why),
        None => (named_field(text).unwrap_or_else(|| "query".to_owned()), text),
    };
    let why = match why {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "must be a whole number".to_owned()
        }
        "number too large to fit in target type" => "is too large".to_owned(),
        "provided string was not `true` or `false`" => "must be `true` or `false`".to_owned(),
        other => format!("is not accepted: {other}"),
    };
    let param: String = param.chars().take(40).collect();
    ApiError::bad(&param, format!("`{param}` {why}"))
}

/// A bound on how much is asked for: `given`, or `usual` if nothing is said.
pub(super) fn limit(given: Option<usize>, usual: usize, most: usize) -> Result<usize, ApiError> {
    match given {
        None => Ok(usual),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit),
        Some(_) => Err(ApiError::bad("limit", format!("`limit` must be 1 to {most}"))),
    }
}

/// A call's name, as the project's files would have it.
pub(super) fn call_name(name: &str) -> Result<(), ApiError> {
    if is_call_name(name) {
        return Ok(());
    }
    Err(ApiError::bad("call", "a call's name is made of a-z, 0-9 and `-`, 63 characters at most"))
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Asked {
        since_ms: Option<u64>,
        failed: Option<bool>,
    }

    async fn told(query: &str) -> (String, String) {
        let uri = format!("/api/v1/log?{query}").parse().unwrap();
        let error = read::<Asked>(&uri).unwrap_err().into_response();
        let body = axum::body::to_bytes(error.into_body(), 10_000).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let text = |field: &str| body["error"][field].as_str().unwrap().to_owned();
        (text("param"), text("message"))
    }

    #[tokio::test]
    async fn every_complaint_names_the_parameter_and_what_it_may_be() {
        for (query, param, remedy) in [
            ("since_ms=yesterday", "since_ms", "whole number"),
            ("since_ms=", "since_ms", "whole number"),
            ("since_ms=-1", "since_ms", "whole number"),
            ("since_ms=99999999999999999999999", "since_ms", "too large"),
            ("failed=maybe", "failed", "`true` or `false`"),
            ("sinse_ms=1", "sinse_ms", "since_ms"),
            ("since_ms=1&since_ms=2", "since_ms", "duplicate"),
        ] {
            let (named, message) = told(query).await;
            assert_eq!(named, param, "{message}");
            assert!(message.contains(remedy), "{message}");
        }
        let (_, message) = told(&format!("{}=1", "x".repeat(5000))).await;
        assert!(message.len() < 6000);
        assert_eq!(told(&"x".repeat(LONGEST + 1)).await.0, "query");
        let uri = "/api/v1/log?since_ms=17&failed=true".parse().unwrap();
        let asked: Asked = read(&uri).unwrap();
        assert_eq!((asked.since_ms, asked.failed), (Some(17), Some(true)));
    }
}
