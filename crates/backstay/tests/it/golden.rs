//! What commands say, kept in files beside the tests.
//!
//! `UPDATE_GOLDEN=1 cargo test -p backstay --test it` writes what comes out; read the diff.

use std::{fs, path::Path, sync::LazyLock};

use regex::Regex;

use crate::world::Ran;

/// Compares with `golden/<name>.txt`.
#[track_caller]
pub(crate) fn same(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/golden/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{}: run with UPDATE_GOLDEN=1 and read the diff. Found:\n{found}\nwanted:\n{wanted}",
        path.display()
    );
}

/// One command in a golden file, with its exit code.
pub(crate) fn session(args: &[&str], ran: &Ran) -> String {
    let Ran { code, stdout, stderr } = ran;
    let mut text = format!("$ backstay {}\n{stdout}", args.join(" "));
    if !stderr.is_empty() {
        text.push_str(&format!("--- stderr\n{stderr}"));
    }
    text.push_str(&format!("--- exit {code}\n\n"));
    neutral(&text)
}

/// What differs from run to run (ids, times, ports, keys), and what is written in its place.
/// No Unicode classes: they take an unoptimised build seconds to compile.
const VOLATILE: [(&str, &str); 15] = [
    ("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "<call-id>"),
    ("bsk_[0-9a-f]{8}_[0-9a-f]{40}", "<key>"),
    ("[0-9a-f]{8}  ([^ ]+ +made )", "<key-id>  $1"),
    ("revoked [0-9a-f]{8} ", "revoked <key-id> "),
    ("\"id\":\"[0-9a-f]{8}\"", "\"id\":\"<key-id>\""),
    ("[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}[.][0-9]{3}", "<moment>"),
    ("[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}", "<time>      "),
    (" *[0-9]+([.][0-9]+)? (µs|ms|s)([ ,)\n])", " <duration>$3"),
    ("127[.]0[.]0[.]1:[0-9]{5}", "127.0.0.1:<port>"),
    (
        "((created|expires|revoked|reported|at|latency)_ms|(latency|overhead|took|started|first_token)_us|\"ms)\":[0-9]+",
        "$1\":0",
    ),
    (" *━+ *", " <bar> "),
    ("chatcmpl-[0-9a-z]+", "<chatcmpl-id>"),
    ("process [0-9]+", "process <pid>"),
    (", [0-9]+ days old", ", <n> days old"),
    ("\"age_days\":[0-9]+", "\"age_days\":0"),
];

static COMPILED: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    VOLATILE.iter().map(|(pattern, with)| (Regex::new(pattern).unwrap(), *with)).collect()
});

/// Takes out what differs from run to run.
pub(crate) fn neutral(text: &str) -> String {
    let text = text.to_owned();
    COMPILED.iter().fold(text, |text, (regex, with)| regex.replace_all(&text, *with).into_owned())
}
