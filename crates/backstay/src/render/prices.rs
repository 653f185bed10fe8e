//! Prices: of targets, and what calls have cost.

use std::io::Write;

use backstay_core::{
    price::{
        Price, Rate, Rates,
        quote::{Quote, listing},
        table::Table,
    },
    record::{Cost, Usage},
};
use serde_json::{Value, json};

use super::{BOLD, DIM, WARN, json_line, out, styled, tell};

/// A cost as people read it; `–` where nothing was used. `~` says that the tokens are estimated.
pub(crate) fn money(cost: Option<Cost>, usage: Option<Usage>) -> String {
    let about = if usage.is_some_and(|usage| usage.estimated) { "~" } else { "" };
    match cost {
        Some(Cost::Priced(nano)) => format!("{about}{}", dollars(nano)),
        Some(Cost::Free) => "free".to_owned(),
        Some(Cost::Unknown) => "unknown".to_owned(),
        None => "–".to_owned(),
    }
}

/// US dollars to a millionth, with two decimals at least.
pub(crate) fn dollars(nano: u64) -> String {
    let micro = nano / 1_000 + u64::from(nano % 1_000 >= 500);
    if micro == 0 && nano > 0 {
        return "<$0.000001".to_owned();
    }
    let text = format!("${}.{:06}", micro / 1_000_000, micro % 1_000_000);
    let least = text.len().saturating_sub(4);
    let (head, tail) = text.split_at_checked(least).unwrap_or((&text, ""));
    format!("{head}{}", tail.trim_end_matches('0'))
}

/// A cost in JSON.
pub(crate) fn cost_json(cost: Option<Cost>) -> Value {
    cost.map_or(Value::Null, |cost| json!({"state": cost.state(), "usd": cost.usd()}))
}

pub(crate) fn prices(rows: &[(String, Quote)], now_ms: u64, json: bool) -> anyhow::Result<()> {
    let table = Table::vendored();
    if json {
        let rows = rows.iter().map(|(target, quote)| (target.clone(), quote));
        return json_line(&listing(rows, now_ms));
    }
    let mut out = out();
    if rows.is_empty() {
        writeln!(out, "The project has no calls, and so no targets to price.")?;
    } else {
        let width = rows.iter().map(|(target, _)| target.len()).max().unwrap_or_default().max(6);
        let head = format!(
            "{:<width$}  {:>9}  {:>9}  {:>9}  {:>9}  FROM",
            "TARGET", "INPUT", "CACHED", "WRITTEN", "OUTPUT"
        );
        writeln!(out, "{}", styled(DIM, &head))?;
        for (target, quote) in rows {
            writeln!(out, "{}", line(target, width, quote, now_ms))?;
        }
    }
    let age = table.age_days(now_ms).map(|days| format!(", {days} days old")).unwrap_or_default();
    let source = format!(
        "US dollars for a million tokens. Table: {} {} ({}) of {}{age}.",
        table.source, table.version, table.licence, table.date
    );
    writeln!(out, "\n{}", styled(DIM, &source))?;
    for (target, quote) in rows {
        if let Some(remedy) = quote.remedy(target) {
            let why = quote.source.told();
            writeln!(out, "\n{} {why}. In backstay.toml:", styled(BOLD, &format!("{target}:")))?;
            writeln!(out, "\n{remedy}")?;
        }
    }
    Ok(())
}

fn line(target: &str, width: usize, quote: &Quote, now_ms: u64) -> String {
    let (input, cached, written, output, note) = match &quote.price {
        Price::Known(tariff) => {
            let nothing = Rates::default();
            let rates = tariff.at(now_ms).unwrap_or(&nothing);
            let long = if rates.has_tiers() { ", more for long inputs" } else { "" };
            let daily = if tariff.varies_daily() { ", at this time of the day" } else { "" };
            let fee = rates.request.map(|fee| format!(", and {} a request", dollars(fee.0)));
            let note = format!("{long}{daily}{}", fee.unwrap_or_default());
            let (input, output) = (amount(rates.input.as_ref()), amount(rates.output.as_ref()));
            let cached = amount(rates.cache_read.as_ref());
            (input, cached, amount(rates.cache_write.as_ref()), output, note)
        }
        Price::Free => {
            ("free".to_owned(), String::new(), String::new(), String::new(), String::new())
        }
        Price::Unknown => {
            let unknown = styled(WARN, &format!("{:>9}", "unknown"));
            (unknown, String::new(), String::new(), String::new(), String::new())
        }
    };
    let from = styled(DIM, &format!("{}{note}", quote.source.told()));
    format!("{target:<width$}  {input:>9}  {cached:>9}  {written:>9}  {output:>9}  {from}")
}

fn amount(rate: Option<&Rate>) -> String {
    rate.map_or_else(|| "–".to_owned(), |rate| rate.at(0).to_string())
}

/// What `backstay check` says of targets whose cost will not be known.
pub(crate) fn warnings(warnings: &[String]) {
    for warning in warnings {
        tell(&format!("{} {warning}", styled(WARN, "warning:")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short_and_none_is_shown_as_nothing() {
        for (nano, text) in [
            (0, "$0.00"),
            (1, "<$0.000001"),
            (499, "<$0.000001"),
            (500, "$0.000001"),
            (669_500, "$0.00067"),
            (12_345_678, "$0.012346"),
            (1_500_000_000, "$1.50"),
            (2_000_000_000_000, "$2000.00"),
        ] {
            assert_eq!(dollars(nano), text);
        }
        assert_eq!(money(Some(Cost::Unknown), None), "unknown");
        let guess = Some(Usage { estimated: true, ..Usage::default() });
        assert_eq!(money(Some(Cost::Priced(1_500_000_000)), guess), "~$1.50");
    }
}
