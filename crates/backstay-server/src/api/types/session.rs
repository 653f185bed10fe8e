//! Sign-in, errors and events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whether a key is needed, and was shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Session {
    /// Whether this server needs a key.
    pub(crate) required: bool,
    /// Whether this request came with a valid one, or none is needed.
    pub(crate) signed_in: bool,
    /// Backstay's version; `null` until signed in.
    pub(crate) version: Option<String>,
}

/// A key for which a session is made.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    /// `bsk_…`.
    pub(crate) key: String,
}

/// The data of the event `tick`: the log has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Tick {
    /// When.
    pub(crate) at_ms: u64,
    /// How many calls and verdicts this server has seen since its start.
    pub(crate) seq: u64,
}
