//! The page of the manual on failure classes, made of the table of classes and their statuses. In tests
//! only; one of them compares it with `docs/manual/failure-classes.md`.
//!
//! What to do about a class is said here, in one exhaustive match: a new class does not compile without.

use std::{fmt::Write, path::Path};

use backstay_core::failure::{
    Cut, Failure, FailureClass, Health, NextTarget, Phase, Refusal, SameTarget,
};

use crate::status_of;

const HEAD: &str = "\
<!-- Generated from the table in crates/backstay-core/src/failure.rs and the statuses and advice in
crates/backstay-server/src. `UPDATE_GOLDEN=1 cargo test -p backstay-server` writes it anew. -->

# Failure classes

Every call that fails, and every attempt of it, fails in exactly one of these classes. The class decides
what Backstay does next; there is no other rule. You meet it

- as one word (`timeout`) in the header `x-backstay-outcome`, in the `type` of an OpenAI-shaped error, and
  in `backstay log --outcome`;
- as an exact code (`timeout_headers`) in the `code` of an OpenAI-shaped error, in the `failure` of an
  Anthropic-shaped one, in the native answer, and in `backstay log` and `backstay show`.

To see what happened to one call: `backstay show ID`, with the id of the header `x-backstay-call-id`.

The columns of the tables:

- **same target again**: whether the call may ask the target that just failed once more. The next target
  is preferred where it may be asked.
- **next target**: whether the call may go on to another target of its route.
- **breaker**: what the failure says about the target's health.
- **degrades**: whether a stale answer, a static one or a message may take the place of the error
  ([degradation](degradation.md)).
- **client status**: the HTTP status if nothing takes its place.
- **client may retry**: whether the same request may succeed later; `retryable` in the error.

How all of this shares one budget is told in [failure budget](failure-budget.md).
";

