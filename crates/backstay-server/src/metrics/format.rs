//! The three formats of a scrape, and which of them a scraper wants.
//!
//! `OpenMetrics` and protobuf are written by the library. Prometheus' older text, which every tool
//! reads, is written here from the library's messages.

use std::fmt::{self, Write};

use prometheus_client::{
    encoding::{
        prometheus_protobuf::{
            self,
            prometheus_data_model::{
                Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType,
            },
        },
        text,
    },
    registry::Registry,
};
use prost::Message;

use super::page::{Page, Shape};

/// A format of the exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus' text, version 0.0.4: no exemplars, no native histograms.
    Text,
    /// `OpenMetrics` text 1.0: with exemplars.
    OpenMetrics,
    /// Prometheus' protobuf: with exemplars and native histograms.
    Protobuf,
}

/// The longest `Accept` that is read.
const LONGEST_ACCEPT: usize = 2048;

impl Format {
    /// What the response calls it.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                 encoding=delimited"
            }
        }
    }

    /// The format that `accept` likes best; of those that it likes alike, the one that says more. What
    /// asks for nothing in particular (a browser, curl) gets text.
    pub(crate) fn accepted(accept: &str) -> Self {
        let cut = accept.get(..LONGEST_ACCEPT).unwrap_or(accept);
        let mut best = (0, Self::Text);
        for range in cut.split(',') {
            let Some((quality, format)) = wanted(range) else { continue };
            if quality > best.0 || quality == best.0 && format.says_more_than(best.1) {
                best = (quality, format);
            }
        }
        best.1
    }

    const fn says_more_than(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Protobuf, Self::Text | Self::OpenMetrics) | (Self::OpenMetrics, Self::Text)
        )
    }
}

/// One media range of an `Accept`: how much it is wanted, in thousandths, and which format it means.
fn wanted(range: &str) -> Option<(u32, Format)> {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next()?.to_ascii_lowercase();
    let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
    let parameter = |name: &str| {
        let found = parameters.iter().find(|(known, _)| known.trim().eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().trim_matches('"'))
    };
    let format = match kind.as_str() {
        "application/vnd.google.protobuf" => {
            let message = parameter("proto") == Some("io.prometheus.client.MetricFamily");
            (message && parameter("encoding") == Some("delimited")).then_some(Format::Protobuf)?
        }
        "application/openmetrics-text" => {
            matches!(parameter("version"), None | Some("1.0.0" | "0.0.1"))
                .then_some(Format::OpenMetrics)?
        }
        "text/plain" => {
            matches!(parameter("version"), None | Some("0.0.4")).then_some(Format::Text)?
        }
        "text/*" | "*/*" => Format::Text,
        _ => return None,
    };
    let quality: f32 = parameter("q").map_or(Some(1.0), |q| q.parse().ok())?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 0 to 1")]
    let thousandths = (quality.clamp(0.0, 1.0) * 1000.0).round() as u32;
    (thousandths > 0).then_some((thousandths, format))
}

/// Why a page could not be written: a defect, since everything in it is Backstay's own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// A value or a label that the format has no words for.
    #[error("a metric cannot be written: {0}")]
    Format(#[from] fmt::Error),
    /// A message that is too large.
    #[error("a metric cannot be framed: {0}")]
    Frame(#[from] prost::EncodeError),
}

/// Writes a page.
pub(super) fn write(mut page: Page, format: Format) -> Result<Vec<u8>, WriteError> {
    page.shape = match format {
        Format::Text | Format::OpenMetrics => Shape::Classic,
        Format::Protobuf => Shape::Both,
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(page));
    match format {
        Format::OpenMetrics => {
            let mut text = String::new();
            text::encode(&mut text, &registry)?;
            Ok(text.into_bytes())
        }
        Format::Text => {
            let mut text = String::new();
            for family in prometheus_protobuf::encode(&registry)? {
                write_family(&mut text, &family)?;
            }
            Ok(text.into_bytes())
        }
        Format::Protobuf => {
            let mut bytes = Vec::new();
            for mut family in prometheus_protobuf::encode(&registry)? {
                if family.metric.is_empty() {
                    continue;
                }
                if family.r#type() == MetricType::Histogram {
                    family.metric = joined(family.metric);
                }
                family.encode_length_delimited(&mut bytes)?;
            }
            Ok(bytes)
        }
    }
}

