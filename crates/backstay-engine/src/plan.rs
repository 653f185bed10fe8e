//! What the engine runs on: releases compiled once, in one immutable snapshot.
//!
//! The control plane builds [`Plans`] and publishes them whole; a call holds on to the release that it
//! started with. Nothing here reads files or changes state.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use backstay_core::{
    budget::TargetView,
    failure::{Failure, Refusal},
    output::{CompiledChecks, Schema},
    price::{
        Price,
        quote::{ProviderPrices, Quote},
    },
    privacy::{Policy, Privacy, annotations},
    prompt::{MessageTemplate, Prompts},
    record::{AttemptRecord, Variant},
    release::{CallSpec, Capture, DegradeStep, StreamMode, TargetName, is_call_name},
};
use backstay_providers::{provider::Provider, wire::AnswerSchema};
use quick_cache::sync::Cache;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::targets::{Gate, Limit, Targets};

/// Plain targets that are kept compiled; further ones are compiled for each call.
const MOST_DIRECT: usize = 1024;

/// A provider with what the project says of its models.
#[derive(Debug)]
pub struct ProviderPlan {
    /// How it is reached.
    pub provider: Arc<Provider>,
    /// The limit of each of its targets.
    pub limit: Limit,
    /// Context windows in tokens, by model.
    pub windows: BTreeMap<String, u32>,
    /// What its models cost.
    pub prices: ProviderPrices,
}

/// One target of a compiled route.
#[derive(Debug)]
pub(crate) struct RouteEntry {
    pub(crate) name: TargetName,
    pub(crate) label: Arc<str>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) window: Option<u32>,
    pub(crate) price: Price,
    pub(crate) gate: Gate,
}

/// One release, ready to run.
#[derive(Debug)]
pub struct ReleasePlan {
    pub(crate) spec: CallSpec,
    /// `extract-invoice@7`; `None` for a plain target.
    pub(crate) id: Option<String>,
    pub(crate) route: Vec<RouteEntry>,
    pub(crate) prompts: Prompts,
    pub(crate) input: Option<Schema>,
    pub(crate) output: Option<Arc<Schema>>,
    pub(crate) answer_schema: Option<Arc<AnswerSchema>>,
    pub(crate) params: Arc<Map<String, Value>>,
    pub(crate) checks: CompiledChecks,
    pub(crate) message: MessageTemplate,
    pub(crate) policy: Policy,
}

impl ReleasePlan {
    /// Compiles `spec`.
    ///
    /// # Errors
    /// A sentence for each thing that does not compile, or a target whose provider is unknown.
    pub fn compile(
        spec: CallSpec,
        number: Option<u32>,
        providers: &HashMap<String, Arc<ProviderPlan>>,
        targets: &Targets,
    ) -> Result<Self, String> {
        let route: Result<Vec<_>, _> =
            spec.route.iter().map(|name| route_entry(&spec, name, providers, targets)).collect();
        let prompts = Prompts::compile(&spec.templates).map_err(|mistakes| {
            let all: Vec<_> =
                mistakes.iter().map(|m| format!("{}: {}", m.file, m.message)).collect();
            all.join("; ")
        })?;
        let compile = |schema: &Option<Value>| schema.as_ref().map(Schema::compile).transpose();
        let answer_schema = spec.output_schema.as_ref().map(|schema| {
            let schema = annotations::without(schema);
            Arc::new(AnswerSchema { name: spec.call.replace('-', "_"), schema })
        });
        Ok(Self {
            id: number.map(|number| format!("{}@{number}", spec.call)),
            route: route?,
            prompts,
            input: compile(&spec.input_schema)?,
            output: compile(&spec.output_schema)?.map(Arc::new),
            answer_schema,
            params: Arc::new(spec.params.clone()),
            checks: CompiledChecks::compile(&spec.checks)?,
            message: MessageTemplate::compile(&spec.degrade.message)
                .map_err(|mistake| format!("degrade.message: {}", mistake.message))?,
            policy: Policy::compile(&spec.privacy_lists())
                .map_err(|fault| format!("capture: {fault}"))?,
            spec,
        })
    }

