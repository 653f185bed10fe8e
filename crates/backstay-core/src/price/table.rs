//! The vendored table of prices: `prices/genai-prices.json`, made by `cargo xtask prices` from
//! pydantic/genai-prices (MIT; its licence stands beside the file).
//!
//! A provider is known by the address that its requests go to, never by a name that a project gave it.
//! Nothing here is ever fetched: a newer table comes with a newer Backstay.

use std::sync::{Arc, LazyLock};

use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Day, Tariff};

/// The table as it stands in the file.
const FILE: &str = include_str!("../../prices/genai-prices.json");

/// Read when it is asked for the first time. That the file can be read is proved by a test; if it could
/// not, no price would be known.
static VENDORED: LazyLock<Table> = LazyLock::new(|| Table::read(FILE).unwrap_or_default());

/// Prices of models, by provider.
#[derive(Debug, Default, Deserialize)]
pub struct Table {
    /// Where the prices come from: `pydantic/genai-prices`.
    pub source: String,
    /// The version that was taken.
    pub version: String,
    /// Under which licence.
    pub licence: String,
    /// The day on which that version appeared, `2026-11-10`.
    pub date: String,
    providers: Vec<TableProvider>,
}

/// The prices of one provider.
#[derive(Debug, Deserialize)]
pub struct TableProvider {
    /// Its name in the table.
    pub id: String,
    /// What its addresses look like.
    address: Pattern,
    /// Providers whose models it serves too, at their prices.
    #[serde(default)]
    also: Vec<String>,
    models: Vec<TableModel>,
}

/// The prices of one model.
#[derive(Debug, Deserialize)]
pub struct TableModel {
    /// Its name in the table.
    pub id: String,
    /// The names that stand for it; without any, its `id`.
    #[serde(default, rename = "match")]
    names: Option<Clause>,
    /// Its prices over time.
    pub prices: Arc<Tariff>,
}

/// Which names a model goes by.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Clause {
    Equals(String),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Regex(Pattern),
    Or(Vec<Self>),
    And(Vec<Self>),
    Not(Box<Self>),
}

/// A regular expression, compiled.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Pattern(Regex);

impl TryFrom<String> for Pattern {
    type Error = regex::Error;
    fn try_from(text: String) -> Result<Self, regex::Error> {
        Regex::new(&text).map(Self)
    }
}

impl Clause {
    /// Whether `name`, in small letters, is meant.
    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Equals(text) => name == text,
            Self::StartsWith(text) => name.starts_with(text.as_str()),
            Self::EndsWith(text) => name.ends_with(text.as_str()),
            Self::Contains(text) => name.contains(text.as_str()),
            Self::Regex(pattern) => pattern.0.is_match(name),
            Self::Or(any) => any.iter().any(|clause| clause.fits(name)),
            Self::And(all) => all.iter().all(|clause| clause.fits(name)),
            Self::Not(clause) => !clause.fits(name),
        }
    }
}

impl Table {
    /// The table that this version of Backstay comes with.
    #[must_use]
    pub fn vendored() -> &'static Self {
        &VENDORED
    }

    fn read(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// As the command line and the API tell it.
    #[must_use]
    pub fn json(&self, unix_ms: u64) -> Value {
        json!({
            "source": self.source,
            "version": self.version,
            "licence": self.licence,
            "date": self.date,
            "age_days": self.age_days(unix_ms),
        })
    }

    /// How many days old it is; `None` where the clock stands before its date.
    #[must_use]
    pub fn age_days(&self, unix_ms: u64) -> Option<u64> {
        Day::of(unix_ms).0.checked_sub(Day::parse(&self.date)?.0)
    }

    /// The provider that is called `id` in the table.
    #[must_use]
    pub fn provider_named(&self, id: &str) -> Option<&TableProvider> {
        self.providers.iter().find(|provider| provider.id == id)
    }

    /// The provider whose requests go to `base_url`.
    #[must_use]
    pub fn provider_at(&self, base_url: &str) -> Option<&TableProvider> {
        self.providers.iter().find(|provider| provider.address.0.is_match(base_url))
    }

    /// The model that a provider calls `name`, with the provider whose price it is.
    #[must_use]
    pub fn model<'t>(
        &'t self,
        provider: &'t TableProvider,
        name: &str,
    ) -> Option<(&'t TableProvider, &'t TableModel)> {
        let name = name.to_lowercase();
        self.model_in_small_letters(provider, &name).or_else(|| {
            // Gateways write the date of a model without its hyphens.
            let spelt = with_hyphens(&name)?;
            self.model_in_small_letters(provider, &spelt)
        })
    }

    fn model_in_small_letters<'t>(
        &'t self,
        provider: &'t TableProvider,
        name: &str,
    ) -> Option<(&'t TableProvider, &'t TableModel)> {
        let others = provider.also.iter();
        let others = others.filter_map(|id| self.provider_named(id));
        std::iter::once(provider)
            .chain(others)
            .find_map(|owner| owner.models.iter().find(|m| m.fits(name)).map(|m| (owner, m)))
    }

    /// Every provider that has a model of this name itself.
    pub fn everywhere(
        &self,
        name: &str,
    ) -> impl Iterator<Item = (&TableProvider, &TableModel)> + use<'_> {
        let name = name.to_lowercase();
        self.providers.iter().filter_map(move |provider| {
            let found = provider.models.iter().find(|model| model.fits(&name))?;
            Some((provider, found))
        })
    }
}