/// Makes one of each pair that [`Shape::Both`] has written: the second with the exemplars of the first.
fn joined(metrics: Vec<Metric>) -> Vec<Metric> {
    let mut metrics = metrics.into_iter();
    let mut all = Vec::with_capacity(metrics.len() / 2);
    while let (Some(seen), Some(mut whole)) = (metrics.next(), metrics.next()) {
        if let (Some(seen), Some(whole)) = (seen.histogram, &mut whole.histogram) {
            give_exemplars(seen.bucket, whole);
        }
        all.push(whole);
    }
    all
}

/// Native histograms keep exemplars in a list, classic ones in their buckets; whoever scrapes reads one
/// of the two.
fn give_exemplars(seen: Vec<Bucket>, whole: &mut Histogram) {
    for (from, to) in seen.into_iter().zip(&mut whole.bucket) {
        let Some(exemplar) = from.exemplar else { continue };
        whole.exemplars.push(exemplar.clone());
        to.exemplar = Some(exemplar);
    }
}

/// Writes a metric with all its series as text of version 0.0.4.
fn write_family(text: &mut String, family: &MetricFamily) -> fmt::Result {
    if family.metric.is_empty() {
        return Ok(());
    }
    let name = &family.name;
    let kind = match family.r#type() {
        MetricType::Counter => "counter",
        MetricType::Gauge => "gauge",
        MetricType::Histogram => "histogram",
        MetricType::Summary | MetricType::Untyped | MetricType::GaugeHistogram => "untyped",
    };
    writeln!(text, "# HELP {name} {}", family.help.replace('\\', "\\\\").replace('\n', "\\n"))?;
    writeln!(text, "# TYPE {name} {kind}")?;
    for metric in &family.metric {
        if let Some(counter) = &metric.counter {
            write_sample(text, name, (&metric.label, None), counter.value)?;
        } else if let Some(gauge) = &metric.gauge {
            write_sample(text, name, (&metric.label, None), gauge.value)?;
        } else if let Some(histogram) = &metric.histogram {
            write_histogram(text, name, &metric.label, histogram)?;
        }
    }
    Ok(())
}

fn write_histogram(
    text: &mut String,
    name: &str,
    labels: &[LabelPair],
    histogram: &Histogram,
) -> fmt::Result {
    #[expect(clippy::cast_precision_loss, reason = "the format has no other numbers than these")]
    let number = |count: u64| count as f64;
    for bucket in &histogram.bucket {
        let limit = bucket_name(bucket.upper_bound);
        let count = number(bucket.cumulative_count);
        write_sample(text, &format!("{name}_bucket"), (labels, Some(&limit)), count)?;
    }
    write_sample(text, &format!("{name}_sum"), (labels, None), histogram.sample_sum)?;
    let count = number(histogram.sample_count);
    write_sample(text, &format!("{name}_count"), (labels, None), count)
}

/// A bucket is called alike in all formats, so that its series goes on when the format changes: `1.0`.
fn bucket_name(limit: f64) -> String {
    if limit.is_infinite() { "+Inf".to_owned() } else { format!("{limit:?}") }
}

/// Writes one line: name, labels with the bucket's limit, value.
fn write_sample(
    text: &mut String,
    name: &str,
    (labels, limit): (&[LabelPair], Option<&str>),
    value: f64,
) -> fmt::Result {
    text.push_str(name);
    let pairs = labels.iter().map(|label| (label.name.as_str(), label.value.as_str()));
    let mut before = '{';
    for (name, value) in pairs.chain(limit.map(|limit| ("le", limit))) {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        write!(text, "{before}{name}=\"{value}\"")?;
        before = ',';
    }
    if before == ',' {
        text.push('}');
    }
    writeln!(text, " {value}")
}