    /// Its content.
    #[must_use]
    pub const fn spec(&self) -> &CallSpec {
        &self.spec
    }

    /// `extract-invoice@7`; `None` for a plain target.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// What the budget knows of the targets at `now`.
    pub(crate) fn views(&self, now: Instant) -> Vec<TargetView> {
        self.route.iter().map(|entry| entry.gate.view(entry.window, now)).collect()
    }

    /// Whether a target other than number `index` could take an attempt at once, and was not asked yet.
    pub(crate) fn has_room_beside(&self, index: usize, asked: &[AttemptRecord]) -> bool {
        let now = Instant::now();
        let fresh = |entry: &RouteEntry| asked.iter().all(|a| a.target != *entry.label);
        self.route
            .iter()
            .enumerate()
            .any(|(other, entry)| other != index && fresh(entry) && entry.gate.has_room(now))
    }

    /// Whether a stream of this release is held back until it is valid.
    pub(crate) fn holds_streams_back(&self, has_schema: bool) -> bool {
        let checked = self.spec.checks.max_chars.is_some() || !self.spec.checks.forbid.is_empty();
        match self.spec.stream {
            StreamMode::Auto => has_schema || checked || self.spec.fallback_on_refusal,
            StreamMode::Buffered => true,
            StreamMode::Through => false,
        }
    }

    /// Whether good answers are kept for the `stale` step.
    pub(crate) fn keeps_answers(&self) -> bool {
        let before_error = self.spec.degrade.order.iter().take_while(|s| **s != DegradeStep::Error);
        before_error.into_iter().any(|step| *step == DegradeStep::Stale)
    }
}

fn route_entry(
    spec: &CallSpec,
    name: &TargetName,
    providers: &HashMap<String, Arc<ProviderPlan>>,
    targets: &Targets,
) -> Result<RouteEntry, String> {
    let plan = providers
        .get(&name.provider)
        .ok_or_else(|| format!("target {name}: there is no provider `{}`", name.provider))?;
    Ok(RouteEntry {
        name: name.clone(),
        label: name.to_string().into(),
        provider: Arc::clone(&plan.provider),
        window: plan.windows.get(&name.model).copied(),
        price: plan.prices.quote(&name.model).price,
        gate: Gate {
            state: targets.state(name, plan.limit),
            breaker: targets.breaker(&spec.call, name),
            policy: spec.breaker.clone(),
        },
    })
}

/// A call with its releases.
#[derive(Debug)]
pub struct CallPlan {
    /// The release that the label `stable` points to.
    pub stable: Arc<ReleasePlan>,
    /// Every release that can be named, by number.
    pub releases: BTreeMap<u32, Arc<ReleasePlan>>,
}

/// One snapshot of everything that can be called.
#[derive(Debug)]
pub struct Plans {
    calls: BTreeMap<String, CallPlan>,
    providers: HashMap<String, Arc<ProviderPlan>>,
    /// What plain targets are run as.
    base: CallSpec,
    direct: Cache<(String, TargetName), Arc<ReleasePlan>>,
    targets: Arc<Targets>,
    privacy: Privacy,
    /// For what belongs to no call that is known: the strictest of all.
    stray: (Policy, Capture),
}

/// How a request says what it wants to be answered by.
#[derive(Clone, Debug, Default)]
pub struct Address {
    /// A call, `call@release`, or `provider/model`.
    pub model: String,
    /// The call that a plain target is recorded under (`x-backstay-call`).
    pub call: Option<String>,
    /// A release that is forced (`x-backstay-release`): `7`, `call@7` or `stable`.
    pub release: Option<String>,
}

