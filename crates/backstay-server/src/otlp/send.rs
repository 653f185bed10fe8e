//! One batch to the receiver: OTLP over HTTP or gRPC, and what its answer means.
//!
//! It sends once and judges; whether it is sent again is decided by who calls it. The receiver's words
//! go nowhere: they can hold anything.

use std::time::Duration;

use backstay_core::config::OtlpProtocol;
use backstay_providers::{
    transport::{Exchange, Http2, Limits, Transport, TransportOptions},
    wire::WireRequest,
};
use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, CONTENT_TYPE, TE},
};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse,
    trace::v1::ExportTraceServiceResponse,
};
use prost::Message;
use tokio::time::timeout;

use super::settings::Settings;

/// One request, from its first byte to the end of its answer.
const PATIENCE: Duration = Duration::from_secs(10);
const LIMITS: Limits =
    Limits { connect: Duration::from_secs(5), headers: PATIENCE, body_max: 64 << 10 };
/// A receiver that asks for more patience than this is asked again after this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Bytes before a message of gRPC: whether it is packed, and its length.
const PREFIX: usize = 5;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
    Events,
}

impl Signal {
    const fn path(self, protocol: OtlpProtocol) -> &'static str {
        match (self, protocol) {
            (Self::Traces, OtlpProtocol::Http) => "/v1/traces",
            (Self::Metrics, OtlpProtocol::Http) => "/v1/metrics",
            (Self::Events, OtlpProtocol::Http) => "/v1/logs",
            (Self::Traces, OtlpProtocol::Grpc) => {
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
            }
            (Self::Metrics, OtlpProtocol::Grpc) => {
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
            }
            (Self::Events, OtlpProtocol::Grpc) => {
                "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
            }
        }
    }

    /// How many items of a batch the receiver did not take.
    fn rejected(self, message: &[u8]) -> u64 {
        let rejected = match self {
            Self::Traces => ExportTraceServiceResponse::decode(message)
                .map(|answer| answer.partial_success.map(|part| part.rejected_spans)),
            Self::Metrics => ExportMetricsServiceResponse::decode(message)
                .map(|answer| answer.partial_success.map(|part| part.rejected_data_points)),
            Self::Events => ExportLogsServiceResponse::decode(message)
                .map(|answer| answer.partial_success.map(|part| part.rejected_log_records)),
        };
        // An answer in another format came with a status that says that all is well.
        u64::try_from(rejected.ok().flatten().unwrap_or_default()).unwrap_or_default()
    }
}

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// In a sentence.
    pub(super) why: String,
    /// Whether it may be taken later.
    pub(super) again: bool,
    /// The pause that the receiver asks for.
    pub(super) pause: Option<Duration>,
}

/// The way to the receiver.
#[derive(Debug)]
pub(super) struct Receiver {
    transport: Transport,
    protocol: OtlpProtocol,
}

impl Receiver {
    pub(super) fn new(settings: &Settings) -> Self {
        let options = TransportOptions {
            http2: match settings.protocol {
                OtlpProtocol::Http => Http2::Auto,
                OtlpProtocol::Grpc => Http2::PriorKnowledge,
            },
            // The project's own file names it, and receivers live on private networks.
            allow_private_network: true,
            ca_file: settings.ca_file.clone(),
            max_idle: 2,
            ..TransportOptions::default()
        };
        let transport = Transport::new(settings.endpoint.clone(), options);
        Self { transport, protocol: settings.protocol }
    }

    /// Sends a batch once. Returns how many of its items were rejected for good.
    pub(super) async fn send(&self, signal: Signal, message: &Bytes) -> Result<u64, Refused> {
        match timeout(PATIENCE, self.exchange(signal, message)).await {
            Ok(sent) => sent,
            Err(_) => Err(self.refused("did not answer in time", true, None)),
        }
    }

    async fn exchange(&self, signal: Signal, message: &Bytes) -> Result<u64, Refused> {
        let request = WireRequest {
            path: signal.path(self.protocol),
            headers: headers(self.protocol),
            body: framed(self.protocol, message),
        };
        let unreachable = |failure: backstay_core::failure::Failure| Refused {
            why: failure.message,
            again: true,
            pause: None,
        };
        let sent = self.transport.send(&request, &LIMITS).await.map_err(unreachable)?;
        let Exchange { status, headers, mut body } = sent;
        let mut answer = BytesMut::new();
        while let Some(chunk) = body.chunk().await.map_err(unreachable)? {
            answer.extend_from_slice(&chunk);
        }
        if !(200..300).contains(&status) {
            let again = matches!(status, 429 | 502 | 503 | 504);
            let why = format!("answered with status {status}");
            return Err(self.refused(&why, again, retry_after(&headers)));
        }
        match self.protocol {
            OtlpProtocol::Http => Ok(signal.rejected(&answer)),
            OtlpProtocol::Grpc => {
                // A call without a message has its status in the headers.
                let status = body.trailers().and_then(grpc_status).or(grpc_status(&headers));
                match status {
                    Some(0) => Ok(signal.rejected(answer.get(PREFIX..).unwrap_or_default())),
                    Some(code) => {
                        let again = matches!(code, 1 | 4 | 8 | 10 | 11 | 14 | 15);
                        let why = format!("answered with gRPC status {code}");
                        Err(self.refused(&why, again, None))
                    }
                    None => Err(self.refused("does not speak gRPC", false, None)),
                }
            }
        }
    }

    fn refused(&self, what: &str, again: bool, pause: Option<Duration>) -> Refused {
        let why = format!("{} {what}", self.transport.endpoint().peer());
        Refused { why, again, pause }
    }
}

fn headers(protocol: OtlpProtocol) -> Vec<(HeaderName, HeaderValue)> {
    match protocol {
        OtlpProtocol::Http => {
            let kind = HeaderValue::from_static("application/x-protobuf");
            vec![(CONTENT_TYPE, kind.clone()), (ACCEPT, kind)]
        }
        OtlpProtocol::Grpc => vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
            (TE, HeaderValue::from_static("trailers")),
        ],
    }
}

fn framed(protocol: OtlpProtocol, message: &Bytes) -> Bytes {
    match protocol {
        OtlpProtocol::Http => message.clone(),
        OtlpProtocol::Grpc => {
            let mut framed = BytesMut::with_capacity(PREFIX + message.len());
            framed.put_u8(0);
            framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
            framed.extend_from_slice(message);
            framed.freeze()
        }
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}
