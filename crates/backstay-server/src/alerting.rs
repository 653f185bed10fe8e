//! The clock of alerts: has all calls looked at every ten seconds, off the runtime's threads.
//!
//! What is looked at and what follows is the control plane's business.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use backstay_control::{alerts::Keeper, notify::Delivery};
use backstay_core::alert::Rule;
use backstay_store::{
    StoreError,
    sqlite::{SqliteAlerts, SqliteReader},
};
use tokio::time::{MissedTickBehavior, interval};

use crate::state::Server;

const EVERY: Duration = Duration::from_secs(10);

/// Goes on from what the store in `dir` kept.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn open(dir: &Path, now_ms: u64) -> Result<Keeper<SqliteReader>, StoreError> {
    Keeper::open(Box::new(SqliteAlerts::open(dir)?), SqliteReader::open(dir), now_ms)
}

/// Looks, until it is dropped; `dir` is the store's directory.
pub(crate) async fn watch(
    server: Arc<Server>,
    keeper: Keeper<SqliteReader>,
    (dir, delivery): (PathBuf, Delivery),
) {
    let reopening = Arc::clone(&server);
    let reopen = move || open(&dir, reopening.now_ms());
    let look = move |keeper: &mut Keeper<SqliteReader>| look(&server, keeper, &delivery);
    keep_looking(keeper, Arc::new(reopen), Arc::new(look)).await;
}

/// Looks every ten seconds. What panicked while it looked is in no state to be trusted: it is opened
/// anew, from what was kept, at the next look or the one after.
async fn keep_looking<K: Send + 'static>(
    keeper: K,
    reopen: Arc<dyn Fn() -> Result<K, StoreError> + Send + Sync>,
    look: Arc<dyn Fn(&mut K) + Send + Sync>,
) {
    let mut keeper = Some(keeper);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (kept, reopen, look) = (keeper.take(), Arc::clone(&reopen), Arc::clone(&look));
        let looked = tokio::task::spawn_blocking(move || {
            let mut keeper = kept.map_or_else(|| reopen(), Ok)?;
            look(&mut keeper);
            Ok::<_, StoreError>(keeper)
        });
        match looked.await {
            Ok(Ok(looked)) => keeper = Some(looked),
            Ok(Err(error)) => {
                tracing::error!(%error, "what alerts are made of cannot be read; tried again in 10 s");
            }
            Err(error) => {
                tracing::error!(%error, "looking for alerts ended in a panic; it starts anew in 10 s");
            }
        }
    }
}

fn look(server: &Server, keeper: &mut Keeper<SqliteReader>, delivery: &Delivery) {
    let engine = server.engine();
    let now_ms = u64::try_from(engine.clock().since_epoch().as_millis()).unwrap_or(u64::MAX);
    let notices = |alert: &_, event, due_ms| delivery.notices(alert, event, due_ms);
    let changed = keeper.look(now_ms, engine, &server.policies(), &notices);
    for it in &changed {
        let alert = &it.alert;
        tracing::info!(
            rule = alert.subject.rule.name(),
            call = alert.subject.call,
            severity = alert.severity.name(),
            change = ?it.change,
            "{}",
            alert.arithmetic
        );
    }
    if changed.iter().any(|it| it.notify) {
        delivery.ring();
    }
    let board = keeper.board();
    let mut firing: BTreeMap<(&str, Rule), u64> = BTreeMap::new();
    for alert in board.firing() {
        *firing.entry((&alert.subject.call, alert.subject.rule)).or_default() += 1;
    }
    let firing = firing.into_iter().map(|((call, rule), count)| (call.to_owned(), rule, count));
    server.metrics().firing().store(Arc::new(firing.collect()));
    server.set_alerts(board.clone());
    server.set_tokens(keeper.tokens());
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use backstay_store::ErrorKind;
    use tokio::{sync::mpsc, task::JoinSet, time::timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_that_panics_is_not_the_last_one() {
        let (told, mut looks) = mpsc::unbounded_channel();
        let opened = AtomicU32::new(0);
        // The first try to open it anew fails too.
        let reopen = move || match opened.fetch_add(1, Ordering::Relaxed) {
            0 => Err(StoreError::new(ErrorKind::Busy, "it is locked")),
            _ => Ok("second"),
        };
        let looked = AtomicU32::new(0);
        let look = move |keeper: &mut &'static str| {
            let look = looked.fetch_add(1, Ordering::Relaxed);
            told.send((look, *keeper)).unwrap();
            assert!(look != 1, "this look panics");
        };
        let mut watching = JoinSet::new();
        watching.spawn(keep_looking("first", Arc::new(reopen), Arc::new(look)));
        for expected in [(0, "first"), (1, "first"), (2, "second"), (3, "second")] {
            let look = timeout(30 * EVERY, looks.recv()).await;
            assert_eq!(look, Ok(Some(expected)));
        }
    }
}
