//! Alerts, silences and what is still to be told, as every store keeps them.
//!
//! The evaluator hands over everything that one look at the calls changed in one [`AlertChange`]:
//! alerts, its own state and the notices to send become durable together or not at all. Whoever sends
//! the notices works off the outbox: a notice is begun before it is sent and settled afterwards, so
//! that a crash between the two repeats it and loses none. Nothing here decides what is an alert or
//! who is told.

use backstay_core::{
    alert::{Alert, Rule, Silence, Stage},
    record::CallId,
};

use crate::{ErrorKind, StoreError};

/// A silence lasts at most this long, in milliseconds: longer ones are forgotten and hide trouble.
pub const LONGEST_SILENCE_MS: u64 = 30 * 24 * 3600 * 1000;
/// At most so many silences are in force at once.
pub const MOST_SILENCES: usize = 1000;
/// The reason of a silence has at most so many characters.
pub const LONGEST_REASON: usize = 500;
/// The most rows that one question is answered with.
pub const MOST_ALERTS: usize = 1000;
/// At most so many notices wait; of more, the oldest ones are given up.
pub const MOST_NOTICES: usize = 10_000;
/// The evaluator's state of one key is at most so many bytes long.
pub const LARGEST_STATE: usize = 64 << 10;

/// What the evaluator needs to go on after a restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertsKept {
    /// Alerts that are not resolved, oldest first.
    pub open: Vec<Alert>,
    /// The evaluator's own state, sorted by key.
    pub states: Vec<(String, String)>,
    /// All silences that are kept, those that ended lately included, oldest first.
    pub silences: Vec<Silence>,
}

/// What one look at the calls changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertChange {
    /// Alerts that are new or not what they were.
    pub alerts: Vec<Alert>,
    /// Alerts that are to be as if they had never been: pending ones that passed.
    pub forgotten: Vec<CallId>,
    /// The evaluator's state by key; `None` removes the key.
    pub states: Vec<(String, Option<String>)>,
    /// What is to be told to whom. Their alerts are stored already, or in `alerts`.
    pub notices: Vec<Notice>,
    /// Now, in milliseconds since the epoch.
    pub at_ms: u64,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// The alert fires.
    Firing,
    /// It still fires, and people are told once more.
    Renotify,
    /// It still fires, and a receiver that forgets has to be reminded. Made by the outbox alone.
    Refresh,
    /// It is over.
    Resolved,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 4] = [Self::Firing, Self::Renotify, Self::Refresh, Self::Resolved];

    /// The event in one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Renotify => "renotify",
            Self::Refresh => "refresh",
            Self::Resolved => "resolved",
        }
    }

    /// The event of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }
}

/// Something to tell a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The alert.
    pub alert: CallId,
    /// The receiver's name. Its address and secrets are never stored.
    pub receiver: String,
    /// What is told of it.
    pub event: Event,
    /// Not before this, in milliseconds since the epoch.
    pub due_ms: u64,
}

/// A notice that waits in the outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Queued {
    /// Its number: later notices have larger ones.
    pub id: u64,
    /// The alert as it is now.
    pub alert: Alert,
    /// What is told of it.
    pub event: Event,
    /// When it was put here, in milliseconds since the epoch.
    pub created_ms: u64,
    /// Not before this.
    pub due_ms: u64,
    /// How often it was sent without success.
    pub attempts: u32,
    /// Whether the receiver was told of this alert before, or may have been.
    pub told: bool,
}

/// What became of a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The receiver took it. With `again_ms` it waits as a [`Event::Refresh`] until then.
    Delivered {
        /// When.
        at_ms: u64,
        /// When the receiver has to be reminded.
        again_ms: Option<u64>,
    },
    /// It goes back into the outbox.
    Failed {
        /// When.
        at_ms: u64,
        /// When it is tried again.
        due_ms: u64,
        /// Whether the receiver may have got it all the same.
        maybe_told: bool,
        /// Why, in a sentence without secrets.
        why: String,
    },
    /// Its receiver will not get it, and that is counted.
    GivenUp {
        /// When.
        at_ms: u64,
        /// Why, in a sentence without secrets.
        why: String,
    },
    /// There is no need to send it any more.
    Dropped,
}

/// How a receiver does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiverState {
    /// Its name.
    pub name: String,
    /// How many notices wait for it, reminders not counted.
    pub pending: u64,
    /// How many it never got.
    pub given_up: u64,
    /// When it last took one, in milliseconds since the epoch.
    pub last_ok_ms: Option<u64>,
    /// When it last failed to.
    pub last_failed_ms: Option<u64>,
    /// Why it failed, unless it took one since.
    pub last_error: Option<String>,
}

/// Which alerts are meant: those that satisfy every field that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertFilter {
    /// The call.
    pub call: Option<String>,
    /// The rule.
    pub rule: Option<Rule>,
    /// How far they have come; empty means all.
    pub stages: Vec<Stage>,
    /// Started before this, in milliseconds since the epoch.
    pub before_ms: Option<u64>,
    /// At most this many rows, and never more than [`MOST_ALERTS`]; but those that began in the same
    /// millisecond as the last row are there too, so that paging by `before_ms` misses none.
    pub limit: usize,
}

impl Default for AlertFilter {
    fn default() -> Self {
        Self { call: None, rule: None, stages: Vec::new(), before_ms: None, limit: 100 }
    }
}

