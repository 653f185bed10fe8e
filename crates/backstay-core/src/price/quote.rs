//! Which price holds for a target, and who says so: the project first, then the vendored table.

use serde_json::{Map, Value, json};

use super::{
    Nano, Price, Rate,
    table::{Table, TableModel, TableProvider},
};

/// A price that the project names itself, for all targets that its pattern fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceRule {
    /// `provider/model`, where `*` stands for any characters.
    pub pattern: String,
    /// What those targets cost.
    pub price: Price,
}

impl PriceRule {
    /// Rules sorted by this are asked in the right order: a name without `*` first, then the pattern
    /// that says most.
    #[must_use]
    pub fn order(&self) -> impl Ord + use<> {
        let said = self.pattern.chars().filter(|c| *c != '*').count();
        (self.pattern.contains('*'), std::cmp::Reverse(said), self.pattern.clone())
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any characters, none included.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// Who says a price, or why nobody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The project, under this pattern.
    Project(String),
    /// Simulated answers cost nothing.
    Simulated,
    /// The vendored table.
    Table {
        /// The provider in the table.
        provider: String,
        /// The model in the table.
        model: String,
    },
    /// The table has no provider at the address that requests go to.
    NoProvider,
    /// The table does not know the model.
    NoModel {
        /// The provider in the table.
        provider: String,
    },
    /// The table knows the model, but no price for its tokens.
    NoPrice {
        /// The provider in the table.
        provider: String,
        /// The model in the table.
        model: String,
    },
}

impl Source {
    /// The same for people, in a few words.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Project(pattern) => format!("[prices.\"{pattern}\"]"),
            Self::Simulated => "simulated".to_owned(),
            Self::Table { provider, model } => format!("table: {provider} {model}"),
            Self::NoProvider => "the table knows no provider at its address".to_owned(),
            Self::NoModel { provider } => format!("the table knows no such model of {provider}"),
            Self::NoPrice { provider, model } => {
                format!("the table knows no price of {provider} {model}")
            }
        }
    }

    const fn name(&self) -> Option<&'static str> {
        match self {
            Self::Project(_) => Some("project"),
            Self::Simulated => Some("simulated"),
            Self::Table { .. } => Some("table"),
            Self::NoProvider | Self::NoModel { .. } | Self::NoPrice { .. } => None,
        }
    }
}

/// What a target costs, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The price.
    pub price: Price,
    /// Who says so.
    pub source: Source,
}

impl Quote {
    /// What a model of the table costs.
    #[must_use]
    pub fn of_model(owner: &TableProvider, model: &TableModel) -> Self {
        let (provider, id) = (owner.id.clone(), model.id.clone());
        let price = Price::of(&model.prices);
        let source = match price {
            Price::Known(_) | Price::Free => Source::Table { provider, model: id },
            Price::Unknown => Source::NoPrice { provider, model: id },
        };
        Self { price, source }
    }

    /// What to write into `backstay.toml` for `target`, where its price is not known. A server that the
    /// table does not know is most likely one's own.
    #[must_use]
    pub fn remedy(&self, target: &str) -> Option<String> {
        let lines = match self.source {
            _ if self.price != Price::Unknown => return None,
            Source::NoProvider => {
                "free = true      # or what it costs, for a million tokens: input = 0.5 and output = 1.5"
            }
            Source::Project(_)
            | Source::Simulated
            | Source::Table { .. }
            | Source::NoModel { .. }
            | Source::NoPrice { .. } => {
                "input = 0.5      # what its provider says that a million tokens cost, in US dollars\n\
                 output = 1.5     # see also: cache_read, cache_write, reasoning; or only: free = true"
            }
        };
        Some(format!("[prices.{}]\n{lines}", Value::from(target)))
    }

