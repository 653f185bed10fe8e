//! The lane that exports to a receiver of OTLP which others have written: what arrives there is read
//! from its own log, over HTTP and over gRPC.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Child,
    thread,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{lane::Lane, process, project::Project, setup::OtlpReceiver};

const LIMIT: Duration = Duration::from_secs(2 * 60);
/// How often it is looked whether the receiver listens, and the pause between two looks.
const LOOKS: u32 = 300;
const PAUSE: Duration = Duration::from_millis(100);

/// Exports calls over both protocols, and asks the receiver what it got.
pub(crate) fn lane(lane: &Lane<'_>) -> anyhow::Result<()> {
    let installed = lane.setup().otlp_receiver()?;
    for (name, protocol) in [("http", "http/protobuf"), ("grpc", "grpc")] {
        let receiver = Receiver::start(lane, &installed, name)?;
        let address = if name == "http" { receiver.http } else { receiver.grpc };
        let project = Project::copy(lane, "otlp/project", name, &format!("http://{address}"))?;
        let backstay = project.serve_with(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=the%20lane"),
            ("OTEL_SERVICE_NAME", name),
        ])?;
        let mut python = process::command(&installed.python);
        python
            .current_dir(lane.workspace.root.join("tests/otlp"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("BACKSTAY_URL", &backstay.url)
            .env("RECEIVER_LOG", &receiver.log)
            .env("SERVICE_NAME", name)
            .args(["-m", "unittest", "--verbose", "test_otlp"]);
        lane.tests(&mut python, LIMIT)?;
    }
    Ok(())
}

/// The running receiver; it is ended when this is dropped.
struct Receiver {
    child: Child,
    http: SocketAddr,
    grpc: SocketAddr,
    log: PathBuf,
}

impl Receiver {
    fn start(lane: &Lane<'_>, installed: &OtlpReceiver, name: &str) -> anyhow::Result<Self> {
        let log = lane.log.with_file_name(format!("{}.{name}.receiver.log", lane.name));
        let (http, grpc) = (free_address()?, free_address()?);
        let out = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let mut command = process::command(&installed.agent);
        command.args(["start", "--exporter", "blackhole", "--debug-log-verbosity", "detailed"]);
        for signal in ["traces", "metrics", "logs"] {
            command.args(["--debug-log", signal]);
        }
        command
            .args(["--otlp-http-endpoint", &http.to_string()])
            .args(["--otlp-grpc-endpoint", &grpc.to_string()])
            .arg("--pid-file")
            .arg(log.with_extension("pid"));
        let child = command
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {}", installed.agent.display()))?;
        let mut receiver = Self { child, http, grpc, log };
        receiver.wait()?;
        Ok(receiver)
    }

    /// Waits until both of its ports take connections.
    fn wait(&mut self) -> anyhow::Result<()> {
        for _ in 0..LOOKS {
            if [self.http, self.grpc].iter().all(|address| TcpStream::connect(address).is_ok()) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the receiver ended at once ({status}):\n{}", text(&self.log));
            }
            thread::park_timeout(PAUSE);
        }
        bail!("the receiver does not listen:\n{}", text(&self.log))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It may have ended by itself already; then there is nothing to end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An address that nobody listens on; the receiver does not say which one it would choose itself.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn text(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}
