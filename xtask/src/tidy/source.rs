//! Rust source as tidy reads it: without comments, strings and test modules; and the limits on its
//! length.
//!
//! The reading is textual. It knows enough of Rust's tokens to not be misled by a brace in a string
//! or a path in a comment, and no more.

use std::ops::Range;

use super::Finding;

const FILE_LINES: usize = 700;
const CRATE_LINES: usize = 12_000;

/// A source file of a crate.
#[derive(Debug)]
pub(super) struct File {
    /// Path below `src`.
    pub(super) path: String,
    /// Path below the root of the workspace, to show.
    pub(super) shown: String,
    /// The code, byte for byte in place, with comments, literals and test modules blanked out.
    pub(super) code: String,
    /// Lines outside test modules.
    lines: usize,
    /// Modules in files of their own that are declared under `#[cfg(test)]`.
    test_modules: Vec<String>,
}

impl File {
    pub(super) fn new(path: &str, shown: &str, text: &str) -> Self {
        let mut code = blank_comments_and_literals(text);
        let mut test_modules = Vec::new();
        let mut test_lines = 0;
        for item in test_items(&code) {
            match item {
                TestItem::Inline(range) => {
                    test_lines += code.get(range.clone()).map_or(0, |text| text.lines().count());
                    code = blank(&code, range);
                }
                TestItem::File(name) => test_modules.push(name),
            }
        }
        let lines = text.lines().count().saturating_sub(test_lines);
        Self { path: path.to_owned(), shown: shown.to_owned(), code, lines, test_modules }
    }

    /// The module path below the crate's root: empty for `lib.rs` and `main.rs`.
    pub(super) fn module(&self) -> Vec<&str> {
        let stem = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        let stem = stem.strip_suffix("/mod").unwrap_or(stem);
        match stem {
            "lib" | "main" => Vec::new(),
            stem => stem.split('/').collect(),
        }
    }
}

/// Leaves out files that are modules of tests.
pub(super) fn without_test_files(files: Vec<File>) -> Vec<File> {
    let mut tests: Vec<Vec<String>> = Vec::new();
    for file in &files {
        for name in &file.test_modules {
            let path = file.module().into_iter().chain([name.as_str()]);
            tests.push(path.map(str::to_owned).collect());
        }
    }
    let is_test = |file: &File| {
        let module = file.module();
        tests
            .iter()
            .any(|test| module.len() >= test.len() && test.iter().zip(&module).all(|(a, b)| a == b))
    };
    files.into_iter().filter(|file| !is_test(file)).collect()
}

/// Checks the length of the files and of the whole crate.
pub(super) fn check_crate(name: &str, files: &[File]) -> Vec<Finding> {
    let long = files.iter().filter(|file| file.lines > FILE_LINES).map(|file| {
        let message = format!(
            "{} lines without tests, more than {FILE_LINES}: split it by meaning",
            file.lines
        );
        Finding::new(&file.shown, message)
    });
    let mut findings: Vec<Finding> = long.collect();
    let total: usize = files.iter().map(|file| file.lines).sum();
    if total > CRATE_LINES {
        let message = format!("{total} lines without tests, more than {CRATE_LINES}");
        findings.push(Finding::new(name, message));
    }
    findings
}

enum TestItem {
    Inline(Range<usize>),
    File(String),
}

/// The modules under `#[cfg(test)]`, in code that has no comments and literals left.
fn test_items(code: &str) -> Vec<TestItem> {
    let mut items = Vec::new();
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let start = at + attribute.len();
        let Some(rest) = code.get(start..) else { continue };
        let item = rest.trim_start();
        let Some(name) = ["mod ", "pub(crate) mod ", "pub mod ", "pub(super) mod "]
            .iter()
            .find_map(|head| item.strip_prefix(head))
        else {
            continue;
        };
        match name.find(['{', ';']) {
            Some(end) if name.get(end..=end) == Some(";") => {
                items.push(TestItem::File(name.get(..end).unwrap_or_default().trim().to_owned()));
            }
            Some(open) => {
                let open = code.len() - name.len() + open;
                items.push(TestItem::Inline(at..closing_brace(code, open) + 1));
            }
            None => {}
        }
    }
    items
}

/// Where the brace that stands at `open` is closed again; the last byte if it is not.
pub(super) fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    code.len().saturating_sub(1)
}

