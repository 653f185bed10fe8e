//! Days (UTC) and the names of their files.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// A day, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Day(u64);

/// What a day file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Calls,
    Bodies,
}

impl Holds {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Calls => "calls-",
            Self::Bodies => "bodies-",
        }
    }
}

impl Day {
    pub(crate) const fn of_millis(since_epoch: u64) -> Self {
        Self(since_epoch / DAY_MS)
    }

    /// The first millisecond after it.
    pub(crate) const fn end_ms(self) -> u64 {
        (self.0 + 1) * DAY_MS
    }

    pub(super) fn path(self, dir: &Path, holds: Holds) -> PathBuf {
        dir.join(format!("{}{self}.db", holds.prefix()))
    }

    fn parse(digits: &str) -> Option<Self> {
        if !(8..=10).contains(&digits.len()) || !digits.bytes().all(|c| c.is_ascii_digit()) {
            return None;
        }
        let number: u64 = digits.parse().ok()?;
        let day = days_from_civil(number / 10_000, number / 100 % 100, number % 100)?;
        // Refuses the 31st of February, which would be written differently.
        (day.to_string() == digits).then_some(day)
    }
}

/// `YYYYMMDD`. From day number to date by H. Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `civil_from_days`, for days after the epoch.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let z = self.0 + 719_468;
        let (era, doe) = (z / 146_097, z % 146_097);
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + u64::from(month <= 2);
        write!(f, "{year:04}{month:02}{day:02}")
    }
}

/// The inverse, `days_from_civil` of the same source.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<Day> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let y = if month <= 2 { year - 1 } else { year };
    let (era, yoe) = (y / 400, y % 400);
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * mp + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    (era * 146_097 + doe).checked_sub(719_468).map(Day)
}

/// The days that have such a file, newest first. A directory that is not there has none.
pub(super) fn list(dir: &Path, holds: Holds) -> io::Result<Vec<Day>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut days = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let digits = name
            .to_str()
            .and_then(|name| name.strip_prefix(holds.prefix()))
            .and_then(|name| name.strip_suffix(".db"));
        days.extend(digits.and_then(Day::parse));
    }
    days.sort_unstable_by(|a, b| b.cmp(a));
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_known_days() {
        for (ms, date) in [
            (0, "19700101"),
            (951_782_400_000, "20000229"),
            (951_868_800_000, "20000301"),
            (1_767_225_599_999, "20251231"),
            (1_767_225_600_000, "20260101"),
            (4_107_542_400_000, "21000301"),
        ] {
            assert_eq!(Day::of_millis(ms).to_string(), date);
            assert_eq!(Day::parse(date), Some(Day::of_millis(ms)));
        }
        for bad in ["20260231", "20261301", "2026010", "2026-1-1", "19691231", "20260100"] {
            assert_eq!(Day::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_day_reads_back() {
        for number in (0..3_300_000).step_by(17) {
            assert_eq!(Day::parse(&Day(number).to_string()), Some(Day(number)));
        }
    }
}
