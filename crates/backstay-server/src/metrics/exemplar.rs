//! The call that a bucket saw last: its id, and its trace if the client has one.

use std::{
    fmt::Error,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use backstay_core::{
    record::{CallId, CallRecord},
    trace::TraceParent,
};
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};

/// What tells a call from others. Written out at a scrape only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    id: CallId,
    trace: Option<TraceParent>,
}

impl Seen {
    pub(super) fn of(record: &CallRecord) -> Self {
        Self { id: record.id, trace: record.trace }
    }

    /// When a call ended, told by its id: no clock is read on the call path.
    pub(super) fn at(record: &CallRecord) -> SystemTime {
        let started = Duration::from_millis(record.id.unix_millis());
        UNIX_EPOCH + started + Duration::from_micros(record.latency_us)
    }
}

impl EncodeLabelSet for Seen {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), Error> {
        ("call_id", self.id.to_string()).encode(encoder.encode_label())?;
        match self.trace {
            Some(trace) => ("trace_id", trace.trace_id()).encode(encoder.encode_label()),
            None => Ok(()),
        }
    }
}
