//! `backstay export`: files for Prometheus and Grafana, made of the project.

use std::{fs, path::Path};

use anyhow::{Context, bail};

use super::sound_project;
use crate::{
    cli::{ExportArgs, ExportKind},
    exit::Exit,
    export::{File, grafana, prometheus},
    render,
};

pub(crate) fn run(args: &ExportArgs) -> anyhow::Result<Exit> {
    let (ExportKind::Prometheus(what) | ExportKind::Grafana(what)) = &args.kind;
    let project = sound_project(&what.dir)?;
    let mut files = match &args.kind {
        ExportKind::Prometheus(_) => prometheus(&project)?,
        ExportKind::Grafana(_) => grafana(&project)?,
    };
    if let Some(name) = &what.file {
        let names: Vec<_> = files.iter().map(|file| file.path).collect();
        let Some(at) = names.iter().position(|known| known == name) else {
            bail!("there is no file `{name}`; there are {}", names.join(", "));
        };
        files = vec![files.swap_remove(at)];
    }
    if let Some(out) = &what.out {
        files.iter().try_for_each(|file| write(out, file))?;
    }
    match (&what.out, &what.file) {
        (Some(out), _) => render::exported(out, &files, what.json)?,
        (None, Some(_)) if !what.json => render::bare(&files)?,
        (None, _) => render::shown(&files, what.json)?,
    }
    Ok(Exit::Ok)
}

fn write(out: &Path, file: &File) -> anyhow::Result<()> {
    let path = out.join(file.path);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    fs::write(&path, &file.content).with_context(|| format!("writing {}", path.display()))
}
