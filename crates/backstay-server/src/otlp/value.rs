//! Attributes in OTLP's words, under the names of one version.

use backstay_core::config::Semconv;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};

use super::names::Field;

/// What an attribute may hold.
pub(super) trait Attribute {
    fn value(self) -> Value;
}

impl Attribute for &str {
    fn value(self) -> Value {
        Value::StringValue(self.to_owned())
    }
}

impl Attribute for String {
    fn value(self) -> Value {
        Value::StringValue(self)
    }
}

impl Attribute for bool {
    fn value(self) -> Value {
        Value::BoolValue(self)
    }
}

impl Attribute for u64 {
    fn value(self) -> Value {
        Value::IntValue(i64::try_from(self).unwrap_or(i64::MAX))
    }
}

impl Attribute for i64 {
    fn value(self) -> Value {
        Value::IntValue(self)
    }
}

impl Attribute for f64 {
    fn value(self) -> Value {
        Value::DoubleValue(self)
    }
}

impl Attribute for Vec<String> {
    fn value(self) -> Value {
        let values = self.into_iter().map(|text| AnyValue { value: Some(text.value()) }).collect();
        Value::ArrayValue(ArrayValue { values })
    }
}

/// One attribute under a name of its own.
pub(super) fn pair(name: &str, value: impl Attribute) -> KeyValue {
    let value = Some(AnyValue { value: Some(value.value()) });
    KeyValue { key: name.to_owned(), value, ..KeyValue::default() }
}

/// Attributes that are being collected.
#[derive(Debug)]
pub(super) struct Attributes {
    pub(super) version: Semconv,
    pub(super) pairs: Vec<KeyValue>,
}

impl Attributes {
    pub(super) fn of(version: Semconv) -> Self {
        Self { version, pairs: Vec::with_capacity(32) }
    }

    /// Adds what is there, if this version has a name for it.
    pub(super) fn add(&mut self, field: Field, value: Option<impl Attribute>) {
        if let (Some(name), Some(value)) = (field.name(self.version), value) {
            self.pairs.push(pair(name, value));
        }
    }
}

/// Seconds of so many microseconds.
#[expect(clippy::cast_precision_loss, reason = "microseconds of years fit a double")]
pub(super) fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
