//! One call: its `call.toml` over the project's defaults, its other files, and the rules between
//! them. Ends in the [`CallSpec`] that is run.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use regex::Regex;
use serde_json::{Map, Value};

use super::{
    CALL_FILES, CallSources,
    capture::CaptureFile,
    content,
    file::{BreakerFile, BudgetFile, CallFile, DegradeFile, RolloutFile, alerts::CallAlertsFile},
    mistake::{Mistake, nearest, one_of},
    place::{SourceFile, Toml},
    read,
    rules::Rules,
    shape,
};
use crate::release::{
    Backoff, BreakerPolicy, Budget, CallSpec, Checks, DegradePlan, DegradeStep, Templates,
    is_call_name,
};
use crate::{alert::policy::CallAlerts, privacy::Path};

/// What a call needs to know of its project.
pub(super) struct Around<'a> {
    toml: Option<&'a Toml<'a>>,
    /// What is sound of `defaults`.
    defaults: Value,
    /// What is not, as paths of a call's keys.
    broken: Vec<Vec<String>>,
    /// Names of the providers; `None` if they could not be read.
    providers: Option<BTreeSet<String>>,
}

impl<'a> Around<'a> {
    /// `sound` and `broken` are those of `backstay.toml`.
    pub(super) fn new(toml: Option<&'a Toml<'a>>, sound: &Value, broken: &[Vec<String>]) -> Self {
        let defaults = sound.get("defaults").cloned().unwrap_or(Value::Object(Map::new()));
        let broken = broken.iter().filter_map(|path| match path.split_first() {
            Some((first, rest)) if first == "defaults" => Some(rest.to_vec()),
            Some(_) | None => None,
        });
        // A provider with a mistake in it is there all the same.
        let providers = toml.map(|toml| {
            let typed = toml.value.get("providers").and_then(Value::as_object);
            typed.into_iter().flat_map(Map::keys).cloned().collect()
        });
        Self { toml, defaults, broken: broken.collect(), providers }
    }
}

/// The files of a call beside `call.toml`, read and found sound each on its own.
#[derive(Default)]
struct Content {
    input_schema: Option<Value>,
    output_schema: Option<Value>,
    static_answer: Option<Value>,
}

/// A call that holds: what it runs on, and how it is watched, which is not part of its release.
pub(super) struct Checked {
    pub(super) spec: CallSpec,
    pub(super) alerts: CallAlerts,
}

/// Checks one call.
pub(super) fn check(sources: &CallSources, around: &Around<'_>) -> Result<Checked, Vec<Mistake>> {
    let file = |name: &str| SourceFile {
        path: format!("calls/{}/{name}", sources.name),
        text: sources.files.get(name).cloned().unwrap_or_default(),
    };
    let main = file("call.toml");
    let mut mistakes = Vec::new();
    if !is_call_name(&sources.name) {
        let reason = format!("`{}` is not the name of a call", sources.name);
        let remedy = "rename the directory: small letters, digits and -, at most 63 of them";
        mistakes.push(main.mistake(0, "", (reason, remedy.to_owned())));
    }
    if !sources.files.contains_key("call.toml") {
        let finding = ("this file is missing".to_owned(), missing_remedy(sources));
        mistakes.push(main.mistake(0, "", finding));
        return Err(mistakes);
    }
    let content = read_content(sources, &file, &mut mistakes);
    let toml = Toml::parse(&main).map_err(|found| mistakes.extend(found)).ok();
    let shaped = toml.as_ref().map(|toml| shape::CALL.check(toml)).unwrap_or_default();
    mistakes.extend(shaped.mistakes);
    let typed = toml.as_ref().and_then(|toml| {
        let mut merged = around.defaults.clone();
        merge(&mut merged, &shaped.sound);
        read::<CallFile>(&merged, toml).map_err(|found| mistakes.push(found)).ok()
    });
    let broken = [shaped.broken, around.broken.clone()].concat();
    let includes = typed.as_ref().filter(|_| !broken.iter().any(|path| path == &["include"]));
    let includes = includes.map(|typed| typed.include.as_slice());
    mistakes.extend(check_templates(sources, includes, content.input_schema.as_ref()));
    let (Some(toml), Some(typed)) = (&toml, typed) else { return Err(mistakes) };
    let mut rules = Rules::new(toml, around.toml, &broken);
    mistakes.into_iter().for_each(|mistake| rules.add(mistake));
    check_files(sources, &typed, &mut rules);
    check_route(&typed, around, &mut rules);
    check_budget(&typed.budget, &mut rules);
    check_breaker(&typed.breaker, &mut rules);
    check_answers(&typed, sources, &mut rules);
    check_rollout(&typed.rollout, &mut rules);
    check_capture(&typed.capture, &mut rules);
    check_alerts(&typed.alerts, &mut rules);
    let alerts = alerts(&typed.alerts);
    rules.done(Checked { spec: spec(sources, typed, content), alerts })
}

