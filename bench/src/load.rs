//! The three shapes of load.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::{
    Load,
    client::{Client, request},
    sample::Sample,
};

/// How long a broken connection waits before it is made again, so that a refusing server is not
/// hammered.
const AFTER_BREAK: Duration = Duration::from_millis(5);
/// Answers that are still out when an open loop ends are waited for this long.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

type Shared = Arc<Mutex<Sample>>;

fn lock(sample: &Shared) -> MutexGuard<'_, Sample> {
    sample.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(sample: &Shared) -> Sample {
    std::mem::take(&mut *lock(sample))
}

/// Throughput: `connections` clients, each of which has one request out at any time.
pub(crate) async fn closed(load: &Load, connections: usize) -> anyhow::Result<Value> {
    let sample = Shared::default();
    let bytes: Arc<[u8]> = request(load.to, &load.model, false).into();
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(load.seconds);
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        clients.spawn(again_and_again(load.to, Arc::clone(&bytes), end, Arc::clone(&sample)));
    }
    clients.join_all().await;
    Ok(take(&sample).summary(began.elapsed()))
}

async fn again_and_again(to: SocketAddr, bytes: Arc<[u8]>, end: Instant, sample: Shared) {
    while Instant::now() < end {
        if let Ok(mut client) = Client::connect(to).await {
            while Instant::now() < end {
                let sent = Instant::now();
                match client.ask(&bytes).await {
                    Ok(seen) => lock(&sample).add(sent.elapsed(), &seen),
                    Err(_) => break,
                }
            }
        }
        if Instant::now() < end {
            lock(&sample).add_broken();
            tokio::time::sleep(AFTER_BREAK).await;
        }
    }
}

/// Latency under a fixed load. A request that is sent late has waited since it was due.
pub(crate) async fn open(load: &Load, rate: u32, outstanding: usize) -> anyhow::Result<Value> {
    let sample = Shared::default();
    let bytes: Arc<[u8]> = request(load.to, &load.model, false).into();
    let idle: Arc<Mutex<Vec<Client>>> = Arc::default();
    let began = Instant::now();
    let mut due = schedule(rate, Duration::from_secs_f64(load.seconds));
    let mut out = JoinSet::new();
    while let Some(scheduled) = due.recv().await {
        while out.try_join_next().is_some() {}
        if out.len() >= outstanding {
            lock(&sample).not_sent += 1;
            continue;
        }
        let (sample, bytes, idle) = (Arc::clone(&sample), Arc::clone(&bytes), Arc::clone(&idle));
        let to = load.to;
        out.spawn(async move {
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let asked = async {
                let mut client = match kept {
                    Some(client) => client,
                    None => Client::connect(to).await?,
                };
                let seen = client.ask(&bytes).await?;
                anyhow::Ok((client, seen))
            };
            match asked.await {
                Ok((client, seen)) => {
                    lock(&sample).add(scheduled.elapsed(), &seen);
                    idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
                }
                Err(_) => lock(&sample).add_broken(),
            }
        });
    }
    let span = began.elapsed();
    let all =
        tokio::time::timeout(LAST_ANSWERS, async { while out.join_next().await.is_some() {} });
    if all.await.is_err() {
        let mut sample = lock(&sample);
        (0..out.len()).for_each(|_| sample.add_broken());
    }
    Ok(take(&sample).summary(span))
}

/// Says when each request is due, from a thread that sleeps exactly: the runtime's timer has a grain
/// of a millisecond.
fn schedule(rate: u32, span: Duration) -> mpsc::UnboundedReceiver<Instant> {
    let (due, dues) = mpsc::unbounded_channel();
    let step = Duration::from_secs(1) / rate;
    let began = Instant::now();
    thread::spawn(move || {
        let mut next = began;
        while next < began + span {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            if due.send(next).is_err() {
                return;
            }
            next += step;
        }
    });
    dues
}

/// Time to the first content: one stream after the other.
pub(crate) async fn streams(load: &Load) -> anyhow::Result<Value> {
    let mut sample = Sample::default();
    let bytes = request(load.to, &load.model, true);
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(load.seconds);
    let mut client = Client::connect(load.to).await?;
    while Instant::now() < end {
        let sent = Instant::now();
        let seen = client.ask(&bytes).await?;
        sample.add(sent.elapsed(), &seen);
    }
    Ok(sample.summary(began.elapsed()))
}
