//! What to do with the notices that wait for one receiver: a pure function of the outbox and the time.
//!
//! A receiver hears of one alert in order: that it fires, perhaps that it still does, that it is over.
//! What is overtaken is not told, and the end of an alert only to those who heard of it.

use std::{collections::BTreeMap, time::Duration};

use backstay_core::{alert::Stage, record::CallId};
use backstay_store::alerts::{Event, Queued, Settled};

/// What a look at the outbox leads to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pass {
    /// What need not be told any more, or never was.
    pub(super) settled: Vec<(u64, Settled)>,
    /// What is told now, in this order.
    pub(super) send: Vec<Queued>,
    /// When the next one is due, in milliseconds since the epoch.
    pub(super) wake_ms: Option<u64>,
}

/// `queued` is in the order of the outbox. What waits for longer than `give_up` is given up. `forgets`:
/// the receiver has to be reminded of what still fires.
pub(super) fn pass(queued: Vec<Queued>, now_ms: u64, give_up: Duration, forgets: bool) -> Pass {
    let give_up_ms = u64::try_from(give_up.as_millis()).unwrap_or(u64::MAX);
    let mut pass = Pass::default();
    let mut by_alert: BTreeMap<CallId, Vec<Queued>> = BTreeMap::new();
    for notice in queued {
        by_alert.entry(notice.alert.id).or_default().push(notice);
    }
    for notices in by_alert.into_values() {
        let mut first = None;
        let news = |notice: &Queued| notice.event == Event::Firing;
        let newest = notices.iter().filter(|it| news(it)).map(|it| it.id).max();
        for notice in notices {
            // A receiver that forgets is told of an alert for as long as it fires: given up, it would
            // never hear of it again.
            let late = notice.event != Event::Refresh
                && !(forgets && news(&notice))
                && now_ms.saturating_sub(notice.created_ms) > give_up_ms;
            // News is told at once, and is followed by reminders of its own.
            let renewed = forgets
                && matches!(notice.event, Event::Firing | Event::Refresh)
                && newest.is_some_and(|id| id > notice.id);
            if renewed || overtaken(&notice, first.is_some()) {
                pass.settled.push((notice.id, Settled::Dropped));
            } else if late {
                let why =
                    format!("it could not be told within {}", humantime::format_duration(give_up));
                pass.settled.push((notice.id, Settled::GivenUp { at_ms: now_ms, why }));
            } else {
                first.get_or_insert(notice);
            }
        }
        match first {
            Some(notice) if notice.due_ms <= now_ms => pass.send.push(notice),
            Some(notice) => {
                pass.wake_ms = Some(pass.wake_ms.map_or(notice.due_ms, |at| at.min(notice.due_ms)));
            }
            None => {}
        }
    }
    pass.send.sort_by_key(|notice| notice.id);
    pass
}

/// Whether there is no need to tell this any more. `waits`: an earlier notice of the same alert is
/// still to be told.
fn overtaken(notice: &Queued, waits: bool) -> bool {
    let over = notice.alert.stage == Stage::Resolved;
    match notice.event {
        Event::Resolved => !notice.told,
        Event::Firing | Event::Refresh => over,
        // What waits says the same, with the figures of now.
        Event::Renotify => over || waits,
    }
}

#[cfg(test)]
mod tests {
    use backstay_core::alert::Alert;
    use proptest::prelude::*;

    use super::super::wording::tests::alert;
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn one(n: u8, resolved: bool) -> Alert {
        let stage = if resolved { Stage::Resolved } else { Stage::Firing };
        Alert { id: CallId::new(Duration::ZERO, [n; 10]), stage, ..alert() }
    }

    fn queued(id: u64, alert: &Alert, event: Event, told: bool) -> Queued {
        Queued { id, alert: alert.clone(), event, created_ms: 0, due_ms: 0, attempts: 0, told }
    }

    fn told(pass: &Pass) -> Vec<(u64, Event)> {
        pass.send.iter().map(|notice| (notice.id, notice.event)).collect()
    }

    #[test]
    fn what_was_never_told_is_dropped_with_its_end() {
        let over = one(1, true);
        let waiting =
            vec![queued(1, &over, Event::Firing, false), queued(2, &over, Event::Resolved, false)];
        let done = pass(waiting, 5, DAY, false);
        assert_eq!(done.settled, [(1, Settled::Dropped), (2, Settled::Dropped)]);
        assert_eq!(done.send, []);
        // An attempt may have arrived: its end is told, and it is not told again.
        let waiting =
            vec![queued(1, &over, Event::Firing, true), queued(2, &over, Event::Resolved, true)];
        let done = pass(waiting, 5, DAY, false);
        assert_eq!(done.settled, [(1, Settled::Dropped)]);
        assert_eq!(told(&done), [(2, Event::Resolved)]);
    }

