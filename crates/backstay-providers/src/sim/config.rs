//! What can be set for a simulated provider. Plain data: what it leads to is in `script.rs`.

use std::{borrow::Cow, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::fault::Fault;

/// The behaviour of a simulated provider. By default it is healthy and answers at once.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SimConfig {
    /// Everything that looks random follows from it and from the request's number.
    pub seed: u64,
    /// Time to the headers of a reply: `"50ms"`, or `{ p50 = "400ms", p99 = "2s" }`.
    pub latency: Latency,
    /// Speed of the answer after its headers; absent: no pause between its pieces.
    #[serde(deserialize_with = "speed")]
    pub tokens_per_second: Option<f64>,
    /// Faults that strike a share of the requests. The shares add up; past 100 % the last lose.
    pub faults: Vec<FaultRate>,
    /// Faults that strike every request for a time. The first one that applies counts.
    pub schedule: Vec<Schedule>,
}

/// A fault that strikes a share of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FaultRate {
    /// What happens.
    pub fault: Fault,
    /// To how many: `"2%"`.
    #[serde(deserialize_with = "percent")]
    #[schemars(with = "String")]
    pub rate: f64,
}

/// A fault that strikes every request for a time.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// When it begins, from the start of the simulated provider: `"30s"`.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub after: Duration,
    /// How long it lasts; absent: to the end.
    #[serde(default, rename = "for", deserialize_with = "optional_duration")]
    #[schemars(with = "Option<String>")]
    pub lasts: Option<Duration>,
    /// What happens.
    pub fault: Fault,
}

/// How long a reply takes to begin: log-normal, or fixed where both values are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "LatencyText")]
#[schemars(with = "LatencyText")]
pub struct Latency {
    /// Half of the replies begin sooner.
    pub p50: Duration,
    /// One of a hundred begins later.
    pub p99: Duration,
}

impl Latency {
    /// The same for every reply.
    #[must_use]
    pub const fn fixed(latency: Duration) -> Self {
        Self { p50: latency, p99: latency }
    }
}

/// [`Latency`] as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "a duration like \"50ms\", or { p50 = \"400ms\", p99 = \"2s\" }"
)]
enum LatencyText {
    Fixed(
        #[serde(deserialize_with = "duration")]
        #[schemars(with = "String")]
        Duration,
    ),
    LogNormal {
        #[serde(deserialize_with = "duration")]
        #[schemars(with = "String")]
        p50: Duration,
        #[serde(deserialize_with = "duration")]
        #[schemars(with = "String")]
        p99: Duration,
    },
}

impl From<LatencyText> for Latency {
    fn from(text: LatencyText) -> Self {
        match text {
            LatencyText::Fixed(latency) => Self::fixed(latency),
            // A p99 below the p50 would turn the distribution around; it means "no spread".
            LatencyText::LogNormal { p50, p99 } => Self { p50, p99: p99.max(p50) },
        }
    }
}

/// Reads `250ms`, `1.5s`, `2m` or `1h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let mistake = || format!("`{text}` is not a duration; write it like 250ms, 2s, 1m or 1h");
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(mistake)?;
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.trim().parse().map_err(|_| mistake())?;
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(mistake()),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| mistake())
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = <Cow<'de, str>>::deserialize(deserializer)?;
    parse_duration(&text).map_err(D::Error::custom)
}

fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let text = <Cow<'de, str>>::deserialize(deserializer)?;
    text.strip_suffix('%')
        .and_then(|number| number.trim().parse::<f64>().ok())
        .filter(|percent| (0.0..=100.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| D::Error::custom(format!("`{text}` is not a share; write it like 2%")))
}

fn speed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let speed = f64::deserialize(deserializer)?;
    if speed.is_finite() && speed >= 0.01 {
        Ok(Some(speed))
    } else {
        Err(D::Error::custom(format!("{speed} tokens per second is too slow; at least 0.01")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_as_it_is_written_in_a_project() {
        let config: SimConfig = toml::from_str(
            r#"
            seed = 7
            latency = { p50 = "400ms", p99 = "2s" }
            tokens_per_second = 80
            faults = [{ fault = "500", rate = "2%" }]
            [[schedule]]
            after = "30s"
            for = "1m"
            fault = "hang-headers"
            "#,
        )
        .unwrap();
        assert_eq!(config.seed, 7);
        assert_eq!(config.latency.p99, Duration::from_secs(2));
        assert_eq!(config.faults, [FaultRate { fault: Fault::Internal, rate: 0.02 }]);
        let lasts = Some(Duration::from_secs(60));
        let schedule =
            Schedule { after: Duration::from_secs(30), lasts, fault: Fault::HangHeaders };
        assert_eq!(config.schedule, [schedule]);
    }

    #[test]
    fn a_mistake_says_how_to_mend_it() {
        let error = |text| toml::from_str::<SimConfig>(text).unwrap_err().to_string();
        assert!(error("faults = [{ fault = \"teapot\", rate = \"1%\" }]").contains("hang-headers"));
        assert!(error("faults = [{ fault = \"500\", rate = \"101%\" }]").contains("like 2%"));
        assert!(error("schedule = [{ after = \"soon\", fault = \"500\" }]").contains("250ms"));
        assert!(error("colour = 1").contains("colour"));
    }

    #[test]
    fn durations_are_bounded_and_exact() {
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("0ms"), Ok(Duration::ZERO));
        for wrong in ["", "5", "-1s", "1e400s", "s", "1 fortnight"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
