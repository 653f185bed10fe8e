//! The one error of the stores: what a program has to tell apart, and a sentence for people.

use std::{error::Error, fmt, io, path::Path};

/// What a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Another process holds a lock for too long: try again.
    Busy,
    /// No space left: try again when there is.
    Full,
    /// A file does not hold what this program wrote.
    Corrupt,
    /// A file was written by a newer version of this program.
    Newer,
    /// A file was written by an older version of this program, and is only read here.
    Older,
    /// What is to be stored contradicts what is stored.
    Conflict,
    /// Anything else that the operating system refuses.
    Io,
}

impl ErrorKind {
    /// One word for metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Full => "full",
            Self::Corrupt => "corrupt",
            Self::Newer => "newer",
            Self::Older => "older",
            Self::Conflict => "conflict",
            Self::Io => "io",
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Busy => {
                "another process holds it locked; end the tool that has it open, or try again"
            }
            Self::Full => "no space left; free some, or shorten `[log] bodies` and `metadata`",
            Self::Corrupt => {
                "it is damaged; move it (with its -wal and -shm) out of the directory, and look at \
                 it there with `sqlite3 FILE .recover`"
            }
            Self::Newer => {
                "it was written by a newer version of Backstay; run that version, or another \
                 directory"
            }
            Self::Older => {
                "it was written by an older version of Backstay; `backstay serve` brings it up to \
                 date when it starts"
            }
            Self::Conflict => "it contradicts what is stored",
            Self::Io => "check that the directory exists and belongs to the user of this process",
        }
    }
}

/// A store could not do what it was asked. Its message names the file and the remedy.
#[derive(Debug)]
pub struct StoreError {
    /// What a caller can do about it.
    pub kind: ErrorKind,
    /// Where, what, and how to mend it.
    pub message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// An error that has no deeper cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn at(
        path: &Path,
        kind: ErrorKind,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        let message = format!("{}: {source}: {}", path.display(), kind.remedy());
        Self { kind, message, source: Some(source) }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let full =
            matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        Self::at(path, if full { ErrorKind::Full } else { ErrorKind::Io }, source)
    }

    pub(crate) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let kind = match source.sqlite_error_code() {
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => ErrorKind::Busy,
            Some(Code::DiskFull) => ErrorKind::Full,
            Some(Code::DatabaseCorrupt | Code::NotADatabase) => ErrorKind::Corrupt,
            Some(Code::ConstraintViolation) => ErrorKind::Conflict,
            Some(_) => ErrorKind::Io,
            // Not from SQLite but from reading its rows: a type or a code that nobody wrote.
            None => ErrorKind::Corrupt,
        };
        Self::at(path, kind, source)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
