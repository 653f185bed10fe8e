//! What other tools are given of a project: files for Prometheus and for Grafana, made of the calls and
//! budgets alone, so that the same project always makes the same bytes. Nothing is read or written
//! here.

mod board;
mod grafana;
mod prometheus;
mod promql;
mod rules;

pub(crate) use grafana::grafana;
pub(crate) use prometheus::prometheus;

use anyhow::Context;
use serde::Serialize;

/// One file.
#[derive(Debug, Serialize)]
pub(crate) struct File {
    /// Where it belongs, relative to where it is written.
    pub(crate) path: &'static str,
    /// What is in it.
    pub(crate) content: String,
}

impl File {
    /// A file of YAML that begins with `head`, each line of which becomes a comment.
    fn yaml(path: &'static str, head: &str, value: &impl Serialize) -> anyhow::Result<Self> {
        let body = serde_saphyr::to_string(value).with_context(|| format!("writing {path}"))?;
        let head = head.lines().map(|line| format!("# {line}").trim_end().to_owned() + "\n");
        let content = head.chain([body]).collect();
        Ok(Self { path, content })
    }
}

#[cfg(test)]
mod tests;