impl AlertFilter {
    /// Whether the alert is meant.
    #[must_use]
    pub fn admits(&self, alert: &Alert) -> bool {
        self.call.as_ref().is_none_or(|call| *call == alert.subject.call)
            && self.rule.is_none_or(|rule| rule == alert.subject.rule)
            && (self.stages.is_empty() || self.stages.contains(&alert.stage))
            && self.before_ms.is_none_or(|before| alert.started_ms < before)
    }

    pub(crate) fn rows(&self) -> usize {
        self.limit.min(MOST_ALERTS)
    }
}

/// Alerts, silences and the outbox; every change is one transaction. Several may have the same store
/// open; API keys are not read again for any of these changes.
pub trait AlertStore: Send {
    /// Everything that is needed to go on.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&self) -> Result<AlertsKept, StoreError>;

    /// Makes a change durable as a whole.
    ///
    /// # Errors
    /// When nothing of it could be stored; [`ErrorKind::Conflict`] when a notice is about an alert
    /// that is not stored, or a state is larger than [`LARGEST_STATE`].
    fn save(&mut self, change: &AlertChange) -> Result<(), StoreError>;

    /// One alert.
    ///
    /// # Errors
    /// When it cannot be read.
    fn alert(&self, id: CallId) -> Result<Option<Alert>, StoreError>;

    /// The alerts that `filter` lets through, newest start first.
    ///
    /// # Errors
    /// When they cannot be read.
    fn history(&self, filter: &AlertFilter) -> Result<Vec<Alert>, StoreError>;

    /// All silences that are kept, those that ended lately included, oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    fn silences(&self) -> Result<Vec<Silence>, StoreError>;

    /// Stores a new silence.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when it has no reason, ends before it begins or more than
    /// [`LONGEST_SILENCE_MS`] later, or when there are [`MOST_SILENCES`] already.
    fn silence_add(&mut self, silence: &Silence) -> Result<(), StoreError>;

    /// Ends a silence at `now_ms`; the silence, if it was in force.
    ///
    /// # Errors
    /// When it cannot be stored.
    fn silence_end(&mut self, id: CallId, now_ms: u64) -> Result<Option<Silence>, StoreError>;

    /// The oldest `limit` notices that wait for a receiver, in the order in which they were put here,
    /// whether they are due or not.
    ///
    /// # Errors
    /// When they cannot be read.
    fn outbox(&self, receiver: &str, limit: usize) -> Result<Vec<Queued>, StoreError>;

    /// Says that a notice is about to be sent. Unless it is settled otherwise, its receiver may have
    /// been told from here on.
    ///
    /// # Errors
    /// When it cannot be stored; the notice is not to be sent then.
    fn outbox_begin(&mut self, notice: u64) -> Result<(), StoreError>;

    /// Says what became of notices. One that is settled already is left alone.
    ///
    /// # Errors
    /// When it cannot be stored; the notices wait on as they did.
    fn outbox_settle(&mut self, settled: &[(u64, Settled)]) -> Result<(), StoreError>;

    /// Every receiver that ever got a notice or is to get one, by name.
    ///
    /// # Errors
    /// When they cannot be read.
    fn receivers(&self) -> Result<Vec<ReceiverState>, StoreError>;

    /// Drops at most `limit` alerts that were resolved, with their notices, and at most as many
    /// silences that ended, before `before_ms`; how many alerts it dropped.
    ///
    /// # Errors
    /// When they cannot be dropped; it is tried again the next time.
    fn alerts_retain(&mut self, before_ms: u64, limit: usize) -> Result<u64, StoreError>;
}

/// Why a notice that had to make room was not sent.
pub(crate) const TOO_MANY: &str = "more notices wait than are kept";
/// What is wrong with a notice that cannot be told.
pub(crate) const STRANGER: &str = "a notice is about an alert that is not stored";

/// What is wrong with a new silence, given how many are in force.
pub(crate) fn silence_fault(silence: &Silence, in_force: usize) -> Result<(), StoreError> {
    let wrong = |message: String| Err(StoreError::new(ErrorKind::Conflict, message));
    let reason = silence.reason.trim();
    if reason.is_empty() {
        return wrong("a silence needs a reason: whoever finds it has to understand it".to_owned());
    }
    if reason.chars().count() > LONGEST_REASON {
        return wrong(format!(
            "the reason of a silence has more than {LONGEST_REASON} characters: shorten it"
        ));
    }
    if silence.expires_ms <= silence.created_ms {
        return wrong("a silence has to end after it begins".to_owned());
    }
    if silence.expires_ms - silence.created_ms > LONGEST_SILENCE_MS {
        return wrong("a silence lasts at most 30 days: shorten it, and renew it then".to_owned());
    }
    if in_force >= MOST_SILENCES {
        return wrong(format!("{MOST_SILENCES} silences are in force already: end some of them"));
    }
    Ok(())
}

/// What is wrong with the evaluator's state.
pub(crate) fn state_fault(states: &[(String, Option<String>)]) -> Result<(), StoreError> {
    let large = states.iter().find(|(key, text)| {
        key.len() > LARGEST_STATE || text.as_ref().is_some_and(|text| text.len() > LARGEST_STATE)
    });
    match large {
        None => Ok(()),
        Some((key, _)) => {
            let key: String = key.chars().take(80).collect();
            let message =
                format!("the evaluator's state `{key}` has more than {LARGEST_STATE} bytes");
            Err(StoreError::new(ErrorKind::Conflict, message))
        }
    }
}
