//! What a project runs on: `backstay.toml` after its rules were checked, and the specs of its calls.
//!
//! Everything here holds: addresses parse, numbers are in range, each route names a provider. Secrets
//! are still references; whoever builds a plan resolves them.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    file::{KindName, ProjectFile, ProviderFile},
    mistake::{Mistake, nearest, one_of},
    notify::{self, ReceiverConfig},
    otlp::{self, OtlpConfig},
    place::Toml,
    prices::check_price,
    rules::{Rules, is_header_name, is_secret_header, names_private_host, url_fault},
    units::{SECRET_REMEDY, SecretRef},
};
use crate::{
    alert::policy::CallAlerts,
    price::quote::{PriceRule, ProviderPrices, Quote},
    privacy::Units,
    release::{CallSpec, TargetName},
};

/// A checked project.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// The HTTP server.
    pub server: ServerConfig,
    /// Where things are kept.
    pub store: StoreConfig,
    /// How long the call log is kept.
    pub log: LogConfig,
    /// Where telemetry is sent, if it is.
    pub otlp: Option<OtlpConfig>,
    /// How people are named in it.
    pub privacy: PrivacyConfig,
    /// The providers by name.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// What the project says of prices, in the order in which it is asked.
    pub prices: Vec<PriceRule>,
    /// Who is told of alerts, in the order of the file.
    pub receivers: Vec<ReceiverConfig>,
    /// The calls by name.
    pub calls: BTreeMap<String, CallSpec>,
    /// How each call is watched, by its name: no part of its release.
    pub alerts: BTreeMap<String, CallAlerts>,
    /// What a plain target is run as, whatever its call and route: the defaults of the project.
    pub direct: CallSpec,
    /// How plain targets are watched.
    pub direct_alerts: CallAlerts,
}

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where people reach it, without a slash at its end; where it listens if absent.
    pub url: Option<String>,
    /// How many calls may be under way at once.
    pub max_in_flight: u32,
    /// The largest request body, in bytes.
    pub max_body: u64,
    /// How long calls may go on after the server was asked to stop.
    pub drain: Duration,
}

/// Where things are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// A directory, absolute or relative to the project.
    pub path: PathBuf,
}

/// How long each part of the call log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Requests and answers.
    pub bodies: Duration,
    /// One line a call.
    pub metadata: Duration,
    /// Sums by the minute and hour.
    pub rollups: Duration,
}

/// How people are named in the call log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrivacyConfig {
    /// The key of pseudonyms; `None`: the one in the store directory.
    pub key: Option<SecretRef>,
    /// How units are kept.
    pub units: Units,
}

/// A provider.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderConfig {
    /// How it is reached.
    pub reach: Reach,
    /// How many attempts may be under way at once, per target.
    pub max_concurrency: u32,
    /// How many attempts may wait for their turn, per target.
    pub max_queue: u32,
    /// Context windows in tokens, by model, where known.
    pub contexts: BTreeMap<String, u64>,
}

impl ProviderConfig {
    /// Where requests go; `None` for a simulated provider.
    #[must_use]
    pub fn base_url(&self) -> Option<&str> {
        match &self.reach {
            Reach::Http(http) => Some(&http.base_url),
            Reach::Sim(_) => None,
        }
    }
}

/// How a provider is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    /// Over HTTP.
    Http(HttpConfig),
    /// Not at all: its answers are simulated.
    Sim(SimConfig),
}

/// The wire format of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireKind {
    /// OpenAI chat completions.
    OpenAi,
    /// Anthropic messages.
    Anthropic,
}

