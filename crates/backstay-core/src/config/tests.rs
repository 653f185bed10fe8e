//! Whole projects: what is found in a broken one, that a full one loads, and that the generated
//! files are up to date.

use std::{path::PathBuf, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    alert::{Rule, policy::CallAlerts},
    release::{BreakerPolicy, Budget, CallSpec, DegradePlan},
};

fn call(name: &str, files: &[(&str, &str)]) -> CallSources {
    let files = files.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
    CallSources { name: name.to_owned(), files, others: Vec::new() }
}

fn sources(root: &str, calls: Vec<CallSources>) -> Sources {
    let root = SourceFile { path: "backstay.toml".to_owned(), text: root.to_owned() };
    Sources { backstay_toml: Some(root), calls, faults: Vec::new() }
}

fn mistakes(sources: &Sources) -> String {
    let mistakes = check(sources).unwrap_err();
    mistakes.iter().map(|mistake| format!("{mistake}\n")).collect()
}

const FULL_ROOT: &str = include_str!("testdata/backstay.toml");
const FULL_CALL: &str = include_str!("testdata/call.toml");

fn full_call() -> CallSources {
    call(
        "extract-invoice",
        &[
            ("call.toml", FULL_CALL),
            ("system.j2", "{% include 'terms.md' %} Answer as JSON."),
            ("user.j2", "{% if document %}{{ document }}{% endif %}"),
            ("terms.md", "Net is without tax."),
            ("input.schema.json", r#"{"properties": {"document": {"type": "string"}}}"#),
            ("output.schema.json", r#"{"type": "object", "required": ["total"]}"#),
            ("static.json", r#"{"total": 0}"#),
        ],
    )
}

fn full() -> Sources {
    sources(FULL_ROOT, vec![full_call()])
}

#[test]
fn an_empty_project_is_valid() {
    let project = check(&Sources::default()).unwrap();
    assert_eq!(project.server.listen.to_string(), "127.0.0.1:4700");
    assert_eq!(project.log.bodies, Duration::from_secs(14 * 86_400));
    assert_eq!(project.store.path, PathBuf::from(".backstay"));
    assert!(project.providers.is_empty() && project.calls.is_empty());
    assert_eq!(project.otlp, None, "nothing is sent unless it is asked for");
}

#[test]
fn the_store_is_found_whatever_else_is_wrong() {
    let store = |text: &str| {
        store_of(&SourceFile { path: "backstay.toml".to_owned(), text: text.to_owned() })
    };
    let path = |text| store(text).unwrap().path;
    assert_eq!(path(""), PathBuf::from(".backstay"));
    assert_eq!(path("[srever]\nlisten = 7\n[store]\npath = \"kept\""), PathBuf::from("kept"));
    for unclear in ["[store]\npaht = \"kept\"", "store = 7", "[store]\npath = \"\"", "[store"] {
        assert_eq!(store(unclear).unwrap_err().len(), 1, "{unclear}");
    }
}

#[test]
fn telemetry_is_sent_where_it_can_be_and_without_secrets_in_the_open() {
    let root = "[otlp]\nendpoint = \"collector:4318\"\nsample = 2\nprotocol = \"http/json\"\n\
                headers = { authorization = \"Bearer x\", \"a b\" = \"c\" }\n";
    let found = mistakes(&sources(root, Vec::new()));
    for told in [
        "backstay.toml:2:12: otlp.endpoint",
        "backstay.toml:3:10: otlp.sample",
        "backstay.toml:4:12: otlp.protocol",
        "otlp.headers.authorization: a secret stands here in plain text",
        "this is not the name of a header",
    ] {
        assert!(found.contains(told), "{told} is not in:\n{found}");
    }
}

#[test]
fn a_project_with_every_key_loads() {
    let project = check(&full()).unwrap_or_else(|found| panic!("{found:#?}"));
    let spec = project.calls.get("extract-invoice").unwrap();
    assert_eq!(spec.budget.deadline, Duration::from_secs(20));
    assert_eq!(spec.templates.includes.len(), 1);
    assert_eq!(spec.degrade.static_answer, Some(serde_json::json!({ "total": 0 })));
    // `defaults` hold what the call's own file does not say, key by key.
    assert_eq!(spec.budget.backoff.base, Duration::from_millis(100));
    assert_eq!(spec.budget.backoff.max, Duration::from_secs(4));
    let secrets: Vec<String> = project.secrets().map(|(path, _)| path.join(".")).collect();
    assert_eq!(
        secrets,
        [
            "privacy.key",
            "providers.anthropic.api_key",
            "providers.azure.api_key",
            "providers.azure.headers.x-team-key",
            "providers.openai.api_key",
            "alerts.notify.0.url",
            "alerts.notify.1.routing_key",
            "otlp.headers.authorization",
        ]
    );
    let names: Vec<_> = project.receivers.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["hook", "pagerduty-2", "smtp-3"]);
    assert_eq!(project.receivers[0].rules, [Rule::ErrorRate, Rule::Shed]);
    assert_eq!(project.server.url.as_deref(), Some("https://backstay.example.com"));
    let otlp = project.otlp.as_ref().unwrap();
    assert_eq!(otlp.endpoint.as_deref(), Some("https://collector.example.com:4318"));
    assert_eq!((otlp.sample, otlp.semconv), (0.1, Some(Semconv::Experimental)));
    let Reach::Http(azure) = &project.providers.get("azure").unwrap().reach else { panic!() };
    assert_eq!(azure.auth_header.as_deref(), Some("api-key"));
}

/// The two example files must have every key that there is.
#[test]
fn the_full_project_really_has_every_key() {
    fn walk(schema: &Value, value: &Value, path: &str, missing: &mut Vec<String>) {
        for (key, schema) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            match value.get(key) {
                Some(value) => walk(schema, value, &format!("{path}.{key}"), missing),
                None => missing.push(format!("{path}.{key}")),
            }
        }
        if let Some(items) = schema.get("items") {
            for value in value.as_array().into_iter().flatten() {
                walk(items, value, path, missing);
            }
        }
    }
    let mut missing = Vec::new();
    let mut root: Value = toml::from_str(FULL_ROOT).unwrap();
    root.as_object_mut().unwrap().remove("alerts");
    let mut schema = schema::project_schema();
    for key in ["defaults", "alerts"] {
        schema["properties"].as_object_mut().unwrap().remove(key);
    }
    walk(&schema, &root, "", &mut missing);
    let call: Value = toml::from_str(FULL_CALL).unwrap();
    walk(&schema::call_schema(), &call, "call", &mut missing);
    // Providers are named by the user: together they must have every key of a provider.
    let provider = &schema["properties"]["providers"]["additionalProperties"]["properties"];
    for key in provider.as_object().unwrap().keys() {
        let used = root["providers"].as_object().unwrap().values().any(|p| p.get(key).is_some());
        if !used {
            missing.push(format!("providers.*.{key}"));
        }
    }
    // Left out on purpose, to be taken from `defaults`.
    assert_eq!(missing, ["call.budget.backoff.base"]);
}

#[test]
fn all_mistakes_of_all_files_are_found_at_once() {
    let root = r#"
[server]
listen = "localhost"
max_bdy = "16MB"
max_in_flight = 0
[store]
url = "postgres://x"
[providers.openai]
api_key = "sk-live-1234567890"
seed = 4
[providers.google]
kind = "gemini"
[providers.local]
base_url = "127.0.0.1:8000"
headers = { authorization = "Bearer abc" }
[providers.sim]
latency = { p50 = "2s", p99 = "1s" }
faults = [{ fault = "timeout", rate = "120%" }, { fault = "Bad Word" }]
[log]
bodies = 14
[[alerts.notify]]
kind = "email"
[defaults.budget]
attempts = "3"
"#;
    let invoice = call(
        "extract-invoice",
        &[
            (
                "call.toml",
                r#"rout = ["sim/ok"]
[params]
temperature = 3
max_tokens = 12.0
[budget]
deadline = "fast"
max_error_rate = 2
max_cost_usd = -1
[breaker]
window = 30
[degrade]
order = ["stale", "statc"]
[stream]
mode = true
[capture]
bodies = "red"
"#,
            ),
            ("system.j2", "You read invoices.\n{% if x %}"),
            ("output.schema.json", "{\n  \"type\": \"objekt\"\n}"),
            ("static.json", "{\n  \"total\": 1,\n}"),
        ],
    );
    let broken = sources(root, vec![invoice, call("Bad_Name", &[])]);
    insta::assert_snapshot!("mistakes_of_shape", mistakes(&broken));
    assert!(check(&broken).unwrap_err().len() >= 25);
}

#[test]
fn all_rules_about_more_than_one_key_are_checked_at_once() {
    let root = r#"
[server]
listen = "localhost"
[providers.local]
base_url = "127.0.0.1:8000"
headers = { authorization = "Bearer abc" }
[providers.openai]
seed = 4
[providers.mine]
[providers.sim]
base_url = "http://127.0.0.1"
latency = { p50 = "2s", p99 = "1s" }
faults = [{ fault = "a", rate = "60%" }, { fault = "b", rate = "60%" }]
[prices.gpt]
free = true
[prices."opnai/*"]
input = 1
[prices."openai/a"]
free = true
output = 1
[prices."openai/b"]
input = 0.0000000001
output = 1
[log]
bodies = "100d"
rollups = "30d"
[[alerts.notify]]
kind = "pagerduty"
[[alerts.notify]]
kind = "slack"
url = "hooks"
name = "ops"
to = ["ops@example.com"]
rules = ["eror_rate", "weather"]
[[alerts.notify]]
kind = "slack"
url = "https://hooks.slack.com/services/T0/B0/sk-live"
[[alerts.notify]]
kind = "smtp"
name = "ops"
url = "smtp://me:secret@mail.example.com"
from = "a@example.com"
to = ["b@example.com", "nobody"]
ca_file = "ca.pem"
[defaults.degrade]
message = "{{ failur }}"
"#;
    let first = call(
        "a",
        &[
            (
                "call.toml",
                r#"route = ["sim/ok", "opnai/gpt", "other/x"]
include = ["../secrets.txt", "terms.md"]
params.model = "gpt"
checks.forbid = ["(a"]
rollout = { steps = ["10%", "5%"], bake_min = "2d", weights = { failed = 1 } }
[budget]
deadline = "5s"
connect = "6s"
idle = "0s"
backoff = { base = "9s" }
[degrade]
order = ["error", "static"]
[capture]
deny = ["$.inputs.first-name", "ssn"]
allow = ["$"]
pseudonymize = ["$[?@.id]"]
"#,
            ),
            ("user.j2", "Dear {{ documnt }},\n{% include 'other.md' %} {{ range(3) }}"),
            ("input.schema.json", r#"{"properties": {"document": {"x-backstay-redact": 1}}}"#),
        ],
    );
    let second = call(
        "b",
        &[
            ("call.toml", "# nothing\n"),
            ("output.schema.json", r#"{"properties": {"total": {"type": "number"}}}"#),
            ("static.json", "{\n  \"lines\": [],\n  \"total\": \"none\"\n}\n"),
        ],
    );
    let mut third = call("c", &[]);
    third.others = vec!["cal.toml".to_owned()];
    let mut fourth = call("d", &[("call.toml", "route = [\"sim/ok\"]\n")]);
    fourth.others = vec!["sytem.j2".to_owned(), "notes.txt".to_owned()];
    let fifth = call("e", &[("call.toml", "route = [\"sim/ok\"]\nroute = 1\n")]);
    let broken = sources(root, vec![first, second, third, fourth, fifth]);
    insta::assert_snapshot!("mistakes_of_rules", mistakes(&broken));
}

#[test]
fn a_wrong_word_does_not_hide_other_mistakes() {
    let root = "[server]\nlisten = \"localhost\"\ndrain = 1\n[providers.sim]\n[defaults]\nrout = 1\n\
        [defaults.budget]\nidle = \"1\"\n";
    let toml = "budget = { deadline = \"2h\", attempts = \"1\" }\ninclude = [1]\n";
    let system = "{% include 'a' %}{% include 'b";
    let broken = sources(root, vec![call("a", &[("call.toml", toml), ("system.j2", system)])]);
    let found = check(&broken).unwrap_err();
    let found: Vec<(usize, &str)> = found.iter().map(|m| (m.line, m.key.as_str())).collect();
    let wanted = [
        (2, "server.listen"),
        (3, "server.drain"),
        (6, "defaults.rout"),
        (8, "defaults.budget.idle"),
        (1, "budget.attempts"),
        (1, "budget.deadline"),
        (2, "include[0]"),
        (1, ""),
    ];
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    assert!(wanted.iter().all(|one| found.contains(one)), "{found:?}");
}

#[test]
fn names_of_faults_are_checked_where_they_are_known() {
    let mut sources = full();
    sources.faults = vec!["overloaded".to_owned(), "cut".to_owned(), "rest".to_owned()];
    let found = check(&sources).unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key, "providers.sim.schedule[0].fault");
    assert_eq!(found[0].remedy, "did you mean \"rest\"?");
}

#[test]
fn no_mistake_repeats_a_secret() {
    let root = "[providers.openai]\napi_key = \"sk-live-1\"\nbase_url = \"https://u:sk-live-2@h\"\n\
        headers = { x-api-key = \"sk-live-3\", x-token = [\"sk-live-5\"] }\n[[alerts.notify]]\nkind = \"pagerduty\"\n\
        routing_key = \"sk-live-4\"\n";
    for root in [root.to_owned(), root.replace("api_key = \"sk-live-1\"\n", "")] {
        let found = mistakes(&sources(&root, Vec::new()));
        assert!(!found.contains("sk-live"), "{found}");
    }
}

#[test]
fn a_missing_secret_is_shown_where_it_is_named() {
    let root = SourceFile { path: "backstay.toml".to_owned(), text: FULL_ROOT.to_owned() };
    let project = check(&full()).unwrap();
    let found = secret_mistakes(&project, &root, &|secret| match secret {
        SecretRef::Env(name) if name == "AZURE_KEY" => Err("it is not set".to_owned()),
        SecretRef::Env(_) | SecretRef::File(_) => Ok("x".to_owned()),
    });
    let line = FULL_ROOT.lines().position(|line| line.contains("env:AZURE")).unwrap() + 1;
    assert_eq!(found.iter().map(|m| m.line).collect::<Vec<_>>(), [line]);
}

#[test]
fn how_a_call_is_watched_is_no_part_of_its_release() {
    let project = |root: &str, own: &str| {
        let root = format!("[providers.sim]\n{root}");
        let own = format!("route = [\"sim/m\"]\n{own}");
        check(&sources(&root, vec![call("c", &[("call.toml", &own)])])).unwrap()
    };
    let plain = project("", "");
    assert_eq!(plain.alerts.get("c"), Some(&CallAlerts::default()));
    let watched = project(
        "[defaults.alerts]\nlatency_p95 = \"3s\"\nslo = \"99%\"",
        "[alerts]\nslo = \"95%\"\noff = [\"tokens_in\"]",
    );
    assert_eq!(watched.calls, plain.calls);
    let alerts = watched.alerts.get("c").unwrap();
    assert_eq!((alerts.slo, alerts.latency_p95), (Some(0.95), Some(Duration::from_secs(3))));
    assert!(alerts.off.contains(&Rule::TokensIn));
    assert_eq!(watched.direct_alerts.slo, Some(0.99), "plain targets are watched by the defaults");
}

#[test]
fn mistakes_about_alerts_say_how_to_mend_them() {
    let own = "route = [\"sim/m\"]\n[alerts]\noff = [\"token_in\"]\nslo = \"100%\"\n\
               renotify = \"5s\"\nlatency_p95 = \"0s\"\n";
    let found = mistakes(&sources("[providers.sim]\n", vec![call("c", &[("call.toml", own)])]));
    insta::assert_snapshot!(found);
}

#[test]
fn a_rule_about_the_gateway_is_turned_off_for_all_calls_or_none() {
    let root = "[providers.sim]\n[defaults.alerts]\noff = [\"shed\", \"quality\"]\n";
    let own = "route = [\"sim/m\"]\n";
    let project = check(&sources(root, vec![call("c", &[("call.toml", own)])])).unwrap();
    assert!(project.direct_alerts.off.contains(&Rule::Shed));
    let own = "route = [\"sim/m\"]\n[alerts]\noff = [\"quality\", \"credentials\"]\n";
    let found = mistakes(&sources(root, vec![call("c", &[("call.toml", own)])]));
    assert!(found.contains("`credentials` watches the gateway as a whole, not a call"), "{found}");
    assert!(found.contains("[defaults.alerts] off"), "{found}");
    assert!(!found.contains("`quality`"), "{found}");
}

#[test]
fn a_phase_that_nobody_typed_is_cut_to_the_deadline() {
    let root =
        "[providers.sim]\n[defaults]\nroute = [\"sim/ok\"]\n[defaults.budget]\nidle = \"9s\"\n";
    let files = [("call.toml", "budget = { deadline = \"3s\" }")];
    let project = check(&sources(root, vec![call("a", &files)])).unwrap();
    let budget = &project.calls.get("a").unwrap().budget;
    assert_eq!((budget.headers, budget.idle), (budget.deadline, budget.deadline));
    assert_eq!(budget.connect, Budget::default().connect);
}

#[test]
fn defaults_of_the_files_are_those_of_the_code() {
    let files = [("call.toml", "route = [\"sim/ok\"]")];
    let project = check(&sources("[providers.sim]", vec![call("a", &files)])).unwrap();
    let spec = project.calls.get("a").unwrap();
    let mut plain = CallSpec::direct().towards("a", "sim/ok".parse().unwrap());
    plain.degrade = DegradePlan::default();
    assert_eq!(spec, &plain);
    // What the schema shows as default is what the files mean.
    let shown = |pointer: &str| {
        let schema = schema::call_schema();
        schema.pointer(&format!("/properties/{pointer}/default")).cloned().unwrap()
    };
    let time = |time: Duration| Value::from(String::from(units::Time(time)));
    let (budget, breaker) = (Budget::default(), BreakerPolicy::default());
    assert_eq!(shown("budget/properties/deadline"), time(budget.deadline));
    assert_eq!(shown("budget/properties/attempts"), Value::from(budget.attempts));
    assert_eq!(shown("budget/properties/backoff/properties/max"), time(budget.backoff.max));
    assert_eq!(shown("breaker/properties/failure_rate"), Value::from("50%"));
    assert_eq!(shown("breaker/properties/window"), time(breaker.window));
    assert_eq!(shown("degrade/properties/message"), Value::from(plain.degrade.message));
}

#[test]
fn the_generated_files_are_up_to_date() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let json = |schema: Value| serde_json::to_string_pretty(&schema).unwrap() + "\n";
    let files = [
        ("schemas/backstay.schema.json", json(schema::project_schema())),
        ("schemas/call.schema.json", json(schema::call_schema())),
        ("docs/reference/configuration.md", reference::markdown()),
    ];
    for (path, wanted) in files {
        let path = root.join(path);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == wanted, "{} is stale: run UPDATE_GOLDEN=1 cargo test", path.display());
    }
}

