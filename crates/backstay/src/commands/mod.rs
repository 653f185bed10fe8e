//! One module a command. What they print goes through `render`.

pub(crate) mod alerts;
pub(crate) mod call;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod erase;
pub(crate) mod export;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod log;
pub(crate) mod prices;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod sim;

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use backstay_control::{compile::privacy, project};
use backstay_core::{
    config::{Mistake, Project},
    privacy::{Privacy, PseudonymKey},
};
use backstay_store::pseudonym_key;

use crate::render;

/// A runtime that fits the machine: on one core, threads would only hand work to and fro.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = if cores == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    builder.enable_all().build().context("the async runtime does not start")
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the command line has no engine to ask")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// A seed from the system.
fn seed() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    fill_random(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Random bytes for a key of pseudonyms.
fn fresh_key() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    fill_random(&mut bytes)?;
    Ok(bytes)
}

fn fill_random(bytes: &mut [u8]) -> anyhow::Result<()> {
    match getrandom::fill(bytes) {
        Ok(()) => Ok(()),
        Err(error) => bail!("the system gives no random numbers: {error}"),
    }
}

/// Where the project in `dir` keeps its store.
fn store_path(dir: &Path) -> anyhow::Result<PathBuf> {
    let store = project::store_path(dir).map_err(|found| mend(&found))?;
    // Else a key made in the wrong directory would look as good as any.
    if !dir.join("backstay.toml").exists() && !store.exists() {
        bail!("there is no project in {}; name its directory with --dir", dir.display());
    }
    Ok(store)
}

/// The project in `dir`, which must be without mistakes.
fn sound_project(dir: &Path) -> anyhow::Result<Project> {
    project::load(dir).map_err(|found| mend(&found))
}

/// Tells the mistakes of a project.
fn mend(mistakes: &[Mistake]) -> anyhow::Error {
    render::mistakes(mistakes);
    anyhow::anyhow!("the project has mistakes; mend them first")
}

/// Every name that the calls of `unit` may be kept under in the project in `dir`.
fn names_of(unit: &str, dir: &Path) -> anyhow::Result<Vec<String>> {
    let (store, project) = (store_path(dir)?, sound_project(dir)?);
    let own = pseudonym_key::read(&store)?;
    let own = own.map(|key| PseudonymKey::new(&key)).transpose().map_err(anyhow::Error::msg)?;
    // Not only with the key of today: the project may have named one later, or no more.
    let stores = Privacy { key: own.clone(), units: project.privacy.units };
    let privacy = privacy(dir, &project, own).map_err(anyhow::Error::msg)?;
    let mut names = privacy.names_of(unit);
    names.extend(stores.names_of(unit));
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Ends on Ctrl-C or SIGTERM.
///
/// Signals are heeded from the call on, not from the first poll: whoever reads that the gateway listens
/// may end it at once.
fn asked_to_stop() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = signal(SignalKind::terminate());
    async move {
        match terminate {
            Ok(mut terminate) => tokio::select! {
                _ = terminate.recv() => {}
                interrupted = tokio::signal::ctrl_c() => {
                    if let Err(error) = interrupted {
                        tracing::warn!(%error, "Ctrl-C cannot be noticed");
                        terminate.recv().await;
                    }
                }
            },
            Err(error) => {
                tracing::warn!(%error, "SIGTERM cannot be noticed; Ctrl-C still can");
                if tokio::signal::ctrl_c().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

/// `now - span`, in milliseconds since the epoch.
fn since(span: Duration) -> u64 {
    now_ms().saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}
