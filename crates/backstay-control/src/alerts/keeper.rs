//! Keeps an evaluator going: from what was kept, look by look, with all that changes made durable.
//!
//! What a look changed and the notices of it are stored in one transaction. If that fails they are kept
//! here and stored with the next look, so that a full disk delays an alert and loses none.

use backstay_core::alert::{
    Alert, Silence,
    machine::{Change, Transition},
};
use backstay_engine::{Engine, Sink};
use backstay_store::{
    AlertStore, RecordReader, RollupReader, StoreError,
    alerts::{AlertChange, Event, Notice},
};

use super::{Board, EngineView, Evaluator, Inputs, Policies, TokensUsual};

/// Who gets which notice of an alert; the time says not before when.
pub type Notices<'a> = &'a dyn Fn(&Alert, Event, u64) -> Vec<Notice>;

/// An evaluator with the stores that it reads and writes.
pub struct Keeper<R> {
    evaluator: Evaluator,
    store: Box<dyn AlertStore>,
    reader: R,
    silences: Vec<Silence>,
    unsaved: AlertChange,
}

impl<R> std::fmt::Debug for Keeper<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("evaluator", &self.evaluator).finish_non_exhaustive()
    }
}

impl<R: RollupReader + RecordReader> Keeper<R> {
    /// Goes on from what `store` kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(store: Box<dyn AlertStore>, reader: R, now_ms: u64) -> Result<Self, StoreError> {
        let kept = store.load()?;
        let evaluator = Evaluator::restore(&kept, now_ms);
        let (silences, unsaved) = (kept.silences, AlertChange::default());
        Ok(Self { evaluator, store, reader, silences, unsaved })
    }

    /// Takes a look at `now_ms`, and stores what changed; the transitions.
    pub fn look(
        &mut self,
        now_ms: u64,
        engine: &Engine,
        policies: &Policies,
        notices: Notices<'_>,
    ) -> Vec<Transition> {
        match self.store.silences() {
            Ok(silences) => self.silences = silences,
            Err(error) => {
                tracing::warn!(%error, "silences could not be read; the last known ones hold");
            }
        }
        let accounting = match engine.sink() {
            Sink::Log(recorder) => Some(recorder.accounting()),
            Sink::Memory(_) | Sink::Off => None,
        };
        let outcome = self.evaluator.tick(&Inputs {
            now_ms,
            rollups: &self.reader,
            records: &self.reader,
            engine: &view(engine),
            accounting: accounting.as_ref(),
            policies,
            silences: &self.silences,
            new_id: &|| engine.new_id(),
        });
        if let Some(error) = &outcome.problem {
            tracing::warn!(%error, "sums of calls cannot be judged; alerts stand as they did");
        }
        self.collect(&outcome.transitions, outcome.states, now_ms, notices);
        self.save(now_ms);
        outcome.transitions
    }

    /// Every rule as it stood at the last look.
    pub const fn board(&self) -> &Board {
        self.evaluator.board()
    }

    /// How many tokens calls usually read and write: what the rules about tokens hold them against.
    pub fn tokens(&self) -> TokensUsual {
        self.evaluator.tokens()
    }

    fn collect(
        &mut self,
        transitions: &[Transition],
        states: Vec<(String, Option<String>)>,
        now_ms: u64,
        notices: Notices<'_>,
    ) {
        for Transition { alert, change, notify } in transitions {
            let event = match change {
                Change::Fired => Event::Firing,
                Change::Reminded => Event::Renotify,
                Change::Resolved => Event::Resolved,
            };
            if *notify {
                self.unsaved.notices.extend(notices(alert, event, now_ms));
            }
            self.unsaved.alerts.retain(|known| known.id != alert.id);
            self.unsaved.alerts.push(alert.clone());
        }
        for (key, text) in states {
            self.unsaved.states.retain(|(known, _)| *known != key);
            self.unsaved.states.push((key, text));
        }
    }

    fn save(&mut self, now_ms: u64) {
        let AlertChange { alerts, states, notices, .. } = &self.unsaved;
        if alerts.is_empty() && states.is_empty() && notices.is_empty() {
            return;
        }
        self.unsaved.at_ms = now_ms;
        match self.store.save(&self.unsaved) {
            Ok(()) => self.unsaved = AlertChange::default(),
            Err(error) => {
                tracing::warn!(%error, "alerts could not be stored; it is tried again in 10 s");
            }
        }
    }
}

/// What the engine says of targets.
fn view(engine: &Engine) -> EngineView {
    let breakers = engine.targets().open_breakers().into_iter();
    let holds = engine.targets().holds().into_iter();
    EngineView {
        breakers: breakers.map(|(call, target, _)| (call, target.to_string())).collect(),
        holds: holds.map(|(target, class, _)| (target.to_string(), class)).collect(),
    }
}
