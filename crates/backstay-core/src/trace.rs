//! The place of a call in a distributed trace: W3C Trace Context, Level 2, `traceparent`.
//!
//! The ids of Backstay's own spans are made from the id of the call and the number of the attempt, so
//! that what is sent to a provider and what is exported later agree without telling each other.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A `traceparent`: the trace, the span that caused this one, and the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent {
    /// 16 bytes, not all zero.
    pub trace: [u8; 16],
    /// 8 bytes, not all zero.
    pub span: [u8; 8],
    /// Bit 0: the caller records this trace.
    pub flags: u8,
}

/// Why a text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, ids not all zero")]
pub struct NotATraceParent;

impl TraceParent {
    /// Whether the caller records this trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The span of attempt `number`, from 0, of the call whose span this is.
    #[must_use]
    pub fn attempt(&self, number: usize) -> Self {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let step = u64::try_from(number).unwrap_or(u64::MAX).wrapping_add(1).wrapping_mul(GOLDEN);
        Self { span: span_id(u64::from_be_bytes(self.span).wrapping_add(step)), ..*self }
    }

    /// The trace's id in hex.
    #[must_use]
    pub fn trace_id(&self) -> String {
        hex(&self.trace)
    }
}

/// Which traces are recorded: a client's own if it says so, and a share of those that begin here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// A trace that begins here is recorded if the last 56 bits of its id are at least this: what
    /// OpenTelemetry calls the rejection threshold, so that all who look at the id decide alike.
    reject_below: u64,
}

impl Sampling {
    /// Records `share` of the traces that begin here, 0 to 1.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a share of 2^56, which a double holds exactly"
    )]
    pub fn of(share: f64) -> Self {
        const ALL: u64 = 1 << 56;
        Self { reject_below: ALL - (share.clamp(0.0, 1.0) * ALL as f64) as u64 }
    }

    /// The span of a call: in the client's trace, or the first one of a trace whose id is the call's.
    #[must_use]
    pub fn call(self, id: [u8; 16], parent: Option<&TraceParent>) -> TraceParent {
        let bits = u128::from_be_bytes(id);
        #[expect(clippy::cast_possible_truncation, reason = "the halves of the id")]
        let (high, low) = ((bits >> 64) as u64, bits as u64);
        let span = span_id(low ^ mixed(high));
        match parent {
            Some(parent) => TraceParent { trace: parent.trace, span, flags: parent.flags & KNOWN },
            None => {
                let sampled = low & (u64::MAX >> 8) >= self.reject_below;
                TraceParent { trace: id, span, flags: u8::from(sampled) }
            }
        }
    }
}

/// The flags that are known: recorded, and random. Others must not be passed on.
const KNOWN: u8 = 0b11;

/// An id of a span; all zero is none.
fn span_id(seed: u64) -> [u8; 8] {
    mixed(seed).max(1).to_be_bytes()
}

/// The finaliser of `SplitMix64`: one to one, so that different seeds stay different.
const fn mixed(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    })
}

fn bytes<const N: usize>(digits: &str) -> Result<[u8; N], NotATraceParent> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() != 2 * N || !digits.bytes().all(lower) {
        return Err(NotATraceParent);
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let pair = digits.get(2 * at..2 * at + 2).ok_or(NotATraceParent)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| NotATraceParent)?;
    }
    Ok(bytes)
}

impl FromStr for TraceParent {
    type Err = NotATraceParent;

    /// Section 3.2. A later version may say more behind a further `-`; version `ff` is invalid.
    fn from_str(text: &str) -> Result<Self, NotATraceParent> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(NotATraceParent);
        let (version, trace, span, flags) = (part()?, part()?, part()?, part()?);
        let [version] = bytes::<1>(version)?;
        let (trace, span, [flags]) = (bytes(trace)?, bytes(span)?, bytes::<1>(flags)?);
        let more = parts.next().is_some();
        if version == 0xff || (version == 0 && more) || trace == [0; 16] || span == [0; 8] {
            return Err(NotATraceParent);
        }
        Ok(Self { trace, span, flags })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", hex(&self.trace), hex(&self.span), self.flags)
    }
}

impl TryFrom<String> for TraceParent {
    type Error = NotATraceParent;
    fn try_from(text: String) -> Result<Self, NotATraceParent> {
        text.parse()
    }
}

impl From<TraceParent> for String {
    fn from(parent: TraceParent) -> Self {
        parent.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_specification() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent: TraceParent = text.parse().unwrap();
        assert_eq!(parent.to_string(), text);
        assert!(parent.is_sampled());
        assert_eq!(parent.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more";
        assert!(!later.parse::<TraceParent>().unwrap().is_sampled());
    }

    #[test]
    fn what_is_not_one_is_refused() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473ü-00f067aa0ba902b7-01",
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(NotATraceParent), "{bad}");
        }
    }

    #[test]
    fn a_call_keeps_the_trace_of_its_client() {
        let parent: TraceParent =
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fd".parse().unwrap();
        let call = Sampling::of(0.0).call([7; 16], Some(&parent));
        assert_eq!(call.trace, parent.trace);
        assert_ne!(call.span, parent.span);
        assert_eq!(call.flags, 0b01, "flags that nobody knows are not passed on");
        assert_eq!(call, Sampling::of(1.0).call([7; 16], Some(&parent)), "the client decides");
    }

    proptest! {
        #[test]
        fn spans_of_a_call_are_all_different_and_never_zero(id: [u8; 16]) {
            let call = Sampling::of(1.0).call(id, None);
            prop_assert_eq!(call.trace, id);
            let mut spans: Vec<_> = (0..100).map(|number| call.attempt(number).span).collect();
            spans.push(call.span);
            prop_assert!(!spans.contains(&[0; 8]));
            spans.sort_unstable();
            spans.dedup();
            prop_assert_eq!(spans.len(), 101);
        }

        #[test]
        fn what_a_small_share_records_a_larger_one_records_too(id: [u8; 16], a in 0.0..=1.0, b in 0.0..=1.0) {
            let sampled = |share: f64| Sampling::of(share).call(id, None).is_sampled();
            let (small, large) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(!sampled(small) || sampled(large));
            prop_assert!(sampled(1.0) && !sampled(0.0));
        }
    }

    #[test]
    fn a_share_is_a_share() {
        let sampling = Sampling::of(0.25);
        let recorded = (0_u64..10_000)
            .map(|number| (u128::from(mixed(number)) << 64) | u128::from(mixed(number + 77_777)))
            .filter(|id| sampling.call(id.to_be_bytes(), None).is_sampled())
            .count();
        assert!((2_300..2_700).contains(&recorded), "{recorded}");
    }
}