/// A provider that is reached over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Its wire format.
    pub wire: WireKind,
    /// Where requests go, without a slash at its end.
    pub base_url: String,
    /// Its credential.
    pub api_key: Option<SecretRef>,
    /// Further headers of every request.
    pub headers: BTreeMap<String, Setting>,
    /// Query parameters of every request.
    pub query: BTreeMap<String, Setting>,
    /// The header that carries the credential as it is, instead of the format's usual one.
    pub auth_header: Option<String>,
    /// Whether its name may lead to a private address.
    pub allow_private_network: bool,
    /// Certificate authorities to trust, absolute or relative to the project.
    pub ca_file: Option<PathBuf>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// A value that may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// As it was typed.
    Plain(String),
    /// Found elsewhere.
    Secret(SecretRef),
}

impl Setting {
    /// The reference, if it is one.
    #[must_use]
    pub const fn secret(&self) -> Option<&SecretRef> {
        match self {
            Self::Plain(_) => None,
            Self::Secret(secret) => Some(secret),
        }
    }

    pub(super) fn read(text: &str) -> Self {
        SecretRef::parse(text).map_or_else(|_| Self::Plain(text.to_owned()), Self::Secret)
    }
}

/// A simulated provider.
#[derive(Clone, Debug, PartialEq)]
pub struct SimConfig {
    /// Where its random numbers start.
    pub seed: u64,
    /// The median time to the first content.
    pub latency_p50: Duration,
    /// The time to the first content that one answer in a hundred exceeds.
    pub latency_p99: Duration,
    /// How fast an answer comes; `None`: all at once.
    pub tokens_per_second: Option<f64>,
    /// Failures that happen at random.
    pub faults: Vec<SimFault>,
    /// Failures that happen at a time after the start.
    pub schedule: Vec<SimScheduled>,
}

/// A simulated failure that happens at random.
#[derive(Clone, Debug, PartialEq)]
pub struct SimFault {
    /// The failure, in the words of the simulated provider.
    pub fault: String,
    /// Share of the attempts that it strikes, 0 to 1.
    pub rate: f64,
}

/// A simulated failure that happens at a time after the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimScheduled {
    /// When it begins.
    pub after: Duration,
    /// How long it lasts; `None`: to the end.
    pub lasts: Option<Duration>,
    /// The failure, in the words of the simulated provider.
    pub fault: String,
}

impl Project {
    /// How the models of a provider come to their prices; `None` if there is no such provider.
    #[must_use]
    pub fn prices_of(&self, provider: &str) -> Option<ProviderPrices> {
        let base_url = self.providers.get(provider)?.base_url();
        Some(ProviderPrices::new(provider, base_url, &self.prices))
    }

    /// Every target of a route with what it costs, sorted by name.
    #[must_use]
    pub fn quotes(&self) -> BTreeMap<TargetName, Quote> {
        let routes = self.calls.values().flat_map(|call| &call.route);
        let targets: std::collections::BTreeSet<&TargetName> = routes.collect();
        let quote = |target: &TargetName| {
            let prices = self.prices_of(&target.provider)?;
            Some((target.clone(), prices.quote(&target.model)))
        };
        targets.into_iter().filter_map(quote).collect()
    }

    /// Every secret that the project names, with the path of its key in `backstay.toml`.
    pub fn secrets(&self) -> impl Iterator<Item = (Vec<String>, &SecretRef)> {
        let otlp = self.otlp.iter().flat_map(OtlpConfig::secrets).map(|(header, secret)| {
            (["otlp", "headers", header].map(str::to_owned).to_vec(), secret)
        });
        let path = || ["privacy", "key"].map(str::to_owned).to_vec();
        let own = self.privacy.key.iter().map(move |secret| (path(), secret));
        let providers = self.providers.iter().flat_map(|(name, provider)| {
            let at = move |rest: &[&str]| -> Vec<String> {
                ["providers", name].iter().chain(rest).map(|s| (*s).to_owned()).collect()
            };
            let mut found = Vec::new();
            if let Reach::Http(http) = &provider.reach {
                found.extend(http.api_key.iter().map(|secret| (at(&["api_key"]), secret)));
                for (table, settings) in [("headers", &http.headers), ("query", &http.query)] {
                    for (key, setting) in settings {
                        if let Setting::Secret(secret) = setting {
                            found.push((at(&[table, key]), secret));
                        }
                    }
                }
            }
            found
        });
        let receivers = self.receivers.iter().enumerate().flat_map(|(index, receiver)| {
            let at = move |key: &str| {
                vec!["alerts".to_owned(), "notify".to_owned(), index.to_string(), key.to_owned()]
            };
            let url = receiver.url.as_ref().and_then(Setting::secret);
            let url = url.map(|secret| (at("url"), secret));
            let key = receiver.routing_key.as_ref().map(|secret| (at("routing_key"), secret));
            url.into_iter().chain(key)
        });
        own.chain(providers).chain(receivers).chain(otlp)
    }
}

