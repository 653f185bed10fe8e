//! What the exporter runs on: the table `[otlp]`, and what the standard's environment variables say
//! where the table says nothing. The environment alone switches nothing on.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use backstay_core::config::{OtlpConfig, OtlpProtocol, SecretRef, Semconv, Setting};
use backstay_providers::transport::Endpoint;

/// How often metrics are sent unless the environment says otherwise.
const METRIC_INTERVAL: Duration = Duration::from_secs(60);

/// The variables of OpenTelemetry that are read, once, at start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    pub(crate) endpoint: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) headers: Option<String>,
    pub(crate) service_name: Option<String>,
    pub(crate) resource: Option<String>,
    pub(crate) opt_in: Option<String>,
    pub(crate) metric_interval: Option<String>,
}

impl Environment {
    /// Reads them. An empty one counts as not set, as the standard has it.
    pub(crate) fn read() -> Self {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self {
            endpoint: get("OTEL_EXPORTER_OTLP_ENDPOINT"),
            protocol: get("OTEL_EXPORTER_OTLP_PROTOCOL"),
            headers: get("OTEL_EXPORTER_OTLP_HEADERS"),
            service_name: get("OTEL_SERVICE_NAME"),
            resource: get("OTEL_RESOURCE_ATTRIBUTES"),
            opt_in: get("OTEL_SEMCONV_STABILITY_OPT_IN"),
            metric_interval: get("OTEL_METRIC_EXPORT_INTERVAL"),
        }
    }
}

/// Which signals are sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signals {
    pub(super) traces: bool,
    pub(super) metrics: bool,
    pub(super) events: bool,
}

/// What the exporter runs on.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) endpoint: Endpoint,
    pub(super) protocol: OtlpProtocol,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) signals: Signals,
    pub(super) sample: f64,
    pub(super) content: bool,
    pub(super) version: Semconv,
    /// Attributes of the resource, by name.
    pub(super) resource: BTreeMap<String, String>,
    pub(super) metric_interval: Duration,
}

impl Settings {
    /// Puts them together; the second value says what is missing and does not stop the others.
    ///
    /// # Errors
    /// What is wrong, where, and how to mend it.
    pub(super) fn of(
        config: &OtlpConfig,
        environment: &Environment,
        resolve: &dyn Fn(&SecretRef) -> Result<String, String>,
    ) -> Result<(Self, Vec<String>), String> {
        let (url, source) = match (&config.endpoint, &environment.endpoint) {
            (Some(url), _) => (url.as_str(), "otlp.endpoint in backstay.toml"),
            (None, Some(url)) => (url.as_str(), "OTEL_EXPORTER_OTLP_ENDPOINT"),
            (None, None) => {
                return Err("the table [otlp] in backstay.toml names no `endpoint`, and \
                            OTEL_EXPORTER_OTLP_ENDPOINT is not set: add endpoint = \
                            \"http://127.0.0.1:4318\""
                    .to_owned());
            }
        };
        let mut endpoint =
            Endpoint::parse(url.trim()).map_err(|fault| format!("{source} {fault}"))?;
        let mut missing = Vec::new();
        for (name, value) in headers(config, environment, resolve, &mut missing) {
            endpoint = endpoint
                .with_header(&name, &value)
                .map_err(|fault| format!("a header of OTLP: {fault}"))?;
        }
        let settings = Self {
            endpoint,
            protocol: protocol(config, environment)?,
            ca_file: config.ca_file.clone(),
            signals: Signals {
                traces: config.traces,
                metrics: config.metrics,
                events: config.events,
            },
            sample: config.sample,
            content: config.content,
            version: config.semconv.unwrap_or_else(|| opted_in(environment.opt_in.as_deref())),
            resource: resource(environment),
            metric_interval: metric_interval(environment),
        };
        Ok((settings, missing))
    }
}

fn protocol(config: &OtlpConfig, environment: &Environment) -> Result<OtlpProtocol, String> {
    if let Some(protocol) = config.protocol {
        return Ok(protocol);
    }
    match environment.protocol.as_deref().map(str::trim) {
        None | Some("http/protobuf") => Ok(OtlpProtocol::Http),
        Some("grpc") => Ok(OtlpProtocol::Grpc),
        Some(_) => Err("OTEL_EXPORTER_OTLP_PROTOCOL names a protocol that Backstay does not \
                        speak: set it to http/protobuf or grpc"
            .to_owned()),
    }
}

/// The version that the standard's variable asks for.
fn opted_in(list: Option<&str>) -> Semconv {
    let experimental =
        |list: &str| list.split(',').any(|word| word.trim() == "gen_ai_latest_experimental");
    if list.is_some_and(experimental) { Semconv::Experimental } else { Semconv::V1_41 }
}

