//! What is typed of privacy: `[capture]` of a call and `[privacy]` of a project. As in [`super::file`], the
//! comments here are read by users, and no rule is checked.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{file::words, units::SecretRef};
use crate::privacy::{Capture, Lists, Units};

/// How people are named in the call log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrivacyFile {
    /// The key of pseudonyms, as a reference: `env:NAME` or `file:/path`; 16 bytes or more. Several
    /// gateways with one key make the same pseudonyms. Left out, one is made in the store directory.
    pub key: Option<SecretRef>,
    /// How the unit of a call is kept: `redacted` (as it is, unless it looks like a person's data or a
    /// secret; then as a pseudonym) or `pseudonym` (always as a pseudonym).
    #[schemars(schema_with = "unit_forms")]
    pub units: Units,
}

/// How much is kept in the call log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureFile {
    /// How much of requests and answers is kept: `none`, `redacted` (without what looks like a
    /// secret or a person's data) or `full` (only known secrets are removed).
    #[schemars(schema_with = "captures")]
    pub bodies: Capture,
    /// What is never kept, as JSON paths: `$.inputs.patient.name`, `$.messages[*].content`,
    /// `$.answer.notes`, `$.unit`, `$..ssn`. Also with `bodies = "full"`.
    #[schemars(schema_with = "paths")]
    pub deny: Vec<String>,
    /// What is no person's data, whatever it looks like, as JSON paths. Secrets are removed all the
    /// same.
    #[schemars(schema_with = "paths")]
    pub allow: Vec<String>,
    /// What is kept as a pseudonym, as JSON paths: the same value always gets the same one.
    #[schemars(schema_with = "paths")]
    pub pseudonymize: Vec<String>,
}

impl CaptureFile {
    /// Its lists.
    #[must_use]
    pub fn lists(&self) -> Lists {
        Lists {
            deny: self.deny.clone(),
            allow: self.allow.clone(),
            pseudonymize: self.pseudonymize.clone(),
        }
    }
}

fn captures(_: &mut SchemaGenerator) -> Schema {
    words(&["none", "redacted", "full"])
}

fn unit_forms(_: &mut SchemaGenerator) -> Schema {
    words(&["redacted", "pseudonym"])
}

fn paths(_: &mut SchemaGenerator) -> Schema {
    let path = json_schema!({ "title": "JSON path", "type": "string" });
    json_schema!({ "type": "array", "items": path, "maxItems": 100, "uniqueItems": true })
}
