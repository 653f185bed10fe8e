//! Paths into documents: the part of JSONPath (RFC 9535) that names places, without filters and slices.
//!
//! A document is walked once for all paths of a call, with the places in them as the state: the work is
//! bounded by its length, however hostile it is. A general evaluator makes lists of nodes instead, which
//! for `$..a..b` grow with the square of the depth, and leaves the change of the document to its caller.

use std::{fmt, str::FromStr};

/// The longest path, in bytes.
const LONGEST: usize = 512;
/// The most steps of a path.
const MOST_STEPS: usize = 32;

/// One path: `$.inputs.patient['first name']`, `$.messages[*].content`, `$..ssn`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(pub(super) Vec<Step>);

/// One step downwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To a child.
    Child(Select),
    /// To a child of this value or of anything within it.
    Below(Select),
}

/// Which children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Select {
    Name(String),
    Index(usize),
    Any,
}

/// What leads to a child.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key<'a> {
    Name(&'a str),
    Index(usize),
}

impl Select {
    pub(super) fn takes(&self, key: Key<'_>) -> bool {
        match (self, key) {
            (Self::Any, _) => true,
            (Self::Name(wanted), Key::Name(name)) => wanted == name,
            (Self::Index(wanted), Key::Index(index)) => *wanted == index,
            (Self::Name(_), Key::Index(_)) | (Self::Index(_), Key::Name(_)) => false,
        }
    }
}

/// Why a text is not a path: what is wrong, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathFault {
    /// What is wrong, as a sentence without its full stop.
    pub reason: String,
    /// How to mend it.
    pub remedy: &'static str,
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

fn fault(reason: impl Into<String>, remedy: &'static str) -> PathFault {
    PathFault { reason: reason.into(), remedy }
}

impl FromStr for Path {
    type Err = PathFault;

    fn from_str(text: &str) -> Result<Self, PathFault> {
        if text.len() > LONGEST {
            return Err(fault("this path is too long", "keep it to 512 bytes"));
        }
        let Some(mut rest) = text.strip_prefix('$') else {
            let remedy = "begin with $, such as \"$.inputs.name\" or \"$..ssn\"";
            return Err(fault("a path begins with `$`, the whole document", remedy));
        };
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = step(rest)?;
            steps.push(step);
            rest = after;
        }
        if steps.is_empty() {
            let remedy = "name a part of it, such as $.inputs.name";
            return Err(fault("`$` alone is the whole document", remedy));
        }
        if steps.len() > MOST_STEPS {
            return Err(fault("this path has too many steps", "keep it to 32 steps"));
        }
        Ok(Self(steps))
    }
}

/// The step at the start of `rest`, and what follows it.
fn step(rest: &str) -> Result<(Step, &str), PathFault> {
    if let Some(after) = rest.strip_prefix("..") {
        let (select, after) =
            if after.starts_with('[') { bracket(after)? } else { shorthand(after)? };
        return Ok((Step::Below(select), after));
    }
    let (select, after) = match rest.strip_prefix('.') {
        Some(after) => shorthand(after)?,
        None => bracket(rest)?,
    };
    Ok((Step::Child(select), after))
}

/// `name` or `*`.
fn shorthand(rest: &str) -> Result<(Select, &str), PathFault> {
    if let Some(after) = rest.strip_prefix('*') {
        return Ok((Select::Any, after));
    }
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let length = rest.find(|c: char| !part(c)).unwrap_or(rest.len());
    let (name, after) = rest.split_at(length);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        let remedy = "write letters, digits and _, or ['any name'] in brackets";
        return Err(fault("after a dot comes a name or *", remedy));
    }
    if let Some(odd) = after.chars().next().filter(|c| !matches!(c, '.' | '[')) {
        let remedy = "put the name in brackets and quotes: ['first-name']";
        return Err(fault(format!("`{odd}` cannot stand in a name after a dot"), remedy));
    }
    Ok((Select::Name(name.to_owned()), after))
}

