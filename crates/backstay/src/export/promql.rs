//! Expressions that both rules and dashboards are made of.

use backstay_core::{
    failure::{FailureClass, Rung},
    record::Outcome,
};

/// The windows over which errors are summed. The short ones are recorded often, the long ones seldom.
pub(super) const SHORT: [&str; 4] = ["5m", "30m", "1h", "2h"];
pub(super) const LONG: [&str; 3] = ["6h", "1d", "3d"];

/// Outcomes that say nothing of the model, as a regular expression: they are neither successes nor
/// errors.
pub(super) fn neutral() -> String {
    let classes = FailureClass::ALL.into_iter().filter(|class| class.row().reached.is_none());
    let mut names: Vec<_> = classes.map(FailureClass::name).collect();
    names.dedup();
    names.join("|")
}

/// A selector of calls that say something of the model.
pub(super) fn counted(more: &str) -> String {
    format!("backstay_calls_total{{outcome!~\"{}\"{more}}}", neutral())
}

/// A selector of calls that failed.
pub(super) fn errors(more: &str) -> String {
    format!("backstay_calls_total{{outcome!~\"ok|repaired|{}\"{more}}}", neutral())
}

/// The share of calls that got at least up to `rung`. Where classes of one name got to several rungs,
/// the lowest counts.
pub(super) fn reached(rung: Rung, more: &str, window: &str) -> String {
    let lowest = |name: &str| {
        let alike = FailureClass::ALL.into_iter().filter(|class| class.name() == name);
        alike.filter_map(|class| Outcome::Failed(class).rung()).min()
    };
    let mut names = vec![Outcome::Ok.name(), Outcome::Repaired.name()];
    let failed = FailureClass::ALL.into_iter().map(FailureClass::name);
    names.extend(failed.filter(|name| lowest(name).is_some_and(|lowest| lowest >= rung)));
    names.dedup();
    let names = names.join("|");
    format!(
        "sum(rate(backstay_calls_total{{outcome=~\"{names}\"{more}}}[{window}])) / \
         sum(rate({}[{window}]))",
        counted(more)
    )
}

/// The share of failed calls, by the labels in `by`.
pub(super) fn error_ratio(by: &str, more: &str, window: &str) -> String {
    let (errors, counted) = (errors(more), counted(more));
    format!("sum by ({by}) (rate({errors}[{window}])) / sum by ({by}) (rate({counted}[{window}]))")
}

/// A quantile of a histogram's classic buckets.
pub(super) fn quantile(q: &str, histogram: &str, by: &str, more: &str) -> String {
    let window = "$__rate_interval";
    quantile_over(window, q, &format!("{histogram}_bucket{{{more}}}"), by)
}

/// The same over a window that is given, of a selector of buckets.
pub(super) fn quantile_over(window: &str, q: &str, buckets: &str, by: &str) -> String {
    format!("histogram_quantile({q}, sum by ({by}, le) (rate({buckets}[{window}])))")
}