/// The same text with spaces in place of a range; lines stay where they are.
fn blank(text: &str, range: Range<usize>) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for byte in bytes.get_mut(range).into_iter().flatten() {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Blanks comments, strings and character literals.
fn blank_comments_and_literals(text: &str) -> String {
    let mut code = text.to_owned();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let after_word = text
            .get(..at)
            .and_then(|head| head.chars().next_back())
            .is_some_and(|c| c.is_alphanumeric() || c == '_');
        match token(rest, after_word) {
            Token::Blank(len) => {
                code = blank(&code, at..at + len);
                at += len;
            }
            Token::Keep(len) => at += len,
        }
    }
    code
}

enum Token {
    Blank(usize),
    Keep(usize),
}

/// The token at the beginning of `rest`, which is not empty.
fn token(rest: &str, after_word: bool) -> Token {
    if rest.starts_with("//") {
        return Token::Blank(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Token::Blank(block_comment(rest));
    }
    if rest.starts_with('"') {
        return Token::Blank(string(rest));
    }
    if let Some(len) = raw_string(rest).filter(|_| !after_word) {
        return Token::Blank(len);
    }
    if let Some(len) = character(rest) {
        return Token::Blank(len);
    }
    Token::Keep(rest.chars().next().map_or(1, char::len_utf8))
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, `br#"…"#`.
fn raw_string(rest: &str) -> Option<usize> {
    let head = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = head.len() - head.trim_start_matches('#').len();
    let body = head.get(hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let before = rest.len() - body.len();
    Some(body.find(&end).map_or(rest.len(), |at| before + at + end.len()))
}

/// `'a'`, `'\n'`, `'\u{1f600}'`; not a lifetime.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    if let Some(escape) = body.strip_prefix('\\') {
        let skipped = escape.chars().next().map_or(0, char::len_utf8);
        return escape.get(skipped..)?.find('\'').map(|at| 1 + 1 + skipped + at + 1);
    }
    let first = body.chars().next()?.len_utf8();
    body.get(first..)?.starts_with('\'').then_some(1 + first + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        let code = File::new("a.rs", "a.rs", text).code;
        code.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        assert_eq!(code("a // crate::b\nc /* { /* } */ */ d"), "a c d");
        assert_eq!(code(r#"a("{ \" }") b"#), "a( ) b");
        assert_eq!(code("a(r#\"{ \" } \"#) b"), "a( ) b");
        assert_eq!(code(r"m('{', '\'', '\u{7b}') x::<'a>"), "m( , , ) x::<'a>");
        assert_eq!(code("for r in bar\"x\""), "for r in bar");
    }

    #[test]
    fn test_modules_are_neither_read_nor_counted() {
        let text = "//! A.\nfn a() {}\n#[cfg(test)]\nmod tests {\n    use crate::b;\n    fn c() {}\n}\nfn d() {}\n";
        let file = File::new("a.rs", "a.rs", text);
        assert!(!file.code.contains("crate::b") && file.code.contains("fn d"), "{}", file.code);
        assert_eq!(file.lines, 3);
    }

    #[test]
    fn files_of_tests_are_left_out() {
        let files = vec![
            File::new("a.rs", "a.rs", "//! A.\n#[cfg(test)]\nmod cases;\nmod kept;\n"),
            File::new("a/cases.rs", "a/cases.rs", "//! A.\n"),
            File::new("a/cases/more.rs", "a/cases/more.rs", "//! A.\n"),
            File::new("a/kept.rs", "a/kept.rs", "//! A.\n"),
        ];
        let left: Vec<String> = without_test_files(files).into_iter().map(|f| f.path).collect();
        assert_eq!(left, ["a.rs", "a/kept.rs"]);
    }

    #[test]
    fn long_files_and_crates_are_found() {
        let text = |lines: usize| "//! A.\n".repeat(lines);
        let file = |lines| File::new("a.rs", "x/src/a.rs", &text(lines));
        assert_eq!(check_crate("x", &[file(FILE_LINES)]), []);
        assert_eq!(check_crate("x", &[file(FILE_LINES + 1)])[0].place, "x/src/a.rs");
        let many: Vec<File> = (0..15).map(|_| file(FILE_LINES)).collect();
        assert_eq!(check_crate("x", &many)[0].place, "x");
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", text(FILE_LINES + 1));
        assert_eq!(check_crate("x", &[File::new("a.rs", "a.rs", &tests)]), []);
    }
}