/// What plain targets are run as: every default of the project, and their errors as they are unless the
/// defaults say otherwise. `None` if the defaults have mistakes, which are reported where they stand.
pub(super) fn direct(around: &Around<'_>) -> Option<Checked> {
    let provider = around.providers.as_ref()?.first()?;
    let call_toml = format!("route = [\"{provider}/model\"]\n");
    let files = [("call.toml".to_owned(), call_toml)].into();
    let sources = CallSources { name: "default".to_owned(), files, others: Vec::new() };
    let mut checked = check(&sources, around).ok()?;
    if around.defaults.pointer("/degrade/order").is_none() {
        checked.spec.degrade.order = vec![DegradeStep::Error];
    }
    Some(checked)
}

fn missing_remedy(sources: &CallSources) -> String {
    match nearest("call.toml", sources.others.iter().map(String::as_str)) {
        Some(near) => format!("rename `{near}` to call.toml"),
        None => "add it, with at least route = [\"provider/model\"]".to_owned(),
    }
}

/// Lays `over` on `under`: tables key by key, everything else as a whole.
fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}

fn read_content(
    sources: &CallSources,
    file: &dyn Fn(&str) -> SourceFile,
    mistakes: &mut Vec<Mistake>,
) -> Content {
    let mut json = |name: &str, is_schema: bool| -> Option<(SourceFile, Value)> {
        let file = sources.files.contains_key(name).then(|| file(name))?;
        let value = content::read_json(&file).map_err(|found| mistakes.push(found)).ok()?;
        let wrong = if is_schema { content::schema_mistakes(&file, &value) } else { Vec::new() };
        let sound = wrong.is_empty();
        mistakes.extend(wrong);
        if is_schema {
            mistakes.extend(content::annotation_mistakes(&file, &value));
        }
        sound.then_some((file, value))
    };
    let input_schema = json("input.schema.json", true).map(|(_, value)| value);
    let output_schema = json("output.schema.json", true).map(|(_, value)| value);
    let answer = json("static.json", false);
    if let (Some((file, answer)), Some(schema)) = (&answer, &output_schema) {
        mistakes.extend(content::answer_mistakes(file, answer, schema));
    }
    Content { input_schema, output_schema, static_answer: answer.map(|(_, value)| value) }
}

/// Checks the templates. Without `includes` (they could not be read) only those of known names.
fn check_templates(
    sources: &CallSources,
    includes: Option<&[String]>,
    input_schema: Option<&Value>,
) -> Vec<Mistake> {
    let listed = includes.unwrap_or_default().iter().map(String::as_str);
    let names = ["system.j2", "user.j2"].into_iter().chain(listed);
    let templates: BTreeMap<&str, SourceFile> = names
        .filter_map(|name| {
            let text = sources.files.get(name)?.clone();
            Some((name, SourceFile { path: format!("calls/{}/{name}", sources.name), text }))
        })
        .collect();
    let declared = input_schema.and_then(content::declared);
    content::template_mistakes(&templates, declared.as_ref(), includes.is_some())
}

fn check_files(sources: &CallSources, typed: &CallFile, rules: &mut Rules<'_>) {
    for (index, path) in typed.include.iter().enumerate() {
        let at = ["include", &index.to_string()];
        if !content::stays_inside(path) {
            let remedy = "write a path below the call's directory, with forward slashes";
            rules.say(&at, format!("{path:?} leads out of the call's directory"), remedy);
        } else if !sources.files.contains_key(path) {
            let remedy = "add the file, or leave it out here";
            rules.say(&at, format!("there is no file {path:?} in the call's directory"), remedy);
        }
    }
    let ours = |name: &str| [".j2", ".json", ".toml"].iter().any(|end| name.ends_with(end));
    for name in sources.others.iter().filter(|name| ours(name)) {
        let file =
            SourceFile { path: format!("calls/{}/{name}", sources.name), text: String::new() };
        let remedy = match nearest(name, CALL_FILES.into_iter()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "add it to `include` in call.toml, or move it elsewhere".to_owned(),
        };
        let reason = "nothing uses this file".to_owned();
        rules.add(file.mistake(0, "", (reason, remedy)));
    }
}