impl TableModel {
    fn fits(&self, name: &str) -> bool {
        match &self.names {
            Some(clause) => clause.fits(name),
            None => self.id.to_lowercase() == name,
        }
    }
}

/// `gpt-5.2-2025-12-11` for `gpt-5.2-20251211`.
fn with_hyphens(name: &str) -> Option<String> {
    let (head, date) = name.rsplit_once('-')?;
    let dated = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    let (year, rest) = dated.then(|| date.split_at_checked(4))??;
    let (month, day) = rest.split_at_checked(2)?;
    Some(format!("{head}-{year}-{month}-{day}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(base_url: &str, name: &str) -> Option<(String, String)> {
        let table = Table::vendored();
        let (owner, model) = table.model(table.provider_at(base_url)?, name)?;
        Some((owner.id.clone(), model.id.clone()))
    }

    #[test]
    fn the_file_can_be_read_and_says_where_it_is_from() {
        let table = Table::read(FILE).unwrap();
        assert_eq!(
            (table.source.as_str(), table.licence.as_str()),
            ("pydantic/genai-prices", "MIT")
        );
        assert!(table.providers.len() > 30 && Day::parse(&table.date).is_some());
        let models: usize = table.providers.iter().map(|provider| provider.models.len()).sum();
        let priced = table.providers.iter().flat_map(|provider| &provider.models);
        let priced = priced.filter(|model| !model.prices.is_empty()).count();
        assert!(priced > 2_000 && priced * 10 > models * 9, "{priced} of {models}");
    }

    #[test]
    fn models_are_found_by_the_rules_of_the_table() {
        let openai = "https://api.openai.com/v1";
        let some = |owner: &str, id: &str| Some((owner.to_owned(), id.to_owned()));
        for (base_url, name, found) in [
            (openai, "gpt-5-mini", some("openai", "gpt-5-mini")),
            (openai, "GPT-5-Mini", some("openai", "gpt-5-mini")),
            (openai, "gpt-5-mini-2025-08-07", some("openai", "gpt-5-mini")),
            (openai, "gpt-5-mini-20250807", some("openai", "gpt-5-mini")),
            (openai, "claude-haiku-4-5", None),
            (
                "https://api.anthropic.com/v1",
                "claude-haiku-4-5",
                some("anthropic", "claude-haiku-4-5"),
            ),
            (
                "https://api.anthropic.com/v1",
                "claude-haiku-4-5-20251001",
                some("anthropic", "claude-haiku-4-5"),
            ),
            // What Azure serves of others costs what it costs there.
            ("https://us.openai.azure.com/openai", "gpt-5-mini", some("openai", "gpt-5-mini")),
            ("http://127.0.0.1:8000/v1", "gpt-5-mini", None),
            ("https://llm.example.com/v1", "gpt-5-mini", None),
        ] {
            assert_eq!(model(base_url, name), found, "{base_url} {name}");
        }
        assert!(Table::vendored().everywhere("gpt-5-mini").count() > 1);
    }

    #[test]
    fn clauses_of_every_kind() {
        let clause: Clause = serde_json::from_str(
            r#"{"and": [{"or": [{"starts_with": "a"}, {"ends_with": "z"}, {"regex": "^[0-9]$"}]},
                {"not": {"contains": "-tts"}}]}"#,
        )
        .unwrap();
        for (name, fits) in
            [("ab", true), ("xz", true), ("7", true), ("77", false), ("a-tts", false)]
        {
            assert_eq!(clause.fits(name), fits, "{name}");
        }
    }

    #[test]
    fn its_age_is_in_days() {
        let table = Table { date: "1970-01-11".to_owned(), ..Table::default() };
        assert_eq!(table.age_days(12 * super::super::DAY_MS), Some(2));
        assert_eq!(table.age_days(0), None);
    }
}
