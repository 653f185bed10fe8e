//! What is known of the shapes: how keys begin, which numbers cards have, how long IBANs are. Facts and
//! arithmetic only; where to look is the scanner's business.

/// How the key of a provider goes on after its first word: the bytes up to the random part, the fewest
/// characters of that, and whether there must be a digit among them, because the beginning could also
/// be that of a name in a program.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) joint: &'static [u8],
    pub(super) least: usize,
    pub(super) digits: bool,
}

const fn sure(joint: &'static [u8], least: usize) -> Key {
    Key { joint, least, digits: false }
}

const fn with_digits(joint: &'static [u8], least: usize) -> Key {
    Key { joint, least, digits: true }
}

/// The longest first word of a key.
pub(super) const LONGEST_HEAD: usize = 6;

/// The keys whose first word, up to a `-` or `_`, is `head`.
pub(super) fn keys(head: &[u8]) -> &'static [Key] {
    const SK: [Key; 4] =
        [sure(b"-", 16), sure(b"_live_", 16), sure(b"_test_", 16), with_digits(b"_", 40)];
    const RK: [Key; 2] = [sure(b"_live_", 16), sure(b"_test_", 16)];
    const LSV2: [Key; 2] = [with_digits(b"_pt_", 30), with_digits(b"_sk_", 30)];
    const SLACK: [Key; 1] = [sure(b"-", 10)];
    const GITHUB: [Key; 1] = [sure(b"_", 20)];
    const MINUS_20: [Key; 1] = [with_digits(b"-", 20)];
    const MINUS_30: [Key; 1] = [with_digits(b"-", 30)];
    const MINUS_40: [Key; 1] = [with_digits(b"-", 40)];
    const LINE_20: [Key; 1] = [with_digits(b"_", 20)];
    const LINE_30: [Key; 1] = [with_digits(b"_", 30)];
    const LINE_40: [Key; 1] = [with_digits(b"_", 40)];
    match head {
        b"sk" => &SK,
        b"rk" => &RK,
        b"lsv2" => &LSV2,
        b"xoxa" | b"xoxb" | b"xoxe" | b"xoxp" | b"xoxr" | b"xoxs" => &SLACK,
        b"ghp" | b"gho" | b"ghu" | b"ghs" | b"ghr" | b"gsk" => &GITHUB,
        b"bsk" => const { &[sure(b"_", 16)] },
        b"glpat" => const { &[sure(b"-", 16)] },
        b"github" => const { &[sure(b"_pat_", 20)] },
        b"tvly" | b"xapp" | b"GOCSPX" | b"NRAK" => &MINUS_20,
        b"csk" | b"pplx" => &MINUS_30,
        b"pa" | b"xai" | b"nvapi" | b"pypi" | b"PMAK" => &MINUS_40,
        b"fw" | b"whsec" => &LINE_20,
        b"hf" | b"r8" | b"npm" | b"glsa" | b"shpat" => &LINE_30,
        b"jina" | b"ntn" | b"sbp" => &LINE_40,
        b"tgp" => const { &[with_digits(b"_v1_", 30)] },
        b"dop" => const { &[with_digits(b"_v1_", 40)] },
        b"lin" => const { &[with_digits(b"_api_", 30)] },
        b"dckr" => const { &[with_digits(b"_pat_", 20)] },
        _ => &[],
    }
}

/// Whether digits are the number of a payment card: Luhn's check (ISO/IEC 7812-1), and a beginning and a
/// length that an issuer uses. One number in ten satisfies the check alone.
pub(super) fn is_card(digits: &[u8]) -> bool {
    let first = |n: usize| {
        digits.iter().take(n).fold(0_u32, |number, digit| number * 10 + u32::from(*digit))
    };
    let lengths = match (first(1), first(2), first(3), first(4)) {
        (4, ..) => 16..=19,
        (_, _, _, 2221..=2720) | (_, 51..=55, _, _) => 16..=16,
        (_, _, _, 2200..=2204) => 16..=19,
        (_, 34 | 37, _, _) => 15..=15,
        (_, 36 | 38 | 39, _, _) | (_, _, 300..=305, _) => 14..=19,
        (_, _, _, 3528..=3589) => 16..=19,
        (_, _, 644..=649, _) | (_, _, _, 6011) | (_, 62 | 65, _, _) => 16..=19,
        (_, 50 | 56..=58 | 60 | 61 | 63 | 64 | 66..=69, _, _) => 16..=19,
        _ => return false,
    };
    lengths.contains(&digits.len()) && luhn(digits)
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits.iter().rev().enumerate().fold(0, |sum, (index, &digit)| {
        let value = u32::from(digit) * if index % 2 == 1 { 2 } else { 1 };
        sum + value / 10 + value % 10
    });
    sum.is_multiple_of(10)
}

/// How long the IBANs of a country are, by the registry of ISO 13616 (SWIFT, release 99).
pub(super) fn iban_length(country: [u8; 2]) -> Option<usize> {
    Some(match &country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FI" | b"FK" | b"FO" | b"GL" | b"NL" | b"SD" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"MN" | b"XK" => 20,
        b"CH" | b"HR" | b"LI" | b"LV" => 21,
        b"BG" | b"BH" | b"CR" | b"DE" | b"GB" | b"GE" | b"IE" | b"ME" | b"RS" | b"VA" => 22,
        b"AE" | b"GI" | b"IL" | b"IQ" | b"OM" | b"SO" | b"TL" => 23,
        b"AD" | b"CZ" | b"ES" | b"MD" | b"PK" | b"RO" | b"SA" | b"SE" | b"SK" | b"TN" | b"VG" => 24,
        b"LY" | b"PT" | b"ST" => 25,
        b"IS" | b"TR" => 26,
        b"BI" | b"DJ" | b"FR" | b"GR" | b"IT" | b"MC" | b"MR" | b"SM" => 27,
        b"AL" | b"AZ" | b"BY" | b"CY" | b"DO" | b"GT" | b"HN" | b"HU" | b"LB" | b"NI" | b"PL"
        | b"SV" => 28,
        b"BR" | b"EG" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
}

/// ISO 7064, MOD 97-10: the check of an IBAN in capitals without spaces leaves 1.
pub(super) fn mod_97(iban: &[u8]) -> u32 {
    let (head, tail) = iban.split_at(4.min(iban.len()));
    tail.iter().chain(head).fold(0, |rest, &byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter.saturating_sub(b'A')) + 10) % 97,
    })
}
