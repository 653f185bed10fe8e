//! The stores in SQLite files, all in one directory:
//!
//! | file | holds |
//! |---|---|
//! | `calls-YYYYMMDD.db` | calls that began on that day (UTC), their attempts and outcome reports |
//! | `bodies-YYYYMMDD.db` | their requests and answers |
//! | `rollup.db` | sums over calls by the minute, the hour and the day, and how far each day is in them |
//! | `control.db` | releases, API keys, alerts, silences, and notices that are to be sent |
//!
//! A day is dropped by unlinking its files: deleting rows would take seconds for a million of them
//! and free nothing. Bodies are apart because they are dropped earlier, and because large pages suit
//! them and small ones the rest.

mod alerts;
mod control;
mod day;
mod erase;
mod file;
mod reader;
mod records;
mod rollup_reader;
mod rollups;

pub use alerts::SqliteAlerts;
pub use control::SqliteRegistry;
pub use erase::SqliteEraser;
pub use reader::SqliteReader;
pub use records::SqliteRecords;

pub(crate) use control::key_conflict;
pub(crate) use day::Day;
pub(crate) use file::make_dir;

/// The text codes of the closed enums, and back.
mod code {
    use backstay_core::record::{AttemptKind, Cost, Usage};
    use rusqlite::types::{FromSqlError, Type};
    use serde::de::{
        DeserializeOwned,
        value::{Error, StrDeserializer},
    };

    pub(super) const fn attempt_kind(kind: AttemptKind) -> &'static str {
        match kind {
            AttemptKind::First => "first",
            AttemptKind::Retry => "retry",
            AttemptKind::Fallback => "fallback",
            AttemptKind::Repair => "repair",
        }
    }

    /// Tokens and cost as columns; `TOKEN_COLUMNS` names them in this order.
    #[derive(Debug)]
    pub(super) struct Tokens {
        pub(super) counts: [Option<i64>; 8],
        pub(super) estimated: Option<bool>,
        pub(super) cost: Option<&'static str>,
        pub(super) nano_usd: Option<i64>,
    }

    impl Tokens {
        pub(super) fn of(usage: Option<&Usage>, cost: Option<Cost>) -> Self {
            let counts = match usage {
                None => [None; 8],
                Some(u) => [
                    u.input,
                    u.output,
                    u.cache_read,
                    u.cache_write,
                    u.cache_write_1h,
                    u.input_media,
                    u.reasoning,
                    u.output_media,
                ]
                .map(|count| Some(super::signed(count))),
            };
            let (cost, nano_usd) = match cost {
                None => (None, None),
                Some(Cost::Priced(nano)) => (Some("priced"), Some(super::signed(nano))),
                Some(Cost::Free) => (Some("free"), None),
                Some(Cost::Unknown) => (Some("unknown"), None),
            };
            Self { counts, estimated: usage.map(|u| u.estimated), cost, nano_usd }
        }

        /// Reads them from column `first` on.
        pub(super) fn read(
            row: &rusqlite::Row<'_>,
            first: usize,
        ) -> rusqlite::Result<(Option<Usage>, Option<Cost>)> {
            let number = |at: usize| -> rusqlite::Result<u64> {
                Ok(super::count_opt(row, first + at)?.unwrap_or_default())
            };
            let usage = match super::count_opt(row, first)? {
                None => None,
                Some(input) => Some(Usage {
                    input,
                    output: number(1)?,
                    cache_read: number(2)?,
                    cache_write: number(3)?,
                    cache_write_1h: number(4)?,
                    input_media: number(5)?,
                    reasoning: number(6)?,
                    output_media: number(7)?,
                    estimated: row.get::<_, Option<bool>>(first + 8)?.unwrap_or_default(),
                }),
            };
            let word = row.get_ref(first + 9)?.as_str_or_null().map_err(|e| wrong(first + 9, e))?;
            let cost = match word {
                None => None,
                Some("priced") => Some(Cost::Priced(number(10)?)),
                Some("free") => Some(Cost::Free),
                Some(_) => Some(Cost::Unknown),
            };
            Ok((usage, cost))
        }
    }

    /// Reads column `index` as the enum value that serialises as its text.
    pub(super) fn read<T: DeserializeOwned>(
        row: &rusqlite::Row<'_>,
        index: usize,
    ) -> rusqlite::Result<T> {
        let text = row.get_ref(index)?.as_str().map_err(|e| wrong(index, e))?;
        parse(text).map_err(|error| wrong(index, FromSqlError::other(error)))
    }

    /// As [`read`], for a column that may be null.
    pub(super) fn read_opt<T: DeserializeOwned>(
        row: &rusqlite::Row<'_>,
        index: usize,
    ) -> rusqlite::Result<Option<T>> {
        match row.get_ref(index)?.as_str_or_null().map_err(|e| wrong(index, e))? {
            Some(text) => {
                parse(text).map(Some).map_err(|error| wrong(index, FromSqlError::other(error)))
            }
            None => Ok(None),
        }
    }

    fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
        T::deserialize(StrDeserializer::new(text))
    }

    fn wrong(index: usize, error: FromSqlError) -> rusqlite::Error {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
    }
}

/// SQLite's integers are signed; everything kept here is far below 2^63.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Reads column `index` as a count; a negative one is an error of its reader.
fn count(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(index)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(index, value))
}

/// As [`count`], for a column that may be null.
fn count_opt(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<Option<u64>> {
    let value: Option<i64> = row.get(index)?;
    value
        .map(|v| u64::try_from(v).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(index, v)))
        .transpose()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::{FIRST_CONTROL_SCHEMA, assert_sound};
