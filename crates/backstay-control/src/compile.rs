//! From a checked project to plans: providers are built, secrets resolved, releases numbered.
//!
//! This is the only way in which the control plane touches calls: it publishes a snapshot. A provider
//! whose configuration did not change keeps its connections, and a simulated one its counters.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use backstay_core::{
    config::{HttpConfig, Project, ProviderConfig, Reach, SecretRef, Setting, SimConfig, WireKind},
    price::quote::ProviderPrices,
    privacy::{Privacy, PseudonymKey},
    release::CallSpec,
};
use backstay_engine::{
    plan::{CallPlan, Plans, ProviderPlan, ReleasePlan},
    targets::{Limit, Targets},
};
use backstay_providers::{
    provider::{Provider, Upstream},
    sim::{Fault, FaultRate, Latency, Schedule, Sim, SimConfig as SimSettings},
    transport::{Endpoint, Http2, Transport, TransportOptions},
    wire::Protocol,
};
use backstay_store::{RegistryStore, StoreError};
use sha2::{Digest, Sha256};

/// How many older releases of a call can be named.
const NAMED_RELEASES: u32 = 20;

/// Why plans could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The registry of releases did not answer.
    #[error("the registry of releases: {0}")]
    Registry(#[from] StoreError),
    /// A provider cannot be built.
    #[error("provider `{name}`: {why}")]
    Provider {
        /// Its name.
        name: String,
        /// What is wrong and how to mend it.
        why: String,
    },
    /// The key of pseudonyms is not there or is none: without it people would be named in plain text,
    /// or could not be told apart.
    #[error("privacy.key: {0}")]
    Privacy(String),
    /// A call cannot be compiled.
    #[error("call `{name}`: {why}")]
    Call {
        /// Its name.
        name: String,
        /// What is wrong and how to mend it.
        why: String,
    },
}

/// Makes plans from projects; remembers the providers that it built.
#[derive(Debug)]
pub struct Compiler {
    root: PathBuf,
    targets: Arc<Targets>,
    built: HashMap<String, Built>,
    /// The store's own key of pseudonyms, for projects that name none.
    pseudonyms: Option<PseudonymKey>,
}

/// A provider as it was last built, and from what.
#[derive(Debug)]
struct Built {
    reach: Reach,
    /// Digest of its secrets: a new key is a new provider.
    secrets: [u8; 32],
    provider: Arc<Provider>,
}

impl Built {
    fn is(&self, config: &ProviderConfig, secrets: &[u8; 32]) -> bool {
        self.reach == config.reach && self.secrets == *secrets
    }
}

/// The values that a provider's requests carry. No `Debug`: some of them are secret.
#[derive(Default)]
struct Secrets {
    key: Option<String>,
    headers: Vec<(String, String)>,
    query: Vec<(String, String)>,
    missing: Vec<String>,
}