impl Plans {
    /// A snapshot of `calls` and `providers`. Plain targets are run as `base`; `targets` is the state
    /// that outlives the snapshot.
    #[must_use]
    pub fn new(
        calls: BTreeMap<String, CallPlan>,
        providers: HashMap<String, Arc<ProviderPlan>>,
        base: CallSpec,
        targets: Arc<Targets>,
    ) -> Self {
        let releases =
            || calls.values().flat_map(|call| call.releases.values().chain([&call.stable]));
        // The lists were checked with the project's files.
        let own = Policy::compile(&base.privacy_lists()).unwrap_or_default();
        let policies = releases().map(|release| &release.policy).chain([&own]);
        let least = releases().map(|release| release.spec.capture).chain([base.capture]).min();
        let stray = (Policy::strictest(policies), least.unwrap_or_default().min(Capture::Redacted));
        let direct = Cache::new(MOST_DIRECT);
        Self { calls, providers, base, direct, targets, privacy: Privacy::default(), stray }
    }

    /// The same plans, which name people as `privacy` says.
    #[must_use]
    pub fn with_privacy(mut self, privacy: Privacy) -> Self {
        self.privacy = privacy;
        self
    }

    /// How people are named.
    #[must_use]
    pub fn privacy(&self) -> &Privacy {
        &self.privacy
    }

    /// How the texts are kept of what belongs to no call that is known.
    pub(crate) fn stray(&self) -> &(Policy, Capture) {
        &self.stray
    }

    /// The names of all calls, in order.
    pub fn call_names(&self) -> impl Iterator<Item = &str> {
        self.calls.keys().map(String::as_str)
    }

    /// The calls, in the order of their names.
    pub fn calls(&self) -> impl Iterator<Item = (&str, &CallPlan)> {
        self.calls.iter().map(|(name, call)| (name.as_str(), call))
    }

