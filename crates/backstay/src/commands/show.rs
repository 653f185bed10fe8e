//! `backstay show`: one call, whole.

use anyhow::bail;
use backstay_store::{Lookup, RecordReader, sqlite::SqliteReader};

use super::store_path;
use crate::{cli::ShowArgs, exit::Exit, render};

/// The fewest characters of an id that it can be found by.
const SHORTEST: usize = 8;

pub(crate) fn run(args: &ShowArgs) -> anyhow::Result<Exit> {
    let reader = SqliteReader::open(store_path(&args.dir)?);
    match reader.call(&args.id)? {
        Lookup::Found(call) => {
            render::call(&call, args.json)?;
            Ok(Exit::Ok)
        }
        Lookup::Missing if args.id.len() < SHORTEST => bail!(
            "`{}` is too short for the start of an id: write {SHORTEST} characters or more",
            args.id
        ),
        Lookup::Missing => bail!(
            "there is no call `{}` in the log; `backstay log` lists the calls that are kept",
            args.id
        ),
        Lookup::Ambiguous(ids) => {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            bail!("`{}` fits several calls; write more of the id: {}", args.id, ids.join(", "))
        }
    }
}
