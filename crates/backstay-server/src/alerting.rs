//! The clock of alerts: has all calls looked at every ten seconds, off the runtime's threads.
//!
//! What is looked at and what follows is the control plane's business.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use backstay_control::{alerts::Keeper, notify::Delivery};
use backstay_core::alert::Rule;
use backstay_store::SqliteReader;
use tokio::time::{MissedTickBehavior, interval};

use crate::state::Server;

const EVERY: Duration = Duration::from_secs(10);

/// Looks, until it is dropped.
pub(crate) async fn watch(
    server: Arc<Server>,
    mut keeper: Keeper<SqliteReader>,
    delivery: Delivery,
) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (looking, delivery) = (Arc::clone(&server), delivery.clone());
        let looked = tokio::task::spawn_blocking(move || {
            look(&looking, &mut keeper, &delivery);
            keeper
        });
        keeper = match looked.await {
            Ok(keeper) => keeper,
            Err(error) => {
                tracing::error!(%error, "looking at alerts ended in a panic; there are none any more");
                return;
            }
        };
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
}