impl Secrets {
    fn digest(&self) -> [u8; 32] {
        let pairs = self.headers.iter().chain(&self.query);
        let parts = pairs.flat_map(|(name, value)| [name, value]).chain(&self.key);
        let mut digest = Sha256::new();
        for part in parts {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

impl Compiler {
    /// A compiler for the project in `root`.
    #[must_use]
    pub fn new(root: &Path, targets: Arc<Targets>) -> Self {
        Self { root: root.to_owned(), targets, built: HashMap::new(), pseudonyms: None }
    }

    /// The same, with the store's own key of pseudonyms for projects that name none.
    #[must_use]
    pub fn with_pseudonyms(mut self, key: PseudonymKey) -> Self {
        self.pseudonyms = Some(key);
        self
    }

    /// Compiles `project`. New contents become new releases in the registry.
    ///
    /// A secret that is not there does not stop the others: its provider answers `upstream_auth`, and
    /// the second value says so.
    ///
    /// # Errors
    /// When the registry fails, or a part of the project cannot be built.
    pub fn compile(
        &mut self,
        project: &Project,
        registry: &mut dyn RegistryStore,
        now_ms: u64,
    ) -> Result<(Plans, Vec<String>), CompileError> {
        let mut warnings = Vec::new();
        let mut providers = HashMap::new();
        for (name, config) in &project.providers {
            let plan = ProviderPlan {
                provider: self.provider(name, config, &mut warnings)?,
                limit: Limit {
                    concurrency: to_usize(config.max_concurrency),
                    queue: to_usize(config.max_queue),
                },
                windows: config
                    .contexts
                    .iter()
                    .map(|(model, tokens)| {
                        (model.clone(), u32::try_from(*tokens).unwrap_or(u32::MAX))
                    })
                    .collect(),
                prices: ProviderPrices::new(name, config.base_url(), &project.prices),
            };
            providers.insert(name.clone(), Arc::new(plan));
        }
        self.built.retain(|name, _| project.providers.contains_key(name));
        let mut calls = BTreeMap::new();
        for (name, spec) in &project.calls {
            calls.insert(name.clone(), self.call(spec, &providers, registry, now_ms)?);
        }
        let direct = project.direct.clone();
        let privacy =
            privacy(&self.root, project, self.pseudonyms.clone()).map_err(CompileError::Privacy)?;
        let plans = Plans::new(calls, providers, direct, Arc::clone(&self.targets));
        Ok((plans.with_privacy(privacy), warnings))
    }

    fn provider(
        &mut self,
        name: &str,
        config: &ProviderConfig,
        warnings: &mut Vec<String>,
    ) -> Result<Arc<Provider>, CompileError> {
        let failed = |why: String| CompileError::Provider { name: name.to_owned(), why };
        let secrets = match &config.reach {
            Reach::Http(http) => self.secrets(http),
            Reach::Sim(_) => Secrets::default(),
        };
        warnings.extend(secrets.missing.iter().map(|why| format!("provider `{name}`: {why}")));
        let digest = secrets.digest();
        let known = self.built.get(name);
        if let Some(built) = known.filter(|built| built.is(config, &digest)) {
            return Ok(Arc::clone(&built.provider));
        }
        let (protocol, upstream) = match &config.reach {
            Reach::Http(http) => self.http(http, &secrets).map_err(failed)?,
            Reach::Sim(sim) => {
                let settings = sim_settings(sim).map_err(failed)?;
                (Protocol::OpenAi, Upstream::Sim(Sim::new(settings)))
            }
        };
        let provider =
            Arc::new(Provider { name: name.to_owned(), wire: protocol.wire(), upstream });
        let built =
            Built { reach: config.reach.clone(), secrets: digest, provider: Arc::clone(&provider) };
        self.built.insert(name.to_owned(), built);
        Ok(provider)
    }

    fn http(&self, http: &HttpConfig, secrets: &Secrets) -> Result<(Protocol, Upstream), String> {
        let mut endpoint = Endpoint::parse(&http.base_url)?;
        for (name, value) in &secrets.query {
            endpoint = endpoint.with_query(name, value);
        }
        for (name, value) in &secrets.headers {
            endpoint = endpoint.with_header(name, value)?;
        }
        endpoint = match (&secrets.key, http.auth_header.as_deref(), http.wire) {
            (None, _, _) => endpoint,
            (Some(key), Some(header), _) => endpoint.with_key_header(header, key)?,
            (Some(key), None, WireKind::OpenAi) => endpoint.with_bearer(key)?,
            (Some(key), None, WireKind::Anthropic) => endpoint.with_key_header("x-api-key", key)?,
        };
        let options = TransportOptions {
            http2: if http.http2 { Http2::Auto } else { Http2::Never },
            allow_private_network: http.allow_private_network,
            ca_file: http.ca_file.as_ref().map(|path| self.root.join(path)),
            ..TransportOptions::default()
        };
        let protocol = match http.wire {
            WireKind::OpenAi => Protocol::OpenAi,
            WireKind::Anthropic => Protocol::Anthropic,
        };
        Ok((protocol, Upstream::Http(Transport::new(endpoint, options))))
    }

    /// The values of everything that each request carries, as far as they are there.
    fn secrets(&self, http: &HttpConfig) -> Secrets {
        let mut secrets = Secrets::default();
        for (name, setting) in &http.query {
            let value = self.setting(setting, &mut secrets.missing);
            secrets.query.extend(value.map(|value| (name.clone(), value)));
        }
        for (name, setting) in &http.headers {
            let value = self.setting(setting, &mut secrets.missing);
            secrets.headers.extend(value.map(|value| (name.clone(), value)));
        }
        secrets.key = http.api_key.as_ref().and_then(|key| self.secret(key, &mut secrets.missing));
        secrets
    }

    fn setting(&self, setting: &Setting, missing: &mut Vec<String>) -> Option<String> {
        match setting {
            Setting::Plain(text) => Some(text.clone()),
            Setting::Secret(secret) => self.secret(secret, missing),
        }
    }

    fn secret(&self, secret: &SecretRef, missing: &mut Vec<String>) -> Option<String> {
        let found = resolve_secret(&self.root, secret);
        found.map_err(|why| missing.push(format!("the secret `{secret}` is not there: {why}"))).ok()
    }

    fn call(
        &self,
        spec: &CallSpec,
        providers: &HashMap<String, Arc<ProviderPlan>>,
        registry: &mut dyn RegistryStore,
        now_ms: u64,
    ) -> Result<CallPlan, CompileError> {
        let name = &spec.call;
        let failed = |why: String| CompileError::Call { name: name.clone(), why };
        let content = serde_json::to_string(spec).map_err(|error| failed(error.to_string()))?;
        let number = registry.release_put(name, &spec.digest(), &content, now_ms)?;
        let compile = |spec: CallSpec, number: u32| {
            ReleasePlan::compile(spec, Some(number), providers, &self.targets).map(Arc::new)
        };
        let stable = compile(spec.clone(), number).map_err(failed)?;
        let mut releases = BTreeMap::from([(number, Arc::clone(&stable))]);
        for row in registry.releases(name, NAMED_RELEASES)? {
            // A release whose provider is gone, or whose format is too old, cannot be named any more.
            let plan = serde_json::from_str(&row.content_json).ok().and_then(|old: CallSpec| {
                let old = (row.number != number).then(|| old.as_private_as(spec))?;
                compile(old, row.number).ok()
            });
            releases.extend(plan.map(|plan| (row.number, plan)));
        }
        Ok(CallPlan { stable, releases })
    }
}

/// How a project names people: with its own key, or with `own`, that of its store.
///
/// # Errors
/// Why the key is not there, or cannot be one.
pub fn privacy(
    root: &Path,
    project: &Project,
    own: Option<PseudonymKey>,
) -> Result<Privacy, String> {
    let key = match &project.privacy.key {
        Some(secret) => {
            let text = resolve_secret(root, secret)
                .map_err(|why| format!("the secret `{secret}` is not there: {why}"))?;
            Some(PseudonymKey::new(text.as_bytes())?)
        }
        None => own,
    };
    Ok(Privacy { key, units: project.privacy.units })
}

/// Reads a secret from where the project says that it is.
///
/// # Errors
/// Why it is not there; never the secret itself.
pub fn resolve_secret(root: &Path, secret: &SecretRef) -> Result<String, String> {
    let text = match secret {
        SecretRef::Env(name) => std::env::var(name)
            .map_err(|_| format!("the environment variable {name} is not set"))?,
        SecretRef::File(path) => std::fs::read_to_string(root.join(path))
            .map_err(|error| format!("{}: {error}", path.display()))?,
    };
    let text = text.trim_end_matches(['\r', '\n']).to_owned();
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text) }
}

fn sim_settings(sim: &SimConfig) -> Result<SimSettings, String> {
    let fault = |name: &str| {
        Fault::from_name(name).ok_or_else(|| {
            format!("there is no fault `{name}`; `backstay sim --list` names them all")
        })
    };
    let faults: Result<Vec<_>, String> = sim
        .faults
        .iter()
        .map(|f| Ok(FaultRate { fault: fault(&f.fault)?, rate: f.rate }))
        .collect();
    let schedule: Result<Vec<_>, String> = sim
        .schedule
        .iter()
        .map(|s| Ok(Schedule { after: s.after, lasts: s.lasts, fault: fault(&s.fault)? }))
        .collect();
    Ok(SimSettings {
        seed: sim.seed,
        latency: Latency { p50: sim.latency_p50, p99: sim.latency_p99 },
        tokens_per_second: sim.tokens_per_second,
        faults: faults?,
        schedule: schedule?,
    })
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
