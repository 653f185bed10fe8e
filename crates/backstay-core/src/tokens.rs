//! How many tokens a text has, without the tables of any tokenizer: a certain lower bound, and a guess.
//!
//! Before byte pairs are merged, `OpenAI`'s tokenizers split a text with a pattern, and no token
//! reaches over the border of two pieces: a text has at least as many tokens as pieces. This counts the
//! pieces of the pattern of `o200k_base` (tiktoken, `tiktoken_ext/openai_public.py`) in one pass. It is
//! exact for ASCII but for a few rare sequences; where exactness would need the tables of Unicode, it
//! leaves a border out. It never counts more than the pattern does, so a prompt that is refused for
//! its count would not have fitted. Do not use it to bill or to cut a text to size.

/// The number of pieces that `text` certainly has: a lower bound of its tokens.
#[must_use]
pub fn at_least(text: &str) -> u64 {
    let mut scan = Scan { pieces: 0, last: Last::Border };
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match kind(first) {
            Kind::White => scan.white(rest),
            Kind::Number => scan.number(rest),
            Kind::Lower => scan.letter(first, Last::Lower),
            Kind::Upper => scan.upper(first),
            Kind::Letter => scan.letter(first, Last::Letter),
            Kind::Mark => scan.mark(first, rest),
            Kind::Vague => scan.vague(first),
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    scan.pieces
}

/// A guess of how many tokens `text` has: a quarter of its bytes, which is about right for English,
/// for JSON and, as they have more bytes a letter, for other scripts; never less than is certain. A
/// cost that is made of it tells the order of an amount and no more.
#[must_use]
pub fn about(text: &str) -> u64 {
    at_least(text).max(text.len().div_ceil(4) as u64)
}

/// What a character certainly is to the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    White,
    Number,
    /// `\p{Ll}`
    Lower,
    /// `\p{Lu}`
    Upper,
    /// `\p{L}`, with or without case.
    Letter,
    /// `[^\s\p{L}\p{N}\p{M}]`
    Mark,
    /// A letter, a combining mark, or a symbol: std does not tell.
    Vague,
}

fn kind(c: char) -> Kind {
    match c {
        'a'..='z' => Kind::Lower,
        'A'..='Z' => Kind::Upper,
        '0'..='9' => Kind::Number,
        _ if c.is_whitespace() => Kind::White,
        _ if c.is_ascii() => Kind::Mark,
        _ if c.is_numeric() => Kind::Number,
        // Circled letters are symbols that have case, the iota below is a mark that has.
        'Ⓐ'..='ⓩ' | '\u{1F130}'..='\u{1F189}' | '\u{345}' => Kind::Vague,
        // Letters younger than Unicode 12 are none to older tables.
        'Ꟁ'.. if c.is_lowercase() || c.is_uppercase() => Kind::Vague,
        _ if c.is_uppercase() => Kind::Upper,
        // A modifier letter such as `ʰ` counts as lower case, but is none to the pattern.
        _ if c.is_lowercase() && !c.to_uppercase().eq([c]) => Kind::Lower,
        _ if c.is_lowercase() => Kind::Letter,
        // Kana, Chinese characters, Hangul.
        'ぁ'..='ゖ'
        | 'ァ'..='ヺ'
        | '\u{3400}'..='\u{4DBF}'
        | '\u{4E00}'..='\u{9FFF}'
        | '가'..='힣' => Kind::Letter,
        _ if c.is_alphabetic() => Kind::Vague,
        // Latin-1, general punctuation, arrows to box drawings, CJK and full-width punctuation, emoji.
        '\u{80}'..='\u{F7}'
        | '\u{2010}'..='\u{205E}'
        | '\u{2190}'..='\u{2BFF}'
        | '、'..='〃'
        | '〈'..='〠'
        | '！'..='／'
        | '\u{1F300}'..='\u{1FAFF}' => Kind::Mark,
        _ => Kind::Vague,
    }
}

/// What stands before the character that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// A certain border.
    Border,
    /// A space of no piece yet: a word or marks may take it.
    Space,
    /// Other white space of no piece yet: only a word may take it.
    Blank,
    /// A word that takes no capital any more.
    Lower,
    /// A word.
    Letter,
    /// One mark of no piece yet to its right: a word may take it.
    Mark,
    /// Marks that a word cannot take.
    Marks,
    /// Marks and the line breaks that they took.
    MarksLine,
    /// Something that may be part of a word or of marks.
    Vague,
    /// Marks after something vague: they belong to it, or to what follows, or stand alone.
    VagueMarks,
}

struct Scan {
    pieces: u64,
    last: Last,
}

impl Scan {
    fn border(&mut self) {
        self.pieces += 1;
    }

