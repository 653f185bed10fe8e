//! All that is printed. Data goes to stdout, everything else to stderr; colours only on a terminal.

mod alerts;
mod calls;
mod demo;
mod erase;
mod export;
mod plain;
mod prices;

use std::io::{self, Write};

pub(crate) use alerts::{alerts, silenced, silences, tested, unsilenced};
pub(crate) use calls::{call, calls, more_calls};
pub(crate) use demo::{SceneReport, Streamed, demo_begins, demo_ends, scene, scene_begins};
pub(crate) use erase::{ask_to_erase, traces};
pub(crate) use export::{bare, exported, shown};
pub(crate) use plain::{
    answer, classes, completions, error, faults, initialised, key_made, key_revoked, keys,
    listening, mistakes, mistakes_json, sound,
};

pub(crate) use prices::{prices, warnings};

use anstyle::{AnsiColor, Style};
use backstay_core::record::{Degraded, Outcome};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const WARN: Style = AnsiColor::Yellow.on_default();

/// Standard output, with styles taken out where it is no terminal.
fn out() -> impl Write {
    anstream::AutoStream::auto(io::stdout().lock())
}

/// Standard error; what is said there is dropped when nobody listens any more.
fn tell(text: &str) {
    let mut err = anstream::AutoStream::auto(io::stderr().lock());
    drop(writeln!(err, "{text}"));
}

/// Whether a command ended because its reader went away (`| head`), which has what it wanted.
pub(crate) fn reader_left(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn written(result: io::Result<()>) -> anyhow::Result<()> {
    Ok(result?)
}

fn json_line(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let line = serde_json::to_string(value)?;
    written(writeln!(out(), "{line}"))
}

/// `text` in `style`.
fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// The colour of an outcome.
fn outcome_style(outcome: Outcome, degraded: Degraded) -> Style {
    match (outcome, degraded) {
        (Outcome::Ok, _) => GOOD,
        (Outcome::Repaired, _) => WARN,
        (Outcome::Failed(_), Degraded::None) => BAD,
        (Outcome::Failed(_), Degraded::Stale | Degraded::Static | Degraded::Message) => WARN,
    }
}

/// Microseconds as people read them.
fn time(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

/// A moment as `2026-11-23 14:05:09.123`, UTC.
fn moment(millis: u64) -> String {
    let seconds = std::time::Duration::from_millis(millis);
    let text = humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + seconds).to_string();
    text.trim_end_matches('Z').replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_moments() {
        assert_eq!(time(999), "999 µs");
        assert_eq!(time(1_250), "1.2 ms");
        assert_eq!(time(45_000), "45 ms");
        assert_eq!(time(1_234_567), "1.23 s");
        assert_eq!(moment(0), "1970-01-01 00:00:00.000");
    }
}
