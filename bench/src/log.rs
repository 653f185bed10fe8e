//! A call log of any size, as a month of a busy project would leave it, and what it costs to write, ask
//! and shorten it.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use backstay_core::{
    failure::{Cut, FailureClass, Phase},
    record::{
        AttemptKind, AttemptRecord, CallId, CallRecord, Cost, Degraded, Outcome, OutcomeReport,
        Usage, Variant,
    },
    rollup::Level,
};
use backstay_store::{
    Filter, RecordReader, RecordStore, Recorder, Retention, RollupFilter, RollupReader, Spool,
    SqliteReader, SqliteRecords,
    recorder::{Accounting, Limits},
};
use clap::Args;
use serde_json::{Value, json};

const DAY_MS: u64 = 86_400_000;
/// So many records may wait before the writer is waited for: nothing is to be shed here.
const AHEAD: u64 = 20_000;
/// Longer than the server keeps an answer that it was quick to make.
const KEPT: Duration = Duration::from_millis(3_000);
const CALLS: [&str; 8] = [
    "extract-invoice",
    "summarise-ticket",
    "classify-mail",
    "draft-reply",
    "translate-page",
    "tag-product",
    "answer-question",
    "moderate-comment",
];

/// Fills a call log.
#[derive(Debug, Args)]
pub(crate) struct Fill {
    /// The directory of the store, `PROJECT/.backstay`.
    dir: PathBuf,
    /// How many calls.
    #[arg(long, default_value_t = 1_000_000)]
    calls: u64,
    /// Over so many days up to now.
    #[arg(long, default_value_t = 30)]
    days: u64,
    /// How many calls in a thousand keep their request and answer, 2 KB each.
    #[arg(long, default_value_t = 50)]
    bodies: u64,
}

/// Asks a call log.
#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// The directory of the store.
    dir: PathBuf,
    /// How often each question is asked.
    #[arg(long, default_value_t = 9)]
    times: usize,
    /// A gateway on that store, whose pages are asked too.
    #[arg(long)]
    server: Option<SocketAddr>,
}

/// Shortens a call log to half of its days.
#[derive(Debug, Args)]
pub(crate) struct Shorten {
    /// The directory of the store.
    dir: PathBuf,
}

/// Random numbers that are the same every time: xorshift64*, S. Vigna, "An experimental exploration of
/// Marsaglia's xorshift generators".
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// About log-normal: `median · e^(σ·z)`, z the sum of twelve even numbers less six.
    fn around(&mut self, median: f64, sigma: f64) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "random numbers")]
        let z =
            (0..12).map(|_| (self.next() >> 11) as f64 / (1u64 << 53) as f64).sum::<f64>() - 6.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive")]
        let value = (median * (sigma * z).exp()) as u64;
        value
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn outcome(dice: &mut Dice) -> Outcome {
    match dice.below(1000) {
        0..=979 => Outcome::Ok,
        980..=987 => Outcome::Repaired,
        988..=990 => Outcome::Failed(FailureClass::Schema),
        991..=992 => Outcome::Failed(FailureClass::Malformed),
        993 => Outcome::Failed(FailureClass::Truncated(Cut::Length)),
        994..=995 => Outcome::Failed(FailureClass::Timeout(Phase::Headers)),
        996 => Outcome::Failed(FailureClass::RateLimited),
        997 => Outcome::Failed(FailureClass::UpstreamError),
        998 => Outcome::Failed(FailureClass::Refused),
        _ => Outcome::Failed(FailureClass::Cancelled),
    }
}

