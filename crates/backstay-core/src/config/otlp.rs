//! The table `[otlp]`: what is typed, and what it becomes. Where telemetry is sent is said here; the
//! environment variables of OpenTelemetry fill in what the table leaves out, and are not read here.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    project::Setting,
    rules::{Rules, is_header_name, is_secret_header, url_fault},
    units::{SECRET_REMEDY, SecretRef, Share},
};

/// How telemetry is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OtlpProtocol {
    /// Protocol buffers over HTTP.
    #[serde(rename = "http/protobuf")]
    Http,
    /// gRPC.
    #[serde(rename = "grpc")]
    Grpc,
}

/// The version of OpenTelemetry's names for generative AI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Semconv {
    /// The last released ones.
    #[serde(rename = "1.41.1")]
    V1_41,
    /// Those that are being developed.
    #[serde(rename = "gen_ai_latest_experimental")]
    Experimental,
}

/// OpenTelemetry: calls as traces, metrics and events, sent by OTLP. Without this table nothing is
/// sent, whatever the environment says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key that users type")]
pub struct OtlpFile {
    /// Where it is sent: the receiver's address without `/v1/traces`. Left out, it is that of
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: Option<String>,
    /// `http/protobuf` or `grpc`. Left out, it is that of `OTEL_EXPORTER_OTLP_PROTOCOL`, else
    /// `http/protobuf`.
    #[schemars(schema_with = "protocols")]
    pub protocol: Option<OtlpProtocol>,
    /// Headers of every request. A value may be a secret reference. Those of
    /// `OTEL_EXPORTER_OTLP_HEADERS` are sent too, unless they are here.
    pub headers: BTreeMap<String, String>,
    /// A PEM file of certificate authorities to trust besides the public ones, relative to the
    /// project.
    pub ca_file: Option<String>,
    /// Send a span of each call, with one below it for each attempt.
    pub traces: bool,
    /// Send metrics, once a minute.
    pub metrics: bool,
    /// Send what was found of an answer, and what its consumer says of it, as events.
    pub events: bool,
    /// Share of the traces that begin here which are sent. Of calls in a client's trace, those are
    /// sent that the client records.
    pub sample: Share,
    /// Send requests and answers too, redacted as they are in the call log.
    pub content: bool,
    /// Whose names are used: `1.41.1` or `gen_ai_latest_experimental`. Left out,
    /// `OTEL_SEMCONV_STABILITY_OPT_IN` decides, else it is `1.41.1`.
    #[schemars(schema_with = "versions")]
    pub semconv: Option<Semconv>,
}

impl Default for OtlpFile {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: None,
            headers: BTreeMap::new(),
            ca_file: None,
            traces: true,
            metrics: true,
            events: true,
            sample: Share(1.0),
            content: false,
            semconv: None,
        }
    }
}

/// Where telemetry is sent, and what of it.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key that users type")]
pub struct OtlpConfig {
    /// The receiver's address, without a slash at its end.
    pub endpoint: Option<String>,
    /// How it is sent.
    pub protocol: Option<OtlpProtocol>,
    /// Headers of every request.
    pub headers: BTreeMap<String, Setting>,
    /// Certificate authorities to trust, absolute or relative to the project.
    pub ca_file: Option<PathBuf>,
    /// Whether spans are sent.
    pub traces: bool,
    /// Whether metrics are sent.
    pub metrics: bool,
    /// Whether events are sent.
    pub events: bool,
    /// Share of the traces that begin here which are sent.
    pub sample: f64,
    /// Whether texts are sent.
    pub content: bool,
    /// Whose names are used.
    pub semconv: Option<Semconv>,
}

impl OtlpConfig {
    /// The secrets that it names, with the path of their keys below `[otlp]`.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (&str, &SecretRef)> {
        self.headers.iter().filter_map(|(name, setting)| match setting {
            Setting::Plain(_) => None,
            Setting::Secret(secret) => Some((name.as_str(), secret)),
        })
    }
}

/// Checks the rules of the table.
pub(super) fn check(file: OtlpFile, rules: &mut Rules<'_>) -> OtlpConfig {
    if let Some(fault) = file.endpoint.as_deref().and_then(url_fault) {
        let remedy = "write an address such as \"http://127.0.0.1:4318\"; credentials belong into \
                      `headers`";
        rules.say(&["otlp", "endpoint"], fault, remedy);
    }
    for (name, text) in &file.headers {
        let at = ["otlp", "headers", name];
        if !is_header_name(name) {
            rules.say(&at, "this is not the name of a header", "use letters, digits and -");
        }
        if text.chars().any(char::is_control) {
            rules.say(&at, "this value has a line break or control character", "take it out");
        }
        if is_secret_header(name) && SecretRef::parse(text).is_err() {
            rules.say(&at, "a secret stands here in plain text", SECRET_REMEDY);
        }
    }
    OtlpConfig {
        endpoint: file.endpoint.map(|url| url.trim_end_matches('/').to_owned()),
        protocol: file.protocol,
        headers: file.headers.into_iter().map(|(name, t)| (name, Setting::read(&t))).collect(),
        ca_file: file.ca_file.map(Into::into),
        traces: file.traces,
        metrics: file.metrics,
        events: file.events,
        sample: file.sample.0,
        content: file.content,
        semconv: file.semconv,
    }
}

fn protocols(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["http/protobuf", "grpc"] })
}

fn versions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["1.41.1", "gen_ai_latest_experimental"] })
}
