//! Rules of single files: how they begin, what they are called, words that must not stay.

use super::Finding;

/// Endings of files in which unfinished work could hide.
const CODE: [&str; 9] = [".rs", ".toml", ".py", ".mjs", ".js", ".ts", ".css", ".html", ".sh"];

/// Words that mark unfinished work; in pieces, so that this file does not hold them.
const UNFINISHED: [&str; 4] =
    [concat!("FIX", "ME"), concat!("XX", "X"), concat!("TO", "DO"), concat!("to", "do!")];

/// Directories that are of one machine and mean nothing on another.
const OF_ONE_MACHINE: [&str; 3] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Names that say nothing, and so collect everything.
const NAMELESS: [&str; 8] =
    ["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"];

/// The one reason for a test that does not run by itself: another test runs it, as a process of its own.
/// In pieces, so that this file does not hold it.
const IGNORED: &str = concat!("#[ig", "nore");
const BODY_OF_A_CHILD: &str = " = \"body of a child process";

/// Checks one text file.
pub(super) fn check(name: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(part) = name.split('/').find(|part| is_nameless(part)) {
        findings.push(Finding::new(
            name,
            format!("`{part}` says nothing: name the file after what it is for"),
        ));
    }
    if name.ends_with(".rs") && !text.starts_with("//!") {
        findings.push(Finding::new(name, "does not begin with `//!`: say what the module is for"));
    }
    for (number, line) in text.lines().enumerate() {
        let place = || format!("{name}:{}", number + 1);
        if CODE.iter().any(|ending| name.ends_with(ending))
            && let Some(word) = UNFINISHED.iter().find(|word| has_word(line, word))
        {
            findings.push(Finding::new(place(), format!("`{word}`: finish it or open an issue")));
        }
        if name.ends_with(".rs")
            && let Some((_, rest)) = line.split_once(IGNORED)
            && !rest.starts_with(BODY_OF_A_CHILD)
        {
            let message = "no test is skipped: run it, delete it, or say whose \
                `body of a child process` it is";
            findings.push(Finding::new(place(), message));
        }
        if let Some(path) = OF_ONE_MACHINE.iter().find(|path| has_root(line, path)) {
            let message = format!("`{path}…` is a path of one machine: make it relative");
            findings.push(Finding::new(place(), message));
        }
    }
    findings
}

fn is_nameless(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part);
    NAMELESS.iter().any(|name| stem.eq_ignore_ascii_case(name))
}

fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|rest| rest.chars().next());
        !before.is_some_and(inside) && !after.is_some_and(inside)
    })
}

/// Whether `path` stands in `line` as the beginning of an absolute path.
fn has_root(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "_-.~}])>*".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(name: &str, text: &str) -> usize {
        check(name, text).len()
    }

    #[test]
    fn a_rust_file_begins_with_its_purpose() {
        assert_eq!(broken("a/b.rs", "//! Reads things.\nfn a() {}\n"), 0);
        assert_eq!(broken("a/b.rs", "fn a() {}\n"), 1);
        assert_eq!(broken("a/b.rs", "\n//! Late.\n"), 1);
        assert_eq!(broken("a/b.py", "def a(): pass\n"), 0);
    }

    #[test]
    fn names_say_something() {
        for bad in ["src/utils.rs", "src/helpers/a.rs", "src/Manager.py", "common.d/x"] {
            assert_eq!(broken(bad, "//! A.\n"), 1, "{bad}");
        }
        assert_eq!(broken("src/commonality.rs", "//! A.\n"), 0);
    }

    #[test]
    fn unfinished_work_is_named_with_its_line() {
        let text = format!("//! A.\nfn a() {{}}\n// {}: later\n", UNFINISHED[0]);
        assert_eq!(check("a.rs", &text)[0].place, "a.rs:3");
        for word in UNFINISHED {
            assert_eq!(broken("a.py", &format!("# {word}(\"x\")")), 1, "{word}");
        }
        assert_eq!(broken("a.py", &format!("mktemp {}X", UNFINISHED[1])), 0);
        assert_eq!(broken("a.rs", "//! A todo list.\n"), 0);
    }

    #[test]
    fn no_test_is_skipped() {
        assert_eq!(broken("a.rs", &format!("//! A.\n{IGNORED}{BODY_OF_A_CHILD} of b\"]\n")), 0);
        assert_eq!(broken("a.rs", &format!("//! A.\n{IGNORED}]\n")), 1);
        assert_eq!(broken("a.rs", &format!("//! A.\n    {IGNORED} = \"slow\"]\n")), 1);
        assert_eq!(broken("a.md", &format!("{IGNORED}]")), 0);
    }

    #[test]
    fn paths_of_one_machine() {
        for path in OF_ONE_MACHINE {
            assert_eq!(broken("a.md", &format!("see `{path}x`")), 1, "{path}");
            assert_eq!(broken("a.md", &format!("see https://a.example{path}x")), 0, "{path}");
        }
    }
}