/// A mistake for each secret that `resolve` cannot find. `source` is the `backstay.toml` that
/// `project` was made from.
#[must_use]
pub fn secret_mistakes(
    project: &Project,
    source: &super::SourceFile,
    resolve: &dyn Fn(&SecretRef) -> Result<String, String>,
) -> Vec<Mistake> {
    let Ok(toml) = Toml::parse(source) else { return Vec::new() };
    let missing = project.secrets().filter_map(|(path, secret)| {
        let why = resolve(secret).err()?;
        let remedy = match secret {
            SecretRef::Env(name) => format!("set the environment variable {name}"),
            SecretRef::File(path) => format!("write the secret into {}", path.display()),
        };
        Some(toml.mistake(&path, (format!("the secret `{secret}` is not there: {why}"), remedy)))
    });
    missing.collect()
}

/// Checks the rules of `backstay.toml`: of what is sound of it, the rest being `broken`.
pub(super) fn check(
    file: ProjectFile,
    toml: &Toml<'_>,
    broken: &[Vec<String>],
    faults: &[String],
) -> Result<Project, Vec<Mistake>> {
    let mut rules = Rules::new(toml, None, broken);
    let listen = file.server.listen.parse::<SocketAddr>().unwrap_or_else(|_| {
        rules.say(
            &["server", "listen"],
            format!("{:?} is not an address", file.server.listen),
            "write an IP address and a port, such as \"127.0.0.1:4700\"",
        );
        SocketAddr::from(([127, 0, 0, 1], 4700))
    });
    let receivers = notify::check(file.alerts.notify, &mut rules);
    let url = public_url(file.server.url, &mut rules);
    let server = ServerConfig {
        listen,
        url,
        max_in_flight: file.server.max_in_flight,
        max_body: file.server.max_body.0,
        drain: file.server.drain.0,
    };
    let log = LogConfig {
        bodies: file.log.bodies.0,
        metadata: file.log.metadata.0,
        rollups: file.log.rollups.0,
    };
    if log.bodies > log.metadata {
        let path = if rules.typed(&["log", "bodies"]) { "bodies" } else { "metadata" };
        let reason = "bodies would be kept longer than the lines that name them";
        rules.say(&["log", path], reason, "make `bodies` at most as long as `metadata`");
    }
    if log.metadata > log.rollups {
        let path = if rules.typed(&["log", "metadata"]) { "metadata" } else { "rollups" };
        let reason = "calls would be kept longer than the sums that they are part of";
        rules.say(&["log", path], reason, "make `metadata` at most as long as `rollups`");
    }
    let named: Vec<String> = file.providers.keys().cloned().collect();
    let mut providers = BTreeMap::new();
    for (name, provider) in file.providers {
        check_faults(&name, &provider, faults, &mut rules);
        if let Some(provider) = check_provider(&name, provider, &mut rules) {
            providers.insert(name, provider);
        }
    }
    let prices = file.prices.into_iter();
    let prices =
        prices.filter_map(|(pattern, price)| check_price(pattern, &price, &named, &mut rules));
    let mut prices: Vec<_> = prices.collect();
    prices.sort_by_cached_key(PriceRule::order);
    let otlp = file.otlp.map(|file| otlp::check(file, &mut rules));
    let store = StoreConfig { path: file.store.path.into() };
    let privacy = PrivacyConfig { key: file.privacy.key, units: file.privacy.units };
    let (calls, alerts) = (BTreeMap::new(), BTreeMap::new());
    let (direct, direct_alerts) = (CallSpec::direct(), CallAlerts::default());
    rules.done(Project {
        server,
        store,
        log,
        otlp,
        privacy,
        providers,
        prices,
        receivers,
        calls,
        alerts,
        direct,
        direct_alerts,
    })
}

