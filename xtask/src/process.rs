//! Child processes: each one bounded in time, with its output in a file that a person can read.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};

/// How long a process may go on after it was asked to end.
const GRACE: Duration = Duration::from_secs(10);

/// A command that can fetch no toolchain component behind our back, reads nothing from the
/// terminal and prints no colours into the logs.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env("RUSTUP_DIST_SERVER", "http://127.0.0.1:1")
        .env("CARGO_TERM_COLOR", "never")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

/// Runs a short command and returns what it printed.
pub(crate) fn read(command: &mut Command) -> anyhow::Result<String> {
    let name = name_of(command);
    let output = command.stderr(Stdio::piped()).output().with_context(|| name.clone())?;
    if !output.status.success() {
        bail!("`{name}`: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of `{name}`"))
}

/// Runs a command to its end, both outputs appended to `log`.
///
/// # Errors
/// Says what to look at if it cannot be started, fails, or takes longer than `limit`.
pub(crate) fn run(command: &mut Command, log: &Path, limit: Duration) -> anyhow::Result<()> {
    let name = name_of(command);
    let mut file = open_log(log)?;
    writeln!(file, "$ {name}")?;
    let mut child = command
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("starting `{name}`"))?;
    let pid = child.id();
    let (ended, end) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let overran = end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if overran {
            signal(pid, "TERM");
            if end.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
                signal(pid, "KILL");
            }
        }
        overran
    });
    let status = child.wait().with_context(|| format!("waiting for `{name}`"))?;
    drop(ended);
    if watchdog.join().unwrap_or(true) {
        bail!("`{name}` took longer than {} s and was ended", limit.as_secs());
    }
    if !status.success() {
        bail!("`{name}`: {status}");
    }
    Ok(())
}

/// The last `lines` lines of a log, for people.
pub(crate) fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

/// A server that a lane started; it is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// `http://127.0.0.1:PORT`, as the server itself announced it.
    pub(crate) url: String,
}

impl Server {
    /// Starts a server and waits until it prints `listening on http://ADDR` on stderr. Everything
    /// that it prints goes to `log`.
    pub(crate) fn start(
        command: &mut Command,
        log: &Path,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let name = name_of(command);
        let mut file = open_log(log)?;
        writeln!(file, "$ {name}")?;
        let mut child = command
            .stdout(file.try_clone()?)
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting `{name}`"))?;
        let stderr = child.stderr.take().context("the server's stderr is piped")?;
        let (announce, announced) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on http://") {
                    let address = rest.split_whitespace().next().unwrap_or_default();
                    // Nobody waits any more after the limit; the server is ended then.
                    drop(announce.send(format!("http://{address}")));
                }
                if writeln!(file, "{line}").is_err() {
                    return;
                }
            }
        });
        let mut server = Self { child, url: String::new() };
        match announced.recv_timeout(limit) {
            Ok(url) => server.url = url,
            Err(RecvTimeoutError::Timeout) => {
                bail!("`{name}` did not say `listening on http://…` within {} s", limit.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("`{name}` ended before it listened:\n{}", tail(log, 20))
            }
        }
        Ok(server)
    }

    /// The id of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself already; then there is nothing to end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn open_log(log: &Path) -> anyhow::Result<File> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    let file = File::options().create(true).append(true).open(log);
    file.with_context(|| format!("opening {}", log.display()))
}

fn signal(pid: u32, signal: &str) {
    // The process may have ended in between; `kill` then says so to nobody.
    drop(
        Command::new("sh")
            .args(["-c", &format!("kill -{signal} {pid}")])
            .stderr(Stdio::null())
            .status(),
    );
}

fn name_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = command("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_that_overruns_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let error = run(&mut shell("exec sleep 600"), &log, Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("took longer"), "{error}");
    }

    #[test]
    fn a_failing_command_is_an_error_and_its_output_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("sub/log");
        let limit = Duration::from_secs(60);
        let error = run(&mut shell("echo out; echo err >&2; exit 3"), &log, limit).unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        assert!(tail(&log, 2) == "out\nerr", "{}", tail(&log, 9));
    }

    #[test]
    fn a_server_is_ready_when_it_says_where_it_listens() {
        let dir = tempfile::tempdir().unwrap();
        let script = "echo starting >&2; echo listening on http://127.0.0.1:7 >&2; exec sleep 600";
        let limit = Duration::from_secs(60);
        let server = Server::start(&mut shell(script), &dir.path().join("log"), limit).unwrap();
        assert_eq!(server.url, "http://127.0.0.1:7");
    }

    #[test]
    fn a_server_that_ends_is_an_error_with_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = shell("echo port is taken >&2; exit 1");
        let started = Server::start(&mut command, &dir.path().join("log"), Duration::from_secs(60));
        assert!(started.unwrap_err().to_string().contains("port is taken"));
    }
}
