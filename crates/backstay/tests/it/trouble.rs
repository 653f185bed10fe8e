//! A store in trouble: calls are answered all the same, every record is accounted for at every instant,
//! and what was held up is stored and summed up in the end.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{
    http,
    kill9::assert_summed,
    world::{Project, Server, until},
};

const PROVIDER: &str = "[providers.sim]\nkind = \"sim\"\n";

fn project() -> Project {
    Project::new(PROVIDER).with_call("hello", "route = [\"sim/ok\"]")
}

#[track_caller]
fn answered(gateway: SocketAddr, name: &str) {
    let body = json!({"inputs": {"name": name}});
    let answer = http::post(gateway, "/v1/calls/hello", &[], &body);
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// The accounting of this instant: it has to add up.
#[track_caller]
fn records(gateway: &Server) -> Value {
    let records = gateway.ready()["records"].clone();
    let number = |value: &Value| value.as_u64().unwrap();
    let shed: u64 = records["shed"].as_object().unwrap().values().map(number).sum();
    let parts = number(&records["stored"]) + number(&records["pending"]) + shed;
    assert_eq!(number(&records["received"]), parts, "{records}");
    records
}

#[track_caller]
fn everything_is_stored(gateway: &Server) {
    until("everything is stored", || {
        let records = records(gateway);
        (records["received"] == records["stored"]).then_some(())
    });
}

#[test]
fn a_locked_store_holds_records_up_and_loses_none() {
    let project = project();
    let gateway = project.serve(&[]);
    answered(gateway.address, "the first, so that there are files");
    gateway.stored(1);
    let files: Vec<_> = fs::read_dir(project.store())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "db"))
        .filter(|path| !path.ends_with("control.db"))
        .collect();
    assert!(files.len() >= 2, "{files:?}");
    let locks: Vec<_> = files.iter().map(|path| Connection::open(path).unwrap()).collect();
    for lock in &locks {
        lock.execute_batch("PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE").unwrap();
    }
    for number in 0..20 {
        answered(gateway.address, &format!("Ada {number}"));
        assert_eq!(records(&gateway)["stored"], 1, "the log is locked");
    }
    drop(locks);
    everything_is_stored(&gateway);
    gateway.stop();
    assert_summed(&project.store());
}

/// A gateway whose store is a file system of its own, in a mount namespace that only it sees.
fn serve_on_a_disk(project: &Project, megabytes: u32) -> Server {
    let script = format!(
        "mount -t tmpfs -o size={megabytes}m tmpfs .backstay && exec \"$0\" serve --listen 127.0.0.1:0"
    );
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c", &script, env!("CARGO_BIN_EXE_backstay")])
        .current_dir(project.dir())
        .stdin(Stdio::null());
    Server::start(&mut command)
}

/// Runs a command where the gateway runs.
fn beside(gateway: &Server, args: &[&str]) {
    let pid = gateway.pid().to_string();
    let flags = ["--target", &pid, "--user", "--mount", "--preserve-credentials", "--wd"];
    let status = Command::new("nsenter").args(flags).args(args).status().unwrap();
    assert!(status.success(), "{args:?}");
}

#[test]
fn a_full_disk_holds_records_up_and_loses_none() {
    let project = project();
    fs::create_dir_all(project.store()).unwrap();
    let gateway = serve_on_a_disk(&project, 4);
    let store = format!("/proc/{}/root{}", gateway.pid(), project.store().display());
    let store = Path::new(&store);
    // Somebody else fills the disk.
    let mut left = 1 << 16;
    let mut hog = fs::File::create(store.join("hog")).unwrap();
    while left > 0 {
        if std::io::Write::write_all(&mut hog, &vec![0; left]).is_err() {
            left /= 2;
        }
    }
    drop(hog);
    let body = "x".repeat(20_000);
    let mut sent = 0;
    until("the store fails", || {
        answered(gateway.address, &body);
        sent += 1;
        (records(&gateway)["pending"].as_u64().unwrap() > 8).then_some(())
    });
    for number in 0..20 {
        answered(gateway.address, &format!("Ada {number}"));
        records(&gateway);
    }
    beside(&gateway, &["rm", store.join("hog").to_str().unwrap()]);
    everything_is_stored(&gateway);
    assert_eq!(records(&gateway)["stored"], sent + 20);
    let copy = project.dir().join("copy");
    fs::create_dir(&copy).unwrap();
    // The sums follow a moment later.
    until("everything is summed up", || {
        for entry in fs::read_dir(store).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
            }
        }
        std::panic::catch_unwind(|| assert_summed(&copy)).ok()
    });
    gateway.stop();
}
