//! A call as it is run: the checked, self-contained content of one release.
//!
//! [`CallSpec`] holds everything that the answers of a call depend on, and its digest is the identity
//! of a release. It is plain data: the engine compiles it into a plan, the registry stores it as JSON
//! so that an older release can be run again.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub use crate::privacy::Capture;
use crate::privacy::{Lists, annotations};

/// `provider/model`: one place where a call can be answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetName {
    /// The name of a provider of the project.
    pub provider: String,
    /// The model, in the provider's own words; may contain slashes.
    pub model: String,
}

impl std::str::FromStr for TargetName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((provider, model)) if !provider.is_empty() && !model.is_empty() => {
                Ok(Self { provider: provider.to_owned(), model: model.to_owned() })
            }
            Some(_) | None => Err(format!("`{text}` is not of the form provider/model")),
        }
    }
}

impl TryFrom<String> for TargetName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TargetName> for String {
    fn from(name: TargetName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

/// Whether `name` is a call's name: `[a-z0-9][a-z0-9-]{0,62}`.
#[must_use]
pub fn is_call_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut bytes = name.bytes();
    name.len() <= 63 && bytes.next().is_some_and(plain) && bytes.all(|b| plain(b) || b == b'-')
}

/// What a call may spend on failing. All times count from the start of the call or of the phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Over everything: all attempts, pauses and repairs.
    pub deadline: Duration,
    /// TCP and TLS, per attempt.
    pub connect: Duration,
    /// From sending to the status line, per attempt. A provider that does not stream sends it when
    /// the whole answer is ready.
    pub headers: Duration,
    /// From the status line to the first content of a stream, per attempt.
    pub first_token: Duration,
    /// Between two events of a stream, or two pieces of a body.
    pub idle: Duration,
    /// Over all targets together; at least 1.
    pub attempts: u32,
    /// First and longest pause before the same target is asked again; drawn with full jitter.
    pub backoff: Backoff,
    /// How many times the validation error is shown to the model.
    pub repair: u32,
    /// Share of failed calls over 5 minutes past which someone is told, 0 to 1.
    pub max_error_rate: f64,
    /// US dollars that one call may cost.
    pub max_cost_usd: Option<f64>,
}

/// Full-jitter exponential backoff: a pause is drawn evenly from 0 to `min(max, base · 2ⁿ)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// The bound of the first pause.
    pub base: Duration,
    /// The bound of every pause.
    pub max: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            connect: Duration::from_secs(2),
            headers: Duration::from_secs(20),
            first_token: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            attempts: 3,
            backoff: Backoff { base: Duration::from_millis(250), max: Duration::from_secs(8) },
            repair: 1,
            max_error_rate: 0.02,
            max_cost_usd: None,
        }
    }
}

/// When a target is left alone by a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerPolicy {
    /// Share of failures within `window` that opens it, 0 to 1.
    pub failure_rate: f64,
    /// What the rate is taken over.
    pub window: Duration,
    /// How many attempts the window must hold before the rate counts.
    pub min_calls: u32,
    /// Failures in a row that open it, whatever the rate.
    pub consecutive: u32,
    /// How long it stays open the first time; doubled each time a probe fails, up to 5 minutes.
    pub open_for: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failure_rate: 0.5,
            window: Duration::from_secs(30),
            min_calls: 10,
            consecutive: 5,
            open_for: Duration::from_secs(15),
        }
    }
}

/// One step of the degradation ladder. After the last one the error itself is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DegradeStep {
    /// The last good answer to the same request.
    Stale,
    /// The deterministic answer in `static.json`.
    Static,
    /// A text that names the failure.
    Message,
    /// The error, at once.
    Error,
}

/// What is answered when the budget is spent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DegradePlan {
    /// The ladder, tried in this order.
    pub order: Vec<DegradeStep>,
    /// How old a stale answer may be.
    pub stale_for: Duration,
    /// Template of the message; knows `failure` and `call`.
    pub message: String,
    /// The answer in `static.json`; satisfies the output schema.
    pub static_answer: Option<Value>,
}

impl Default for DegradePlan {
    fn default() -> Self {
        Self {
            order: vec![DegradeStep::Stale, DegradeStep::Static],
            stale_for: Duration::from_secs(24 * 3600),
            message: "No answer could be given ({{ failure }}). Please try again in a minute."
                .to_owned(),
            static_answer: None,
        }
    }
}

/// Deterministic checks of the answer's text, beyond the schema.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// The longest answer, in characters.
    pub max_chars: Option<u64>,
    /// Regular expressions that must not match.
    pub forbid: Vec<String>,
}

/// Whether a stream is held back until it is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamMode {
    /// Buffered when there is a schema or a check, passed through otherwise.
    #[default]
    Auto,
    /// Always held back until valid.
    Buffered,
    /// Always passed through; a violation is only recorded.
    Through,
}

/// The prompt templates of a call, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Templates {
    /// `system.j2`.
    pub system: Option<String>,
    /// `user.j2`.
    pub user: Option<String>,
    /// Files that the templates include, by the name that they are included under.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub includes: BTreeMap<String, String>,
}