    /// As the command line and the API tell it: `state` is `priced`, `free` or `unknown`; prices, at
    /// `unix_ms` and for short inputs, are in US dollars for a million tokens.
    #[must_use]
    pub fn json(&self, unix_ms: u64) -> Value {
        let rates = match &self.price {
            Price::Known(tariff) => tariff.at(unix_ms).map(|rates| (tariff, rates)),
            Price::Free | Price::Unknown => None,
        };
        let prices = rates.map(|(_, rates)| -> Map<String, Value> {
            let dollars =
                |(name, rate): (&str, &Rate)| (name.to_owned(), rate.at(0).dollars().into());
            rates.named().map(dollars).collect()
        });
        json!({
            "state": self.price.state(),
            "source": self.source.name(),
            "why": self.source.told(),
            "usd_per_million": prices,
            "usd_per_request": rates.and_then(|(_, rates)| rates.request).map(Nano::dollars),
            "more_for_long_inputs": rates.is_some_and(|(_, rates)| rates.has_tiers()),
            "by_time_of_day": rates.is_some_and(|(tariff, _)| tariff.varies_daily()),
        })
    }
}

/// Targets with what they cost at `unix_ms`, and the table, as the command line and the API tell it.
#[must_use]
pub fn listing<'q>(rows: impl IntoIterator<Item = (String, &'q Quote)>, unix_ms: u64) -> Value {
    let targets = rows.into_iter().map(|(target, quote)| {
        let mut told = quote.json(unix_ms);
        if let Some(fields) = told.as_object_mut() {
            fields.insert("remedy".to_owned(), quote.remedy(&target).into());
            fields.insert("target".to_owned(), target.into());
        }
        told
    });
    let targets: Vec<_> = targets.collect();
    json!({ "table": Table::vendored().json(unix_ms), "targets": targets })
}

/// Where a provider's own prices are.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Simulated,
    Table(&'static TableProvider),
    Nowhere,
}

/// How the models of one provider come to their prices.
#[derive(Clone, Debug)]
pub struct ProviderPrices {
    /// The provider's name in the project, with its slash.
    prefix: String,
    /// In the order in which they are asked.
    rules: Vec<PriceRule>,
    origin: Origin,
}

impl ProviderPrices {
    /// Prices of a provider that is called `name` in the project and reached at `base_url`; `None` for
    /// a simulated one. Of `rules` it keeps those that can be about it.
    #[must_use]
    pub fn new(name: &str, base_url: Option<&str>, rules: &[PriceRule]) -> Self {
        let prefix = format!("{name}/");
        let concerns = |rule: &&PriceRule| {
            let literal = rule.pattern.split('*').next().unwrap_or_default();
            literal.starts_with(&prefix) || prefix.starts_with(literal)
        };
        let mut rules: Vec<_> = rules.iter().filter(concerns).cloned().collect();
        rules.sort_by_cached_key(PriceRule::order);
        let origin = base_url.map_or(Origin::Simulated, |base_url| {
            Table::vendored().provider_at(base_url).map_or(Origin::Nowhere, Origin::Table)
        });
        Self { prefix, rules, origin }
    }

    /// What a model of the provider costs.
    #[must_use]
    pub fn quote(&self, model: &str) -> Quote {
        let target = format!("{}{model}", self.prefix);
        if let Some(rule) = self.rules.iter().find(|rule| fits(&rule.pattern, &target)) {
            let source = Source::Project(rule.pattern.clone());
            return Quote { price: rule.price.clone(), source };
        }
        match self.origin {
            Origin::Simulated => Quote { price: Price::Free, source: Source::Simulated },
            Origin::Nowhere => Quote { price: Price::Unknown, source: Source::NoProvider },
            Origin::Table(provider) => of_table(provider, model),
        }
    }
}

