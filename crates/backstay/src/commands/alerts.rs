//! `backstay alerts`: what is wrong, who is told, and silences. Works on the files of the store,
//! beside a running gateway or without one.

use std::time::Duration;

use anyhow::bail;
use backstay_control::{
    notify::{Fault, Receivers},
    project,
};
use backstay_core::{
    alert::{Alert, Rule, Severity, Silence, Stage, Subject},
    record::{CallId, Variant},
};
use backstay_store::{AlertStore, SqliteAlerts, alerts::AlertFilter};

use super::{fill_random, mend, now_ms, runtime, sound_project, store_path};
use crate::{
    cli::{AlertsAction, AlertsArgs, SilenceArgs, begins},
    exit::Exit,
    render,
};

pub(crate) fn run(args: &AlertsArgs) -> anyhow::Result<Exit> {
    match &args.action {
        None => list(args),
        Some(AlertsAction::Test { receivers }) => test(args, receivers),
        Some(AlertsAction::Silence(silence)) => add_silence(args, silence),
        Some(AlertsAction::Unsilence { id }) => end_silence(args, id),
        Some(AlertsAction::Silences) => silences(args),
    }
}

fn list(args: &AlertsArgs) -> anyhow::Result<Exit> {
    let store = SqliteAlerts::open_existing(store_path(&args.dir)?)?;
    let open = vec![Stage::Firing, Stage::Pending];
    let filter = AlertFilter {
        call: args.call.clone(),
        rule: args.rule,
        stages: if args.history { Vec::new() } else { open },
        before_ms: None,
        limit: args.limit,
    };
    let (alerts, silences) = match &store {
        Some(store) => (store.history(&filter)?, store.silences()?),
        None => (Vec::new(), Vec::new()),
    };
    let now_ms = now_ms();
    let silenced = |alert: &Alert| {
        let covers = |silence: &&Silence| silence.covers(&alert.subject, now_ms);
        silences.iter().find(covers).map(|silence| silence.id)
    };
    let alerts: Vec<_> = alerts.into_iter().take(args.limit).collect();
    let alerts: Vec<_> = alerts.iter().map(|alert| (alert, silenced(alert))).collect();
    render::alerts(&alerts, args.history, args.json)?;
    Ok(Exit::Ok)
}

fn test(args: &AlertsArgs, names: &[String]) -> anyhow::Result<Exit> {
    let project = sound_project(&args.dir)?;
    let (receivers, _) = Receivers::build(&args.dir, &project, project.server.listen);
    let all = || receivers.names().map(|(name, _)| name.to_owned()).collect();
    let names: Vec<String> = if names.is_empty() { all() } else { names.to_vec() };
    if names.is_empty() {
        bail!("the project names no receivers; add [[alerts.notify]] to backstay.toml");
    }
    let alert = test_alert()?;
    let mut exit = Exit::Ok;
    runtime()?.block_on(async {
        for name in &names {
            let told = receivers.test(name, &alert, now_ms()).await?;
            if told.is_err() {
                exit = Exit::Fault;
            }
            let why = told.err().map(|Fault { why, .. }| why);
            render::tested(name, why.as_deref(), args.json)?;
        }
        Ok(exit)
    })
}

/// An alert in which nothing is wrong, with everything that a real one has.
fn test_alert() -> anyhow::Result<Alert> {
    let now_ms = now_ms();
    Ok(Alert {
        id: fresh_id(now_ms)?,
        subject: Subject {
            rule: Rule::ErrorRate,
            call: "backstay-test".to_owned(),
            release: None,
            target: None,
            detail: None,
        },
        severity: Severity::Warn,
        stage: Stage::Firing,
        started_ms: now_ms,
        fired_ms: Some(now_ms),
        resolved_ms: None,
        summary: "somebody ran `backstay alerts test` to see whether this arrives".to_owned(),
        arithmetic: "0/0, no call was made".to_owned(),
        value: None,
        threshold: None,
        release: Some("backstay-test@1".to_owned()),
        variant: Some(Variant::Stable),
        top_failure: None,
        samples: Vec::new(),
    })
}

fn add_silence(args: &AlertsArgs, silence: &SilenceArgs) -> anyhow::Result<Exit> {
    let mut store = SqliteAlerts::open(store_path(&args.dir)?)?;
    if let Some(call) = &silence.call {
        let filter = AlertFilter { call: Some(call.clone()), limit: 1, ..AlertFilter::default() };
        // A silence of a mistyped name would hide nothing, and nobody would notice.
        let calls = project::read(&args.dir).map_err(|found| mend(&found))?.calls;
        let known: Vec<_> = calls.iter().map(|call| call.name.as_str()).collect();
        if !known.contains(&call.as_str()) && store.history(&filter)?.is_empty() {
            bail!("there is no call `{call}`; there are {}", known.join(", "));
        }
    }
    let now_ms = now_ms();
    let lasts = u64::try_from(silence.lasts.as_millis()).unwrap_or(u64::MAX);
    let silence = Silence {
        id: fresh_id(now_ms)?,
        call: silence.call.clone(),
        rule: silence.rule,
        reason: silence.reason.trim().to_owned(),
        by: "local".to_owned(),
        created_ms: now_ms,
        expires_ms: now_ms.saturating_add(lasts),
    };
    store.silence_add(&silence)?;
    render::silenced(&silence, args.json)?;
    Ok(Exit::Ok)
}

fn end_silence(args: &AlertsArgs, id: &str) -> anyhow::Result<Exit> {
    let nothing =
        || anyhow::anyhow!("no silence `{id}` is in force; `backstay alerts silences` lists them");
    let mut store = SqliteAlerts::open_existing(store_path(&args.dir)?)?.ok_or_else(nothing)?;
    let now_ms = now_ms();
    let known = store.silences()?;
    let mut meant = known.iter().filter(|one| one.expires_ms > now_ms && begins(one.id, id));
    let one = meant.next().ok_or_else(nothing)?;
    if meant.next().is_some() {
        bail!("several silences begin with `{id}`; write more of it");
    }
    let ended = store.silence_end(one.id, now_ms)?.ok_or_else(nothing)?;
    render::unsilenced(&ended, args.json)?;
    Ok(Exit::Ok)
}

fn silences(args: &AlertsArgs) -> anyhow::Result<Exit> {
    let store = SqliteAlerts::open_existing(store_path(&args.dir)?)?;
    let mut silences = store.map_or_else(|| Ok(Vec::new()), |store| store.silences())?;
    let now_ms = now_ms();
    silences.retain(|silence| silence.expires_ms > now_ms);
    render::silences(&silences, now_ms, args.json)?;
    Ok(Exit::Ok)
}

fn fresh_id(now_ms: u64) -> anyhow::Result<CallId> {
    let mut random = [0; 10];
    fill_random(&mut random)?;
    Ok(CallId::new(Duration::from_millis(now_ms), random))
}
