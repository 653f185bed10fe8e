//! `backstay check`: every mistake at once.

use backstay_control::{
    compile::resolve_secret,
    project::{check_secrets, load},
};

use crate::{cli::CheckArgs, exit::Exit, render};

pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let dir = &args.project.dir;
    let loaded = load(dir).and_then(|project| {
        if !args.secrets {
            return Ok(project);
        }
        let missing = check_secrets(dir, &|secret| resolve_secret(dir, secret))?;
        if missing.is_empty() { Ok(project) } else { Err(missing) }
    });
    match loaded {
        Ok(project) => {
            render::sound(&project, args.project.json)?;
            Ok(Exit::Ok)
        }
        Err(mistakes) if args.project.json => {
            render::mistakes_json(&mistakes)?;
            Ok(Exit::Fault)
        }
        Err(mistakes) => {
            render::mistakes(&mistakes);
            Ok(Exit::Fault)
        }
    }
}