fn check_route(typed: &CallFile, around: &Around<'_>, rules: &mut Rules<'_>) {
    if typed.route.is_empty() {
        let remedy = "add route = [\"provider/model\"] above the first table";
        rules.say(&["route"], "the key `route` is missing", remedy);
    }
    let Some(known) = &around.providers else { return };
    for (index, target) in typed.route.iter().enumerate() {
        if known.contains(&target.provider) {
            continue;
        }
        let name = &target.provider;
        let remedy = match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => format!("add [providers.{name}] to backstay.toml"),
            None => format!(
                "add [providers.{name}] to backstay.toml; known are {}",
                one_of(known.iter().map(String::as_str))
            ),
        };
        let reason = format!("there is no provider `{name}`");
        rules.say(&["route", &index.to_string()], reason, remedy);
    }
}

fn check_budget(budget: &BudgetFile, rules: &mut Rules<'_>) {
    let phases = [
        ("deadline", budget.deadline),
        ("connect", budget.connect),
        ("headers", budget.headers),
        ("first_token", budget.first_token),
        ("idle", budget.idle),
    ];
    for (key, time) in phases {
        if time.0.is_zero() {
            rules.say(&["budget", key], "nothing can happen in no time", "write a longer time");
        }
        // A phase that was not typed is cut to the deadline; see `spec`.
        if time > budget.deadline && rules.typed(&["budget", key]) {
            let reason = format!("{time} is longer than the deadline, {}", budget.deadline);
            rules.say(&["budget", key], reason, "shorten it, or lengthen `deadline`");
        }
    }
    if budget.deadline.0 > Duration::from_secs(3600) {
        let reason = "a call that takes more than an hour holds its client up for too long";
        rules.say(&["budget", "deadline"], reason, "write \"1h\" or less");
    }
    if budget.backoff.base > budget.backoff.max {
        let reason = "the first pause would be longer than the longest one";
        rules.say(&["budget", "backoff"], reason, "make `base` at most as long as `max`");
    }
}

fn check_breaker(breaker: &BreakerFile, rules: &mut Rules<'_>) {
    for (key, time) in [("window", breaker.window), ("open_for", breaker.open_for)] {
        if time.0.is_zero() {
            rules.say(&["breaker", key], "nothing can happen in no time", "write a longer time");
        }
    }
    if breaker.failure_rate.0 <= 0.0 {
        let reason = "the breaker would open without a failure";
        rules.say(&["breaker", "failure_rate"], reason, "write more than 0%");
    }
}

fn check_answers(typed: &CallFile, sources: &CallSources, rules: &mut Rules<'_>) {
    let order = &typed.degrade.order;
    let asks_static = order.contains(&DegradeStep::Static) && rules.typed(&["degrade", "order"]);
    if asks_static && !sources.files.contains_key("static.json") {
        let remedy = "add static.json to the call's directory, or take \"static\" out";
        rules.say(&["degrade", "order"], "there is no static.json to answer", remedy);
    }
    if order.iter().rev().skip(1).any(|step| *step == DegradeStep::Error) {
        let remedy = "put \"error\" last, or leave it out";
        rules.say(&["degrade", "order"], "what stands after \"error\" is never reached", remedy);
    }
    if let Some((reason, remedy)) = content::message_fault(&typed.degrade.message) {
        rules.say(&["degrade", "message"], reason, remedy);
    }
    for (index, pattern) in typed.checks.forbid.iter().enumerate() {
        if let Err(error) = Regex::new(pattern) {
            let said = error.to_string();
            let said = said.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let reason = format!("this is not a regular expression: {said}");
            let remedy = "mend it; backslashes need single quotes around the text: '\\d+'";
            rules.say(&["checks", "forbid", &index.to_string()], reason, remedy);
        }
    }
    for key in ["model", "stream", "messages"] {
        if typed.params.contains_key(key) {
            let reason = format!("`{key}` is not a parameter: Backstay sets it itself");
            let remedy = match key {
                "model" => "leave it out, and name the model in `route`",
                "messages" => "leave it out, and write system.j2 and user.j2",
                _ => "leave it out; the client decides",
            };
            rules.say(&["params", key], reason, remedy);
        }
    }
}

fn check_rollout(rollout: &RolloutFile, rules: &mut Rules<'_>) {
    let ascending = rollout.steps.is_sorted_by(|a, b| a < b);
    if !ascending || rollout.steps.first().is_some_and(|step| step.0 <= 0.0) {
        let remedy = "write growing shares, such as [\"5%\", \"10%\", \"50%\"]";
        rules.say(&["rollout", "steps"], "the steps do not grow from step to step", remedy);
    }
    if rollout.bake_min > rollout.bake_max {
        let key = if rules.typed(&["rollout", "bake_min"]) { "bake_min" } else { "bake_max" };
        let reason = "the shortest time on a step is longer than the longest";
        rules.say(&["rollout", key], reason, "make `bake_min` at most as long as `bake_max`");
    }
    let weights = &rollout.weights;
    let sum = weights.failed + weights.schema + weights.latency + weights.tokens;
    if (sum - 1.0).abs() > 1e-6 {
        let reason = format!("the weights are {sum:.2} together");
        rules.say(&["rollout", "weights"], reason, "make them 1 together");
    }
}

