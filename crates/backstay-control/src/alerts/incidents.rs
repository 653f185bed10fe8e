//! Hours that nothing is learned from: an alert of the call was open then. What was wrong for a while
//! must not become what is usual; what has lasted for a day does, and counts though an alert was open.

use backstay_core::{
    alert::{Rule, Subject},
    rollup::Level,
};
use serde::{Deserialize, Serialize};

const HOUR_MS: u64 = Level::Hour.millis();
const DAY_MS: u64 = Level::Day.millis();
/// What is usual is taken from the last seven days; so many hours of eight are two to a stretch at most.
const KEPT_MS: u64 = 8 * DAY_MS;
/// What comes back at the same hour on so many of those days is no incident.
const RECURRING: usize = 3;

/// One thing that is usual for a call: its rule, and the rung or the release that the rule tells apart.
pub(super) type About<'a> = (Rule, Option<&'a str>);

/// What alerts of `subject` are about.
pub(super) fn about(subject: &Subject) -> About<'_> {
    (subject.rule, subject.detail.as_deref().or(subject.release.as_deref()))
}

/// A change that lasted: what came before it is not usual any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lasting {
    rule: Rule,
    of: Option<String>,
    /// When it began,
    since_ms: u64,
    /// and when it was taken for usual: until then it counts though alerts were open.
    until_ms: u64,
}

/// The hours of a call that are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Incidents {
    /// From when until when, in whole hours, in order and apart.
    hours: Vec<(u64, u64)>,
    /// One for each thing that is usual, at most.
    lasting: Vec<Lasting>,
}

impl Incidents {
    /// Nothing is left out.
    pub(super) fn is_empty(&self) -> bool {
        self.hours.is_empty() && self.lasting.is_empty()
    }

    /// An alert that began at `started_ms` is open. The calls that it was made of are up to an hour
    /// older. What lasts longer than a day is no incident.
    pub(super) fn mark(&mut self, started_ms: u64, now_ms: u64) {
        let hour = |at_ms| Level::Hour.start(at_ms);
        let from =
            hour(started_ms.saturating_sub(HOUR_MS)).max(hour(now_ms.saturating_sub(KEPT_MS)));
        let until = hour(now_ms.min(started_ms.saturating_add(DAY_MS))) + HOUR_MS;
        let known = |(begin, end): &(u64, u64)| *begin <= from && until <= *end;
        if from >= until || self.hours.iter().any(known) {
            return;
        }
        let (mut begin, mut end) = (from, until);
        self.hours.retain(|(from, until)| {
            let apart = *until < begin || end < *from;
            if !apart {
                (begin, end) = (begin.min(*from), end.max(*until));
            }
            apart
        });
        self.hours.push((begin, end));
        self.hours.sort_unstable();
        self.forget(now_ms);
    }

    /// What has been so since `since_ms` is usual from now on.
    pub(super) fn accept(&mut self, (rule, of): About<'_>, since_ms: u64, now_ms: u64) {
        let until_ms = Level::Hour.start(now_ms);
        self.lasting.retain(|it| it.about() != (rule, of));
        self.lasting.push(Lasting { rule, of: of.map(str::to_owned), since_ms, until_ms });
        self.forget(now_ms);
    }

    /// Forgets what is too old for anybody to ask.
    pub(super) fn forget(&mut self, now_ms: u64) {
        let old = |at_ms: u64| at_ms.saturating_add(KEPT_MS) <= now_ms;
        self.hours.retain(|(_, until)| !old(*until));
        let first = Level::Hour.start(now_ms.saturating_sub(KEPT_MS));
        self.hours.iter_mut().for_each(|(from, _)| *from = first.max(*from));
        self.lasting.retain(|it| !old(it.since_ms));
    }

    /// Whether nothing is learned from the hour that starts at `start_ms`: an alert was open then, and on
    /// no more than one other day at that time. Else what is so every day, or in every hour in which the
    /// call is used at all, would be told anew each day and never become usual.
    fn leaves_out(&self, start_ms: u64) -> bool {
        let covers =
            |at_ms: u64| self.hours.iter().any(|(from, until)| (*from..*until).contains(&at_ms));
        let day = |n: u64| (start_ms + n * DAY_MS).checked_sub(KEPT_MS);
        let days = (0..=2 * KEPT_MS / DAY_MS).filter_map(day);
        covers(start_ms) && days.filter(|at_ms| covers(*at_ms)).count() < RECURRING
    }

