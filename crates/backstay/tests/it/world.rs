//! The world of a test: projects in scratch directories, and processes that run in them.
//!
//! Waits are for conditions, with a bound. A process that a test leaves behind is killed.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::http;

/// The longest wait for anything: far above what is measured, since machines of tests are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a command said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its output as JSON objects, one a line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

/// The program with `args`, in `dir`, with nothing of this process's environment.
pub(crate) fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
    command.args(args).current_dir(dir).env_clear().stdin(Stdio::null());
    // Where it is instrumented for coverage, it has to know where to write.
    for (name, value) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LLVM_PROFILE") {
            command.env(name, value);
        }
    }
    command
}

/// Runs the program to its end.
pub(crate) fn run(dir: &Path, args: &[&str]) -> Ran {
    ran(&mut command(dir, args))
}

pub(crate) fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran {
        code: output.status.code().expect("ended by a signal"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Looks until `look` sees something.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    #[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        pause(Duration::from_millis(10));
    }
}

/// The pause between two looks.
#[expect(clippy::disallowed_methods, reason = "only between two looks of a bounded wait")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A project in a scratch directory.
#[derive(Debug)]
pub(crate) struct Project {
    scratch: TempDir,
}

impl Project {
    /// A project with this `backstay.toml`.
    pub(crate) fn new(backstay_toml: &str) -> Self {
        let project = Self { scratch: tempfile::tempdir().unwrap() };
        project.write("backstay.toml", backstay_toml);
        project
    }

    /// The project that `backstay init` writes.
    pub(crate) fn init() -> Self {
        let project = Self { scratch: tempfile::tempdir().unwrap() };
        assert_eq!(run(project.dir(), &["init"]).code, 0);
        project
    }

    /// Adds a call with a prompt that takes `name`.
    pub(crate) fn with_call(self, name: &str, call_toml: &str) -> Self {
        self.write(&format!("calls/{name}/call.toml"), call_toml);
        self.write(&format!("calls/{name}/user.j2"), "Say hello to {{ name }}.\n");
        self
    }

    pub(crate) fn dir(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir().join(".backstay")
    }

    /// Writes a file as editors do: whole, by renaming.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.dir().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(self.dir(), args)
    }

    /// A gateway on this project and a free port.
    pub(crate) fn serve(&self, more: &[&str]) -> Server {
        let args = [&["serve", "--listen", "127.0.0.1:0"], more].concat();
        Server::start(&mut command(self.dir(), &args))
    }
}

/// A running gateway or simulated provider.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    stderr: Arc<Mutex<String>>,
}

impl Server {
    /// Starts it and waits until it listens.
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        read_along(child.stderr.take().unwrap(), Arc::clone(&stderr));
        let address = until("the line `listening on`", || {
            let said = stderr.lock().unwrap().clone();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("it ended with {status} and said: {said}");
            }
            address_in(&said)
        });
        Self { child, address, stderr }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Sends it `TERM`.
    pub(crate) fn terminate(&self) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Kills it, as the system does when memory runs out.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        until("the end of the process", || self.child.try_wait().unwrap())
    }

    /// Ends it in an orderly way, and gives what it said.
    #[track_caller]
    pub(crate) fn stop(mut self) -> String {
        self.terminate();
        let status = self.ended();
        assert!(status.success(), "it ended with {status} and said: {}", self.stderr());
        self.stderr()
    }

    /// What `/readyz` says.
    pub(crate) fn ready(&self) -> Value {
        http::get(self.address, "/readyz").json()
    }

    /// Waits until the log has `calls` calls.
    #[track_caller]
    pub(crate) fn stored(&self, calls: u64) {
        until("the records of all calls", || {
            (self.ready()["records"]["stored"].as_u64()? >= calls).then_some(())
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended long ago.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn address_in(said: &str) -> Option<SocketAddr> {
    let (_, rest) = said.split_once("listening on http://")?;
    let (address, _) = rest.split_once('\n')?;
    Some(address.parse().unwrap())
}

/// Collects what `from` says, up to its end.
fn read_along(from: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
            into.lock().unwrap().push_str(&line);
            line.clear();
        }
    });
}
