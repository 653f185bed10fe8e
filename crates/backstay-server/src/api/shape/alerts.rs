//! Alerts and silences as they are told.

use backstay_control::alerts::{Board, RuleState as Stand, Standing};
use backstay_core::alert::{Alert, Rule, Severity, Silence, Stage};

use backstay_store::alerts::ReceiverState;

use crate::api::types::{
    AlertItem, AlertState, Notifications, Receiver, RuleItem, RuleSeverity, RuleStand, RuleState,
    SilenceItem,
};

/// An alert; `silences` are those that may cover it.
pub(in crate::api) fn item(alert: Alert, silences: &[Silence], now_ms: u64) -> AlertItem {
    let covers = |silence: &&Silence| {
        alert.stage != Stage::Resolved && silence.covers(&alert.subject, now_ms)
    };
    let silenced_by = silences.iter().find(covers).map(|silence| silence.id.to_string());
    let link = link(&alert);
    let subject = alert.subject;
    AlertItem {
        id: alert.id.to_string(),
        rule: subject.rule.name().to_owned(),
        call: Some(subject.call).filter(|call| !call.is_empty()),
        release: subject.release.or(alert.release),
        variant: alert.variant.map(|variant| variant.name().to_owned()),
        target: subject.target,
        detail: subject.detail,
        severity: severity(alert.severity),
        state: match alert.stage {
            Stage::Pending => AlertState::Pending,
            Stage::Firing => AlertState::Firing,
            Stage::Resolved => AlertState::Resolved,
        },
        started_ms: alert.started_ms,
        fired_ms: alert.fired_ms,
        resolved_ms: alert.resolved_ms,
        summary: alert.summary,
        arithmetic: alert.arithmetic,
        value: alert.value,
        threshold: alert.threshold,
        top_failure: alert.top_failure,
        samples: alert.samples.iter().map(ToString::to_string).collect(),
        link,
        silenced_by,
    }
}

/// Every rule, in the order of the manual, with how it stands.
pub(in crate::api) fn rules(board: &Board) -> Vec<RuleItem> {
    let of = |rule: Rule| board.standings.iter().filter(move |it| it.subject.rule == rule);
    let rules = Rule::ALL.into_iter().map(|rule| {
        let about = rule.about();
        RuleItem {
            rule: rule.name().to_owned(),
            title: about.title.to_owned(),
            explains: format!("{} {}", about.watches, about.fires),
            severity: severity(about.severity),
            calls: of(rule).map(stand).collect(),
        }
    });
    rules.collect()
}

fn stand(standing: &Standing) -> RuleStand {
    let subject = &standing.subject;
    RuleStand {
        call: Some(subject.call.clone()).filter(|call| !call.is_empty()),
        release: subject.release.clone(),
        target: subject.target.clone(),
        detail: subject.detail.clone(),
        state: match standing.state {
            Stand::Ok => RuleState::Ok,
            Stand::Pending => RuleState::Pending,
            Stand::Firing => RuleState::Firing,
            Stand::Insufficient => RuleState::Insufficient,
            Stand::Learning => RuleState::Learning,
            Stand::Off => RuleState::Off,
        },
        since_ms: standing.since_ms,
        value: standing.value,
        threshold: standing.threshold,
        unit: subject.rule.about().unit.to_owned(),
        arithmetic: standing.arithmetic.clone(),
    }
}

/// Where the dashboard shows an alert; what receivers are sent leads there as well.
fn link(alert: &Alert) -> String {
    format!("/alerts?id={}", alert.id)
}

fn severity(severity: Severity) -> RuleSeverity {
    match severity {
        Severity::Warn => RuleSeverity::Warn,
        Severity::Page => RuleSeverity::Page,
    }
}

/// A silence.
pub(in crate::api) fn silence(silence: Silence) -> SilenceItem {
    SilenceItem {
        id: silence.id.to_string(),
        call: silence.call,
        rule: silence.rule.map(|rule| rule.name().to_owned()),
        reason: silence.reason,
        created_ms: silence.created_ms,
        expires_ms: silence.expires_ms,
        by: silence.by,
    }
}