    /// A run of white space; returns its length in bytes.
    fn white(&mut self, rest: &str) -> usize {
        let run = rest.split(|c: char| !c.is_whitespace()).next().unwrap_or_default();
        let free = match self.last {
            // `[\r\n/]*` takes the line breaks after marks.
            Last::Mark | Last::Marks | Last::Vague | Last::VagueMarks => {
                run.trim_start_matches(['\r', '\n'])
            }
            Last::Border
            | Last::Space
            | Last::Blank
            | Last::Lower
            | Last::Letter
            | Last::MarksLine => run,
        };
        if free.is_empty() {
            self.last = Last::MarksLine;
            return run.len();
        }
        // `\s*[\r\n]+`
        let blanks = match free.rfind(['\r', '\n']) {
            Some(line) => {
                self.border();
                free.get(line + 1..).unwrap_or_default()
            }
            None => free,
        };
        let at_end = run.len() == rest.len();
        let mut backwards = blanks.chars().rev();
        self.last = match backwards.next() {
            Some(_) if at_end => {
                self.border();
                Last::Border
            }
            Some(last) => {
                // `\s+(?!\S)` leaves the last one to what follows.
                if backwards.next().is_some() {
                    self.border();
                }
                if last == ' ' { Last::Space } else { Last::Blank }
            }
            None => Last::Border,
        };
        run.len()
    }

    /// A run of digits, in pieces of three; returns its length in bytes.
    fn number(&mut self, rest: &str) -> usize {
        if matches!(self.last, Last::Space | Last::Blank) {
            self.border();
        }
        let run = rest.split(|c: char| !c.is_numeric()).next().unwrap_or_default();
        self.pieces += (run.chars().count() as u64).div_ceil(3);
        self.last = Last::Border;
        run.len()
    }

    fn letter(&mut self, c: char, becomes: Last) -> usize {
        match self.last {
            Last::Border
            | Last::Space
            | Last::Blank
            | Last::Marks
            | Last::MarksLine
            | Last::VagueMarks => self.border(),
            // It took the mark, and whatever is vague may be a letter.
            Last::Lower | Last::Letter | Last::Mark | Last::Vague => {}
        }
        self.last = becomes;
        c.len_utf8()
    }

    fn upper(&mut self, c: char) -> usize {
        if self.last == Last::Lower {
            self.border();
        }
        self.letter(c, Last::Letter)
    }

    /// A mark or, after a word, the `'s` of a contraction; returns its length in bytes.
    fn mark(&mut self, c: char, rest: &str) -> usize {
        if matches!(self.last, Last::Lower | Last::Letter | Last::Vague)
            && let Some(length) = contraction(rest)
        {
            self.last = if self.last == Last::Vague { Last::Vague } else { Last::Border };
            return length;
        }
        self.last = match self.last {
            Last::Space => {
                self.border();
                Last::Marks
            }
            Last::Blank => {
                self.pieces += 2;
                Last::Mark
            }
            // These marks may have taken the slash together with the line breaks before it.
            Last::MarksLine if c == '/' => Last::Vague,
            Last::Border | Last::Lower | Last::Letter | Last::MarksLine => {
                self.border();
                Last::Mark
            }
            Last::Mark | Last::Marks => Last::Marks,
            Last::Vague | Last::VagueMarks => Last::VagueMarks,
        };
        c.len_utf8()
    }

    fn vague(&mut self, c: char) -> usize {
        match self.last {
            Last::Border | Last::Space | Last::Blank | Last::MarksLine => self.border(),
            Last::Lower
            | Last::Letter
            | Last::Mark
            | Last::Marks
            | Last::Vague
            | Last::VagueMarks => {}
        }
        self.last = Last::Vague;
        c.len_utf8()
    }
}

