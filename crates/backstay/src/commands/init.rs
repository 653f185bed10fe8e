//! `backstay init`: a project that runs at once.

use backstay_control::project::init;

use crate::{cli::DirArgs, exit::Exit, render};

pub(crate) fn run(args: &DirArgs) -> anyhow::Result<Exit> {
    let written = init(&args.dir)?;
    render::initialised(&args.dir, &written, args.json)?;
    Ok(Exit::Ok)
}