#[test]
fn files_of_a_call_follow_its_includes() {
    let names = files_of_call(None, "include = [\"a/b.md\", \"../x\", \"/etc/passwd\"]");
    assert_eq!(names.len(), CALL_FILES.len() + 1);
    assert!(names.contains("a/b.md"));
    let names = files_of_call(Some("defaults.include = [\"c.md\"]"), "broken [");
    assert!(names.contains("c.md"));
}

#[test]
fn hostile_files_end_in_mistakes() {
    let deep = 50_000;
    let files = [
        ("call.toml", format!("a = {}", "[".repeat(deep))),
        ("call.toml", format!("{}b = 1", "a.".repeat(deep))),
        ("call.toml", format!("[{}b]", "a.".repeat(deep))),
        ("call.toml", format!("a = {}1", "{a = ".repeat(deep))),
        ("static.json", "[".repeat(deep)),
        ("output.schema.json", r#"{"$ref": "https://example.com/schema.json"}"#.to_owned()),
        ("output.schema.json", r##"{"$ref": "#/$defs/none"}"##.to_owned()),
        ("user.j2", "{% if a %}".repeat(deep)),
        ("user.j2", format!("{{{{ {} }}}}", "(".repeat(deep))),
    ];
    for (name, text) in files {
        let mut sources = full();
        sources.calls[0].files.insert(name.to_owned(), text.clone());
        let found = check(&sources).err();
        let found = found.unwrap_or_else(|| panic!("{name}: {text:.40}"));
        assert!(found.iter().all(|m| within(&sources, m) && m.reason.len() < 500), "{found:.200?}");
    }
}

/// Every mistake must point into the file that it names.
fn within(sources: &Sources, mistake: &Mistake) -> bool {
    let call_file = |mistake: &Mistake| {
        let (call, file) = mistake.file.strip_prefix("calls/")?.split_once('/')?;
        sources.calls.iter().find(|c| c.name == call)?.files.get(file).cloned()
    };
    let text = match &sources.backstay_toml {
        Some(root) if mistake.file == root.path => root.text.clone(),
        Some(_) | None => call_file(mistake).unwrap_or_default(),
    };
    mistake.line >= 1
        && mistake.line <= text.lines().count().max(1)
        && mistake.column >= 1
        && text.lines().nth(mistake.line - 1).map_or(1, |line| line.chars().count() + 1)
            >= mistake.column
}

/// Cuts a piece out of a text and puts another one in its place.
fn mutate(text: &str, at: usize, length: usize, insert: &str) -> String {
    let start = text.floor_char_boundary(at % (text.len() + 1));
    let end = text.ceil_char_boundary((start + length).min(text.len()));
    format!("{}{insert}{}", &text[..start], &text[end..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_mutation_makes_it_panic_or_point_outside(
        file in 0..8usize, at in 0..5000usize, length in 0..12usize,
        insert in r#"[\[\]{}"'=.a-z0-9%\n ü#-]{0,8}"#,
    ) {
        let mut sources = full();
        if file == 7 {
            let root = sources.backstay_toml.as_mut().unwrap();
            root.text = mutate(&root.text, at, length, &insert);
        } else if let Some(text) = sources.calls[0].files.values_mut().nth(file) {
            *text = mutate(text, at, length, &insert);
        }
        for mistake in check(&sources).err().into_iter().flatten() {
            prop_assert!(within(&sources, &mistake), "{mistake}");
            prop_assert!(!mistake.reason.is_empty() && !mistake.remedy.is_empty());
        }
    }
}