    #[test]
    fn one_alert_does_not_wait_for_another() {
        let (a, b) = (one(1, false), one(2, false));
        let late = Queued { due_ms: 50, ..queued(1, &a, Event::Firing, false) };
        let waiting =
            vec![late, queued(2, &b, Event::Firing, false), queued(3, &a, Event::Renotify, false)];
        let done = pass(waiting, 5, DAY, false);
        assert_eq!(told(&done), [(2, Event::Firing)]);
        assert_eq!(done.wake_ms, Some(50));
        assert_eq!(done.settled, [(3, Settled::Dropped)], "what waits says the same");
    }

    #[test]
    fn a_reminder_ends_with_its_alert() {
        let (a, b) = (one(1, false), one(2, true));
        let waiting =
            vec![queued(1, &a, Event::Refresh, true), queued(2, &b, Event::Refresh, true)];
        let later = u64::try_from(DAY.as_millis()).unwrap() * 9;
        let done = pass(waiting, later, DAY, false);
        assert_eq!(told(&done), [(1, Event::Refresh)], "it is never too old");
        assert_eq!(done.settled, [(2, Settled::Dropped)]);
    }

    #[test]
    fn news_does_not_wait_for_a_reminder() {
        let a = one(1, false);
        let reminder = Queued { due_ms: 60, ..queued(1, &a, Event::Refresh, true) };
        let waiting = vec![reminder, queued(2, &a, Event::Firing, true)];
        let done = pass(waiting, 5, DAY, true);
        assert_eq!(done.settled, [(1, Settled::Dropped)], "the news brings its own reminders");
        assert_eq!(told(&done), [(2, Event::Firing)]);
    }

    #[test]
    fn what_still_fires_is_never_given_up_by_a_receiver_that_forgets() {
        let waiting = vec![queued(1, &one(1, false), Event::Firing, false)];
        let later = u64::try_from(DAY.as_millis()).unwrap() * 9;
        let done = pass(waiting.clone(), later, DAY, true);
        assert_eq!((told(&done), done.settled), (vec![(1, Event::Firing)], Vec::new()));
        let over = vec![queued(1, &one(1, true), Event::Firing, false)];
        assert_eq!(pass(over, later, DAY, true).settled, [(1, Settled::Dropped)]);
        assert_eq!(told(&pass(waiting, later, DAY, false)), [], "others are not");
    }

    #[test]
    fn what_waits_too_long_is_given_up() {
        let a = one(1, false);
        let waiting = vec![queued(1, &a, Event::Firing, true)];
        let day = u64::try_from(DAY.as_millis()).unwrap();
        assert_eq!(told(&pass(waiting.clone(), day, DAY, false)), [(1, Event::Firing)]);
        let done = pass(waiting, day + 1, DAY, false);
        let [(1, Settled::GivenUp { why, .. })] = done.settled.as_slice() else {
            panic!("{done:?}")
        };
        assert_eq!(why, "it could not be told within 1day");
    }

    proptest! {
        /// Whatever waits: each notice is settled, sent or waited for, at most one of an alert is sent
        /// at a time, and it is the oldest one that is left.
        #[test]
        fn every_notice_is_accounted_for(
            rows in prop::collection::vec(
                (0..3u8, prop::sample::select(Event::ALL.to_vec()), any::<bool>(), 0..20u64), 0..12),
            resolved in any::<[bool; 3]>(),
            forgets in any::<bool>(),
        ) {
            let waiting: Vec<_> = (1..).zip(&rows).map(|(id, (n, event, told, due_ms))| {
                let alert = one(*n, resolved[usize::from(*n)]);
                Queued { due_ms: *due_ms, ..queued(id, &alert, *event, *told) }
            }).collect();
            let done = pass(waiting.clone(), 10, DAY, forgets);
            for n in 0..3u8 {
                let own: Vec<_> = waiting.iter().filter(|w| w.alert.id == one(n, false).id).collect();
                let left: Vec<_> = own.iter()
                    .filter(|w| !done.settled.iter().any(|(id, _)| *id == w.id)).collect();
                let sent: Vec<_> = done.send.iter().filter(|w| w.alert.id == one(n, false).id).collect();
                prop_assert!(sent.len() <= 1);
                match (left.first(), sent.first()) {
                    (Some(first), Some(sent)) => prop_assert_eq!(first.id, sent.id),
                    (Some(first), None) => {
                        prop_assert!(first.due_ms > 10);
                        prop_assert!(done.wake_ms.is_some_and(|at| at <= first.due_ms));
                    }
                    (None, sent) => prop_assert!(sent.is_none()),
                }
            }
        }
    }
}
