//! Prices against what is known by hand, by calendar and by fractions.

use proptest::prelude::*;

use super::*;

const DAY: u64 = DAY_MS;

fn nano(dollars: &str) -> Nano {
    Nano::parse(dollars).unwrap()
}

fn tariff(json: &str) -> Tariff {
    serde_json::from_str(json).unwrap()
}

#[test]
fn amounts_are_read_without_rounding_and_shown_as_typed() {
    for (text, nanos) in [
        ("0", 0),
        ("1", 1_000_000_000),
        ("0.075", 75_000_000),
        ("0.000000001", 1),
        ("15.50", 15_500_000_000),
        ("999999999", 999_999_999_000_000_000),
    ] {
        assert_eq!(Nano::parse(text), Ok(Nano(nanos)), "{text}");
    }
    for wrong in ["", ".5", "-1", "1e3", "1,5", "0.0000000001", "1000000000", "1.2.3", "+1"] {
        assert!(Nano::parse(wrong).is_err(), "{wrong}");
    }
    assert_eq!(nano("15.50").to_string(), "15.5");
    assert_eq!(Nano(0).to_string(), "0");
    assert_eq!(Nano::from_dollars(0.1), Ok(Nano(100_000_000)), "as typed, not as stored");
    assert!(Nano::from_dollars(-0.1).is_err() && Nano::from_dollars(f64::NAN).is_err());
}

#[test]
fn kinds_without_a_price_cost_what_their_general_kind_does() {
    let usage = Usage {
        input: 1_000_000,
        cache_read: 100_000,
        cache_write: 300_000,
        cache_write_1h: 100_000,
        output: 1_000_000,
        reasoning: 400_000,
        ..Usage::default()
    };
    for (rates, dollars) in [
        (r#"{"input":"1","output":"10"}"#, "11"),
        (r#"{"input":"1","output":"10","cache_read":"0.1"}"#, "10.91"),
        (r#"{"input":"1","output":"10","cache_write":"1.25"}"#, "11.075"),
        (r#"{"input":"1","output":"10","cache_write":"1.25","cache_write_1h":"2"}"#, "11.15"),
        (r#"{"input":"1","output":"10","reasoning":"5"}"#, "9"),
        (r#"{"input":"1","output":"10","request":"0.5"}"#, "11.5"),
    ] {
        let price = Price::of(&tariff(&format!("[{rates}]")).into());
        assert_eq!(price.cost(&usage, 0), Cost::Priced(nano(dollars).0), "{rates}");
    }
}

#[test]
fn tokens_without_any_price_make_the_cost_unknown() {
    let price = Price::of(&tariff(r#"[{"input":"1","output":"2"}]"#).into());
    let sound = Usage { input: 10, input_media: 1, ..Usage::default() };
    assert_eq!(price.cost(&sound, 0), Cost::Unknown);
    let only_input = Price::of(&tariff(r#"[{"input":"1"}]"#).into());
    assert_eq!(only_input.cost(&Usage { output: 1, ..Usage::default() }, 0), Cost::Unknown);
    assert_eq!(only_input.cost(&Usage { input: 1, ..Usage::default() }, 0), Cost::Priced(1_000));
    assert_eq!(Price::of(&tariff("[{}]").into()), Price::Unknown);
    assert_eq!(Price::of(&tariff(r#"[{"input":"0","output":"0"}]"#).into()), Price::Free);
}

#[test]
fn a_tier_is_a_cliff_over_all_tokens() {
    let prices = tariff(
        r#"[{"input":{"base":"1","tiers":[[200,"2"],[100,"1.5"]]},"output":{"base":"4","tiers":[[200,"6"]]}}]"#,
    );
    let rates = prices.at(0).unwrap();
    let cost = |input, output| rates.cost(&Usage { input, output, ..Usage::default() });
    assert_eq!(cost(100, 10), Some(100 * 1_000 + 10 * 4_000));
    assert_eq!(cost(101, 10), Some(101 * 1_500 + 10 * 4_000));
    assert_eq!(cost(200, 10), Some(200 * 1_500 + 10 * 4_000));
    assert_eq!(cost(201, 10), Some(201 * 2_000 + 10 * 6_000));
    assert!(rates.has_tiers());
}

#[test]
fn prices_hold_from_their_day_and_at_their_time_of_the_day() {
    let prices = tariff(
        r#"[{"input":"1"},{"from":"1970-01-03","input":"2"},
            {"daily":["16:30","00:30"],"input":"3"}]"#,
    );
    let at = |ms| prices.at(ms).unwrap().input.clone().unwrap();
    let dollars = |text| Rate::flat(nano(text));
    let noon = 12 * 60 * MINUTE_MS;
    assert_eq!(at(noon), dollars("1"));
    assert_eq!(at(2 * DAY - 1), dollars("3"), "it is before midnight");
    assert_eq!(at(2 * DAY + noon), dollars("2"));
    assert_eq!(at(2 * DAY + 30 * MINUTE_MS - 1), dollars("3"));
    assert_eq!(at(2 * DAY + 30 * MINUTE_MS), dollars("2"));
    assert_eq!(at(2 * DAY + (16 * 60 + 30) * MINUTE_MS), dollars("3"));
    assert!(prices.varies_daily());
    // Before the first day of all, the first price is the nearest to the truth.
    let later = tariff(r#"[{"from":"2000-01-01","input":"1"},{"from":"2001-01-01","input":"2"}]"#);
    assert_eq!(later.at(0).unwrap().input, Some(dollars("1")));
    assert_eq!(Tariff::default().at(0), None);
}

#[test]
fn days_are_counted_as_calendars_do() {
    for (text, day) in [
        ("1970-01-01", 0),
        ("1970-03-01", 59),
        ("2000-02-29", 11_016),
        ("2000-03-01", 11_017),
        ("2026-11-10", 20_767),
    ] {
        assert_eq!(Day::parse(text), Some(Day(day)), "{text}");
    }
    for wrong in ["", "2026", "2026-13-01", "2026-11-00", "1969-12-31", "2026-11-10-1", "a-b-c"] {
        assert_eq!(Day::parse(wrong), None, "{wrong}");
    }
}

proptest! {
    /// Against arithmetic on fractions: no rounding but one, at the end.
    #[test]
    fn a_cost_is_exact_to_half_a_billionth(
        input in 0..10_000_000_u64, cached in 0..10_000_000_u64, output in 0..1_000_000_u64,
        prices in proptest::array::uniform3(0..100_000_000_000_u64),
    ) {
        let flat = |nanos| Some(Rate::flat(Nano(nanos)));
        let rates = Rates {
            input: flat(prices[0]), cache_read: flat(prices[1]), output: flat(prices[2]),
            ..Rates::default()
        };
        let usage = Usage { input, cache_read: cached, output, ..Usage::default() };
        let cached = cached.min(input);
        let exact = u128::from(input - cached) * u128::from(prices[0])
            + u128::from(cached) * u128::from(prices[1])
            + u128::from(output) * u128::from(prices[2]);
        let told = u128::from(rates.cost(&usage).unwrap()) * 1_000_000;
        prop_assert!(told.abs_diff(exact) <= 500_000, "{} {}", told, exact);
    }

    #[test]
    fn an_amount_that_was_shown_is_read_again(nanos in 0..1_000_000_000_000_000_000_u64) {
        prop_assert_eq!(Nano::parse(&Nano(nanos).to_string()), Ok(Nano(nanos)));
    }
}