/// Who is told of alerts: the receivers of the project, and those that still have something to get.
/// `states` tells how those do that ever got a notice.
pub(in crate::api) fn notifications(
    named: &[(String, &'static str)],
    mut states: Vec<ReceiverState>,
) -> Notifications {
    for (name, _) in named {
        if !states.iter().any(|state| state.name == *name) {
            states.push(ReceiverState { name: name.clone(), ..ReceiverState::default() });
        }
    }
    let kind = |name: &str| named.iter().find(|(known, _)| known == name).map(|(_, kind)| *kind);
    states.retain(|state| kind(&state.name).is_some() || state.pending > 0);
    Notifications {
        pending: states.iter().map(|state| state.pending).sum(),
        failed: states.iter().map(|state| state.given_up).sum(),
        receivers: states
            .into_iter()
            .map(|state| Receiver {
                kind: kind(&state.name).map(str::to_owned),
                name: state.name,
                pending: state.pending,
                failed: state.given_up,
                last_ok_ms: state.last_ok_ms,
                last_failed_ms: state.last_failed_ms,
                last_error: state.last_error,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use backstay_core::{
        alert::{Rule, Subject},
        record::CallId,
    };

    use super::*;

    fn id(n: u8) -> CallId {
        CallId::new(std::time::Duration::from_millis(1_795_435_261_234), [n; 10])
    }

    fn alert(call: &str, stage: Stage) -> Alert {
        Alert {
            id: id(1),
            subject: Subject {
                rule: Rule::ErrorRate,
                call: call.into(),
                release: None,
                target: None,
                detail: None,
            },
            severity: Severity::Page,
            stage,
            started_ms: 1,
            fired_ms: Some(2),
            resolved_ms: None,
            summary: "too many calls fail".into(),
            arithmetic: "7 of 100".into(),
            value: Some(0.07),
            threshold: Some(0.02),
            release: Some("read@3".into()),
            variant: None,
            top_failure: Some("schema".into()),
            samples: vec![id(2)],
        }
    }

    #[test]
    fn a_silence_is_named_while_it_covers_what_is_not_over() {
        let silence = Silence {
            id: id(9),
            call: Some("read".into()),
            rule: None,
            reason: "known".into(),
            by: "local".into(),
            created_ms: 10,
            expires_ms: 20,
        };
        let told =
            |call: &str, stage, now| item(alert(call, stage), std::slice::from_ref(&silence), now);
        assert_eq!(told("read", Stage::Firing, 15).silenced_by, Some(id(9).to_string()));
        for (call, stage, now) in [
            ("read", Stage::Firing, 20),
            ("read", Stage::Resolved, 15),
            ("write", Stage::Firing, 15),
        ] {
            assert_eq!(told(call, stage, now).silenced_by, None, "{call} {stage:?} {now}");
        }
    }

    #[test]
    fn receivers_of_the_project_are_told_even_if_they_never_got_anything() {
        let state = |name: &str, pending| ReceiverState {
            name: name.into(),
            pending,
            given_up: 2,
            ..ReceiverState::default()
        };
        let states = vec![state("gone", 0), state("leaving", 3), state("ops", 1)];
        let named = [("new".to_owned(), "slack"), ("ops".to_owned(), "webhook")];
        let told = notifications(&named, states);
        let receivers: Vec<_> = told
            .receivers
            .iter()
            .map(|r| (r.name.as_str(), r.kind.as_deref(), r.pending))
            .collect();
        let expected =
            [("leaving", None, 3), ("ops", Some("webhook"), 1), ("new", Some("slack"), 0)];
        assert_eq!(receivers, expected);
        assert_eq!((told.pending, told.failed), (4, 4));
    }

    #[test]
    fn what_concerns_all_of_backstay_has_no_call() {
        let told = item(alert("", Stage::Firing), &[], 0);
        assert_eq!((told.call, told.release.as_deref()), (None, Some("read@3")));
        assert_eq!(told.link, format!("/alerts?id={}", told.id));
    }
}
