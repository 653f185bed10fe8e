//! `backstay demo`: a gateway, a provider that fails over real sockets, and what callers get.
//!
//! Every scene is a call of a small project in a scratch directory. Nothing here is staged: the
//! answers come from the gateway, and the totals from its call log.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use backstay_engine::Sink;
use backstay_providers::{
    sim::{Latency, Sim, SimConfig, serve},
    transport::Endpoint,
};
use backstay_server::serve::{Options, ServeError, Started, start};
use backstay_store::{Filter, RecordReader, sqlite::SqliteReader};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{
    asked_to_stop,
    call::{post, post_stream},
    fresh_key, runtime, seed,
};
use crate::{
    cli::DemoArgs,
    exit::Exit,
    render::{self, SceneReport, Streamed},
};

const PROJECT: &str = include_str!("../demo/backstay.toml");
const SCHEMA: &str = include_str!("../demo/answer.schema.json");

/// One thing that goes wrong, and the call that lives through it.
struct Scene {
    call: &'static str,
    title: &'static str,
    /// What an application gets that calls the provider directly.
    without: &'static str,
    /// `call.toml`.
    config: &'static str,
    schema: bool,
    static_answer: Option<&'static str>,
    stream: bool,
    times: usize,
}

const SCENE: Scene = Scene {
    call: "",
    title: "",
    without: "",
    config: "",
    schema: false,
    static_answer: None,
    stream: false,
    times: 1,
};

const SCENES: [Scene; 9] = [
    Scene {
        call: "healthy",
        title: "Nothing is wrong",
        without: "the answer",
        config: r#"route = ["flaky/ok"]"#,
        ..SCENE
    },
    Scene {
        call: "hangs",
        title: "The provider hangs",
        without: "a spinner until the client's own timeout, minutes later",
        config: r#"route = ["flaky/hang-headers", "spare/ok"]"#,
        ..SCENE
    },
    Scene {
        call: "empty",
        title: "HTTP 200, and nothing in it",
        without: "an empty text box",
        config: r#"route = ["flaky/empty-content", "spare/ok"]"#,
        ..SCENE
    },
    Scene {
        call: "fenced",
        title: "JSON inside a code fence",
        without: "a JSON parser's exception",
        config: r#"route = ["flaky/fenced-json"]"#,
        schema: true,
        ..SCENE
    },
    Scene {
        call: "drifted",
        title: "JSON with a renamed field",
        without: "undefined is not a number, three functions later",
        config: r#"route = ["flaky/renamed-field+heals"]"#,
        schema: true,
        ..SCENE
    },
    Scene {
        call: "limited",
        title: "429, come back in a while",
        without: "an exception, or a retry storm",
        config: r#"route = ["flaky/429-retry-after", "spare/ok"]"#,
        ..SCENE
    },
    Scene {
        call: "cut",
        title: "The stream breaks off half-way",
        without: "half an answer that looks whole",
        config: r#"route = ["flaky/cut-stream"]"#,
        stream: true,
        ..SCENE
    },
    Scene {
        call: "down",
        title: "The provider is down, and there is no other",
        without: "an error page, and every request waits for it",
        config: "route = [\"flaky/503\"]\n[budget]\nattempts = 2\nbackoff = { base = \"20ms\", max = \"100ms\" }",
        schema: true,
        static_answer: Some(r#"{"sentiment": "mixed", "confidence": 0}"#),
        times: 8,
        ..SCENE
    },
    Scene {
        call: "named",
        title: "Down, and nothing to fall back to",
        without: "\"Something went wrong\"",
        config: "route = [\"flaky/500\"]\n[budget]\nattempts = 1\n[degrade]\norder = [\"message\"]\n\
                 message = \"The review could not be read ({{ failure }}). Please try again in a minute.\"",
        ..SCENE
    },
];

pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    let scratch = tempfile::Builder::new().prefix("backstay-demo-").tempdir()?;
    runtime()?.block_on(async {
        let stop = CancellationToken::new();
        let flaky = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/v1", flaky.local_addr()?);
        let sim = Arc::new(Sim::new(SimConfig {
            latency: Latency { p50: Duration::from_millis(40), p99: Duration::from_millis(120) },
            tokens_per_second: Some(150.0),
            ..SimConfig::default()
        }));
        write_project(scratch.path(), &url)?;
        let gateway = open(args, scratch.path()).await?;
        let address = gateway.address()?;
        let engine = gateway.engine();
        render::demo_begins(address, &url, args.json)?;
        let serving = async {
            let provider = serve(flaky, sim, stop.cancelled());
            let (served, ()) = tokio::join!(provider, gateway.run(stop.cancelled()));
            served.context("the simulated provider ended early")
        };
        let touring = async {
            tour(address, args.json).await?;
            // The log is written a moment behind the answers: wait for it, not for a while.
            if let Sink::Log(recorder) = engine.sink() {
                let recorder = recorder.clone();
                let flushed = spawn_blocking(move || recorder.flush(Duration::from_secs(10)));
                if !flushed.await? {
                    bail!("the call log did not take the calls in");
                }
            }
            let reader = SqliteReader::open(scratch.path().join(".backstay"));
            let counts = reader.counts(&Filter::default())?;
            render::demo_ends(&counts, scratch.path(), address, (args.once, args.json))?;
            if !args.once {
                asked_to_stop().await;
            }
            stop.cancel();
            anyhow::Ok(())
        };
        tokio::try_join!(serving, touring)?;
        Ok(Exit::Ok)
    })
}

