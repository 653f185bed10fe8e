//! The page of the manual that shows what was seen.

use std::{fmt::Write as _, fs, path::Path};

use backstay_providers::sim::Fault;

use super::{Case, Degrade, Seen, heard};
use crate::reading::{Heard, Speaks};

const HEAD: &str = "\
# What the users of a call get

<!-- Generated: `UPDATE_GOLDEN=1 cargo test -p backstay-server --test it` writes it anew from a run
     of the whole gateway over sockets. -->

One row for each fault of the [simulated provider](simulated-provider.md), one column for each way to
be prepared for it: a route of one target, a route whose second target is healthy, and `static.json`
with one target. A cell says what the client gets, with the number of attempts behind it: the model's
**answer**; **mended**, an answer that was taken out of its wrapping; a **refusal** in the words of the
client's protocol; **static**, the deterministic answer in place of the model's, marked as such; or the
status and failure class of an error. `stale` and `message` stand wherever `static` does, with another
text. Where an answer is streamed, **breaks off** means that the stream had begun and ends with an error
event that names the failure, and **short** that its finish reason says that it is not whole: what was
passed on cannot be taken back, so neither a second target nor a degradation helps. A call with an output
schema holds its streams back until they are valid, so neither happens to it. The budgets of the run:
deadline 1.5 s, headers and first token 500 ms, idle 600 ms, three attempts, one repair.
";

/// Compares the page with what was seen, or writes it.
pub(super) fn compare(seen: &[Seen]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manual/fault-matrix.md");
    let page = page(seen);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == page, "{} is stale: run UPDATE_GOLDEN=1 cargo test", path.display());
}

fn page(seen: &[Seen]) -> String {
    let mut page = HEAD.to_owned();
    for (schema, title) in
        [(false, "A call that answers with a text"), (true, "A call with an output schema")]
    {
        write!(page, "\n## {title}\n\n").unwrap();
        page.push_str("| fault | one target | … streamed | two targets | … streamed | static | … streamed |\n");
        page.push_str("|---|---|---|---|---|---|---|\n");
        for &fault in Fault::ALL {
            write!(page, "| `{}` |", fault.name()).unwrap();
            for (two, degrade) in
                [(false, Degrade::None), (true, Degrade::None), (false, Degrade::Static)]
            {
                for stream in [false, true] {
                    let (client, upstream) = (Speaks::OpenAi, Speaks::OpenAi);
                    let case = Case { fault, stream, two, schema, degrade, client, upstream };
                    let seen = seen.iter().find(|seen| seen.case == case).unwrap();
                    write!(page, " {} |", cell(seen)).unwrap();
                }
            }
            page.push('\n');
        }
    }
    page
}

/// What a client got, in a few words.
fn cell(seen: &Seen) -> String {
    let heard = heard(&seen.case, &seen.told);
    let said = said(&seen.case, &seen.told, &heard);
    match seen.told.header("x-backstay-attempts") {
        "1" => said,
        attempts => format!("{said} ×{attempts}"),
    }
}

fn said(case: &Case, told: &crate::harness::Told, heard: &Heard) -> String {
    let code = heard.code(case.client);
    let degraded = told.header("x-backstay-degraded");
    let unfinished = ["length", "content_filter"];
    let finish = heard.finish.as_deref().unwrap_or_default();
    match (code, told.status) {
        (Some(code), 200) => format!("breaks off: {code}"),
        (Some(code), status) => format!("{status} {code}"),
        (None, _) if degraded != "none" => degraded.to_owned(),
        (None, _) if told.header("x-backstay-outcome") == "repaired" => "mended".to_owned(),
        (None, _) if !heard.refusal.is_empty() => "refusal".to_owned(),
        (None, _) if unfinished.contains(&finish) => {
            let kind = if case.stream && !case.schema { "short" } else { "refusal" };
            format!("{kind}: {finish}")
        }
        (None, _) => "answer".to_owned(),
    }
}