fn check_capture(capture: &CaptureFile, rules: &mut Rules<'_>) {
    let lists = [
        ("deny", &capture.deny),
        ("allow", &capture.allow),
        ("pseudonymize", &capture.pseudonymize),
    ];
    for (key, paths) in lists {
        for (index, text) in paths.iter().enumerate() {
            if let Err(fault) = text.parse::<Path>() {
                let reason = format!("this is not a JSON path: {}", fault.reason);
                rules.say(&["capture", key, &index.to_string()], reason, fault.remedy);
            }
        }
    }
}

fn check_alerts(alerts: &CallAlertsFile, rules: &mut Rules<'_>) {
    let times = [("latency_p95", alerts.latency_p95), ("first_token_p95", alerts.first_token_p95)];
    for (key, time) in times.into_iter().chain([("renotify", Some(alerts.renotify))]) {
        if time.is_some_and(|time| time.0.is_zero()) {
            rules.say(&["alerts", key], "nothing can happen in no time", "write a longer time");
        }
    }
    if !alerts.renotify.0.is_zero() && alerts.renotify.0 < Duration::from_secs(60) {
        let reason = "someone would be told again within a minute";
        rules.say(&["alerts", "renotify"], reason, "write \"1m\" or more, such as \"4h\"");
    }
    if alerts.slo.is_some_and(|slo| slo.0 <= 0.0 || slo.0 >= 1.0) {
        let reason = "an SLO of 0 % cannot be missed, and one of 100 % leaves nothing to spend";
        rules.say(&["alerts", "slo"], reason, "write a share in between, such as \"99%\"");
    }
    let of_gateway = alerts.off.iter().filter(|rule| rule.is_of_gateway());
    for rule in of_gateway.filter(|_| rules.typed(&["alerts", "off"])).collect::<Vec<_>>() {
        let reason = format!("`{}` watches the gateway as a whole, not a call", rule.name());
        let remedy = "turn it off in backstay.toml: [defaults.alerts] off";
        rules.say(&["alerts", "off"], reason, remedy);
    }
}

fn alerts(file: &CallAlertsFile) -> CallAlerts {
    CallAlerts {
        off: file.off.iter().copied().collect(),
        latency_p95: file.latency_p95.map(|time| time.0),
        first_token_p95: file.first_token_p95.map(|time| time.0),
        slo: file.slo.map(|share| share.0),
        renotify: file.renotify.0,
    }
}

/// The bridge from what was typed to what is run.
fn spec(sources: &CallSources, typed: CallFile, content: Content) -> CallSpec {
    let text = |name: &str| sources.files.get(name).cloned();
    let includes = typed.include.iter();
    let templates = Templates {
        system: text("system.j2"),
        user: text("user.j2"),
        includes: includes.filter_map(|name| Some((name.clone(), text(name)?))).collect(),
    };
    CallSpec {
        call: sources.name.clone(),
        route: typed.route,
        fallback_on_refusal: typed.fallback_on_refusal,
        params: typed.params,
        templates,
        input_schema: content.input_schema,
        output_schema: content.output_schema,
        budget: budget(&typed.budget),
        breaker: breaker(&typed.breaker),
        degrade: degrade(typed.degrade, content.static_answer),
        checks: Checks { max_chars: typed.checks.max_chars, forbid: typed.checks.forbid },
        stream: typed.stream.mode,
        capture: typed.capture.bodies,
        lists: typed.capture.lists(),
    }
}

fn budget(file: &BudgetFile) -> Budget {
    let deadline = file.deadline.0;
    Budget {
        deadline,
        connect: file.connect.0.min(deadline),
        headers: file.headers.0.min(deadline),
        first_token: file.first_token.0.min(deadline),
        idle: file.idle.0.min(deadline),
        attempts: file.attempts,
        backoff: Backoff { base: file.backoff.base.0, max: file.backoff.max.0 },
        repair: file.repair,
        max_error_rate: file.max_error_rate.0,
        max_cost_usd: file.max_cost_usd,
    }
}

fn breaker(file: &BreakerFile) -> BreakerPolicy {
    BreakerPolicy {
        failure_rate: file.failure_rate.0,
        window: file.window.0,
        min_calls: file.min_calls,
        consecutive: file.consecutive,
        open_for: file.open_for.0,
    }
}

fn degrade(file: DegradeFile, static_answer: Option<Value>) -> DegradePlan {
    DegradePlan {
        order: file.order,
        stale_for: file.stale_for.0,
        message: file.message,
        static_answer,
    }
}
