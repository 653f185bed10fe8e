//! What is wrong in a project file, said so that it can be mended without reading the manual.

use std::fmt;

use serde::Serialize;

/// One mistake in one file. Sorts by file and place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mistake {
    /// Path of the file within the project, with forward slashes.
    pub file: String,
    /// Line, from 1; always within the file.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The dotted path of the key, such as `budget.deadline`; empty if it is about the whole file.
    pub key: String,
    /// What is wrong, as a sentence without its full stop. Never holds a secret.
    pub reason: String,
    /// How to mend it.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n  hint: {}", self.reason, self.remedy)
    }
}

/// The one of `known` that `word` was most likely meant to be.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `a, b or c`, each in backticks.
pub(crate) fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["deadline", "attempts", "idle"];
        assert_eq!(nearest("deadlnie", known.into_iter()), Some("deadline"));
        assert_eq!(nearest("attempt", known.into_iter()), Some("attempts"));
        assert_eq!(nearest("colour", known.into_iter()), None);
    }
}
