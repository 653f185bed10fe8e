//! Short texts: mistakes, keys, answers, lists.

use std::{
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use backstay_core::{
    config::{Mistake, Project},
    failure::FailureClass,
    price::Nano,
};
use backstay_providers::sim::Fault;
use backstay_store::KeyRow;
use serde_json::{Value, json};

use super::prices::dollars;
use super::{BAD, BOLD, DIM, GOOD, WARN, json_line, moment, out, styled, tell, written};

/// The last word of a command that failed.
pub(crate) fn error(error: &anyhow::Error) {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many an error tells its cause itself.
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    tell(&format!("{} {text}", styled(BAD, "error:")));
}

/// The line that scripts wait for, on stderr.
pub(crate) fn listening(address: SocketAddr) {
    tell(&format!("listening on http://{address}"));
}

pub(crate) fn mistakes(mistakes: &[Mistake]) {
    for mistake in mistakes {
        tell(&format!("{mistake}\n"));
    }
    let n = mistakes.len();
    let word = if n == 1 { "mistake" } else { "mistakes" };
    tell(&styled(BAD, &format!("{n} {word}")));
}

pub(crate) fn mistakes_json(mistakes: &[Mistake]) -> anyhow::Result<()> {
    let list = mistakes.iter().map(|mistake| {
        json!({
            "file": mistake.file, "line": mistake.line, "column": mistake.column,
            "key": mistake.key, "reason": mistake.reason, "remedy": mistake.remedy,
        })
    });
    json_line(&json!({"ok": false, "mistakes": list.collect::<Vec<_>>()}))
}

pub(crate) fn sound(project: &Project, warnings: &[String], json: bool) -> anyhow::Result<()> {
    let calls: Vec<_> = project.calls.keys().collect();
    if json {
        let digests = project.calls.values().map(|spec| spec.digest());
        let calls: Vec<_> = calls.iter().zip(digests).collect();
        return json_line(
            &json!({"ok": true, "mistakes": [], "warnings": warnings, "calls": calls}),
        );
    }
    let mut out = out();
    writeln!(out, "{} no mistakes", styled(GOOD, "ok:"))?;
    let widest = calls.iter().map(|name| name.len()).max().unwrap_or_default();
    for spec in project.calls.values() {
        let route: Vec<_> = spec.route.iter().map(ToString::to_string).collect();
        let digest = spec.digest();
        let short = digest.get(..19).unwrap_or(&digest);
        writeln!(
            out,
            "  {}  {}  {}",
            styled(BOLD, &format!("{:<widest$}", spec.call)),
            route.join(" → "),
            styled(DIM, short)
        )?;
    }
    Ok(())
}

pub(crate) fn initialised(dir: &Path, files: &[PathBuf], json: bool) -> anyhow::Result<()> {
    if json {
        return json_line(&json!({"dir": dir, "files": files}));
    }
    let mut out = out();
    for file in files {
        writeln!(out, "  wrote {}", file.display())?;
    }
    let here = dir == Path::new(".");
    let dir = if here { String::new() } else { format!(" {}", dir.display()) };
    writeln!(out, "\nNext:")?;
    writeln!(out, "  backstay check{dir}")?;
    writeln!(out, "  backstay serve{dir}")?;
    written(writeln!(out, "  backstay call hello --input name=Ada      # in another terminal"))
}

pub(crate) fn key_made(key: &str, row: &KeyRow, json: bool) -> anyhow::Result<()> {
    if json {
        return json_line(&json!({"id": row.id, "name": row.name, "key": key}));
    }
    let mut out = out();
    writeln!(out, "{}", styled(BOLD, key))?;
    tell(&format!(
        "This is the key `{}`. Only its hash is kept: it cannot be shown again.",
        row.name
    ));
    Ok(())
}

pub(crate) fn keys(rows: &[KeyRow], json: bool) -> anyhow::Result<()> {
    for row in rows.iter().filter(|_| json) {
        json_line(&json!({
            "id": row.id, "name": row.name,
            "created_ms": row.created_ms, "revoked_ms": row.revoked_ms,
        }))?;
    }
    if json {
        return Ok(());
    }
    let mut out = out();
    if rows.is_empty() {
        return written(writeln!(
            out,
            "There are no keys: the gateway answers everyone on this machine, and nobody else.\n\
             Make one with `backstay keys create NAME`; from then on every request needs a key."
        ));
    }
    for row in rows {
        let state = row.revoked_ms.map_or_else(
            || styled(GOOD, "in force"),
            |at| styled(DIM, &format!("revoked {}", moment(at))),
        );
        writeln!(out, "{}  {:<24}  made {}  {state}", row.id, row.name, moment(row.created_ms))?;
    }
    Ok(())
}

pub(crate) fn key_revoked(row: &KeyRow, json: bool) -> anyhow::Result<()> {
    if json {
        return json_line(&json!({"id": row.id, "name": row.name, "revoked_ms": row.revoked_ms}));
    }
    written(writeln!(
        out(),
        "revoked {} ({}); running gateways notice within a second",
        row.id,
        row.name
    ))
}

/// Every failure class by name, for complaints about a wrong one.
pub(crate) fn classes() -> String {
    let mut names: Vec<_> = FailureClass::ALL.iter().map(|class| class.name()).collect();
    names.dedup();
    names.join(", ")
}

pub(crate) fn faults(json: bool) -> anyhow::Result<()> {
    if json {
        for fault in Fault::ALL {
            json_line(&json!({"fault": fault.name(), "what": fault.about()}))?;
        }
        return Ok(());
    }
    let mut out = out();
    for fault in Fault::ALL {
        writeln!(out, "{:<24} {}", fault.name(), fault.about())?;
    }
    Ok(())
}

pub(crate) fn answer(answer: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return json_line(answer);
    }
    let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if answer.get("error").is_some() {
        let (class, message) = (text("/error/type"), text("/error/message"));
        tell(&format!("{} {message}", styled(BAD, &format!("{class}:"))));
        tell(&styled(DIM, text("/error/call_id")));
        return Ok(());
    }
    written(writeln!(out(), "{}", text("/text")))?;
    let mark = match text("/degraded") {
        "none" | "" => String::new(),
        how => styled(WARN, &format!(" → {how}")),
    };
    let (id, outcome, release) = (text("/id"), text("/outcome"), text("/release"));
    let facts = format!("{id}  {release}  {outcome}{}", cost_of(answer));
    tell(&format!("{}{mark}", styled(DIM, &facts)));
    Ok(())
}

/// What a native answer says of its cost, if anything was used.
fn cost_of(answer: &Value) -> String {
    if answer.get("usage").is_none_or(Value::is_null) {
        return String::new();
    }
    match answer.get("cost_usd").and_then(Value::as_f64) {
        Some(0.0) => "  free".to_owned(),
        Some(usd) => {
            let exact = Nano::from_dollars(usd).map(|cost| dollars(cost.0));
            let estimated = answer.pointer("/usage/estimated") == Some(&Value::Bool(true));
            let about = if estimated { "~" } else { "" };
            format!("  {about}{}", exact.unwrap_or_else(|_| format!("${usd}")))
        }
        None => "  cost unknown".to_owned(),
    }
}

/// A completion script.
pub(crate) fn completions(script: &[u8]) -> anyhow::Result<()> {
    written(out().write_all(script))
}
