//! Takes credentials and personal data of known shape out of a text before it is kept.
//!
//! One pass over the bytes. A few bytes are triggers (`@`, `-`, `_`, `:`, `=`, `+`, digits, pairs of
//! capitals); only there is anything compared, so ordinary prose costs a table look-up per byte. Every
//! recogniser looks at a bounded stretch or consumes what it looked at: the whole is linear.
//!
//! Inside a JSON document quotes and backslashes are never taken, so it stays JSON; a number outside
//! of its strings is replaced by a string. What has no known shape (names, addresses) stays: this
//! narrows the harm, it does not make a text anonymous.

use std::borrow::Cow;

mod shapes;

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
    /// A word of a credential may end here: `sk-`, `ghp_`.
    Joint,
    /// A credential may begin here that shows no joint.
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
            b'-' | b'_' => Trigger::Joint,
            b'b' | b'e' => Trigger::Prefix,
            b':' | b'=' => Trigger::Assign,
            b'@' | b'%' => Trigger::At,
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
            b'b' => 1,
            // `Bearer` is the one that goes on in small letters.
            b'B' => 1 | 1 << 3,
            b'e' => 1 << 1,
            b'-' | b'_' => 1 << 2,
            b'A'..=b'Z' => 1 << 3,
            b'%' => 1 << 4,
            // These need no follower.
            b':' | b'=' | b'@' | b'+' | b'(' | b'0'..=b'9' | b'"' => 1 << 7,
            _ => 0,
        };
        second[at] = 1 << 7
            | match byte {
                b'e' => 1 | 1 << 2,
                b'E' => 1 | 1 << 2 | 1 << 3,
                b'y' => 1 << 1 | 1 << 2,
                b'4' => 1 << 4 | 1 << 2,
                b'A'..=b'Z' => 1 << 2 | 1 << 3,
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => 1 << 2,
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

/// Prefix without a joint, the fewest characters that follow it, label.
const PREFIXES: [(&str, usize, &str); 3] =
    [("AKIA", 16, "aws_key"), ("ASIA", 16, "aws_key"), ("AIza", 30, "api_key")];

/// Names whose assigned value is a phone number, whatever its shape.
const PHONE_NAMES: [&str; 5] = ["phone", "phonenumber", "mobile", "mobilenumber", "whatsapp"];

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
        // A number of a document; what an assignment finds is one if it has no quotes of its own.
        let quotes = find.start.checked_sub(1).and_then(|b| scanner.get(b)) == Some(b'"');
        let number = trigger == Trigger::Digits || find.label == "phone" && !quotes;
        let mark = if bare && number { "\"" } else { "" };
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

/// The length of a UUID with its hyphens.
const LONG_UUID: usize = 36;

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
            Trigger::Digits if personal => {
                let number = self.card(at, bare).or_else(|| self.phone(at, bare));
                let found =
                    number.or_else(|| if bare { None } else { self.iban(at.checked_sub(2)?) });
                found.filter(|find| !self.is_in_uuid(find))
            }
            Trigger::Assign => self.assigned(at, bare),
            Trigger::Joint | Trigger::Prefix | Trigger::At | Trigger::Capital if bare => None,
            Trigger::Joint => self.key(at),
            Trigger::Prefix => self.token(at),
            Trigger::Capital => {
                let secret = self.prefixed(at).or_else(|| self.token(at));
                let iban = || if personal { self.iban(at) } else { None };
                secret.or_else(|| iban().filter(|find| !self.is_in_uuid(find)))
            }
            Trigger::At => {
                // In addresses of pages it is encoded.
                let sign = if self.get(at) == Some(b'@') { 1 } else { 3 };
                if sign == 3 && self.slice(at, at + 3) != b"%40" {
                    return None;
                }
                let email = || if personal { self.email(at, sign) } else { None };
                self.user_info(at).or_else(email)
            }
            Trigger::None | Trigger::Quote | Trigger::Digits => None,
        }
    }

    /// Whether it is a part of a UUID whose digits happen to pass a check.
    fn is_in_uuid(&self, find: &Find) -> bool {
        let inside = |byte: &&u8| byte.is_ascii_hexdigit() || **byte == b'-';
        let before = self.slice(find.start.saturating_sub(LONG_UUID), find.start);
        let start = find.start - before.iter().rev().take_while(inside).count();
        let uuid = self.slice(start, start + LONG_UUID);
        let whole = uuid.iter().take_while(inside).count() == LONG_UUID;
        whole && [8, 13, 18, 23].iter().all(|&at| uuid.get(at) == Some(&b'-'))
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
        let unicode = || {
            let escape = at.saturating_sub(6);
            self.slice(escape, escape + 2) == b"\\u" && self.escaped(escape + 1)
        };
        !word || self.escaped(before) || unicode()
    }

    /// Where the word begins whose last letters are before `at`, at most `longest` bytes back; letters of
    /// an escape such as `\n` are none of it.
    fn word_before(&self, at: usize, longest: usize, inside: impl Fn(u8) -> bool) -> usize {
        // A little further, so that all letters of an escape are seen.
        let before = self.slice(at.saturating_sub(longest + 6).max(self.kept), at);
        let start = at - before.iter().rev().take_while(|&&b| inside(b)).count();
        let first = at.saturating_sub(longest);
        if start.checked_sub(1).is_none_or(|b| self.get(b) != Some(b'\\')) || !self.escaped(start) {
            return start.max(first);
        }
        // `\njohn@…`, `\u00e9john@…`.
        at.min(start + if self.get(start) == Some(b'u') { 5 } else { 1 }).max(first)
    }

    /// A key whose first word ends at the `-` or `_` at `at`.
    fn key(&self, at: usize) -> Option<Find> {
        let rest = self.slice(at, usize::MAX);
        if rest.starts_with(b"-----BEGIN") {
            return self.pem(at);
        }
        // Further back than the longest word, so that a longer one is none.
        let start = self.word_before(at, shapes::LONGEST_HEAD + 6, |b| b.is_ascii_alphanumeric());
        let known = shapes::keys(self.slice(start, at)).iter().find_map(|key| {
            let body = at + key.joint.len();
            if !rest.starts_with(key.joint) {
                return None;
            }
            // A bounded stretch decides; only what is then taken is followed to its end.
            let first = self.slice(body, body + 2 * key.least);
            let first = || first.iter().take_while(|&&b| is_token(b));
            let telling = !key.digits || first().any(u8::is_ascii_digit);
            let found = first().count() >= key.least && telling;
            found.then(|| body + self.whole_run(body, is_token))
        });
        known.filter(|_| self.begins(start)).map(|end| Find { start, end, label: "api_key" })
    }

    /// A key that begins with capitals at `at`.
    fn prefixed(&self, at: usize) -> Option<Find> {
        let rest = self.slice(at, usize::MAX);
        if !self.begins(at) {
            return None;
        }
        if let Some(&(prefix, least, label)) =
            PREFIXES.iter().find(|(prefix, ..)| rest.starts_with(prefix.as_bytes()))
        {
            let body = self.whole_run(at + prefix.len(), is_token);
            return (body >= least).then_some(Find {
                start: at,
                end: at + prefix.len() + body,
                label,
            });
        }
        let (least, part): (usize, fn(u8) -> bool) = match rest.get(..3)? {
            // SendGrid: two parts, 22 and 43 characters long.
            b"SG." => (66, |b| is_token(b) || b == b'.'),
            // Twilio: 32 hex digits.
            [b'S', b'K', _] => (32, |b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
            _ => return None,
        };
        let start = at + if rest.starts_with(b"SG.") { 3 } else { 2 };
        let end = start + self.whole_run(start, part);
        (end - start >= least && self.ends(end)).then_some(Find {
            start: at,
            end,
            label: "api_key",
        })
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
        let unquoted = before.iter().rev().skip_while(|&&b| b" \t\"'\\".contains(&b));
        let mut letters =
            unquoted.take_while(|&&b| is_token(b)).filter(|&&b| b != b'-' && b != b'_');
        // The last letters of the names; most colons end here.
        let last = letters.next()?.to_ascii_lowercase();
        if !matches!(last, b'd' | b'e' | b'l' | b'n' | b'p' | b'r' | b't' | b'x' | b'y') {
            return None;
        }
        // No name is longer.
        let mut buffer = [0; 16];
        let mut room = buffer.len();
        let letters = std::iter::once(last).chain(letters.map(u8::to_ascii_lowercase));
        for (slot, letter) in buffer.iter_mut().rev().zip(letters) {
            *slot = letter;
            room -= 1;
        }
        let word = buffer.get(room..).unwrap_or_default();
        let Some(&name) = SECRET_NAMES.iter().find(|name| word.ends_with(name.as_bytes())) else {
            let phone = PHONE_NAMES.iter().any(|name| word.ends_with(name.as_bytes()));
            let phone = phone || matches!(word, b"tel" | b"fax");
            return if self.personal && phone { self.labelled_phone(at, bare) } else { None };
        };
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

    /// An address around the `@` at `at`, which is `sign` bytes long.
    fn email(&self, at: usize, sign: usize) -> Option<Find> {
        let local = |b: u8| b.is_ascii_alphanumeric() || b"._%+-".contains(&b) || is_latin(b);
        let mut start = self.word_before(at, 64, local);
        // In JSON that is pure ASCII a letter such as ü is an escape.
        while self.slice(start.saturating_sub(6).max(self.kept), start).starts_with(b"\\u0")
            && self.escaped(start - 5)
        {
            start = self.word_before(start - 6, 64, local).min(start - 6);
        }
        while !self.text.is_char_boundary(start) {
            start += 1;
        }
        let domain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || is_latin(b);
        let from = at + sign;
        let mut end =
            from + self.slice(from, from + 253).iter().take_while(|&&b| domain(b)).count();
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let host = self.text.get(from..end)?.trim_end_matches(['.', '-']);
        let (_, top) = host.rsplit_once('.')?;
        let good =
            top.len() >= 2 && (top.chars().all(char::is_alphabetic) || top.starts_with("xn--"));
        (start < at && good).then_some(Find { start, end: from + host.len(), label: "email" })
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

    /// The number of a card, spaced or not.
    fn card(&self, at: usize, bare: bool) -> Option<Find> {
        let first = self.get(at)?;
        if !matches!(first, b'2'..=b'6') || !self.begins(at) {
            return None;
        }
        let separators: &[u8] = if bare { b"" } else { b" -" };
        let fits = |b: &u8| b.is_ascii_digit() || separators.contains(b);
        if !self.slice(at, at + 14).iter().all(fits) {
            return None;
        }
        let (digits, end) = self.spaced(at, separators, 19);
        let part = |b: u8| b"+-.".contains(&b);
        let whole = !bare
            || !(at.checked_sub(1).and_then(|b| self.get(b)).is_some_and(part)
                || self.get(end).is_some_and(part));
        (shapes::is_card(&digits) && whole && self.ends(end)).then_some(Find {
            start: at,
            end,
            label: "card",
        })
    }

    /// `+49 171 1234567`, `0049 171 1234567`, `+1 (555) 123-4567`, `(555) 123-4567`, `555-123-4567`: a
    /// plus or two zeros with 8 to 15 digits (E.164), or the grouping of North America, whose areas do
    /// not begin with 0 or 1. Bare digits are ids more often than phones.
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
        if self.slice(at, at + 2) == b"00" {
            let (digits, end) = self.spaced(at + 2, b" -.()/", 15);
            let grouped = end - at - 2 > digits.len();
            let right = digits.first() > Some(&0) && (8..=15).contains(&digits.len());
            return (right && grouped && self.ends(end)).then_some(Find { start: at, end, label });
        }
        let shape: &[u8] = if first == b'(' { b"(Ndd) ddd-dddd" } else { b"Ndd-ddd-dddd" };
        let end = at + shape.len();
        let part = self.slice(at, end);
        let fits = part.len() == shape.len()
            && shape.iter().zip(part).all(|(&want, &byte)| match want {
                b'd' => byte.is_ascii_digit(),
                b'N' => (b'2'..=b'9').contains(&byte),
                b'-' => byte == b'-' || byte == b'.',
                other => byte == other,
            });
        (fits && self.ends(end)).then_some(Find { start: at, end, label })
    }

    /// The value after `phone:` or `"mobile": "`, if it has 7 to 15 digits and nothing else.
    fn labelled_phone(&self, at: usize, bare: bool) -> Option<Find> {
        let start = at + 1 + self.run(at + 1, |b| b" \t\\\"'".contains(&b));
        let separators: &[u8] =
            if bare && self.get(start - 1) != Some(b'"') { b"" } else { b" -.()/" };
        let plus = usize::from(self.get(start) == Some(b'+') || self.get(start) == Some(b'('));
        let (digits, end) = self.spaced(start + plus, separators, 15);
        let number = plus == 0 || !separators.is_empty();
        let right = (7..=15).contains(&digits.len()) && number && self.ends(end);
        let part = |b: u8| b"+-.".contains(&b);
        let whole = !separators.is_empty() || !self.get(end).is_some_and(part);
        (right && whole).then_some(Find { start, end, label: "phone" })
    }

    /// Two letters of a country, two digits, as many more as that country has, and the check of ISO 13616
    /// (mod 97 is 1). Spaces and hyphens may stand in it; small letters are as good.
    fn iban(&self, at: usize) -> Option<Find> {
        let &[a, b, c, d] = self.slice(at, at + 4) else { return None };
        if !c.is_ascii_digit() || !d.is_ascii_digit() || at < self.kept {
            return None;
        }
        let length = shapes::iban_length([a.to_ascii_uppercase(), b.to_ascii_uppercase()])?;
        if !self.begins(at) {
            return None;
        }
        let (mut body, mut gap) = (Vec::with_capacity(length), false);
        for (index, &byte) in self.slice(at, at + 2 * length).iter().enumerate() {
            if byte.is_ascii_alphanumeric() {
                body.push(byte.to_ascii_uppercase());
                gap = false;
            } else if matches!(byte, b' ' | b'-') && !gap {
                gap = true;
            } else {
                return None;
            }
            if body.len() == length {
                let end = at + index + 1;
                let right = self.ends(end) && shapes::mod_97(&body) == 1;
                return right.then_some(Find { start: at, end, label: "iban" });
            }
        }
        None
    }
}

/// A byte of a letter between À and the end of the Cyrillic ones, in UTF-8.
fn is_latin(byte: u8) -> bool {
    matches!(byte, 0x80..=0xbf | 0xc3..=0xd4)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests;
