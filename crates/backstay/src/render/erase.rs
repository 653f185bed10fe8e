//! What an erasure takes, or took.

use std::{io::Write, path::Path};

use backstay_store::Traces;
use serde_json::json;

use super::{BOLD, json_line, out, styled, tell, written};

/// What is there of a unit, or was if it is `erased`.
pub(crate) fn traces(traces: &Traces, erased: bool, json: bool) -> anyhow::Result<()> {
    if json {
        return json_line(&json!({
            "erased": erased,
            "calls": traces.calls(),
            "days": traces.days,
            "spooled": traces.spooled,
        }));
    }
    written(writeln!(out(), "{}", told(traces, erased)))
}

/// Asks before anything is erased.
pub(crate) fn ask_to_erase(traces: &Traces, dir: &Path) {
    tell(&told(traces, false));
    let question = format!("Erase all of it from the call log of {}, for good?", dir.display());
    tell(&format!("{} [y/N]", styled(BOLD, &question)));
}

fn told(traces: &Traces, erased: bool) -> String {
    if traces.is_empty() {
        return "The call log has nothing of this unit.".to_owned();
    }
    let mut lines: Vec<String> = Vec::new();
    for day in &traces.days {
        let part = |from, to| day.day.get(from..to).unwrap_or_default();
        let date = format!("{}-{}-{}", part(0, 4), part(4, 6), part(6, 8));
        lines.push(format!("{date}  {} calls, {} reports", day.calls, day.reports));
    }
    if traces.spooled > 0 {
        lines.push(format!("not stored yet: {} records", traces.spooled));
    }
    let sum = format!("{} calls on {} days", traces.calls(), traces.days.len());
    lines.push(if erased { format!("Erased {sum}.") } else { format!("{sum} in all.") });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use backstay_store::DayTraces;

    use super::*;

    #[test]
    fn people_are_told_days_and_sums() {
        let day = |day: &str, calls| DayTraces { day: day.to_owned(), calls, reports: 1 };
        let traces = Traces { days: vec![day("20261126", 3), day("20261125", 2)], spooled: 4 };
        let lines = [
            "2026-11-26  3 calls, 1 reports",
            "2026-11-25  2 calls, 1 reports",
            "not stored yet: 4 records",
            "Erased 5 calls on 2 days.",
        ];
        assert_eq!(told(&traces, true), lines.join("\n"));
        assert_eq!(told(&Traces::default(), true), "The call log has nothing of this unit.");
    }
}
