//! Exported files: written, or shown.

use std::{io::Write, path::Path};

use serde_json::json;

use super::{DIM, json_line, out, styled, written};
use crate::export::File;

/// Files that were written below `dir`.
pub(crate) fn exported(dir: &Path, files: &[File], json: bool) -> anyhow::Result<()> {
    if json {
        let paths: Vec<_> = files.iter().map(|file| file.path).collect();
        return json_line(&json!({"dir": dir, "files": paths}));
    }
    for file in files {
        writeln!(out(), "  wrote {}", dir.join(file.path).display())?;
    }
    Ok(())
}

/// Files with their names above them.
pub(crate) fn shown(files: &[File], json: bool) -> anyhow::Result<()> {
    for file in files {
        if json {
            json_line(file)?;
        } else {
            writeln!(
                out(),
                "{}\n{}",
                styled(DIM, &format!("==> {} <==", file.path)),
                file.content
            )?;
        }
    }
    Ok(())
}

/// Files as they are.
pub(crate) fn bare(files: &[File]) -> anyhow::Result<()> {
    files.iter().try_for_each(|file| written(out().write_all(file.content.as_bytes())))
}