    /// Whether some hours of the day that starts at `start_ms` may count and others not.
    pub(super) fn touches(&self, start_ms: u64) -> bool {
        let day = start_ms..start_ms + DAY_MS;
        self.hours.iter().any(|(from, until)| *from < day.end && day.start < *until)
            || self.lasting.iter().any(|it| day.contains(&it.since_ms))
    }

    /// Whether what is usual `about` is taken from the hour, or the whole day, that starts at
    /// `start_ms`.
    pub(super) fn leaves(&self, about: About<'_>, start_ms: u64) -> bool {
        match self.lasting.iter().find(|it| it.about() == about) {
            Some(lasting) if start_ms < lasting.since_ms => false,
            Some(lasting) if start_ms < lasting.until_ms => true,
            Some(_) | None => !self.leaves_out(start_ms),
        }
    }
}

impl Lasting {
    fn about(&self) -> About<'_> {
        (self.rule, self.of.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const MINUTE_MS: u64 = Level::Minute.millis();
    const QUALITY: About<'static> = (Rule::Quality, Some("parsed"));

    proptest! {
        /// Whatever alerts overlap, in whatever order: the hours are those of a plain set, and few.
        #[test]
        fn hours_are_a_set_of_bounded_size(
            alerts in prop::collection::vec((0..12 * 1440_u64, 0..3 * 1440_u64), 1..200),
        ) {
            let (mut incidents, mut set) = (Incidents::default(), BTreeSet::new());
            let now_ms = 12 * DAY_MS;
            for (start, lasts) in alerts {
                let started_ms = start * MINUTE_MS;
                let seen_ms = (started_ms + lasts * MINUTE_MS).min(now_ms);
                incidents.mark(started_ms, seen_ms);
                let last = seen_ms.min(started_ms + DAY_MS) / HOUR_MS;
                set.extend(started_ms.saturating_sub(HOUR_MS) / HOUR_MS..=last);
            }
            incidents.mark(now_ms, now_ms);
            set.extend([now_ms / HOUR_MS - 1, now_ms / HOUR_MS]);
            incidents.forget(now_ms);
            let first = (now_ms - KEPT_MS) / HOUR_MS;
            let kept = |hour: &u64| *hour >= first && set.contains(hour);
            for hour in first..=now_ms / HOUR_MS {
                let days = (hour % 24..=now_ms / HOUR_MS).step_by(24).filter(kept).count();
                let counts = incidents.leaves(QUALITY, hour * HOUR_MS);
                prop_assert_eq!(counts, !set.contains(&hour) || days >= 3, "hour {}", hour);
            }
            let apart = incidents.hours.windows(2).all(|pair| pair[0].1 < pair[1].0);
            prop_assert!(apart && incidents.hours.len() <= 97, "{:?}", incidents.hours);
        }
    }

    #[test]
    fn a_lasting_change_counts_from_its_beginning_and_for_its_own_rule_only() {
        let mut incidents = Incidents::default();
        let began_ms = 3 * DAY_MS + 20 * MINUTE_MS;
        incidents.mark(began_ms, began_ms + 3 * DAY_MS);
        let since_ms = 3 * DAY_MS + HOUR_MS;
        incidents.accept(QUALITY, since_ms, began_ms + DAY_MS);
        assert!(!incidents.leaves(QUALITY, since_ms - HOUR_MS), "that was before");
        assert!(incidents.leaves(QUALITY, since_ms));
        assert!(!incidents.leaves((Rule::Quality, Some("complete")), since_ms));
        assert!(incidents.leaves((Rule::Quality, Some("complete")), since_ms - 3 * HOUR_MS));
        assert!(incidents.leaves((Rule::TokensIn, None), 4 * DAY_MS + HOUR_MS), "a day at most");
        assert!(incidents.touches(2 * DAY_MS) && incidents.touches(4 * DAY_MS));
        assert!(!incidents.touches(DAY_MS) && !incidents.touches(5 * DAY_MS));
        incidents.mark(13 * DAY_MS, 13 * DAY_MS);
        assert!(incidents.leaves(QUALITY, since_ms - HOUR_MS), "nobody asks that far back");
    }
}
