//! The processes of a measurement: pinned to a core, before the neighbours if the system lets us, and
//! ended with this program.

use std::{
    ffi::OsStr,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{
    process::{self, Server},
    workspace::Workspace,
};

const READY: Duration = Duration::from_secs(30);
/// The kernel counts CPU time in hundredths of a second, whatever its own clock is.
const TICK_MS: f64 = 10.0;

/// A server on a core of its own.
#[derive(Debug)]
pub(crate) struct Pinned {
    pub(super) name: &'static str,
    /// Host and port.
    pub(super) address: String,
    pid: u32,
    /// Ends with this.
    _process: Process,
    has_log: bool,
}

#[derive(Debug)]
enum Process {
    Announced { _server: Server },
    Silent(Child),
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Self::Silent(child) = self {
            // It may have ended by itself already; then there is nothing to end.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Pinned {
    /// User and system time of the process so far.
    pub(super) fn cpu_ms(&self) -> anyhow::Result<f64> {
        let stat = self.read("stat")?;
        // Behind the name, which may contain anything: state, …, utime (14th field), stime.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
        let times = fields.map(|fields| fields.skip(11).take(2).map(str::parse::<f64>));
        let ticks: f64 = times.context("no times in /proc")?.sum::<Result<_, _>>()?;
        Ok(ticks * TICK_MS)
    }

    /// Resident memory.
    pub(super) fn rss_kb(&self) -> anyhow::Result<u64> {
        self.status("VmRSS:")
    }

    /// The most that was ever resident.
    pub(super) fn peak_kb(&self) -> anyhow::Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> anyhow::Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.with_context(|| format!("no {field} in /proc"))?.parse()?)
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).with_context(|| format!("{}: reading {path}", self.name))
    }

    /// Waits until every record is stored.
    pub(super) fn settle(&self) -> anyhow::Result<()> {
        if !self.has_log {
            return Ok(());
        }
        let began = Instant::now();
        while began.elapsed() < READY {
            let records = self.records()?;
            if records.get("pending").and_then(Value::as_u64) == Some(0) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("{}: the log does not get its records stored", self.name)
    }

    /// What became of the records.
    pub(super) fn records(&self) -> anyhow::Result<Value> {
        let answer = http(&self.address, "GET /readyz", "")?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let ready: Value = serde_json::from_str(body).with_context(|| answer.clone())?;
        Ok(ready.get("records").cloned().unwrap_or_default())
    }
}

/// Where the measurements keep their files, and what they run.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    workspace: &'a Workspace,
    dir: PathBuf,
}

impl<'a> Bench<'a> {
    pub(super) fn new(workspace: &'a Workspace) -> anyhow::Result<Self> {
        let dir = workspace.test_env().join("bench/files");
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        fs::create_dir_all(&dir)?;
        Ok(Self { workspace, dir })
    }

    fn program(&self, name: &str) -> PathBuf {
        self.workspace.target.join("release").join(name)
    }

    /// The upstream.
    pub(super) fn mock(&self) -> anyhow::Result<Pinned> {
        let mut command = pinned(0, self.program("backstay-bench"));
        command.arg("mock");
        self.announced("mock", &mut command, false)
    }

    /// nginx as a reverse proxy of the upstream, installed if it is not there.
    pub(super) fn nginx(&self, mock: &Pinned) -> anyhow::Result<Pinned> {
        if process::read(process::command("nginx").arg("-v")).is_err() {
            let mut apt = process::command("apt-get");
            apt.env("DEBIAN_FRONTEND", "noninteractive");
            apt.args(["install", "--yes", "--no-install-recommends", "nginx-light"]);
            process::run(&mut apt, &self.dir.join("apt.log"), Duration::from_secs(300))
                .context("nginx is not there and cannot be installed by apt-get")?;
        }
        // A free port: nginx cannot say which one the system gave it.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = NGINX
            .replace("DIR", &self.dir.display().to_string())
            .replace("LISTEN", &address.to_string())
            .replace("UPSTREAM", &mock.address);
        let path = self.dir.join("nginx.conf");
        fs::write(&path, config)?;
        let mut command = pinned(1, "nginx");
        let child = command.arg("-c").arg(&path).spawn().context("starting nginx")?;
        let pid = child.id();
        let process = Process::Silent(child);
        wait_for(address)?;
        let address = address.to_string();
        Ok(Pinned { name: "nginx", address, pid, _process: process, has_log: false })
    }

    /// A gateway in a project of its own, which takes `room` calls at once.
    pub(super) fn backstay(
        &self,
        name: &'static str,
        mock: &Pinned,
        log: bool,
        room: u32,
    ) -> anyhow::Result<Pinned> {
        let dir = self.project(name, mock, room)?;
        let mut command = pinned(1, self.program("backstay"));
        command.arg("serve").arg(&dir);
        if !log {
            command.arg("--no-log");
        }
        self.announced(name, &mut command, log)
    }