/// `['name']`, `["name"]`, `[3]` or `[*]`.
fn bracket(rest: &str) -> Result<(Select, &str), PathFault> {
    const KNOWN: &str = "write ['name'], [0] or [*]; filters and slices are not supported";
    let Some(inside) = rest.strip_prefix('[') else {
        return Err(fault("after a step comes `.`, `..` or `[`", "write $.name or $['name']"));
    };
    let (select, after) = match inside.chars().next() {
        Some('*') => (Select::Any, inside.get(1..).unwrap_or_default()),
        Some(quote @ ('\'' | '"')) => quoted(inside, quote)?,
        Some('0'..='9') => {
            let length = inside.find(|c: char| !c.is_ascii_digit()).unwrap_or(inside.len());
            let (digits, after) = inside.split_at(length);
            let index = digits.parse().map_err(|_| fault("this index is too large", KNOWN))?;
            (Select::Index(index), after)
        }
        Some(_) | None => return Err(fault("this is no name and no index", KNOWN)),
    };
    match after.strip_prefix(']') {
        Some(after) => Ok((select, after)),
        None => Err(fault("a `[` is not closed by `]`", KNOWN)),
    }
}

fn quoted(inside: &str, quote: char) -> Result<(Select, &str), PathFault> {
    let mut name = String::new();
    let mut escaped = false;
    for (at, c) in inside.char_indices().skip(1) {
        if escaped {
            if !matches!(c, '\\' | '\'' | '"') {
                let remedy = "escape quotes and backslashes only";
                return Err(fault("this escape is not known", remedy));
            }
            name.push(c);
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            let after = inside.get(at + c.len_utf8()..).unwrap_or_default();
            return Ok((Select::Name(name), after));
        } else {
            name.push(c);
        }
    }
    Err(fault("a quote is not closed", "write ['name']"))
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("$")?;
        for step in &self.0 {
            let select = match step {
                Step::Child(select) => select,
                Step::Below(select) => {
                    f.write_str("..")?;
                    select
                }
            };
            match select {
                Select::Any => f.write_str("[*]")?,
                Select::Index(index) => write!(f, "[{index}]")?,
                Select::Name(name) => {
                    let name = name.replace('\\', "\\\\").replace('\'', "\\'");
                    write!(f, "['{name}']")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_read() {
        for (text, written) in [
            ("$.a.b_1", "$['a']['b_1']"),
            ("$.messages[*].content", "$['messages'][*]['content']"),
            ("$..ssn", "$..['ssn']"),
            ("$..[2]['x y']", "$..[2]['x y']"),
            ("$.*[\"it's\"]", "$[*]['it\\'s']"),
            ("$.größe", "$['größe']"),
        ] {
            assert_eq!(text.parse::<Path>().unwrap().to_string(), written, "{text}");
        }
    }

    #[test]
    fn what_is_no_path_is_explained() {
        for (text, told) in [
            ("", "begins with `$`"),
            ("inputs.name", "begins with `$`"),
            ("$", "whole document"),
            ("$.", "after a dot"),
            ("$.first-name", "['first-name']"),
            ("$.1st", "after a dot"),
            ("$name", "after a step"),
            ("$[?@.a]", "filters"),
            ("$[1:2]", "not closed"),
            ("$[-1]", "filters"),
            ("$['a", "quote is not closed"),
            ("$['a'", "closed by"),
            ("$['\\n']", "escape"),
            ("$[99999999999999999999999]", "too large"),
            (&format!("${}", ".a".repeat(33)), "too many"),
            (&format!("$.{}", "a".repeat(600)), "too long"),
        ] {
            let fault = text.parse::<Path>().unwrap_err().to_string();
            assert!(fault.contains(told), "{text}: {fault}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(names in proptest::collection::vec("\\PC{0,8}", 1..8)) {
            let steps = names.into_iter().enumerate().map(|(i, name)| match i % 3 {
                0 => Step::Child(Select::Name(name)),
                1 => Step::Below(Select::Name(name)),
                _ => Step::Child(Select::Index(i)),
            });
            let path = Path(steps.collect());
            prop_assume!(path.to_string().len() <= LONGEST);
            prop_assert_eq!(path.to_string().parse::<Path>(), Ok(path));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\$?(\\PC|[.*'\\[\\]]){0,20}") {
            drop(text.parse::<Path>());
        }
    }
}
