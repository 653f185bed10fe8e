//! What is exported of a fixed project, and that it asks for nothing that is not there.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use backstay_core::config::{CallSources, Project, SourceFile, Sources, check};
use backstay_server::metrics::METRICS;
use regex::Regex;
use serde_json::Value;

use super::{File, grafana, prometheus};

fn project() -> Project {
    let call = |name: &str, toml: &str| CallSources {
        name: name.to_owned(),
        files: BTreeMap::from([("call.toml".to_owned(), toml.to_owned())]),
        others: Vec::new(),
    };
    let root = "[server]\nlisten = \"0.0.0.0:4700\"\n[providers.sim]\nkind = \"sim\"\n";
    let sources = Sources {
        backstay_toml: Some(SourceFile { path: "backstay.toml".into(), text: root.into() }),
        calls: vec![
            call(
                "extract-invoice",
                "route = [\"sim/ok\"]\nbudget = { deadline = \"20s\", max_error_rate = \"0.5%\" }\n",
            ),
            call("summarise", "route = [\"sim/ok\"]\n"),
        ],
        faults: Vec::new(),
    };
    check(&sources).unwrap()
}

fn files() -> Vec<File> {
    let project = project();
    prometheus(&project).unwrap().into_iter().chain(grafana(&project).unwrap()).collect()
}

fn content<'a>(files: &'a [File], path: &str) -> &'a str {
    &files.iter().find(|file| file.path == path).unwrap().content
}

#[track_caller]
fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/export/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{}: run with UPDATE_GOLDEN=1 and read the diff", path.display());
}

/// Every panel of the dashboard, those in folded rows too.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let top = dashboard["panels"].as_array().unwrap();
    top.iter()
        .flat_map(|panel| {
            let inside = panel["panels"].as_array().map(Vec::as_slice).unwrap_or_default();
            std::iter::once(panel).chain(inside)
        })
        .collect()
}

/// The dashboard for people: rows, panels, their limits and questions.
fn outline(dashboard: &Value) -> String {
    let mut text = String::new();
    for panel in panels(dashboard) {
        let title = panel["title"].as_str().unwrap();
        if panel["type"] == "row" {
            writeln!(text, "\n# {title}").unwrap();
            continue;
        }
        let limit = &panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"];
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap();
        let limit = if limit.is_null() { String::new() } else { format!(", limit {limit}") };
        let kind = panel["type"].as_str().unwrap();
        writeln!(text, "- {title} ({kind}, {unit}{limit})").unwrap();
        for target in panel["targets"].as_array().unwrap() {
            writeln!(text, "    {}", target["expr"].as_str().unwrap()).unwrap();
        }
    }
    text
}

fn dashboard(files: &[File]) -> Value {
    serde_json::from_str(content(files, "dashboards/backstay.json")).unwrap()
}

#[test]
fn what_is_exported() {
    let files = files();
    golden("rules.yml", content(&files, "backstay-rules.yml"));
    golden("prometheus.yml", content(&files, "backstay-prometheus.yml"));
    golden("datasource.yml", content(&files, "provisioning/datasources/backstay.yml"));
    golden("provider.yml", content(&files, "provisioning/dashboards/backstay.yml"));
    golden("dashboard.txt", &outline(&dashboard(&files)));
}

#[test]
fn the_same_project_makes_the_same_bytes() {
    for (one, other) in files().iter().zip(files()) {
        assert_eq!((one.path, &one.content), (other.path, &other.content));
    }
}

/// Every question and every rule asks for metrics of the table, and for labels that they have.
#[test]
fn nothing_is_asked_for_that_is_not_there() {
    let files = files();
    let everything: String = files.iter().map(|file| file.content.as_str()).collect();
    let recorded = Regex::new(r"record: (\S+)").unwrap();
    let recorded: Vec<_> =
        recorded.captures_iter(&everything).map(|found| found[1].to_owned()).collect();
    let names = Regex::new(r"\b[a-z_]*:?backstay_[a-z_]+(:[a-z0-9_]+)?|\bprocess_[a-z_]+").unwrap();
    let mut asked = 0;
    for found in names.find_iter(&everything).map(|found| found.as_str()) {
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| found.strip_suffix(end))
            .unwrap_or(found);
        let known = METRICS.iter().any(|metric| metric.name() == base || metric.name() == found)
            || recorded.iter().any(|name| name == found);
        assert!(known, "there is no metric `{found}`");
        asked += 1;
    }
    assert!(asked > 100, "{asked}");
    let selectors = Regex::new(r"\b(backstay_[a-z_]+?)(?:_bucket)?\{([^{}]*)\}").unwrap();
    for found in selectors.captures_iter(&everything.replace("\\\"", "\"")) {
        let metric = METRICS.iter().find(|metric| metric.name() == found[1]);
        let metric = metric.unwrap_or_else(|| panic!("{}", &found[1]));
        for pair in found[2].split("\",").filter(|pair| !pair.is_empty()) {
            let label = pair.trim_start_matches(',').split(['=', '!']).next().unwrap();
            assert!(metric.labels.contains(&label), "{}: no label `{label}`", metric.name());
        }
    }
}

#[test]
fn each_call_has_its_own_row_with_its_own_limits() {
    let files = files();
    let dashboard = dashboard(&files);
    let row = |name: &str| {
        panels(&dashboard).into_iter().find(|panel| panel["title"] == name).unwrap()["panels"]
            .clone()
    };
    let limit =
        |panel: &Value| panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"].clone();
    assert_eq!(limit(&row("extract-invoice")[0]), 0.005);
    assert_eq!(limit(&row("extract-invoice")[1]), 20.0);
    assert_eq!(limit(&row("summarise")[0]), 0.02);
    let mut ids: Vec<_> = panels(&dashboard).iter().map(|p| p["id"].as_u64().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "ids are unique");
}