/// The content of one release. Everything is checked before one is built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallSpec {
    /// The call's name.
    pub call: String,
    /// Where it can be answered, tried in this order; never empty.
    pub route: Vec<TargetName>,
    /// Whether a refusal of one target is taken to the next.
    #[serde(default)]
    pub fallback_on_refusal: bool,
    /// Parameters under OpenAI's names, passed as typed.
    #[serde(default)]
    pub params: Map<String, Value>,
    /// Its prompt.
    #[serde(default)]
    pub templates: Templates,
    /// JSON Schema of the template's variables.
    #[serde(default)]
    pub input_schema: Option<Value>,
    /// JSON Schema of the answer.
    #[serde(default)]
    pub output_schema: Option<Value>,
    /// What it may spend on failing.
    pub budget: Budget,
    /// When a target is left alone.
    pub breaker: BreakerPolicy,
    /// What is answered when the budget is spent.
    pub degrade: DegradePlan,
    /// Checks beyond the schema.
    #[serde(default)]
    pub checks: Checks,
    /// Whether a stream is held back until it is valid.
    #[serde(default)]
    pub stream: StreamMode,
    /// How much of its texts is kept.
    #[serde(default)]
    pub capture: Capture,
    /// What is taken out of the texts that are kept, and what is left in, by its place. Not written
    /// where there are no lists, so that a release keeps the digest it had before there were any.
    #[serde(default, skip_serializing_if = "Lists::is_empty")]
    pub lists: Lists,
}

impl CallSpec {
    /// What a plain target (`openai/gpt-5-mini`) is run as in a project without defaults of its own: it
    /// sends what the client sent, and answers its errors as they are. See [`Self::towards`].
    #[must_use]
    pub fn direct() -> Self {
        Self {
            call: "default".to_owned(),
            route: Vec::new(),
            fallback_on_refusal: false,
            params: Map::new(),
            templates: Templates::default(),
            input_schema: None,
            output_schema: None,
            budget: Budget::default(),
            breaker: BreakerPolicy::default(),
            degrade: DegradePlan { order: vec![DegradeStep::Error], ..DegradePlan::default() },
            checks: Checks::default(),
            stream: StreamMode::default(),
            capture: Capture::default(),
            lists: Lists::default(),
        }
    }

    /// All that it says of privacy: its own lists, and the annotations of its schemas.
    #[must_use]
    pub fn privacy_lists(&self) -> Lists {
        let of = |schema: &Option<Value>, root| {
            schema.as_ref().map(|schema| annotations::lists(schema, root)).unwrap_or_default()
        };
        let (inputs, answer) =
            (of(&self.input_schema, "inputs"), of(&self.output_schema, "answer"));
        self.lists.clone().with(inputs).with(answer)
    }

    /// The same, kept from as much as `newer` keeps from: who asks for an old release must not make
    /// the log keep what the call has said since that it must not.
    #[must_use]
    pub fn as_private_as(mut self, newer: &Self) -> Self {
        self.capture = self.capture.min(newer.capture);
        self.lists = self.lists.at_least(newer.privacy_lists());
        self
    }

    /// The same, recorded under `call` and sent to `target`.
    #[must_use]
    pub fn towards(&self, call: &str, target: TargetName) -> Self {
        Self { call: call.to_owned(), route: vec![target], ..self.clone() }
    }

    /// The identity of this content: `sha256:` and 64 hex digits over its JSON.
    #[must_use]
    pub fn digest(&self) -> String {
        // A CallSpec is made of maps with string keys and numbers that JSON knows, so writing it to
        // memory cannot fail; the empty fallback keeps this total without a panic.
        let json = serde_json::to_vec(self).unwrap_or_default();
        format!("sha256:{:x}", Sha256::digest(&json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_names() {
        for good in ["a", "extract-invoice", "0-1", &"x".repeat(63)] {
            assert!(is_call_name(good), "{good}");
        }
        for bad in ["", "-a", "A", "a_b", "a/b", "a@1", &"x".repeat(64)] {
            assert!(!is_call_name(bad), "{bad}");
        }
    }

    #[test]
    fn the_digest_follows_the_content_and_survives_json() {
        let spec = CallSpec::direct().towards("a", "sim/ok".parse().unwrap());
        let read: CallSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(read, spec);
        assert_eq!(read.digest(), spec.digest());
        let mut other = spec.clone();
        other.budget.attempts = 2;
        assert_ne!(other.digest(), spec.digest());
        other = spec.clone();
        other.lists.deny.push("$.unit".to_owned());
        assert_ne!(other.digest(), spec.digest());
        assert!(!serde_json::to_string(&spec).unwrap().contains("lists"), "digests of old stay");
    }

    #[test]
    fn an_old_release_is_as_private_as_the_new_one() {
        let old = CallSpec::direct();
        let mut new = CallSpec { capture: Capture::None, ..CallSpec::direct() };
        new.lists.deny.push("$.inputs.name".to_owned());
        new.lists.allow.push("$.inputs.id".to_owned());
        let ssn = serde_json::json!({"properties": {"ssn": {"x-backstay-redact": true}}});
        new.output_schema = Some(ssn);
        let old = old.as_private_as(&new);
        assert_eq!(old.capture, Capture::None);
        assert_eq!(old.lists.deny, ["$.inputs.name", "$['answer']['ssn']"]);
        assert!(old.lists.allow.is_empty(), "what is kept is not loosened");
        let newer = CallSpec { capture: Capture::Full, ..CallSpec::direct() };
        assert_eq!(old.clone().as_private_as(&newer).capture, Capture::None);
    }
}
