//! `backstay prices`: what targets cost, and what to write where nobody knows.

use anyhow::bail;
use backstay_core::{
    config::Project,
    price::{Price, quote::Quote, table::Table},
    release::TargetName,
};

use super::{now_ms, sound_project};
use crate::{cli::PricesArgs, exit::Exit, render};

pub(crate) fn run(args: &PricesArgs) -> anyhow::Result<Exit> {
    let project = sound_project(&args.dir)?;
    let rows = if args.models.is_empty() {
        let quotes = project.quotes().into_iter();
        quotes.map(|(target, quote)| (target.to_string(), quote)).collect()
    } else {
        let found: anyhow::Result<Vec<_>> =
            args.models.iter().map(|name| looked_up(name, &project)).collect();
        found?.concat()
    };
    render::prices(&rows, now_ms(), args.json)?;
    let known = rows.iter().all(|(_, quote)| quote.price != Price::Unknown);
    Ok(if known || !args.check { Exit::Ok } else { Exit::Fault })
}

/// What `name` costs: as a target of the project, as one of the table, or wherever it is served.
fn looked_up(name: &str, project: &Project) -> anyhow::Result<Vec<(String, Quote)>> {
    let table = Table::vendored();
    if let Ok(target) = name.parse::<TargetName>() {
        if let Some(prices) = project.prices_of(&target.provider) {
            return Ok(vec![(name.to_owned(), prices.quote(&target.model))]);
        }
        let provider = table.provider_named(&target.provider);
        if let Some((owner, model)) = provider.and_then(|p| table.model(p, &target.model)) {
            return Ok(vec![(name.to_owned(), Quote::of_model(owner, model))]);
        }
    }
    let found = table.everywhere(name);
    let found: Vec<_> = found
        .map(|(owner, model)| (format!("{}/{name}", owner.id), Quote::of_model(owner, model)))
        .collect();
    if found.is_empty() {
        bail!(
            "neither the project nor the table of prices knows `{name}`; write provider/model, with \
             a provider of the project"
        );
    }
    Ok(found)
}