/// Those of the environment, and over them those of the project.
fn headers(
    config: &OtlpConfig,
    environment: &Environment,
    resolve: &dyn Fn(&SecretRef) -> Result<String, String>,
    missing: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<_, _> = pairs(environment.headers.as_deref().unwrap_or_default())
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    for (name, setting) in &config.headers {
        let value = match setting {
            Setting::Plain(text) => Ok(text.clone()),
            Setting::Secret(secret) => resolve(secret)
                .map_err(|why| format!("otlp: the secret `{secret}` is not there: {why}")),
        };
        match value {
            Ok(value) => drop(headers.insert(name.to_ascii_lowercase(), value)),
            Err(why) => missing.push(why),
        }
    }
    headers
}

fn resource(environment: &Environment) -> BTreeMap<String, String> {
    let mut resource = BTreeMap::from([
        ("service.name".to_owned(), "backstay".to_owned()),
        ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    resource.extend(pairs(environment.resource.as_deref().unwrap_or_default()));
    if let Some(name) = &environment.service_name {
        resource.insert("service.name".to_owned(), name.clone());
    }
    resource
}

fn metric_interval(environment: &Environment) -> Duration {
    let millis = environment.metric_interval.as_deref().and_then(|text| text.trim().parse().ok());
    millis.filter(|millis| *millis > 0).map_or(METRIC_INTERVAL, Duration::from_millis)
}

/// `name=value,name=value`, values percent-encoded as in W3C baggage. What is not so is left out.
fn pairs(list: &str) -> impl Iterator<Item = (String, String)> {
    list.split(',').take(128).filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let name = name.trim();
        (!name.is_empty()).then(|| (name.to_owned(), decoded(value.trim())))
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let coded = tail.get(..2).filter(|_| *first == b'%');
        let byte = coded
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> OtlpConfig {
        OtlpConfig {
            endpoint: None,
            protocol: None,
            headers: BTreeMap::new(),
            ca_file: None,
            traces: true,
            metrics: true,
            events: true,
            sample: 1.0,
            content: false,
            semconv: None,
        }
    }

    fn environment() -> Environment {
        Environment {
            endpoint: Some("http://env.example:4318".to_owned()),
            protocol: Some("grpc".to_owned()),
            headers: Some("X-Tenant=a%20b, authorization=Bearer%20env,broken,=x".to_owned()),
            service_name: Some("gateway-7".to_owned()),
            resource: Some("deployment.environment.name=prod,service.name=other".to_owned()),
            opt_in: Some("http, gen_ai_latest_experimental".to_owned()),
            metric_interval: Some("1500".to_owned()),
        }
    }

    fn secret(_: &SecretRef) -> Result<String, String> {
        Ok("from-the-project".to_owned())
    }

    #[test]
    fn the_environment_fills_in_what_the_table_leaves_out() {
        let (settings, missing) = Settings::of(&config(), &environment(), &secret).unwrap();
        assert_eq!(settings.endpoint.peer(), "env.example:4318");
        assert_eq!(settings.protocol, OtlpProtocol::Grpc);
        assert_eq!(settings.version, Semconv::Experimental);
        assert_eq!(settings.metric_interval, Duration::from_millis(1500));
        assert_eq!(settings.resource["service.name"], "gateway-7");
        assert_eq!(settings.resource["deployment.environment.name"], "prod");
        assert!(missing.is_empty());
    }

    #[test]
    fn the_table_wins_over_the_environment() {
        let config = OtlpConfig {
            endpoint: Some("https://project.example".to_owned()),
            protocol: Some(OtlpProtocol::Http),
            semconv: Some(Semconv::V1_41),
            headers: BTreeMap::from([(
                "Authorization".to_owned(),
                Setting::Secret(SecretRef::Env("TOKEN".to_owned())),
            )]),
            ..config()
        };
        let (settings, _) = Settings::of(&config, &environment(), &secret).unwrap();
        assert_eq!(settings.endpoint.peer(), "project.example:443");
        assert_eq!((settings.protocol, settings.version), (OtlpProtocol::Http, Semconv::V1_41));
        let sent = headers(&config, &environment(), &secret, &mut Vec::new());
        let wanted = [("authorization", "from-the-project"), ("x-tenant", "a b")];
        assert_eq!(sent, wanted.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
        let gone = |_: &SecretRef| Err("the environment variable TOKEN is not set".to_owned());
        let (_, missing) = Settings::of(&config, &environment(), &gone).unwrap();
        assert!(missing[0].contains("`env:TOKEN` is not there"), "{missing:?}");
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_place() {
        let nowhere = Environment::default();
        let error = Settings::of(&config(), &nowhere, &secret).unwrap_err();
        assert!(error.contains("OTEL_EXPORTER_OTLP_ENDPOINT is not set"), "{error}");
        for (change, told) in [
            (
                Environment { endpoint: Some("ftp://x".into()), ..environment() },
                "OTLP_ENDPOINT has",
            ),
            (Environment { protocol: Some("http/json".into()), ..environment() }, "OTLP_PROTOCOL"),
            (Environment { headers: Some("a b=c".into()), ..environment() }, "a header of OTLP"),
        ] {
            let error = Settings::of(&config(), &change, &secret).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
