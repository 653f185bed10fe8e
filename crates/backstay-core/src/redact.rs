//! Takes credentials and personal data of known shape out of a text before it is kept.
//!
//! One pass over the bytes. A few bytes are triggers (`@`, `-`, `_`, `:`, `=`, `+`, some capitals);
//! only there is anything compared, so ordinary prose costs a table look-up per byte. Every
//! recogniser looks at a bounded stretch or consumes what it looked at: the whole is linear.
//!
//! Inside a JSON document quotes and backslashes are never taken, so it stays JSON; a number outside
//! of its strings is replaced by a string. What has no known shape (names, addresses) stays: this
//! narrows the harm, it does not make a text anonymous.

use std::borrow::Cow;

/// Removes credentials and personal data. Each find becomes a placeholder such as
/// `[redacted:email]`; a text without any is returned as it is. Redacting twice changes nothing more.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    settle(text, true)
}

/// Removes credentials only: keys, tokens, passwords, private keys.
#[must_use]
pub fn redact_secrets(text: &str) -> Cow<'_, str> {
    settle(text, false)
}

/// Scans until nothing more is found: a find may lay its neighbour bare (`a@b.co-----BEGIN …`).
/// Bounded, since each round but the last takes something out.
fn settle(text: &str, personal: bool) -> Cow<'_, str> {
    let mut kept = scan(text, personal);
    for _ in 0..8 {
        let Cow::Owned(once) = &kept else { break };
        let Cow::Owned(twice) = scan(once, personal) else { break };
        kept = Cow::Owned(twice);
    }
    kept
}

/// A stretch to be replaced.
#[derive(Clone, Copy)]
struct Find {
    start: usize,
    end: usize,
    label: &'static str,
}

/// What to compare at a byte, and nothing for most bytes.
#[derive(Clone, Copy, PartialEq)]
enum Trigger {
    None,
    /// A prefix of a credential may begin here.
    Prefix,
    /// The value of an assignment may follow.
    Assign,
    At,
    /// Phone numbers, cards.
    Digits,
    /// IBANs begin with two capitals.
    Capital,
    Quote,
}

const TRIGGERS: [Trigger; 256] = {
    let mut table = [Trigger::None; 256];
    let mut at = 0;
    while at < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let byte = at as u8;
        #[expect(clippy::indexing_slicing, reason = "`at` is below the length of the table")]
        let slot = &mut table[at];
        *slot = match byte {
            b's' | b'b' | b'g' | b'x' | b'e' | b'-' => Trigger::Prefix,
            b':' | b'=' => Trigger::Assign,
            b'@' => Trigger::At,
            b'+' | b'(' | b'0'..=b'9' => Trigger::Digits,
            b'A'..=b'Z' => Trigger::Capital,
            b'"' => Trigger::Quote,
            _ => Trigger::None,
        };
        at += 1;
    }
    table
};

/// The bytes that may follow a trigger if anything is to be found there: a letter alone is not worth a
/// call. Each trigger byte has a bit in the first table, and its followers have it in the second.
const PAIRS: ([u8; 256], [u8; 256]) = {
    let (mut first, mut second) = ([0; 256], [0; 256]);
    let mut at = 0;
    #[expect(clippy::indexing_slicing, reason = "`at` is below the length of the tables")]
    while at < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let byte = at as u8;
        first[at] = match byte {
            b's' => 1,
            b'b' => 1 << 1,
            b'g' => 1 << 2,
            b'x' => 1 << 3,
            b'e' => 1 << 4,
            b'-' => 1 << 5,
            b'A'..=b'Z' => 1 << 6,
            // These need no follower.
            b':' | b'=' | b'@' | b'+' | b'(' | b'0'..=b'9' | b'"' => 1 << 7,
            _ => 0,
        };
        second[at] = 1 << 7
            | match byte {
                b'k' => 1,
                b's' => 1 << 1 | 1 << 2,
                // `Bearer` is the one that goes on in small letters.
                b'e' => 1 << 1 | 1 << 6,
                b'h' | b'i' | b'l' => 1 << 2,
                b'o' => 1 << 3,
                b'y' => 1 << 4,
                b'-' => 1 << 5,
                b'E' => 1 << 1 | 1 << 6,
                b'A'..=b'Z' => 1 << 6,
                _ => 0,
            };
        at += 1;
    }
    (first, second)
};