/// What a person does about a class.
#[expect(clippy::too_many_lines, reason = "one text for each class")]
const fn advice(class: FailureClass) -> &'static str {
    use FailureClass as F;
    match class {
        F::Timeout(Phase::Connect) => {
            "No connection within `budget.connect`. Look at the network, the name server and a \
             firewall between the gateway and the provider; 2 s is generous inside one continent."
        }
        F::Timeout(Phase::Headers) => {
            "Connected, but no status line within `budget.headers`. A provider that does not stream \
             answers when the whole answer is ready, so long answers need a higher limit, a lower \
             `params.max_tokens`, or a stream."
        }
        F::Timeout(Phase::FirstToken) => {
            "The stream opened and stayed silent for `budget.first_token`. Models that reason before \
             they speak, and very long prompts, need a higher limit."
        }
        F::Timeout(Phase::Idle) => {
            "The answer stopped moving for `budget.idle`. If it happens with one provider only, it is \
             that provider; put another target behind it in the route."
        }
        F::Timeout(Phase::Deadline) => {
            "The whole call took longer than `budget.deadline`, or than the client's \
             `x-backstay-deadline-ms`. `backstay show` tells which attempt ate the time. Keep \
             `budget.headers` well below the deadline, or the first target that hangs leaves no time \
             for the second."
        }
        F::Connection => {
            "Nobody listens there, the connection was reset, the name was not found, or TLS failed; \
             the message of the attempt says which. Check `base_url`. \"leads into a private network\" \
             asks for `allow_private_network = true`, if that is meant."
        }
        F::RateLimited => {
            "The provider limits you. With `Retry-After` the target is left alone until then, for all \
             calls, and a call whose deadline allows it waits. If it happens often: a second target, \
             a lower `max_concurrency` for the provider, or a higher limit from the provider."
        }
        F::Overloaded => {
            "The provider is overloaded, or a limit of your own is reached: `max_concurrency` and \
             `max_queue` of the provider, or `server.max_in_flight`. The message names which."
        }
        F::UpstreamError => {
            "The provider broke, or something between you and it answered in its place (an HTML page \
             of a proxy, a body in another format, a reply of more than 32 MiB). If it never works, \
             `base_url` or `kind` is wrong."
        }
        F::UpstreamAuth => {
            "Your credentials for the provider were refused, its bill is not paid, or it has no such model \
             (any more). The target is \
             left alone for 60 seconds and then tried again. Mend the secret, look with `backstay \
             check --secrets`, then restart the gateway so that it reads the secret anew. The caller gets \
             502: its own key is fine."
        }
        F::BadRequest => {
            "The request is wrong and would be wrong anywhere; `message` and `param` say what to \
             change. A 401 asks for a key of this gateway, a 403 comes from a web page of another \
             site or a foreign `Host`, a 404 names a call, release, provider or path that is not \
             there. It never degrades: the caller has to see its own mistake."
        }
        F::ContextLength => {
            "The prompt is longer than the model's window. Send less, or put a target with a larger \
             window into the route and give both their `models.<name>.context`: without both numbers \
             Backstay does not know that the next window is larger."
        }
        F::ContentFilter => {
            "A filter of the provider stopped the prompt or the answer. The client sees a refusal in \
             its protocol, with status 200. `fallback_on_refusal = true` takes it to the next target."
        }
        F::Refused => {
            "The model declined. That is an answer, and the client gets it as its protocol says it. \
             `fallback_on_refusal = true` takes it to the next target."
        }
        F::Empty => {
            "HTTP 200 and nothing in it. If it persists: too small a `max_tokens` for a model that \
             reasons first is the usual cause."
        }
        F::Truncated(Cut::Length) => {
            "The model ran into its output limit. Raise `params.max_tokens`, or ask for less. The \
             same model would stop at the same place, so it is not asked again."
        }
        F::Truncated(Cut::Stream) => {
            "The answer broke off before its end: a restarted server, a proxy with a time limit of \
             its own. In a stream that was already being passed on, the client gets an error event \
             and has to send the request again."
        }
        F::Malformed => {
            "The answer is not JSON, even after fences and prose around it were taken off. Say in \
             the prompt that only JSON is wanted; prefer a model that supports structured output."
        }
        F::Schema => {
            "JSON of the wrong shape. `backstay show` names the path and the rule. If one field fails \
             again and again, the prompt does not explain it or the schema asks too much."
        }
        F::Check => {
            "A rule of `[checks]` was broken. `backstay show` names which. The model is told once per \
             `budget.repair`; after that only another target is asked."
        }
        F::CircuitOpen => {
            "Every target of the route is shut off after too many failures, so none was asked. The \
             failures before it in `backstay log` tell why; `/readyz` lists open breakers. It opens \
             by itself once a probe succeeds."
        }
        F::Budget => {
            "The call's attempts have cost what `budget.max_cost_usd` allows, and another one would \
             have followed. `backstay show` says what each attempt cost and why it failed: mend that \
             failure, or raise the budget. A call that runs out of attempts or retry tokens ends in \
             the class of its last failure."
        }
        F::Cancelled => {
            "The client closed the connection before the answer was complete. Many of these mean \
             that the client's own time limit is shorter than `budget.deadline`; let it send \
             `x-backstay-deadline-ms` instead."
        }
        F::Consumer => {
            "Your application said so, with `POST /v1/outcomes`. The call itself keeps its outcome; \
             `backstay show` has the report."
        }
    }
}

const fn same(same: SameTarget) -> &'static str {
    match same {
        SameTarget::No => "no",
        SameTarget::Backoff => "after a pause",
        SameTarget::AfterHint => {
            "after the pause that the provider asks for, if it fits the deadline"
        }
        SameTarget::Once => "once, after a pause",
        SameTarget::Repair => "only by repair",
        SameTarget::RepairThenBackoff => "by repair, then after a pause",
    }
}

const fn next(next: NextTarget) -> &'static str {
    match next {
        NextTarget::No => "no",
        NextTarget::Yes => "at once",
        NextTarget::LargerWindow => "if its context window is larger",
        NextTarget::IfRouteSaysSo => "if the call says `fallback_on_refusal = true`",
    }
}