fn record(dice: &mut Dice, started_ms: u64, day: u64, bodies: u64) -> CallRecord {
    let mut random = [0; 10];
    random.iter_mut().zip(dice.next().to_be_bytes()).for_each(|(byte, from)| *byte = from);
    let id = CallId::new(Duration::from_millis(started_ms), random);
    // The first calls are the busiest; each gets a new release every ten days.
    let number = (dice.below(8).min(dice.below(8))) as usize % CALLS.len();
    let call = CALLS.get(number).copied().unwrap_or("default");
    let outcome = outcome(dice);
    let failure = outcome.failure();
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let scale = 1.0 + number as f64 / 3.0;
    let latency_us = dice.around(900_000.0 * scale, 0.5);
    let stream = number.is_multiple_of(3);
    let first_token_us = stream.then_some(latency_us / 4);
    let usage = failure.is_none().then(|| Usage {
        input: dice.around(800.0 * scale, 0.6),
        output: dice.around(180.0 * scale, 0.5),
        cache_read: dice.below(400),
        ..Usage::default()
    });
    let cost = usage.map(|u| match number {
        7 => Cost::Unknown,
        _ => Cost::Priced(u.input * 250 + u.output * 2000),
    });
    let target =
        if dice.below(20) == 0 { "anthropic/claude-haiku-4-5" } else { "openai/gpt-5-mini" };
    let attempt = AttemptRecord {
        target: target.to_owned(),
        kind: AttemptKind::First,
        failure,
        message: None,
        started_us: 90,
        took_us: latency_us - latency_us.min(200),
        first_token_us,
        status: Some(200),
        retry_after_ms: None,
        usage,
        cost,
    };
    let kept = dice.below(1000) < bodies || (failure.is_some() && bodies > 0);
    CallRecord {
        id,
        call: call.to_owned(),
        release: Some(format!("{call}@{}", 1 + day / 10)),
        variant: Variant::Stable,
        protocol: "openai".to_owned(),
        stream,
        unit: Some(format!("user-{}", dice.below(50_000))),
        outcome,
        degraded: if failure.is_some() { Degraded::Static } else { Degraded::None },
        message: failure.map(|class| format!("ended in {}", class.name())),
        violation: None,
        latency_us,
        first_token_us,
        overhead_us: 150,
        usage,
        cost,
        model: Some("gpt-5-mini-2026-08-07".to_owned()),
        fingerprint: None,
        finish: Some("stop".to_owned()),
        upstream_id: Some(format!("chatcmpl-{:016x}", dice.next())),
        trace: None,
        attempts: vec![attempt],
        request: kept.then(|| "{\"inputs\":{\"document\":\"lorem ipsum\"}} ".repeat(26)),
        answer: kept.then(|| "{\"total\":42.5,\"lines\":[]} ".repeat(40)),
        rejected: None,
    }
}

/// Writes the calls through a recorder, as a gateway does, as fast as they can be stored.
pub(crate) fn fill(args: &Fill) -> anyhow::Result<Value> {
    fs::create_dir_all(&args.dir).with_context(|| format!("creating {}", args.dir.display()))?;
    let recorder = Recorder::start(
        Box::new(SqliteRecords::open(&args.dir)?),
        Some(Spool::open(args.dir.join("spool"))?),
        Limits::default(),
    )?;
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let span = args.days.max(1) * DAY_MS;
    let first = now_ms().saturating_sub(span);
    let began = Instant::now();
    let mut warm_kb = None;
    for number in 0..args.calls {
        let at = u128::from(span) * u128::from(number) / u128::from(args.calls.max(1));
        let offset = u64::try_from(at).unwrap_or(0);
        let record = record(&mut dice, first + offset, offset / DAY_MS, args.bodies);
        let (call_id, good) = (record.id, record.outcome.failure().is_none());
        recorder.record(record);
        if good && dice.below(10) < 3 {
            let ok = dice.below(100) > 2;
            let reported_ms = first + offset + 60_000;
            recorder.report(OutcomeReport {
                call_id,
                ok,
                score: None,
                reason: None,
                expected: None,
                reported_ms,
            });
        }
        if number % 4096 == 0 {
            while recorder.accounting().pending > AHEAD {
                std::thread::yield_now();
            }
        }
        if number == args.calls / 10 {
            warm_kb = Some(resident_kb()?);
        }
    }
    let after_kb = resident_kb()?;
    let accounting = recorder.close(Duration::from_secs(3600));
    exact(&accounting)?;
    let seconds = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate is told to a few digits")]
    let rate = accounting.stored as f64 / seconds;
    Ok(json!({
        "calls": args.calls,
        "received": accounting.received,
        "stored": accounting.stored,
        "shed": accounting.shed.iter().map(|(_, n)| n).sum::<u64>(),
        "seconds": seconds,
        "entries_a_second": rate,
        "resident_kb_after_a_tenth": warm_kb,
        "resident_kb_at_the_end": after_kb,
        "disk_mb": disk_mb(&args.dir)?,
    }))
}

fn exact(accounting: &Accounting) -> anyhow::Result<()> {
    let shed: u64 = accounting.shed.iter().map(|(_, n)| n).sum();
    if accounting.received != accounting.stored + accounting.pending + shed {
        bail!("the accounting is not exact: {accounting:?}");
    }
    Ok(())
}

