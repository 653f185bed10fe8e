//! The files for Prometheus: rules, and a configuration that scrapes the gateway.

use std::net::SocketAddr;

use backstay_core::config::Project;
use serde_json::json;

use super::{File, rules::rules};

const RULES: &str = "backstay-rules.yml";

const RULES_HEAD: &str = "\
Recording and alerting rules, made of the calls and budgets of a Backstay project.
`backstay export prometheus` writes them anew; edit the project instead.";

const SCRAPE_HEAD: &str = "\
A whole configuration of Prometheus for one gateway; take from it what you need.
Where the gateway has API keys, add to the job:
    authorization: { credentials_file: /etc/prometheus/backstay.key }
For native histograms beside the classic ones, which the rules read, add to the job
(before Prometheus 3.0 also --enable-feature=native-histograms):
    scrape_native_histograms: true
    always_scrape_classic_histograms: true
To be told of alerts, add:
    alerting: { alertmanagers: [ { static_configs: [ { targets: ['127.0.0.1:9093'] } ] } ] }";

/// Rules and scrape configuration of a project.
pub(crate) fn prometheus(project: &Project) -> anyhow::Result<Vec<File>> {
    let config = json!({
        "global": { "scrape_interval": "15s", "evaluation_interval": "15s" },
        "rule_files": [RULES],
        "scrape_configs": [{
            "job_name": "backstay",
            "static_configs": [{ "targets": [reachable(project.server.listen)] }],
        }],
    });
    Ok(vec![
        File::yaml(RULES, RULES_HEAD, &rules(project))?,
        File::yaml("backstay-prometheus.yml", SCRAPE_HEAD, &config)?,
    ])
}

/// Where a scraper on the same machine finds what listens on `address`.
pub(super) fn reachable(address: SocketAddr) -> String {
    let port = address.port();
    if address.ip().is_unspecified() { format!("127.0.0.1:{port}") } else { address.to_string() }
}
