//! Tells when the files of a project have changed.
//!
//! Events of the file system only hasten a look at the project's [`Fingerprint`]; the fingerprint
//! decides. So a lost event costs two seconds and no more, and editors that write by renaming and
//! Kubernetes volumes that swap links need no rule of their own. Nothing is read or checked here.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{sync::Notify, time};

use crate::project::{Fingerprint, fingerprint};

/// How often the project is looked at without an event.
const POLL: Duration = Duration::from_secs(2);
/// How long the files must be left alone: an editor writes in several steps.
const QUIET: Duration = Duration::from_millis(100);
/// How many times `QUIET` is waited for at most: something may write without end.
const MAX_QUIET: usize = 20;

/// Watches the files of one project.
#[derive(Debug)]
pub struct Watch {
    dir: PathBuf,
    seen: Fingerprint,
    events: Arc<Notify>,
    // Held, because it stops when it is dropped. `None` where the system has no events.
    _watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Watches the project in `dir` from now on. Without events from the system (no watches left,
    /// network file systems) it looks every two seconds. Start before the project is loaded, so that
    /// no change falls between the two.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let events = Arc::new(Notify::new());
        let watcher = watcher(dir, Arc::clone(&events))
            .inspect_err(|error| {
                tracing::warn!(%error, "no file events: the project is looked at every 2 s");
            })
            .ok();
        Self { dir: dir.to_owned(), seen: fingerprint(dir), events, _watcher: watcher }
    }

    /// Waits until the files differ from what they were at the last return, or at the start.
    /// May be dropped and called again at any time.
    pub async fn changed(&mut self) {
        loop {
            if time::timeout(POLL, self.events.notified()).await.is_ok() {
                self.quiet().await;
            }
            let dir = self.dir.clone();
            let now = tokio::task::spawn_blocking(move || fingerprint(&dir)).await;
            match now {
                Ok(now) if now != self.seen => {
                    self.seen = now;
                    return;
                }
                // A fingerprint that was not taken (the runtime is ending) tells nothing.
                Ok(_) | Err(_) => {}
            }
        }
    }

    async fn quiet(&self) {
        for _ in 0..MAX_QUIET {
            if time::timeout(QUIET, self.events.notified()).await.is_err() {
                return;
            }
        }
    }
}

fn watcher(dir: &Path, events: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // To be read is no change; an error may hide one.
        if event.is_ok_and(|event| event.kind.is_access()) {
            return;
        }
        events.notify_one();
    })?;
    // Not the whole tree: the store writes into `.backstay` all the time.
    watcher.watch(dir, RecursiveMode::NonRecursive)?;
    let calls = dir.join("calls");
    if calls.is_dir() {
        watcher.watch(&calls, RecursiveMode::Recursive)?;
    }
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::project::init;

    async fn changed(watch: &mut Watch) {
        time::timeout(Duration::from_secs(20), watch.changed()).await.expect("a change was missed");
    }

    fn new_project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path()).unwrap();
        dir
    }

    #[tokio::test]
    async fn a_write_a_rename_and_a_new_call_are_seen() {
        let dir = new_project();
        let calls = dir.path().join("calls");
        let mut watch = Watch::start(dir.path());
        fs::write(calls.join("hello/user.j2"), "Say hello to everybody.").unwrap();
        changed(&mut watch).await;
        fs::write(calls.join("hello/.user.j2.tmp"), "Hello to {{ name }}!").unwrap();
        fs::rename(calls.join("hello/.user.j2.tmp"), calls.join("hello/user.j2")).unwrap();
        changed(&mut watch).await;
        fs::create_dir(calls.join("other")).unwrap();
        fs::write(calls.join("other/call.toml"), "route = [\"sim/ok\"]").unwrap();
        changed(&mut watch).await;
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_swapped_link_is_seen_without_events() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (new_project(), new_project());
        fs::write(new.path().join("calls/hello/user.j2"), "Hello to all of you.").unwrap();
        let link = dir.path().join("calls");
        std::os::unix::fs::symlink(old.path().join("calls"), &link).unwrap();
        let mut watch = Watch::start(dir.path());
        watch._watcher = None;
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(new.path().join("calls"), &link).unwrap();
        changed(&mut watch).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_the_same_is_no_change() {
        let dir = new_project();
        let mut watch = Watch::start(dir.path());
        fs::write(dir.path().join(".backstay/data"), "x").unwrap();
        watch.events.notify_one();
        let waited = time::timeout(Duration::from_secs(60), watch.changed()).await;
        assert!(waited.is_err());
    }
}