/// The next place at or after `at` where something may be found.
fn next_trigger(bytes: &[u8], at: usize) -> Option<usize> {
    let (first, second) = &PAIRS;
    let bit = |table: &[u8; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or(0);
    let rest = bytes.get(at..)?;
    let found = rest.windows(2).position(|pair| match pair {
        &[byte, next] => bit(first, byte) & bit(second, next) != 0,
        _ => false,
    });
    // Of the last byte alone only an `@` means something: what stands before it.
    found.map(|found| at + found).or_else(|| (rest.last() == Some(&b'@')).then(|| bytes.len() - 1))
}

/// The longest run that is looked at before something is found: the bound that keeps hostile text
/// linear. What was found is taken whole, however long it is.
const LONGEST: usize = 4096;

/// Prefix, the fewest characters that follow it, label.
const PREFIXES: [(&str, usize, &str); 18] = [
    ("sk-", 16, "api_key"),
    ("sk_live_", 16, "api_key"),
    ("sk_test_", 16, "api_key"),
    ("bsk_", 16, "api_key"),
    ("ghp_", 20, "api_key"),
    ("gho_", 20, "api_key"),
    ("ghu_", 20, "api_key"),
    ("ghs_", 20, "api_key"),
    ("ghr_", 20, "api_key"),
    ("github_pat_", 20, "api_key"),
    ("glpat-", 16, "api_key"),
    ("xoxb-", 10, "api_key"),
    ("xoxa-", 10, "api_key"),
    ("xoxp-", 10, "api_key"),
    ("gsk_", 20, "api_key"),
    ("AKIA", 16, "aws_key"),
    ("ASIA", 16, "aws_key"),
    ("AIza", 30, "api_key"),
];

/// Names whose assigned value is a secret, the longer before their own ends; compared without case, `-` and `_`, at the name's end.
const SECRET_NAMES: [&str; 13] = [
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "secret",
    "secretkey",
    "secretaccesskey",
    "accesstoken",
    "refreshtoken",
    "authtoken",
    "token",
    "privatekey",
    "accesskey",
];

fn scan(text: &str, personal: bool) -> Cow<'_, str> {
    let document = text.trim_start().starts_with(['{', '[']);
    let mut scanner = Scanner { text, bytes: text.as_bytes(), kept: 0, personal };
    let mut out = String::new();
    let (mut at, mut quoted) = (0, false);
    while let Some(found) = next_trigger(scanner.bytes, at) {
        at = found;
        let byte = scanner.get(at).unwrap_or_default();
        let trigger = TRIGGERS.get(usize::from(byte)).copied().unwrap_or(Trigger::None);
        if trigger == Trigger::Quote {
            quoted ^= document && !scanner.escaped(at);
            at += 1;
            continue;
        }
        let bare = document && !quoted;
        let Some(find) = scanner.find(trigger, at, bare) else {
            at += if matches!(trigger, Trigger::Digits) { scanner.digits(at).max(1) } else { 1 };
            continue;
        };
        out.push_str(text.get(scanner.kept..find.start).unwrap_or_default());
        let mark = if bare && trigger == Trigger::Digits { "\"" } else { "" };
        out.push_str(&format!("{mark}[redacted:{}]{mark}", find.label));
        // An assignment crosses into the string of its value and stops before the closing quote.
        if trigger == Trigger::Assign {
            let crossed = scanner.slice(at, find.end).iter().enumerate();
            let quotes = crossed.filter(|&(i, &b)| b == b'"' && !scanner.escaped(at + i)).count();
            quoted ^= quotes % 2 == 1;
        }
        scanner.kept = find.end;
        at = find.end;
    }
    if scanner.kept == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(scanner.kept..).unwrap_or_default());
    Cow::Owned(out)
}

struct Scanner<'t> {
    text: &'t str,
    bytes: &'t [u8],
    /// Everything before is written already and out of reach.
    kept: usize,
    personal: bool,
}