    /// Every target that the project names, each once: those of all releases that can be called, and
    /// the models that it says something of.
    #[must_use]
    pub fn known_targets(&self) -> Vec<String> {
        let releases = self.calls.values().flat_map(|call| {
            call.releases.values().chain([&call.stable]).flat_map(|release| &release.route)
        });
        let mut names: Vec<_> = releases.map(|entry| entry.label.to_string()).collect();
        for (provider, plan) in &self.providers {
            names.extend(plan.windows.keys().map(|model| format!("{provider}/{model}")));
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The release that the label `stable` of a call points to.
    #[must_use]
    pub fn stable(&self, call: &str) -> Option<&ReleasePlan> {
        self.calls.get(call).map(|call| call.stable.as_ref())
    }

    /// What plain targets are run as.
    #[must_use]
    pub const fn base(&self) -> &CallSpec {
        &self.base
    }

    /// Every target that a route names, in order, each once.
    #[must_use]
    pub fn target_names(&self) -> Vec<String> {
        let routes = self.calls.values().flat_map(|call| &call.stable.route);
        let mut names: Vec<_> = routes.map(|entry| entry.label.to_string()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The providers, by name.
    #[must_use]
    pub fn providers(&self) -> &HashMap<String, Arc<ProviderPlan>> {
        &self.providers
    }

    /// Every target of a stable release with what it costs, sorted by name.
    #[must_use]
    pub fn quotes(&self) -> BTreeMap<String, Quote> {
        let routes = self.calls.values().flat_map(|call| &call.stable.route);
        let quote = |entry: &RouteEntry| Some((entry.label.to_string(), self.quote(&entry.name)?));
        routes.filter_map(quote).collect()
    }

    /// What a target costs, and who says so; `None` if there is no such provider.
    #[must_use]
    pub fn quote(&self, target: &TargetName) -> Option<Quote> {
        Some(self.providers.get(&target.provider)?.prices.quote(&target.model))
    }

    /// Finds the release that answers a request.
    ///
    /// # Errors
    /// `bad_request` on `model` or a header, naming what is unknown and what there is.
    pub fn resolve(&self, address: &Address) -> Result<(Arc<ReleasePlan>, Variant), Failure> {
        if address.model.contains('/') {
            return self.direct(address).map(|plan| (plan, Variant::Direct));
        }
        let (name, asked) = match address.model.split_once('@') {
            Some((name, release)) => (name, Some(release)),
            None => (address.model.as_str(), None),
        };
        let pinned = address.release.as_deref().or(asked);
        let Some(call) = self.calls.get(name) else { return Err(self.unknown_call(name)) };
        let Some(release) = pinned else { return Ok((Arc::clone(&call.stable), Variant::Stable)) };
        let release =
            release.strip_prefix(name).and_then(|r| r.strip_prefix('@')).unwrap_or(release);
        if release == "stable" {
            return Ok((Arc::clone(&call.stable), Variant::Stable));
        }
        let found = release.parse().ok().and_then(|number: u32| call.releases.get(&number));
        found.map(|plan| (Arc::clone(plan), Variant::Pinned)).ok_or_else(|| {
            let known: Vec<_> = call.releases.keys().map(u32::to_string).collect();
            Failure::bad_request(
                "model",
                format!(
                    "the call `{name}` has no release `{}`; it has {} and the label `stable`",
                    shorten(release),
                    if known.is_empty() { "none by number".to_owned() } else { known.join(", ") },
                ),
            )
            .because(Refusal::NotFound)
        })
    }

    fn direct(&self, address: &Address) -> Result<Arc<ReleasePlan>, Failure> {
        let refuse = |why: String| Failure::bad_request("model", why).because(Refusal::NotFound);
        let target: TargetName = address.model.parse().map_err(refuse)?;
        let call = address.call.as_deref().unwrap_or("default");
        if address.release.is_some() {
            return Err(Failure::bad_request(
                "x-backstay-release",
                "a plain target has no releases; leave the header out, or name a call",
            ));
        }
        if !is_call_name(call) {
            return Err(Failure::bad_request(
                "x-backstay-call",
                "a call's name is made of a-z, 0-9 and `-`, 63 characters at most",
            ));
        }
        let key = (call.to_owned(), target);
        if let Some(plan) = self.direct.get(&key) {
            return Ok(plan);
        }
        if !self.providers.contains_key(&key.1.provider) {
            let mut known: Vec<_> = self.providers.keys().map(String::as_str).collect();
            known.sort_unstable();
            return Err(refuse(format!(
                "there is no provider `{}`; the project has: {}",
                shorten(&key.1.provider),
                known.join(", ")
            )));
        }
        let spec = self.base.towards(call, key.1.clone());
        let plan = ReleasePlan::compile(spec, None, &self.providers, &self.targets);
        let plan = Arc::new(plan.map_err(refuse)?);
        self.direct.insert(key, Arc::clone(&plan));
        Ok(plan)
    }

    fn unknown_call(&self, name: &str) -> Failure {
        let mut known: Vec<_> = self.call_names().take(20).collect();
        if self.calls.len() > known.len() {
            known.push("…");
        }
        let known = if known.is_empty() { "no calls".to_owned() } else { known.join(", ") };
        Failure::bad_request(
            "model",
            format!(
                "there is no call `{}`; the project has {known}. A plain target is written \
                 provider/model",
                shorten(name)
            ),
        )
        .because(Refusal::NotFound)
    }
}

/// The first characters of a name that a client sent, so that no error grows with its input.
fn shorten(text: &str) -> String {
    let short: String = text.chars().take(64).filter(|c| !c.is_control()).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
pub(crate) mod tests {
    use backstay_core::price::quote::Source;
    use backstay_providers::{
        provider::Upstream,
        sim::{Sim, SimConfig},
        wire::Protocol,
    };

    use super::*;

    fn providers() -> HashMap<String, Arc<ProviderPlan>> {
        let provider = Arc::new(Provider {
            name: "sim".to_owned(),
            wire: Protocol::OpenAi.wire(),
            upstream: Upstream::Sim(Sim::new(SimConfig::default())),
        });
        let plan = ProviderPlan {
            provider,
            limit: Limit::default(),
            windows: BTreeMap::new(),
            prices: ProviderPrices::new("sim", None, &[]),
        };
        HashMap::from([("sim".to_owned(), Arc::new(plan))])
    }

    /// A release of the call `greet` on one simulated target, changed by `change`.
    pub(crate) fn release(number: u32, change: impl FnOnce(&mut CallSpec)) -> ReleasePlan {
        let mut spec = CallSpec::direct().towards("greet", "sim/model".parse().unwrap());
        change(&mut spec);
        ReleasePlan::compile(spec, Some(number), &providers(), &Targets::default()).unwrap()
    }

    fn plans() -> Plans {
        let releases = [1, 2].map(|number| (number, Arc::new(release(number, |_| {}))));
        let releases = BTreeMap::from(releases);
        let call = CallPlan { stable: Arc::clone(&releases[&2]), releases };
        let calls = BTreeMap::from([("greet".to_owned(), call)]);
        Plans::new(calls, providers(), CallSpec::direct(), Arc::default())
    }

    fn address(model: &str, release: Option<&str>) -> Address {
        Address { model: model.to_owned(), call: None, release: release.map(str::to_owned) }
    }

    #[tokio::test]
    async fn every_way_to_name_a_release() {
        let plans = plans();
        for (model, release, id, variant) in [
            ("greet", None, "greet@2", Variant::Stable),
            ("greet@stable", None, "greet@2", Variant::Stable),
            ("greet@1", None, "greet@1", Variant::Pinned),
            ("greet", Some("1"), "greet@1", Variant::Pinned),
            ("greet", Some("greet@1"), "greet@1", Variant::Pinned),
            ("greet", Some("stable"), "greet@2", Variant::Stable),
            ("greet@1", Some("2"), "greet@2", Variant::Pinned),
        ] {
            let (plan, resolved) = plans.resolve(&address(model, release)).unwrap();
            assert_eq!((plan.id.as_deref(), resolved), (Some(id), variant), "{model} {release:?}");
        }
        let (plan, variant) = plans.resolve(&address("sim/any/model", None)).unwrap();
        assert_eq!((plan.id.as_deref(), variant), (None, Variant::Direct));
        assert_eq!(plan.spec.call, "default");
        let again = plans.resolve(&address("sim/any/model", None)).unwrap().0;
        assert!(Arc::ptr_eq(&plan, &again), "a plain target is compiled once");
    }

    #[tokio::test]
    async fn what_targets_cost_can_be_asked() {
        let plans = plans();
        let quotes = plans.quotes();
        let free = Quote { price: Price::Free, source: Source::Simulated };
        assert_eq!(quotes, BTreeMap::from([("sim/model".to_owned(), free.clone())]));
        assert_eq!(plans.quote(&"sim/other".parse().unwrap()), Some(free));
        assert_eq!(plans.quote(&"nobody/model".parse().unwrap()), None);
    }

    #[tokio::test]
    async fn what_is_unknown_is_named_with_what_there_is() {
        let plans = plans();
        for (model, release, told) in [
            ("greed", None, "greet"),
            ("greet@3", None, "1, 2"),
            ("greet", Some("other@1"), "1, 2"),
            ("nobody/model", None, "sim"),
            ("sim/", None, "provider/model"),
        ] {
            let failure = plans.resolve(&address(model, release)).unwrap_err();
            assert_eq!(failure.refusal, Refusal::NotFound, "{model}");
            assert!(failure.message.contains(told), "{model}: {}", failure.message);
        }
        let long = plans.resolve(&address(&"x".repeat(10_000), None)).unwrap_err();
        assert!(long.message.len() < 300, "no error grows with its input");
        let call = Some("Not A Call".to_owned());
        let wrong = Address { call, ..address("sim/model", None) };
        assert_eq!(plans.resolve(&wrong).unwrap_err().param.as_deref(), Some("x-backstay-call"));
    }
}