/// The length in bytes of `(?i:'s|'t|'re|'ve|'m|'ll|'d)` at the start of `rest`.
fn contraction(rest: &str) -> Option<usize> {
    let mut letters = rest.strip_prefix('\'')?.chars();
    let two = |second: Option<char>, letter: char| {
        second.is_some_and(|second| second.eq_ignore_ascii_case(&letter)).then_some(3)
    };
    match letters.next()? {
        's' | 'S' | 't' | 'T' | 'm' | 'M' | 'd' | 'D' => Some(2),
        // The long s is an `s` without case.
        'ſ' => Some(1 + 'ſ'.len_utf8()),
        'r' | 'R' | 'v' | 'V' => two(letters.next(), 'e'),
        'l' | 'L' => two(letters.next(), 'l'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use fancy_regex::Regex;
    use proptest::prelude::*;

    use super::*;

    /// The pattern of `o200k_base`, as tiktoken writes it.
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = [
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        ];
        Regex::new(&pattern.join("|")).unwrap()
    });

    fn pieces(text: &str) -> u64 {
        PATTERN.find_iter(text).map(Result::unwrap).count() as u64
    }

    const ENGLISH: &str = "The invoice wasn't paid in May, so we've sent a reminder for the third time. \
        \u{201c}Please don't,\u{201d} she wrote \u{2014} \u{201c}it's on its way\u{201d}. \
        It's a lot; their accountant, who'd left, can't say why.";

    #[test]
    fn golden_counts() {
        for (text, count) in [
            ("", 0),
            ("hello", 1),
            ("Hello world", 2),
            ("helloWorldHTTPServer", 3),
            ("It's they'll WE'RE it'sn't", 5),
            ("1234567", 3),
            ("a.b a..b", 5),
            ("a  b\n\n  c\t!", 8),
            (" .\n\n x", 2),
            ("trailing   ", 2),
            ("fn main() {\n    println!(\"{x}\");\n}\n", 10),
            ("你好，世界。", 3),
            ("日本語のテキスト、カタカナ", 2),
            ("한국어 텍스트", 2),
            ("ok 👍👍 done", 3),
            ("naïve café", 2),
        ] {
            assert_eq!(pieces(text), count, "the pattern on {text:?}");
            assert_eq!(at_least(text), count, "{text:?}");
        }
    }

    #[test]
    fn what_is_vague_is_counted_once() {
        // Devanagari, a combining accent, a skin tone with a variation selector.
        for text in ["नमस्ते दुनिया", "e\u{301}t\u{e9}", "❤\u{fe0f} ok", "مرحبا بالعالم"]
        {
            let (ours, theirs) = (at_least(text), pieces(text));
            assert!(ours >= 1 && ours <= theirs, "{text:?}: {ours} of {theirs}");
        }
    }

    #[test]
    fn english_comes_close_to_its_words_and_marks() {
        let words = regex::Regex::new(r"[\w']+|[^\w\s]+").unwrap();
        let (ours, all) = (at_least(ENGLISH), words.find_iter(ENGLISH).count() as u64);
        assert!(ours * 10 >= all * 6 && ours <= all, "{ours} of {all}");
        assert_eq!(ours, pieces(ENGLISH));
    }

    #[test]
    fn a_guess_lies_between_what_is_certain_and_every_byte() {
        for (text, guess) in
            [("", 0), ("a", 1), ("Hello, world!", 4), ("文字文字", 3), ("1, 2, 3, 4", 10)]
        {
            assert_eq!(about(text), guess, "{text:?}");
        }
        // Its text has 4.5 letters a word and 1.3 tokens.
        let words = ENGLISH.split_whitespace().count() as u64;
        assert!((words..words * 2).contains(&about(ENGLISH)), "{}", about(ENGLISH));
    }

    #[test]
    fn a_megabyte_of_one_character_is_linear() {
        let million = 1_000_000;
        for (piece, count) in
            [("a", 1), ("A", 1), (" ", 1), ("\n", 1), (".", 1), ("'s", 1), ("\u{301}", 1)]
        {
            let found = at_least(&piece.repeat(million));
            assert!(found >= count, "{piece:?}: {found}");
        }
        assert_eq!(at_least(&"1".repeat(million)), 333_334);
        assert_eq!(at_least(&"a ".repeat(million)), 1_000_001);
    }

    #[test]
    fn kinds_agree_with_the_tables_of_unicode() {
        let set = |pattern: &str| regex::Regex::new(pattern).unwrap();
        let sets = [
            (Kind::White, set(r"^\s$")),
            (Kind::Number, set(r"^\p{N}$")),
            (Kind::Lower, set(r"^\p{Ll}$")),
            (Kind::Upper, set(r"^\p{Lu}$")),
            (Kind::Letter, set(r"^\p{L}$")),
            (Kind::Mark, set(r"^[^\s\p{L}\p{N}\p{M}]$")),
        ];
        // The tables of std are a little younger than those of the pattern.
        let unassigned = set(r"^\p{Cn}$");
        let mut buffer = [0; 4];
        for c in '\0'..=char::MAX {
            let (found, text) = (kind(c), c.encode_utf8(&mut buffer));
            if unassigned.is_match(text) {
                continue;
            }
            let right = sets.iter().find(|(kind, _)| *kind == found);
            assert!(right.is_none_or(|(_, set)| set.is_match(text)), "{c:?} is no {found:?}");
            // What is vague must not be one of the two that are never glued.
            let never = [&sets[0].1, &sets[1].1];
            assert!(found != Kind::Vague || !never.iter().any(|set| set.is_match(text)), "{c:?}");
        }
    }

    fn soup() -> impl Strategy<Value = String> {
        const PARTS: [&str; 40] = [
            "a", "b", "re", "A", "B", "Ab", "'", "'s", "'S", "'ll", "'rE", "'ſ", " ", "  ", "\t",
            "\n", "\r\n", "\u{a0}", ".", "..", "/", "//", "!", "1", "1234", "文", "字", "，",
            "\u{301}", "\u{93e}", "ʰ", "ª", "ǅ", "Ⓐ", "Ⅷ", "ß", "É", "😀", "\u{fe0f}", "\u{345}",
        ];
        let part = prop_oneof![
            6 => proptest::sample::select(&PARTS[..]).prop_map(str::to_owned),
            1 => any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
    }

    fn plain() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            "[a-z]{1,3}|[A-Z]|'s|'[lr]|[ \t]{1,2}|\n|[.,;!-]{1,2}|[0-9]{1,4}",
            0..14,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn it_never_counts_more_than_the_pattern(text in soup()) {
            prop_assert!(at_least(&text) <= pieces(&text), "{} > {}", at_least(&text), pieces(&text));
        }

        #[test]
        fn ascii_without_slashes_is_exact(text in plain()) {
            prop_assert_eq!(at_least(&text), pieces(&text));
        }
    }
}
