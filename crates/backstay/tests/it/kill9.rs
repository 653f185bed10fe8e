//! What a client has been told is in the log, even if the gateway is killed the moment after; and
//! what is older than its retention is not.

use std::{
    collections::HashSet,
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backstay_core::rollup::Level;
use backstay_store::{Filter, RecordReader, RollupFilter, RollupReader, SqliteReader};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use crate::{
    http,
    world::{Project, Server, command, until},
};

const CLIENTS: usize = 8;
const ROUNDS: usize = 3;

/// One call, whole or as a stream; its id, once its client knows that it is complete.
fn complete_call(gateway: SocketAddr, number: usize) -> io::Result<String> {
    if number.is_multiple_of(2) {
        let body = json!({"inputs": {"name": format!("Ada {number}")}});
        let answer = http::try_post(gateway, "/v1/calls/hello", &[], &body)?;
        assert_eq!(answer.status, 200, "{answer:?}");
        return Ok(answer.json()["id"].as_str().unwrap().to_owned());
    }
    let inputs = json!({"inputs": {"name": "Ada"}});
    let body = json!({"model": "hello", "stream": true, "backstay": inputs}).to_string();
    let mut stream = http::send(gateway, "POST /v1/chat/completions", &[], &body)?;
    let id = stream.call_id()?;
    stream.read_to("data: [DONE]")?;
    Ok(id)
}

/// Calls from many clients at once, until at least `enough` are complete; then the gateway is
/// killed in the midst of the others. The ids of all that were complete.
fn killed_under_load(gateway: Server, enough: usize) -> HashSet<String> {
    let address = gateway.address;
    let complete = Mutex::new(HashSet::new());
    let killed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (complete, killed) = (&complete, &killed);
            scope.spawn(move || {
                for number in client.. {
                    match complete_call(address, number) {
                        Ok(id) => assert!(complete.lock().unwrap().insert(id)),
                        Err(_) if killed.load(Ordering::SeqCst) => return,
                        Err(error) => panic!("before the kill: {error}"),
                    }
                }
            });
        }
        until("many calls are complete", || {
            (complete.lock().unwrap().len() >= enough).then_some(())
        });
        killed.store(true, Ordering::SeqCst);
        gateway.kill();
    });
    complete.into_inner().unwrap()
}

fn stored(store: &Path) -> Vec<String> {
    let filter = Filter { limit: 10_000, ..Filter::default() };
    let rows = SqliteReader::open(store).calls(&filter).unwrap();
    rows.iter().map(|row| row.id.to_string()).collect()
}

#[track_caller]
fn assert_whole(store: &Path) {
    let mut files = 0;
    for entry in fs::read_dir(store).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "db") {
            let read = OpenFlags::SQLITE_OPEN_READ_ONLY;
            let db = Connection::open_with_flags(&path, read).unwrap();
            let verdict: String =
                db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(verdict, "ok", "{}", path.display());
            files += 1;
        }
    }
    assert!(files >= 3, "{files} files: control, calls and bodies are fewer than that");
}

/// The sums of every level count what the log holds, by outcome.
#[track_caller]
pub(crate) fn assert_summed(store: &Path) {
    let reader = SqliteReader::open(store);
    let logged = reader.counts(&Filter::default()).unwrap();
    for level in Level::ALL {
        let filter =
            RollupFilter { level, since_ms: 0, until_ms: u64::MAX, call: None, release: None };
        let rollups = reader.rollups(&filter).unwrap();
        for (outcome, calls) in &logged.outcomes {
            let own = rollups.iter().filter(|rollup| rollup.key.outcome == *outcome);
            assert_eq!(own.map(|rollup| rollup.cell.calls).sum::<u64>(), *calls, "{outcome}");
        }
        assert_eq!(rollups.iter().map(|rollup| rollup.cell.calls).sum::<u64>(), logged.calls);
    }
}

#[test]
fn what_a_client_was_told_survives_kill_9() {
    let scratch = tempfile::tempdir().unwrap();
    let args = ["sim", "--listen", "127.0.0.1:0", "--latency", "2ms"];
    let provider = Server::start(&mut command(scratch.path(), &args));
    let providers =
        format!("[providers.far]\nkind = \"openai\"\nbase_url = \"{}/v1\"\n", provider.url());
    let project = Project::new(&providers).with_call("hello", "route = [\"far/ok\"]");
    let mut told = HashSet::new();
    let mut gateway = project.serve(&[]);
    for _ in 0..ROUNDS {
        let chance = RandomState::new().build_hasher().finish() % 200;
        told.extend(killed_under_load(gateway, 150 + usize::try_from(chance).unwrap()));
        gateway = project.serve(&[]);
        until("everything that a client was told is in the log", || {
            let stored: HashSet<_> = stored(&project.store()).into_iter().collect();
            told.is_subset(&stored).then_some(())
        });
        let records = &gateway.ready()["records"];
        assert!(records["replayed"].is_u64() && records["stored"] == 0, "{records}");
    }
    gateway.stop();
    let all = stored(&project.store());
    let distinct: HashSet<_> = all.iter().collect();
    assert_eq!(all.len(), distinct.len(), "a call is in the log twice");
    assert!(all.len() < 10_000, "the reader was not asked for all");
    assert_whole(&project.store());
    assert_summed(&project.store());
    provider.stop();
}

/// The day (UTC) so many days ago, as the files are named.
fn day(days_ago: u64) -> String {
    #[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
    let now = std::time::SystemTime::now();
    let then = now - Duration::from_secs(days_ago * 24 * 3600);
    humantime::format_rfc3339_seconds(then).to_string().replace('-', "")[..8].to_owned()
}

#[test]
fn old_days_are_unlinked() {
    let project = Project::new(
        "[log]\nbodies = \"2d\"\nmetadata = \"10d\"\n[providers.sim]\nkind = \"sim\"\n",
    )
    .with_call("hello", "route = [\"sim/ok\"]");
    let file = |kind: &str, days| project.store().join(format!("{kind}-{}.db", day(days)));
    fs::create_dir_all(project.store()).unwrap();
    for (kind, days) in [("calls", 15), ("bodies", 15), ("calls", 5), ("bodies", 5)] {
        fs::write(file(kind, days), "").unwrap();
    }
    let gateway = project.serve(&[]);
    http::post(gateway.address, "/v1/calls/hello", &[], &json!({"inputs": {"name": "Ada"}}));
    gateway.stored(1);
    until("the old days are gone", || {
        let gone = [("calls", 15), ("bodies", 15), ("bodies", 5)];
        gone.iter().all(|(kind, days)| !file(kind, *days).exists()).then_some(())
    });
    assert!(file("calls", 5).exists() && file("calls", 0).exists() && file("bodies", 0).exists());
    gateway.stop();
    assert_eq!(project.run(&["log", "--json"]).lines().len(), 1);
}