const fn health(health: Health) -> &'static str {
    match health {
        Health::Neutral => "says nothing",
        Health::Fine => "counts as a success: the target works",
        Health::Faulty => "counts as a failure",
        Health::Hold => "does not count; the target is left alone until its limit resets",
        Health::Unusable => "does not count; the target is left alone for a minute",
    }
}

fn status(class: FailureClass) -> String {
    let number = |refusal| {
        let failure = Failure::new(class, "").because(refusal);
        status_of(&failure).as_u16().to_string()
    };
    match class {
        FailureClass::BadRequest => {
            use Refusal as R;
            let others = [R::Unauthenticated, R::Forbidden, R::NotFound, R::Method, R::TooLarge];
            let others: Vec<_> = others.into_iter().map(number).collect();
            format!("{}; {}", number(R::Invalid), others.join(", "))
        }
        FailureClass::ContentFilter | FailureClass::Refused => {
            format!("{}, with the protocol's refusal", number(Refusal::Invalid))
        }
        FailureClass::Cancelled => "none: nobody is there".to_owned(),
        FailureClass::Consumer => "none: the call was answered before".to_owned(),
        FailureClass::Timeout(_)
        | FailureClass::Connection
        | FailureClass::RateLimited
        | FailureClass::Overloaded
        | FailureClass::UpstreamError
        | FailureClass::UpstreamAuth
        | FailureClass::ContextLength
        | FailureClass::Empty
        | FailureClass::Truncated(_)
        | FailureClass::Malformed
        | FailureClass::Schema
        | FailureClass::Check
        | FailureClass::CircuitOpen
        | FailureClass::Budget => number(Refusal::Invalid),
    }
}

const FACTS: [&str; 7] = [
    "seen as",
    "same target again",
    "next target",
    "breaker",
    "degrades",
    "client status",
    "client may retry",
];

fn facts(class: FailureClass) -> [String; 7] {
    let row = class.row();
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    [
        row.seen_as.to_owned(),
        same(row.same).to_owned(),
        next(row.next).to_owned(),
        health(row.health).to_owned(),
        yes(row.degrades),
        status(class),
        yes(row.retryable),
    ]
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n| class | same target again | next target | degrades | client status |\n");
    page.push_str("|---|---|---|---|---|\n");
    for class in FailureClass::ALL.chunk_by(|a, b| facts(*a) == facts(*b)) {
        let [.., last] = class else { continue };
        let name = if class.len() > 1 { last.name() } else { last.code() };
        let [_, same, next, _, degrades, status, _] = facts(*last);
        writeln!(
            page,
            "| [`{name}`](#{}) | {same} | {next} | {degrades} | {status} |",
            last.name()
        )
        .unwrap();
    }
    for group in FailureClass::ALL.chunk_by(|a, b| a.name() == b.name()) {
        section(group, &mut page);
    }
    page
}

/// The classes of one name: a table with a column for each that differs, and what to do.
fn section(group: &[FailureClass], page: &mut String) {
    let Some(first) = group.first() else { return };
    let alike = group.iter().all(|class| facts(*class) == facts(*first));
    let columns = if alike { &group[..1] } else { group };
    let title =
        |class: &FailureClass| if alike { String::new() } else { format!("`{}`", class.code()) };
    let heads: Vec<_> = columns.iter().map(title).collect();
    writeln!(
        page,
        "\n## {}\n\n| | {} |\n|---|{}",
        first.name(),
        heads.join(" | "),
        "---|".repeat(columns.len())
    )
    .unwrap();
    for (number, fact) in FACTS.iter().enumerate() {
        let values: Vec<_> = columns.iter().map(|class| facts(*class)[number].clone()).collect();
        writeln!(page, "| {fact} | {} |", values.join(" | ")).unwrap();
    }
    page.push('\n');
    for class in group {
        let text = advice(*class);
        if group.len() == 1 {
            writeln!(page, "{text}").unwrap();
        } else {
            writeln!(page, "- `{}`: {text}", class.code()).unwrap();
        }
    }
}

#[test]
fn the_manual_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manual/failure-classes.md");
    let wanted = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{} is stale: run UPDATE_GOLDEN=1 cargo test", path.display());
}
