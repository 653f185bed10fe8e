//! The documented exit codes.

use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what it was asked.
    Ok,
    /// A fault, or mistakes in the project.
    Fault,
    /// The server cannot be reached.
    Unreachable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // 2 is clap's, for wrong usage.
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Fault => 1,
            Exit::Unreachable => 3,
        })
    }
}