/// Asks what the pages of the dashboard ask; medians and maxima in milliseconds.
pub(crate) fn ask(args: &Ask) -> anyhow::Result<Value> {
    let reader = SqliteReader::open(&args.dir);
    let now = now_ms();
    let back = |ms: u64| now.saturating_sub(ms);
    let rollups = |level, span_ms: u64, call: Option<&str>| RollupFilter {
        level,
        since_ms: back(span_ms),
        until_ms: now,
        call: call.map(str::to_owned),
        release: None,
    };
    let hour = 3_600_000;
    let questions = [
        ("board, 1 hour", rollups(Level::Minute, hour, None)),
        ("board, 24 hours", rollups(Level::Hour, DAY_MS, None)),
        ("board, 7 days", rollups(Level::Hour, 7 * DAY_MS, None)),
        ("call, 6 hours", rollups(Level::Minute, 6 * hour, Some(CALLS[0]))),
        ("call, 24 hours", rollups(Level::Hour, DAY_MS, Some(CALLS[0]))),
        ("call, 30 days", rollups(Level::Hour, 30 * DAY_MS, Some(CALLS[0]))),
    ];
    let mut answers = serde_json::Map::new();
    for (name, filter) in questions {
        let timed = timed((args.times, Duration::ZERO), || Ok(reader.rollups(&filter)?.len()))?;
        answers.insert(name.to_owned(), timed);
    }
    let logs = [
        ("log, newest 50", Filter { limit: 50, ..Filter::default() }),
        ("log, failures", Filter { limit: 50, failures_only: true, ..Filter::default() }),
        (
            "log, failures of one call",
            Filter {
                limit: 50,
                failures_only: true,
                call: Some(CALLS[0].to_owned()),
                ..Filter::default()
            },
        ),
    ];
    for (name, filter) in logs {
        let timed = timed((args.times, Duration::ZERO), || Ok(reader.calls(&filter)?.len()))?;
        answers.insert(name.to_owned(), timed);
    }
    for (name, path) in args.server.iter().flat_map(|_| pages(now)) {
        let Some(server) = args.server else { break };
        // The server keeps an answer for a moment; what is measured is the making of one.
        let timed = timed((args.times, KEPT), || page(server, &path))?;
        answers.insert(name.to_owned(), timed);
    }
    Ok(Value::Object(answers))
}

/// The pages of the dashboard, and where their data is.
fn pages(now_ms: u64) -> Vec<(&'static str, String)> {
    let call = |days: u64| {
        let since = now_ms.saturating_sub(days * DAY_MS);
        format!("calls/{}?since_ms={since}&until_ms={now_ms}", CALLS[0])
    };
    vec![
        ("page: board, 1 hour", "board?window=1h".to_owned()),
        ("page: board, 24 hours", "board?window=24h".to_owned()),
        ("page: board, 7 days", "board?window=7d".to_owned()),
        ("page: call, 24 hours", call(1)),
        ("page: call, 7 days", call(7)),
        ("page: call, 30 days", call(30)),
        ("page: log", "log?limit=50".to_owned()),
        ("page: alerts", "alerts".to_owned()),
    ]
}

/// Asks for a page, on a connection of its own; the bytes of the answer.
fn page(server: SocketAddr, path: &str) -> anyhow::Result<usize> {
    let mut stream = TcpStream::connect(server)?;
    write!(stream, "GET /api/v1/{path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        bail!("{path}: {}", String::from_utf8_lossy(&answer));
    }
    Ok(answer.len())
}

fn timed(
    (times, pause): (usize, Duration),
    question: impl Fn() -> anyhow::Result<usize>,
) -> anyhow::Result<Value> {
    let mut took = Vec::new();
    let mut rows = 0;
    for _ in 0..times.max(1) {
        std::thread::sleep(pause);
        let began = Instant::now();
        rows = question()?;
        took.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    took.sort_by(f64::total_cmp);
    Ok(json!({ "rows": rows, "median_ms": took.get(took.len() / 2), "max_ms": took.last() }))
}

/// Drops the older half and says how long that takes and what the disk gains.
pub(crate) fn shorten(args: &Shorten) -> anyhow::Result<Value> {
    let before = disk_mb(&args.dir)?;
    let mut records = SqliteRecords::open(&args.dir)?;
    let half = Duration::from_millis(15 * DAY_MS);
    let retention = Retention { bodies: half, metadata: half, rollups: half };
    let began = Instant::now();
    let retained = records.retain(now_ms(), &retention)?;
    Ok(json!({
        "days": retained.call_days,
        "milliseconds": began.elapsed().as_secs_f64() * 1000.0,
        "disk_mb_before": before,
        "disk_mb_after": disk_mb(&args.dir)?,
    }))
}

fn disk_mb(dir: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes / 1_000_000)
}

/// Resident memory of this process.
fn resident_kb() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    kb.parse().context("VmRSS is not a number")
}