fn of_table(provider: &'static TableProvider, name: &str) -> Quote {
    match Table::vendored().model(provider, name) {
        Some((owner, model)) => Quote::of_model(owner, model),
        None => {
            let provider = provider.id.clone();
            Quote { price: Price::Unknown, source: Source::NoModel { provider } }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::price::{Rates, Tariff};

    fn rule(pattern: &str, dollars: u64) -> PriceRule {
        let rate = Some(Rate::flat(Nano(dollars * 1_000_000_000)));
        let rates = Rates { input: rate.clone(), output: rate, ..Rates::default() };
        let price = Price::Known(Tariff::always(rates).into());
        PriceRule { pattern: pattern.to_owned(), price }
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, fitting) in [
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
            ("a/*", "a/", true),
            ("a/*", "a/b/c", true),
            ("*/gpt-*", "x/gpt-5", true),
            ("*/gpt-*", "x/y", false),
            ("a/*-mini", "a/gpt-5-mini", true),
            ("a/*-mini", "a/-mini-mini", true),
            ("a/*x*y", "a/xy", true),
            ("a/*x*y", "a/yx", false),
            ("*", "anything", true),
        ] {
            assert_eq!(fits(pattern, text), fitting, "{pattern} {text}");
        }
    }

    #[test]
    fn the_project_comes_first_and_its_most_exact_word_of_all() {
        let openai = Some("https://api.openai.com/v1");
        let rules = [rule("*", 1), rule("mine/*", 2), rule("mine/gpt-*", 3), rule("mine/gpt-5", 4)];
        let prices = ProviderPrices::new("mine", openai, &rules);
        for (model, pattern) in
            [("gpt-5", "mine/gpt-5"), ("gpt-5-mini", "mine/gpt-*"), ("o3", "mine/*")]
        {
            assert_eq!(prices.quote(model).source, Source::Project(pattern.to_owned()));
        }
        let other = ProviderPrices::new("min", openai, &rules);
        assert_eq!(other.quote("gpt-5").source, Source::Project("*".to_owned()));
    }

    #[test]
    fn what_nobody_knows_is_unknown_and_says_why() {
        let quote = |base_url, model| ProviderPrices::new("p", base_url, &[]).quote(model);
        let known = quote(Some("https://api.openai.com/v1"), "gpt-5-mini");
        let (provider, model) = ("openai".to_owned(), "gpt-5-mini".to_owned());
        assert!(matches!(known.price, Price::Known(_)));
        assert_eq!(known.source, Source::Table { provider: provider.clone(), model });
        let simulated = Quote { price: Price::Free, source: Source::Simulated };
        assert_eq!(quote(None, "gpt-5-mini"), simulated);
        for (base_url, model, source) in [
            ("http://127.0.0.1:8000/v1", "gpt-5-mini", Source::NoProvider),
            ("https://api.openai.com/v1", "no-such-model", Source::NoModel { provider }),
            (
                "https://generativelanguage.googleapis.com/v1beta/openai",
                "gemma-3",
                Source::NoPrice { provider: "google".to_owned(), model: "gemma-3".to_owned() },
            ),
        ] {
            assert_eq!(quote(Some(base_url), model), Quote { price: Price::Unknown, source });
        }
    }

    #[test]
    fn a_remedy_is_toml_whatever_the_name_is() {
        let own = Source::NoProvider;
        let hosted = Source::NoModel { provider: "openai".to_owned() };
        for (source, key) in [(own, "free"), (hosted, "output")] {
            let unknown = Quote { price: Price::Unknown, source };
            for target in ["local/llama", "local/a \"quoted\" name"] {
                let text = unknown.remedy(target).unwrap();
                let document: toml::Table = text.parse().unwrap();
                assert!(document["prices"][target].get(key).is_some(), "{text}");
            }
        }
        let free = Quote { price: Price::Free, source: Source::Simulated };
        assert_eq!(free.remedy("sim/ok"), None);
    }

    proptest! {
        /// Against the same rule as a regular expression.
        #[test]
        fn patterns_fit_as_regular_expressions_do(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            let regex = format!("^{}$", pattern.replace('*', ".*"));
            let oracle = regex::Regex::new(&regex).unwrap();
            prop_assert_eq!(fits(&pattern, &text), oracle.is_match(&text));
        }
    }
}
