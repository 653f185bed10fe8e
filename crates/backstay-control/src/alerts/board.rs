//! Every rule as it stands, for whoever looks: the API, the dashboard, the metrics.

use backstay_core::alert::{
    Alert, Rule, Stage, Subject,
    machine::Tracked,
    reading::{Reading, Verdict},
};

/// How a rule stands with a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleState {
    /// All is well.
    Ok,
    /// It holds, but not for long enough yet.
    Pending,
    /// Somebody is told.
    Firing,
    /// Too few calls to say anything.
    Insufficient,
    /// What is usual is not known yet.
    Learning,
    /// The project turned it off.
    Off,
}

impl RuleState {
    /// The state in one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Insufficient => "insufficient",
            Self::Learning => "learning",
            Self::Off => "off",
        }
    }

    fn of(reading: &Reading, tracked: Option<&Tracked>) -> Self {
        match (tracked.map(|tracked| tracked.alert.stage), reading.verdict) {
            (Some(Stage::Firing), _) => Self::Firing,
            (Some(Stage::Pending | Stage::Resolved), _) => Self::Pending,
            (None, Verdict::Insufficient) => Self::Insufficient,
            (None, Verdict::Learning) => Self::Learning,
            (None, Verdict::Clear | Verdict::Lingers | Verdict::Holds(_)) => Self::Ok,
        }
    }
}

/// One rule and subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// What is watched where.
    pub subject: Subject,
    /// How it stands,
    pub state: RuleState,
    /// and since when, in milliseconds since the epoch, if that is known.
    pub since_ms: Option<u64>,
    /// What was measured,
    pub value: Option<f64>,
    /// and what it is held against.
    pub threshold: Option<f64>,
    /// The figures, as a sentence.
    pub arithmetic: String,
}

impl Standing {
    pub(super) fn of(subject: &Subject, reading: &Reading, tracked: Option<&Tracked>) -> Self {
        Self {
            subject: subject.clone(),
            state: RuleState::of(reading, tracked),
            since_ms: tracked.map(|it| it.alert.fired_ms.unwrap_or(it.alert.started_ms)),
            value: reading.value,
            threshold: reading.threshold,
            arithmetic: reading.arithmetic.clone(),
        }
    }

    pub(super) fn off(call: &str, rule: Rule) -> Self {
        Self {
            subject: Subject {
                rule,
                call: call.to_owned(),
                release: None,
                target: None,
                detail: None,
            },
            state: RuleState::Off,
            since_ms: None,
            value: None,
            threshold: None,
            arithmetic: if call.is_empty() {
                "the project turned this rule off".to_owned()
            } else {
                "the project turned this rule off for this call".to_owned()
            },
        }
    }
}

/// Every rule as it stood at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Board {
    /// When, in milliseconds since the epoch; 0 before the first look.
    pub at_ms: u64,
    /// By rule, call and the rest of the subject.
    pub standings: Vec<Standing>,
    /// What is pending or fires, the oldest first.
    pub open: Vec<Alert>,
    /// Why the sums could not be read, if they could not: rules about calls then stand as they did.
    pub problem: Option<String>,
}

impl Board {
    /// The alerts that fire.
    pub fn firing(&self) -> impl Iterator<Item = &Alert> {
        self.open.iter().filter(|alert| alert.stage == Stage::Firing)
    }
}
