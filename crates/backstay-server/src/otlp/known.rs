//! What the plans in force know of a call that has ended: its parameters, and where its targets are.
//!
//! It looks things up and keeps nothing. Names that a client made up are not known, so that no label
//! of a metric is a client's.

use std::{collections::HashSet, sync::Arc};

use backstay_core::{
    record::{AttemptRecord, CallRecord},
    release::CallSpec,
};
use backstay_engine::plan::{Address, Plans};
use backstay_providers::{
    provider::{Provider, Upstream},
    wire::Protocol,
};

/// What stands for names that the project does not have.
const OTHER: &str = "other";
/// Who answers where no provider was asked.
const NOBODY: &str = "backstay";

/// Hosts of providers that speak another one's format, by the end of their names.
const HOSTS: &[(&str, &str)] = &[
    ("openai.azure.com", "azure.ai.openai"),
    ("ai.azure.com", "azure.ai.inference"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("amazonaws.com", "aws.bedrock"),
    ("cohere.com", "cohere"),
    ("deepseek.com", "deepseek"),
    ("groq.com", "groq"),
    ("mistral.ai", "mistral_ai"),
    ("moonshot.ai", "moonshot_ai"),
    ("perplexity.ai", "perplexity"),
    ("x.ai", "x_ai"),
];

/// A target as the conventions see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The provider in the words of the conventions.
    pub(super) provider: &'static str,
    /// The model; `None` where no target was asked.
    pub(super) model: Option<String>,
    /// Its host and port, if it has any.
    pub(super) address: Option<(String, u16)>,
}

/// The plans in force, and the names that they have.
#[derive(Debug)]
pub(super) struct Known {
    plans: Arc<Plans>,
    calls: HashSet<String>,
    targets: HashSet<String>,
}

impl Known {
    pub(super) fn of(plans: Arc<Plans>) -> Self {
        let calls = plans.call_names().map(str::to_owned).chain(["default".to_owned()]).collect();
        let targets = plans.target_names().into_iter().collect();
        Self { plans, calls, targets }
    }

    /// Looks at `plans` from now on.
    pub(super) fn refresh(&mut self, plans: Arc<Plans>) {
        if !Arc::ptr_eq(&self.plans, &plans) {
            *self = Self::of(plans);
        }
    }

    /// The content of the release that answered, if it is still in force and one did.
    pub(super) fn with_spec<T>(
        &self,
        record: &CallRecord,
        read: impl FnOnce(&CallSpec) -> T,
    ) -> Option<T> {
        let model = record.release.clone()?;
        let plan = self.plans.resolve(&Address { model, ..Address::default() }).ok()?.0;
        Some(read(plan.spec()))
    }

    /// Where the last attempt of a call went.
    pub(super) fn place_of_call(&self, record: &CallRecord) -> Place {
        match record.attempts.last() {
            Some(last) => self.place(last),
            None => Place { provider: NOBODY, model: None, address: None },
        }
    }

    /// Where an attempt went.
    pub(super) fn place(&self, attempt: &AttemptRecord) -> Place {
        let (name, model) = attempt.target.split_once('/').unwrap_or(("", &attempt.target));
        let model = Some(model.to_owned());
        match self.plans.providers().get(name) {
            Some(plan) => {
                let address = address_of(&plan.provider);
                let host = address.as_ref().map(|(host, _)| host.as_str());
                Place { provider: provider_name(&plan.provider, host), model, address }
            }
            // The project has changed since.
            None => Place { provider: OTHER, model, address: None },
        }
    }

    /// A call as the label of a metric.
    pub(super) fn call_label<'a>(&self, call: &'a str) -> &'a str {
        if self.calls.contains(call) { call } else { OTHER }
    }

    /// Whether a target is one of the project's own.
    pub(super) fn has_target(&self, target: &str) -> bool {
        self.targets.contains(target)
    }

    /// A target as the label of a metric.
    pub(super) fn target_label<'a>(&self, target: &'a str) -> &'a str {
        if self.has_target(target) { target } else { OTHER }
    }
}

fn address_of(provider: &Provider) -> Option<(String, u16)> {
    match &provider.upstream {
        Upstream::Http(transport) => {
            let (host, port) = transport.endpoint().peer().rsplit_once(':')?;
            Some((host.to_owned(), port.parse().ok()?))
        }
        Upstream::Sim(_) => None,
    }
}

/// The provider in the words of the conventions: by its host, else by the format that it speaks.
fn provider_name(provider: &Provider, host: Option<&str>) -> &'static str {
    let Some(host) = host else { return "backstay.sim" };
    let below = |end: &str| {
        host.strip_suffix(end).is_some_and(|rest| matches!(rest.as_bytes(), [] | [.., b'.']))
    };
    let named = HOSTS.iter().find(|(end, _)| below(end)).map(|(_, name)| *name);
    named.unwrap_or_else(|| match provider.wire.protocol() {
        Protocol::OpenAi => "openai",
        Protocol::Anthropic => "anthropic",
    })
}
