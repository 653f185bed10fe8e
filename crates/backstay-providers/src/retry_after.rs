//! How long a provider asks to be left alone, read from the headers of its answer.

use std::time::Duration;

use http::HeaderMap;

/// No hint is longer than this: a larger one is a mistake or of no use to a waiting call.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The pause that `headers` ask for, at most a day.
///
/// In this order: `retry-after-ms`; `retry-after` in seconds or as a date (RFC 9110, section 10.2.3),
/// which counts from the answer's own `date` so that no clock is needed; then the reset times of
/// OpenAI's limits, of which only an exhausted one is waited for.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    text("retry-after-ms")
        .and_then(|value| scaled(value, 0.001))
        .or_else(|| text("retry-after").and_then(|value| scaled(value, 1.0)))
        .or_else(|| until(text("retry-after")?, text("date")?))
        .or_else(|| limit_reset(text))
        .map(|pause| pause.min(LONGEST))
}

/// A number of `unit` seconds; not a negative, infinite or missing one.
fn scaled(number: &str, unit: f64) -> Option<Duration> {
    let number: f64 = number.parse().ok()?;
    Duration::try_from_secs_f64(number * unit).ok()
}

fn until(then: &str, now: &str) -> Option<Duration> {
    let then = httpdate::parse_http_date(then).ok()?;
    let now = httpdate::parse_http_date(now).ok()?;
    Some(then.duration_since(now).unwrap_or_default())
}

/// A limit with something left is not what stopped the request; where neither is exhausted, the
/// request asked for more tokens than were left.
fn limit_reset<'h>(text: impl Fn(&str) -> Option<&'h str>) -> Option<Duration> {
    let exhausted = |remaining: &str| text(remaining).is_none_or(|left| left == "0");
    let tokens = text("x-ratelimit-reset-tokens").and_then(go_duration);
    let requests = text("x-ratelimit-reset-requests").and_then(go_duration);
    let requests = requests.filter(|_| exhausted("x-ratelimit-remaining-requests"));
    if requests.is_some() && !exhausted("x-ratelimit-remaining-tokens") {
        return requests;
    }
    tokens.max(requests)
}

/// A duration as Go writes it: `1s`, `6m0s`, `20ms`, `1h2m3.5s`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, after) = tail.split_at_checked(unit_len)?;
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        total = total.saturating_add(scaled(number, seconds)?);
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn pause(headers: &[(&'static str, &'static str)]) -> Option<Duration> {
        let map = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        retry_after(&map)
    }

    #[test]
    fn every_form_of_the_hint_is_read() {
        let ms = |n| Some(Duration::from_millis(n));
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let later = ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT");
        assert_eq!(pause(&[("retry-after-ms", "1500"), ("retry-after", "9")]), ms(1_500));
        assert_eq!(pause(&[("retry-after", "2")]), ms(2_000));
        assert_eq!(pause(&[("retry-after", " 0.5 ")]), ms(500));
        assert_eq!(pause(&[date, later]), ms(30_000));
        assert_eq!(pause(&[later]), None, "a date needs a clock");
        assert_eq!(pause(&[("date", later.1), ("retry-after", date.1)]), ms(0));
        assert_eq!(pause(&[("x-ratelimit-reset-requests", "6m0s")]), ms(360_000));
        assert_eq!(pause(&[("x-ratelimit-reset-tokens", "1h2m3.5s")]), ms(3_723_500));
        assert_eq!(pause(&[("x-ratelimit-reset-tokens", "20ms")]), ms(20));
    }

    #[test]
    fn only_the_exhausted_limit_is_waited_for() {
        let both = [("x-ratelimit-reset-requests", "6h"), ("x-ratelimit-reset-tokens", "2s")];
        let with = |more: &[_]| pause(&[&both[..], more].concat()).map(|p| p.as_secs());
        assert_eq!(with(&[]), Some(6 * 3_600));
        assert_eq!(with(&[("x-ratelimit-remaining-requests", "5")]), Some(2));
        assert_eq!(with(&[("x-ratelimit-remaining-tokens", "5")]), Some(6 * 3_600));
    }

    #[test]
    fn nonsense_is_no_hint_and_a_huge_one_is_bounded() {
        for bad in ["", "-1", "NaN", "inf", "soon", "1e400", "1x", "1s2", "."] {
            assert_eq!(pause(&[("retry-after", bad)]), None, "{bad}");
            assert_eq!(pause(&[("x-ratelimit-reset-tokens", bad)]), None, "{bad}");
        }
        assert_eq!(pause(&[("retry-after", "1e15")]), Some(LONGEST));
    }
}