/// The address that links begin with.
fn public_url(url: Option<String>, rules: &mut Rules<'_>) -> Option<String> {
    let url = url?.trim_end_matches('/').to_owned();
    if let Some(fault) = url_fault(&url) {
        rules.say(
            &["server", "url"],
            fault,
            "write an address such as \"https://backstay.example.com\"",
        );
    }
    Some(url)
}

fn check_provider(name: &str, file: ProviderFile, rules: &mut Rules<'_>) -> Option<ProviderConfig> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
        let remedy = "use letters, digits, - and _, at most 63 of them";
        rules.say(&["providers", name], "this is not the name of a provider", remedy);
    }
    let named = match name {
        "openai" => Some(KindName::Openai),
        "anthropic" => Some(KindName::Anthropic),
        "sim" => Some(KindName::Sim),
        _ => None,
    };
    let Some(kind) = file.kind.or(named) else {
        let remedy = "add kind = \"openai\" (for everything compatible), \"anthropic\" or \"sim\"";
        rules.say(&["providers", name], "the key `kind` is missing", remedy);
        return None;
    };
    misplaced(name, kind, rules);
    let contexts = file.models.iter().filter_map(|(m, model)| Some((m.clone(), model.context?)));
    let contexts = contexts.collect();
    let (max_concurrency, max_queue) = (file.max_concurrency, file.max_queue);
    let reach = match kind {
        KindName::Openai => Reach::Http(check_http(name, WireKind::OpenAi, file, rules)),
        KindName::Anthropic => Reach::Http(check_http(name, WireKind::Anthropic, file, rules)),
        KindName::Sim => Reach::Sim(check_sim(name, file, rules)),
    };
    Some(ProviderConfig { reach, max_concurrency, max_queue, contexts })
}

/// Keys of one kind of provider that were typed for another.
fn misplaced(name: &str, kind: KindName, rules: &mut Rules<'_>) {
    const HTTP: &[&str] = &[
        "base_url",
        "api_key",
        "headers",
        "query",
        "auth_header",
        "allow_private_network",
        "ca_file",
        "http2",
    ];
    const SIM: &[&str] = &["seed", "latency", "tokens_per_second", "faults", "schedule"];
    let (wrong, reason) = match kind {
        KindName::Sim => (HTTP, "a simulated provider is not reached over a network"),
        KindName::Openai | KindName::Anthropic => (SIM, "only a simulated provider has this key"),
    };
    for key in wrong {
        if rules.typed(&["providers", name, key]) {
            rules.say(&["providers", name, key], reason, "leave it out, or change `kind`");
        }
    }
}