/// Starts the gateway; if its usual port is taken, on a free one.
async fn open(args: &DemoArgs, dir: &Path) -> anyhow::Result<Started> {
    let options = |listen| {
        Ok::<_, anyhow::Error>(Options {
            dir: dir.to_owned(),
            listen: Some(listen),
            log: true,
            seed: seed()?,
            fresh_key: fresh_key()?,
        })
    };
    match start(&options(args.listen)?).await {
        Err(ServeError::Listen { source, .. })
            if source.kind() == std::io::ErrorKind::AddrInUse =>
        {
            let free = SocketAddr::new(args.listen.ip(), 0);
            Ok(start(&options(free)?).await?)
        }
        Err(ServeError::Project(mistakes)) => {
            render::mistakes(&mistakes);
            bail!("the demo's own project has mistakes")
        }
        other => Ok(other?),
    }
}

fn write_project(dir: &Path, url: &str) -> anyhow::Result<()> {
    fs::write(dir.join("backstay.toml"), PROJECT.replace("@FLAKY@", url))?;
    for scene in &SCENES {
        let call = dir.join("calls").join(scene.call);
        fs::create_dir_all(&call)?;
        fs::write(call.join("call.toml"), scene.config)?;
        fs::write(call.join("user.j2"), "What does this review say? {{ review }}\n")?;
        if scene.schema {
            fs::write(call.join("output.schema.json"), SCHEMA)?;
        }
        if let Some(answer) = scene.static_answer {
            fs::write(call.join("static.json"), answer)?;
        }
    }
    Ok(())
}

async fn tour(address: SocketAddr, json: bool) -> anyhow::Result<()> {
    for scene in &SCENES {
        render::scene_begins(scene.title, scene.call, scene.without, json)?;
        for _ in 0..scene.times {
            let report = if scene.stream {
                SceneReport::Stream(ask_stream(address, scene.call).await?)
            } else {
                SceneReport::Whole(ask(address, scene.call).await?)
            };
            render::scene(scene.call, &report, json)?;
        }
    }
    Ok(())
}

fn inputs() -> Value {
    json!({"inputs": {"review": "The soup was cold, but the waiter made us laugh."}})
}

async fn ask(address: SocketAddr, call: &str) -> anyhow::Result<Value> {
    let endpoint = Endpoint::parse(&format!("http://{address}/v1/calls/{call}"));
    let (_, answer) = post(endpoint.map_err(anyhow::Error::msg)?, &inputs()).await?;
    Ok(answer)
}

async fn ask_stream(address: SocketAddr, call: &str) -> anyhow::Result<Streamed> {
    let endpoint = Endpoint::parse(&format!("http://{address}/v1/chat/completions"));
    let body = json!({"model": call, "stream": true, "backstay": inputs()});
    post_stream(endpoint.map_err(anyhow::Error::msg)?, &body).await
}