    /// Starts a gateway on an empty log and waits for its first answer; milliseconds.
    pub(super) fn start_to_answer(&self, mock: &Pinned) -> anyhow::Result<f64> {
        drop(fs::remove_dir_all(self.dir.join("start"))); // absent at first
        let began = Instant::now();
        let gateway = self.backstay("start", mock, true, 1000)?;
        let body = r#"{"model":"mock/text-0","messages":[{"role":"user","content":"Hello"}]}"#;
        let answer = http(&gateway.address, "POST /v1/chat/completions", body)?;
        let took = began.elapsed();
        if !answer.starts_with("HTTP/1.1 200") {
            bail!("the first answer is no 200: {answer}");
        }
        Ok(took.as_secs_f64() * 1000.0)
    }

    /// Warms caches and connections.
    pub(super) fn warm_up(&self, gateway: &Pinned, model: &str) -> anyhow::Result<()> {
        let closed = ["closed", "--connections", "1"].map(str::to_owned);
        self.load(&closed, &gateway.address, model, 0.05)?;
        gateway.settle()
    }

    /// One measurement.
    pub(super) fn load(
        &self,
        shape: &[String],
        to: &str,
        model: &str,
        seconds: f64,
    ) -> anyhow::Result<Value> {
        let mut command = pinned(0, self.program("backstay-bench"));
        command.args(shape).args(["--to", to, "--model", model]);
        command.args(["--seconds", &seconds.to_string()]);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn()?;
        let mut text = String::new();
        child.stdout.take().context("its output is piped")?.read_to_string(&mut text)?;
        if !child.wait()?.success() {
            bail!("the load failed: {command:?}");
        }
        serde_json::from_str(&text).with_context(|| text.clone())
    }

    fn project(&self, name: &str, mock: &Pinned, room: u32) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join(name);
        let call = dir.join("calls/sort-0");
        fs::create_dir_all(&call)?;
        let config = PROJECT.replace("UPSTREAM", &mock.address).replace("ROOM", &room.to_string());
        fs::write(dir.join("backstay.toml"), config)?;
        fs::write(call.join("call.toml"), "route = [\"mock/json-0\"]\n")?;
        fs::write(call.join("output.schema.json"), SCHEMA)?;
        Ok(dir)
    }

    fn announced(
        &self,
        name: &'static str,
        command: &mut Command,
        has_log: bool,
    ) -> anyhow::Result<Pinned> {
        let server = Server::start(command, &self.dir.join(format!("{name}.log")), READY)?;
        let (pid, address) = (server.pid(), server.url.replace("http://", ""));
        let process = Process::Announced { _server: server };
        Ok(Pinned { name, address, pid, _process: process, has_log })
    }
}

/// A command that will run on one core, before all that others run there if the system lets us: by its
/// niceness. Real-time priority would give each thread of the gateway 100 ms at a time, so that what it
/// does in the background would hold up its calls as it never does in use.
fn pinned(core: u32, program: impl AsRef<OsStr>) -> Command {
    let before_others = ["-n", "-20"];
    // Without the right to it, `nice` runs the program all the same; alone it tells its niceness.
    let may = process::read(process::command("nice").args(before_others).arg("nice"));
    let may = may.is_ok_and(|niceness| niceness.trim() == "-20");
    let mut command = process::command(if may { "nice" } else { "taskset" });
    if may {
        command.args(before_others).arg("taskset");
    }
    command.arg("--cpu-list").arg(core.to_string()).arg(program);
    command
}

fn wait_for(address: SocketAddr) -> anyhow::Result<()> {
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        if began.elapsed() > READY {
            bail!("nothing listens on {address}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// One exchange on a connection of its own.
fn http(address: &str, line: &str, body: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(READY))?;
    write!(
        stream,
        "{line} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

const NGINX: &str = "
master_process off;
daemon off;
pid DIR/nginx.pid;
error_log DIR/nginx-error.log;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path DIR/nginx-body;
  proxy_temp_path DIR/nginx-proxy;
  fastcgi_temp_path DIR/nginx-fastcgi;
  uwsgi_temp_path DIR/nginx-uwsgi;
  scgi_temp_path DIR/nginx-scgi;
  keepalive_requests 100000000;
  upstream mock { server UPSTREAM; keepalive 1024; keepalive_requests 100000000; }
  server {
    listen LISTEN backlog=4096;
    location / {
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_buffering off;
    }
  }
}
";

const PROJECT: &str = "
[server]
listen = \"127.0.0.1:0\"
max_in_flight = ROOM

[store]
path = \"state\"

[providers.mock]
kind = \"openai\"
base_url = \"http://UPSTREAM/v1\"
";

const SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "topic": { "enum": ["refund", "order", "complaint", "other"] },
    "urgent": { "type": "boolean" },
    "summary": { "type": "string", "minLength": 1, "maxLength": 400 },
    "confidence": { "type": "number", "minimum": 0, "maximum": 1 }
  },
  "required": ["topic", "urgent", "summary", "confidence"],
  "additionalProperties": false
}
"#;