fn check_http(name: &str, wire: WireKind, file: ProviderFile, rules: &mut Rules<'_>) -> HttpConfig {
    let at = |rest: &[&'static str]| [&["providers", name][..], rest].concat();
    let (public, key) = match wire {
        WireKind::OpenAi => ("https://api.openai.com/v1", "OPENAI_API_KEY"),
        WireKind::Anthropic => ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    };
    let base_url = file.base_url.as_deref().unwrap_or(public).trim_end_matches('/').to_owned();
    if let Some(fault) = url_fault(&base_url) {
        let remedy =
            "write an address such as \"https://host/v1\"; credentials belong into `api_key`";
        rules.say(&at(&["base_url"]), fault, remedy);
    }
    if file.auth_header.as_deref().is_some_and(|header| !is_header_name(header)) {
        let remedy = "write the name of a header, such as \"api-key\"";
        rules.say(&at(&["auth_header"]), "this is not the name of a header", remedy);
    }
    check_settings(name, "headers", &file.headers, rules);
    check_settings(name, "query", &file.query, rules);
    let settings = |map: BTreeMap<String, String>| {
        map.into_iter().map(|(key, text)| (key, Setting::read(&text))).collect()
    };
    let usual_key = || file.base_url.is_none().then(|| SecretRef::Env(key.to_owned()));
    HttpConfig {
        wire,
        api_key: file.api_key.clone().or_else(usual_key),
        headers: settings(file.headers),
        query: settings(file.query),
        auth_header: file.auth_header,
        allow_private_network: file.allow_private_network || names_private_host(&base_url),
        ca_file: file.ca_file.map(Into::into),
        http2: file.http2,
        base_url,
    }
}

fn check_settings(
    name: &str,
    table: &str,
    settings: &BTreeMap<String, String>,
    rules: &mut Rules<'_>,
) {
    for (key, text) in settings {
        let at = ["providers", name, table, key];
        if table == "headers" && !is_header_name(key) {
            rules.say(&at, "this is not the name of a header", "use letters, digits and -");
        }
        if text.chars().any(char::is_control) {
            rules.say(&at, "this value has a line break or control character", "take it out");
        }
        if is_secret_header(key) && SecretRef::parse(text).is_err() {
            rules.say(&at, "a secret stands here in plain text", SECRET_REMEDY);
        }
    }
}

fn check_sim(name: &str, file: ProviderFile, rules: &mut Rules<'_>) -> SimConfig {
    let at = |rest: &[&'static str]| [&["providers", name][..], rest].concat();
    let latency = file.latency.unwrap_or_default();
    let p99 = latency.p99.unwrap_or(latency.p50);
    if latency.p50 > p99 {
        let remedy = "make p99 at least as long as p50";
        rules.say(&at(&["latency"]), "half of the answers cannot be slower than 99 %", remedy);
    }
    let struck: f64 = file.faults.iter().map(|fault| fault.rate.0).sum();
    if struck > 1.0 + 1e-9 {
        let remedy = "lower the rates: one attempt has one fault at most";
        rules.say(&at(&["faults"]), "the rates are more than 100 % together", remedy);
    }
    let faults = file.faults.into_iter().map(|f| SimFault { fault: f.fault, rate: f.rate.0 });
    let schedule = file.schedule.into_iter().map(|s| SimScheduled {
        after: s.after.0,
        lasts: s.lasts.map(|time| time.0),
        fault: s.fault,
    });
    SimConfig {
        seed: file.seed.unwrap_or_default(),
        latency_p50: latency.p50.0,
        latency_p99: p99.0,
        tokens_per_second: file.tokens_per_second,
        faults: faults.collect(),
        schedule: schedule.collect(),
    }
}

fn check_faults(name: &str, file: &ProviderFile, known: &[String], rules: &mut Rules<'_>) {
    let random = file.faults.iter().map(|it| &it.fault).enumerate();
    let timed = file.schedule.iter().map(|it| &it.fault).enumerate();
    let all = random.map(|it| ("faults", it)).chain(timed.map(|it| ("schedule", it)));
    for (table, (index, fault)) in all {
        if known.is_empty() || known.contains(fault) {
            continue;
        }
        let names = || known.iter().map(String::as_str);
        let remedy = match nearest(fault, names()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of {}", one_of(names())),
        };
        let at = ["providers", name, table, &index.to_string(), "fault"];
        rules.say(&at, format!("the simulated provider knows no fault \"{fault}\""), remedy);
    }
}
