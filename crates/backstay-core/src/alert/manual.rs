//! The page of the manual on alerts, made of the table of rules. In tests only; one of them compares it
//! with `docs/manual/alerts.md`.

use std::{fmt::Write, path::Path};

use super::Rule;

const HEAD: &str = "\
<!-- Generated from crates/backstay-core/src/alert. `UPDATE_GOLDEN=1 cargo test -p backstay-core` writes
it anew. -->

# Alerts

Backstay looks at all calls every ten seconds and tells someone when something is wrong. It needs no
other system for that: the sums of calls by the minute, hour and day are enough, and what it knows of an
alert survives a restart. Who is told is set by `[[alerts.notify]]`; what is watched, by `[alerts]` of
`call.toml`, and for all calls by `[defaults.alerts]` ([project files](../reference/configuration.md)):

```toml
[alerts]
off = [\"tokens_in\"]            # rules that do not watch this call
latency_p95 = \"8s\"             # else 80 % of budget.deadline
first_token_p95 = \"1s\"         # else 1.5 times the usual
slo = \"99%\"                    # turns `burn_rate` on
renotify = \"4h\"                # someone is told again of what is still wrong
```

None of this is part of a release: a change of it changes no answer.

## What an alert carries

Call, release and variant, the failure class of most of its calls, the ids of three of them (`backstay show
ID`), and the figures that made it fire, as a sentence:

> 7 of 61 calls failed in 5 min (11.5 %), allowed 2 %: P(>=7 | 61, 2 %) = 0.00022 <= 0.001

`P` is the exact probability of so many failures if the share were just the allowed one. It is what keeps
small numbers from crying wolf: two failures of twenty calls are 10 %, and happen to a healthy call every
day.

## From the first sign to the end

- **pending**: the rule holds, but not for long enough yet. Nobody is told; what does not last is forgotten.
- **firing**: someone is told: once, again when it becomes worse (a warning becomes a page), and again
  after `renotify`.
- **resolved**: all has been well for long enough. Whoever was told that it began is told.

The same trouble is one alert, however often it is seen. Between \"bad enough to begin\" and \"well enough to
end\" there is room, so that nothing flaps. Only time that Backstay was running and looking counts: neither
a clock that jumps nor a restart fires or ends anything. A silence (`backstay alerts silence`) keeps an
alert from being told, not from being shown.

What cannot be known is not judged: while the call log or the sums over it cannot be written, or the sums lack
calls that ended more than a minute ago, rules about calls stand as they did, and Backstay's health says so.

A rule that has too few calls says `insufficient`, one that does not know yet what is usual says
`learning`: both are not `ok`.

## What is usual

What is usual is taken from the call's own last 7 days up to the last full hour, once a day, and anew for
each release where the rule tells releases apart.

- **What was wrong for a while is left out.** An hour in which an alert of the call fired is not learned
  from, nor is the hour before it began, whatever the rule: after an outage of six hours the same outage is
  noticed again. Where too little is left to learn from, what was usual before stays so.
- **What comes back every day becomes usual.** An hour of the day with alerts on three of the last days is
  learned from after all: a batch each night, or a change in a call that is used in office hours only.
- **What lasts becomes usual.** While an alert is open, what it is held against does not move. When it has
  held for 24 hours, that alone is learned anew, from what came since it began (at the next full hour, and
  as soon as there are 300 calls of it); the alert ends, and its figures say that it has lasted for a day.
  `coverage` begins to learn at that moment. If it was an outage after all, it stays usual for some days:
  the budgets of the call go on telling. Other hours of the call are learned from as before, and no
  alert keeps them out for longer than its first day.
- **A budget is never learned**: `error_rate`, `burn_rate`, `latency_budget` and a `first_token_p95` of
  yours fire for as long as they are exceeded.

Only hours count that Backstay was looking: an alert that was open while it was down has not lasted.

## How often it is wrong, and how late

A healthy call (1 % of failures, 2 % allowed), simulated: false warnings and pages of `error_rate` a day, and
minutes until calls that begin to fail by 5, 10 and 50 % are told (median of warnings / of pages).

| calls | false warnings | false pages | to 5 % | to 10 % | to 50 % |
|---|---|---|---|---|---|
| one in 10 s | 0.4 | 0.04 | 25 / 48 | 6 / 11 | 1 / 2 |
| one a second | 0.05 | 0 | 4 / 5 | 2 / 2 | 0.3 / 0.5 |
| ten a second | 0 | 0 | 2 / 2 | 1 / 1 | 0.2 / 0.2 |

The tests repeat these simulations.

## The rules

| rule | | most urgent | unit of its value |
|---|---|---|---|
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for rule in Rule::ALL {
        let (name, about) = (rule.name(), rule.about());
        let (severity, unit) = (about.severity.name(), about.unit);
        writeln!(page, "| [`{name}`](#{name}) | {} | {severity} | {unit} |", about.title).unwrap();
    }
    for rule in Rule::ALL {
        let about = rule.about();
        let lasts = |seconds: u64, what: &str| match seconds {
            0 => String::new(),
            _ => format!(" It must {what} for {} min.", seconds / 60),
        };
        let (hold, clear) = about.lasts;
        let name = rule.name();
        write!(
            page,
            "\n### `{name}`\n\n{}.\n\n- **Watches**: {}\n- **Fires**: {}{}\n- **Ends**: {}{}\n- **What to do**: {}\n",
            about.title,
            about.watches,
            about.fires,
            lasts(hold, "hold"),
            about.clears,
            lasts(clear, "stay so"),
            about.advice,
        )
        .unwrap();
    }
    page
}

#[test]
fn the_page_of_the_manual_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manual/alerts.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, page(), "UPDATE_GOLDEN=1 cargo test -p backstay-core writes it anew");
}