impl Scanner<'_> {
    fn find(&mut self, trigger: Trigger, at: usize, bare: bool) -> Option<Find> {
        let personal = self.personal;
        match trigger {
            // Outside of its strings a JSON document has nothing but numbers and punctuation.
            Trigger::Digits if personal => self.card(at, bare).or_else(|| self.phone(at, bare)),
            Trigger::Assign => self.assigned(at, bare),
            Trigger::Prefix | Trigger::At | Trigger::Capital if bare => None,
            Trigger::Prefix => self.prefixed(at).or_else(|| self.token(at)),
            Trigger::Capital => {
                let secret = self.prefixed(at).or_else(|| self.token(at));
                secret.or_else(|| if personal { self.iban(at) } else { None })
            }
            Trigger::At => {
                self.user_info(at).or_else(|| if personal { self.email(at) } else { None })
            }
            Trigger::None | Trigger::Quote | Trigger::Digits => None,
        }
    }

    fn get(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    fn slice(&self, start: usize, end: usize) -> &[u8] {
        self.bytes.get(start..end.min(self.bytes.len())).unwrap_or_default()
    }

    fn run(&self, at: usize, inside: impl Fn(u8) -> bool) -> usize {
        self.slice(at, at.saturating_add(LONGEST)).iter().take_while(|&&byte| inside(byte)).count()
    }

    /// A run of any length: only for what is then taken out, or short when it is not.
    fn whole_run(&self, at: usize, inside: impl Fn(u8) -> bool) -> usize {
        self.slice(at, usize::MAX).iter().take_while(|&&byte| inside(byte)).count()
    }

    fn digits(&self, at: usize) -> usize {
        self.run(at, |byte| byte.is_ascii_digit())
    }

    /// Whether the byte at `at` follows an odd run of backslashes. Looks at a bounded stretch.
    fn escaped(&self, at: usize) -> bool {
        let before = self.slice(at.saturating_sub(64), at);
        if before.last() != Some(&b'\\') {
            return false;
        }
        before.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
    }

    /// Whether a word may begin at `at`: after a non-word byte, or after an escape such as `\n`.
    fn begins(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1).filter(|_| at != self.kept) else { return true };
        let word = self.get(before).is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        !word || self.escaped(before)
    }

    fn prefixed(&self, at: usize) -> Option<Find> {
        let rest = self.slice(at, usize::MAX);
        if rest.starts_with(b"-----BEGIN") {
            return self.pem(at);
        }
        let &(prefix, least, label) =
            PREFIXES.iter().find(|(prefix, ..)| rest.starts_with(prefix.as_bytes()))?;
        if !self.begins(at) {
            return None;
        }
        let body = self.whole_run(at + prefix.len(), is_token);
        (body >= least).then_some(Find { start: at, end: at + prefix.len() + body, label })
    }

    /// A private key, to its end marker or, cut off, to the end of its base64.
    fn pem(&self, at: usize) -> Option<Find> {
        let head = self.slice(at, at + 64);
        let key = b"PRIVATE KEY-----";
        let body = at + head.windows(key.len()).position(|part| part == key)? + key.len();
        // `\n` stands for a line break where the key is inside of a JSON string.
        let inside = |b: u8| b.is_ascii_alphanumeric() || b"+/=\\ \r\n-:,".contains(&b);
        let rest = self.slice(body, usize::MAX);
        let closes = |from: usize| rest.get(from..).is_some_and(|rest| rest.starts_with(key));
        let length = rest.iter().enumerate().take_while(|&(i, &b)| inside(b) && !closes(i)).count();
        let mut end = body + length;
        if closes(length) {
            end += key.len();
        } else if self.get(end - 1) == Some(b'\\') && self.escaped(end) {
            end -= 1;
        }
        Some(Find { start: at, end, label: "private_key" })
    }

    /// `Bearer …` and JSON Web Tokens.
    fn token(&self, at: usize) -> Option<Find> {
        let rest = self.slice(at, usize::MAX);
        if rest.get(..7).is_some_and(|head| head.eq_ignore_ascii_case(b"bearer ")) {
            let start = at + 7;
            let body = self.whole_run(start, |b| is_token(b) || b"+/=.~".contains(&b));
            return (body >= 8).then_some(Find { start, end: start + body, label: "bearer" });
        }
        if !rest.starts_with(b"eyJ") || !self.begins(at) {
            return None;
        }
        let part = |b: u8| is_token(b) || b == b'.';
        let length = self.run(at, part);
        let dots = self.slice(at, at + length).iter().filter(|&&b| b == b'.').count();
        // A long one has its second dot further on.
        let found = dots >= 2 && length >= 20 || length == LONGEST;
        found.then(|| Find { start: at, end: at + self.whole_run(at, part), label: "jwt" })
    }

    /// The value after `password=`, `"api_key": "`, `secret: `.
    fn assigned(&self, at: usize, bare: bool) -> Option<Find> {
        let before = self.slice(at.saturating_sub(40).max(self.kept), at);
        let letters = || {
            let unquoted = before.iter().rev().skip_while(|&&b| b" \t\"'\\".contains(&b));
            let name = unquoted.take_while(|&&b| is_token(b)).filter(|&&b| b != b'-' && b != b'_');
            name.map(u8::to_ascii_lowercase)
        };
        // The last letters of the names; most colons end here.
        if !matches!(letters().next()?, b'd' | b'e' | b'n' | b't' | b'y') {
            return None;
        }
        let is_name = |name: &&&str| name.bytes().rev().eq(letters().take(name.len()));
        let name = *SECRET_NAMES.iter().find(is_name)?;
        let key_quoted = before.trim_ascii_end().last() == Some(&b'"');
        let start = at + 1 + self.run(at + 1, |b| b" \t".contains(&b));
        let slashes = self.run(start, |b| b == b'\\');
        let opens = self.get(start + slashes).is_some_and(|b| b == b'"' || b == b'\'');
        let opening = if opens { slashes + 1 } else { 0 };
        let start = start + opening;
        let quote =
            self.get(start - 1).filter(|_| opening > 0 && self.get(start - 1) != Some(b'\\'));
        // A bare JSON value (a number, null) is no password, and a placeholder there no JSON.
        if (key_quoted || bare) && quote != Some(b'"') && opening == 0 {
            return None;
        }
        let plain = |b: u8| b > b' ' && !b"\"'\\,;&<>(){}[]".contains(&b);
        let mut end = start + self.whole_run(start, plain);
        if quote.is_some() && !self.escaped(start - 1) {
            end = self.closing(start, quote).unwrap_or(end);
        }
        let value = self.slice(start, end);
        let known = value.starts_with(b"[redacted:");
        // Models talk of tokens all the time; those that open doors are long and have digits.
        let telling = name != "token" || value.len() >= 8 && value.iter().any(u8::is_ascii_digit);
        (end >= start + 3 && !known && telling).then_some(Find { start, end, label: "secret" })
    }

    /// Where the string that begins at `start` ends.
    fn closing(&self, start: usize, quote: Option<u8>) -> Option<usize> {
        let mut escaped = false;
        let end = self.slice(start, usize::MAX).iter().position(|&byte| {
            let closes = Some(byte) == quote && !escaped;
            // A single quote closes no JSON string; never run past the one around it.
            let around = byte == b'"' || byte == b'\n';
            escaped = byte == b'\\' && !escaped;
            closes || around && !escaped && quote != Some(b'"') || byte == b'\n'
        })?;
        (self.get(start + end) == quote).then_some(start + end)
    }

    /// `//user:password@host`.
    fn user_info(&self, at: usize) -> Option<Find> {
        let from = at.saturating_sub(200).max(self.kept);
        let before = self.slice(from, at);
        let inside = |b: u8| b > b' ' && !b"/\"'\\<>@".contains(&b) && b.is_ascii();
        let length = before.iter().rev().take_while(|&&b| inside(b)).count();
        let start = at - length;
        let info = self.slice(start, at);
        let scheme = self.slice(start.saturating_sub(3), start) == b"://";
        let colon = info.iter().position(|&b| b == b':')?;
        let known = info.ends_with(b"[redacted:password]");
        (scheme && colon + 1 < length && !known).then_some(Find {
            start: start + colon + 1,
            end: at,
            label: "password",
        })
    }

    fn email(&self, at: usize) -> Option<Find> {
        let local = |b: u8| b.is_ascii_alphanumeric() || b"._%+-".contains(&b);
        let before = self.slice(at.saturating_sub(64).max(self.kept), at);
        let mut start = at - before.iter().rev().take_while(|&&b| local(b)).count();
        if start.checked_sub(1).is_some_and(|b| self.get(b) == Some(b'\\')) && self.escaped(start) {
            // The letter belongs to an escape: `\njohn@…`, `\u00e9john@…`.
            start += if self.get(start) == Some(b'u') { 5 } else { 1 };
        }
        let domain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        let length = self.slice(at + 1, at + 254).iter().take_while(|&&b| domain(b)).count();
        let host = self.text.get(at + 1..at + 1 + length)?.trim_end_matches(['.', '-']);
        let (_, top) = host.rsplit_once('.')?;
        let good = top.len() >= 2 && top.bytes().all(|b| b.is_ascii_alphabetic());
        (start < at && good).then_some(Find { start, end: at + 1 + host.len(), label: "email" })
    }

    /// Digits from `at` with single separators between them: how many, and where they end.
    fn spaced(&self, at: usize, separators: &[u8], most: usize) -> (Vec<u8>, usize) {
        let (mut digits, mut end, mut gap) = (Vec::new(), at, 0);
        for (index, &byte) in self.slice(at, at + 2 * most + 4).iter().enumerate() {
            if byte.is_ascii_digit() {
                digits.push(byte - b'0');
                (end, gap) = (at + index + 1, 0);
            } else if separators.contains(&byte) && gap < 2 {
                gap += 1;
            } else {
                break;
            }
        }
        (digits, end)
    }

    fn ends(&self, end: usize) -> bool {
        !self.get(end).is_some_and(|b| b.is_ascii_alphanumeric())
    }

    /// 13 to 19 digits that satisfy Luhn's check (ISO/IEC 7812-1), spaced or not.
    fn card(&self, at: usize, bare: bool) -> Option<Find> {
        let first = self.get(at)?;
        if !matches!(first, b'2'..=b'6') || !self.begins(at) {
            return None;
        }
        let separators: &[u8] = if bare { b"" } else { b" -" };
        let fits = |b: &u8| b.is_ascii_digit() || separators.contains(b);
        if !self.slice(at, at + 13).iter().all(fits) {
            return None;
        }
        let (digits, end) = self.spaced(at, separators, 19);
        let part = |b: u8| b"+-.".contains(&b);
        let whole = !bare
            || !(at.checked_sub(1).and_then(|b| self.get(b)).is_some_and(part)
                || self.get(end).is_some_and(part));
        let right = (13..=19).contains(&digits.len()) && luhn(&digits);
        (right && whole && self.ends(end)).then_some(Find { start: at, end, label: "card" })
    }

    /// `+49 171 1234567`, `+1 (555) 123-4567`, `(555) 123-4567`, `555-123-4567`: a plus with 8 to 15
    /// digits (E.164), or the grouping of North America. Bare digits are ids more often than phones.
    fn phone(&self, at: usize, bare: bool) -> Option<Find> {
        let first = self.get(at)?;
        if bare || !self.begins(at) {
            return None;
        }
        let label = "phone";
        if first == b'+' {
            let (digits, end) = self.spaced(at + 1, b" -.()/", 15);
            let adjacent = self.get(at + 1).is_some_and(|b| matches!(b, b'1'..=b'9'));
            let right = adjacent && (8..=15).contains(&digits.len()) && self.ends(end);
            return right.then_some(Find { start: at, end, label });
        }
        let shape: &[u8] = if first == b'(' { b"(ddd) ddd-dddd" } else { b"ddd-ddd-dddd" };
        let end = at + shape.len();
        let part = self.slice(at, end);
        let fits = part.len() == shape.len()
            && shape.iter().zip(part).all(|(&want, &byte)| match want {
                b'd' => byte.is_ascii_digit(),
                b'-' => byte == b'-' || byte == b'.',
                other => byte == other,
            });
        (fits && self.ends(end)).then_some(Find { start: at, end, label })
    }

    /// Two capitals, two digits, 11 to 30 more, and the check of ISO 13616 (mod 97 is 1).
    fn iban(&self, at: usize) -> Option<Find> {
        let &[a, b, c, d] = self.slice(at, at + 4) else { return None };
        let head =
            [a, b].iter().all(u8::is_ascii_uppercase) && [c, d].iter().all(u8::is_ascii_digit);
        if !head || !self.begins(at) {
            return None;
        }
        let (mut body, mut found) = (Vec::new(), None);
        for (index, &byte) in self.slice(at, at + 44).iter().enumerate() {
            if byte.is_ascii_uppercase() || byte.is_ascii_digit() {
                body.push(byte);
            } else if byte != b' ' {
                break;
            }
            let end = at + index + 1;
            if byte != b' '
                && (15..=34).contains(&body.len())
                && self.ends(end)
                && mod_97(&body) == 1
            {
                found = Some(end);
            }
        }
        found.map(|end| Find { start: at, end, label: "iban" })
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits.iter().rev().enumerate().fold(0, |sum, (index, &digit)| {
        let value = u32::from(digit) * if index % 2 == 1 { 2 } else { 1 };
        sum + value / 10 + value % 10
    });
    sum.is_multiple_of(10)
}

fn mod_97(iban: &[u8]) -> u32 {
    let (head, tail) = iban.split_at(4.min(iban.len()));
    tail.iter().chain(head).fold(0, |rest, &byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter.saturating_sub(b'A')) + 10) % 97,
    })
}

#[cfg(test)]
mod tests;
