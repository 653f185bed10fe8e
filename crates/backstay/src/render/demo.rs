//! What the demo tells.

use std::{io::Write, net::SocketAddr, path::Path};

use backstay_store::Counts;
use serde_json::{Value, json};

use super::{BAD, BOLD, DIM, GOOD, WARN, json_line, out, styled, written};

/// The longest answer that is shown.
const LONGEST: usize = 68;

/// What was read of a stream in OpenAI's format.
#[derive(Debug, Default)]
pub(crate) struct Streamed {
    pub(crate) call_id: String,
    pub(crate) text: String,
    /// The error event that ended it.
    pub(crate) error: Option<Value>,
    /// Whether it ended with `[DONE]`.
    pub(crate) done: bool,
}

/// What one call of a scene brought.
pub(crate) enum SceneReport {
    Whole(Value),
    Stream(Streamed),
}

pub(crate) fn demo_begins(gateway: SocketAddr, provider: &str, json: bool) -> anyhow::Result<()> {
    if json {
        return json_line(&json!({"gateway": format!("http://{gateway}"), "provider": provider}));
    }
    let mut out = out();
    writeln!(out, "{}", styled(BOLD, "Backstay: a gateway on which no LLM call fails silently"))?;
    writeln!(out, "  gateway            http://{gateway}")?;
    written(writeln!(out, "  simulated provider {provider} (no key, no network)"))
}

pub(crate) fn scene_begins(
    title: &str,
    call: &str,
    without: &str,
    json: bool,
) -> anyhow::Result<()> {
    if json {
        return Ok(());
    }
    let mut out = out();
    writeln!(out, "\n{}  {}", styled(BOLD, title), styled(DIM, &format!("call `{call}`")))?;
    written(writeln!(out, "  {}   {without}", styled(DIM, "without")))
}

pub(crate) fn scene(call: &str, report: &SceneReport, json: bool) -> anyhow::Result<()> {
    if json {
        return json_line(&match report {
            SceneReport::Whole(answer) => json!({"call": call, "answer": answer}),
            SceneReport::Stream(stream) => json!({
                "call": call, "id": stream.call_id, "text": stream.text,
                "error": stream.error, "done": stream.done,
            }),
        });
    }
    let line = match report {
        SceneReport::Whole(answer) => whole(answer),
        SceneReport::Stream(stream) => streamed(stream),
    };
    written(writeln!(out(), "  {}  {line}", styled(DIM, "Backstay")))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn whole(answer: &Value) -> String {
    if let Some(error) = answer.get("error") {
        return format!(
            "{} {}",
            styled(BAD, text(error, "/type")),
            shorten(text(error, "/message"))
        );
    }
    let outcome = text(answer, "/outcome");
    let mark = match text(answer, "/degraded") {
        "none" => styled(if outcome == "ok" { GOOD } else { WARN }, outcome),
        how => styled(WARN, &format!("{outcome} → {how}")),
    };
    let latency = answer.pointer("/latency_ms").and_then(Value::as_u64).unwrap_or_default();
    let attempts = answer.pointer("/attempts").and_then(Value::as_array);
    let attempts: Vec<_> = attempts.into_iter().flatten().map(attempt).collect();
    let shown = shorten(text(answer, "/text"));
    let trail = if attempts.is_empty() { "not asked".to_owned() } else { attempts.join(" → ") };
    format!("{mark} in {latency} ms: {shown}\n            {}", styled(DIM, &trail))
}

fn attempt(attempt: &Value) -> String {
    let ended = attempt.pointer("/failure").and_then(Value::as_str).unwrap_or("ok");
    let ms = attempt.pointer("/ms").and_then(Value::as_u64).unwrap_or_default();
    format!("{} {ended} {ms} ms", text(attempt, "/target"))
}

fn streamed(stream: &Streamed) -> String {
    let shown = shorten(&stream.text);
    match &stream.error {
        Some(error) => format!(
            "{shown}…\n            {} {}",
            styled(BAD, &format!("error event: {}", text(error, "/type"))),
            styled(DIM, text(error, "/message"))
        ),
        None if stream.done => format!("{} {shown}", styled(GOOD, "ok")),
        None => format!("{shown} (no terminal event)"),
    }
}

fn shorten(text: &str) -> String {
    let text = text.replace('\n', " ");
    let short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

pub(crate) fn demo_ends(
    counts: &Counts,
    dir: &Path,
    gateway: SocketAddr,
    (once, json): (bool, bool),
) -> anyhow::Result<()> {
    if json {
        return json_line(&json!({"log": counts}));
    }
    let mut out = out();
    let outcomes: Vec<_> =
        counts.outcomes.iter().map(|(outcome, n)| format!("{n} {}", outcome.code())).collect();
    writeln!(out, "\n{}", styled(BOLD, "What the call log knows"))?;
    writeln!(
        out,
        "  {} calls, each with exactly one record: {}",
        counts.calls,
        outcomes.join(", ")
    )?;
    writeln!(
        out,
        "  {} failed, {} of them were answered all the same, none was empty",
        counts.failed, counts.degraded
    )?;
    if once {
        return Ok(());
    }
    let dir = dir.display();
    writeln!(
        out,
        "\n{} (Ctrl-C ends it). Its dashboard: http://{gateway}/",
        styled(BOLD, "The gateway goes on")
    )?;
    writeln!(out, "In another terminal:")?;
    writeln!(out, "  backstay log --dir {dir}")?;
    writeln!(out, "  backstay show ID --dir {dir}")?;
    writeln!(out, "  backstay call hangs --input review=\"Too salty.\" --server http://{gateway}")?;
    written(writeln!(
        out,
        "  curl http://{gateway}/v1/chat/completions --json '{{\"model\": \"flaky/500\", \
         \"messages\": [{{\"role\": \"user\", \"content\": \"hi\"}}]}}'"
    ))
}
