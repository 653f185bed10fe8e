//! Project files: text in, a checked [`Project`] or every mistake out. No file is read here.
//!
//! What is typed ([`mod@file`]) and what is run on ([`project`],
//! [`CallSpec`](crate::release::CallSpec)) are two families of types
//! with one bridge, [`check`]. All mistakes of all files are found at once: the shape of each file
//! against its generated JSON Schema, and the rules that need more than one key.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::Value;

pub mod capture;
pub mod file;
pub mod mistake;
pub mod notify;
pub mod otlp;
pub mod place;
pub mod prices;
pub mod project;
pub mod reference;
pub mod schema;
pub mod units;

mod call;
mod content;
mod rules;
mod shape;

pub use file::NotifyKind;
pub use mistake::Mistake;
pub use notify::ReceiverConfig;
pub use otlp::{OtlpConfig, OtlpProtocol, Semconv};
pub use place::SourceFile;
pub use project::{
    HttpConfig, LogConfig, PrivacyConfig, Project, ProviderConfig, Reach, ServerConfig, Setting,
    SimConfig, SimFault, SimScheduled, StoreConfig, WireKind, secret_mistakes,
};
pub use units::SecretRef;

use place::Toml;

/// The text of every file of a project.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `backstay.toml`, if there is one.
    pub backstay_toml: Option<SourceFile>,
    /// One for each directory in `calls/`.
    pub calls: Vec<CallSources>,
    /// The faults that a simulated provider knows. If there are none here, no name of a fault is
    /// checked.
    pub faults: Vec<String>,
}

/// The files of one call.
#[derive(Clone, Debug, Default)]
pub struct CallSources {
    /// The name of its directory.
    pub name: String,
    /// The text of its files, by path within its directory; see [`files_of_call`].
    pub files: BTreeMap<String, String>,
    /// Names of further files in its directory, which were not read.
    pub others: Vec<String>,
}

/// Files that a call may have, whether it says so or not.
pub const CALL_FILES: [&str; 6] =
    ["call.toml", "system.j2", "user.j2", "input.schema.json", "output.schema.json", "static.json"];

/// The files of a call that [`check`] wants to see: [`CALL_FILES`] and what it includes. A file that
/// cannot be parsed names none; `check` says why.
#[must_use]
pub fn files_of_call(backstay_toml: Option<&str>, call_toml: &str) -> BTreeSet<String> {
    let includes = |text: &str, pointer: &str| -> Option<Vec<String>> {
        let value: Value = toml::from_str(text).ok()?;
        let list = value.pointer(pointer)?.as_array()?.iter();
        Some(list.filter_map(|name| name.as_str().map(str::to_owned)).collect())
    };
    let included = includes(call_toml, "/include")
        .or_else(|| includes(backstay_toml?, "/defaults/include"))
        .unwrap_or_default();
    let safe = included.into_iter().filter(|path| content::stays_inside(path));
    CALL_FILES.into_iter().map(str::to_owned).chain(safe).collect()
}

/// Checks a whole project.
///
/// # Errors
/// Every mistake of every file, in the order of files and lines.
pub fn check(sources: &Sources) -> Result<Project, Vec<Mistake>> {
    let empty = SourceFile { path: "backstay.toml".to_owned(), text: String::new() };
    let root = sources.backstay_toml.as_ref().unwrap_or(&empty);
    let mut mistakes = Vec::new();
    let toml = Toml::parse(root).map_err(|found| mistakes.extend(found)).ok();
    let shaped = toml.as_ref().map(|toml| shape::PROJECT.check(toml)).unwrap_or_default();
    mistakes.extend(shaped.mistakes);
    let mut project = toml.as_ref().and_then(|toml| {
        let checked = read(&shaped.sound, toml)
            .map_err(|found| vec![found])
            .and_then(|typed| project::check(typed, toml, &shaped.broken, &sources.faults));
        checked.map_err(|found| mistakes.extend(found)).ok()
    });
    let around = call::Around::new(toml.as_ref(), &shaped.sound, &shaped.broken);
    for sources in &sources.calls {
        match call::check(sources, &around) {
            Ok(call::Checked { spec, alerts }) => {
                if let Some(project) = &mut project {
                    project.alerts.insert(spec.call.clone(), alerts);
                    project.calls.insert(spec.call.clone(), spec);
                }
            }
            Err(found) => mistakes.extend(found),
        }
    }
    if let (Some(project), Some(direct)) = (&mut project, call::direct(&around)) {
        project.direct = direct.spec;
        project.direct_alerts = direct.alerts;
    }
    mistakes.sort();
    mistakes.dedup();
    match project {
        Some(project) if mistakes.is_empty() => Ok(project),
        Some(_) | None => Err(mistakes),
    }
}

/// Where things are kept, whatever else is wrong with the project: who looks for what happened in the
/// night must not have to mend it first.
///
/// # Errors
/// The mistakes of `backstay.toml`, if they leave that open.
pub fn store_of(root: &SourceFile) -> Result<StoreConfig, Vec<Mistake>> {
    let toml = Toml::parse(root)?;
    let shaped = shape::PROJECT.check(&toml);
    let is_open = |path: &Vec<String>| path.first().is_none_or(|name| name == "store");
    if shaped.broken.iter().any(is_open) {
        return Err(shaped.mistakes);
    }
    let store = match shaped.sound.get("store") {
        Some(store) => read(store, &toml).map_err(|found| vec![found])?,
        None => file::StoreFile::default(),
    };
    Ok(StoreConfig { path: store.path.into() })
}

/// Reads a value whose shape was found right.
fn read<T: DeserializeOwned>(value: &Value, toml: &Toml<'_>) -> Result<T, Mistake> {
    T::deserialize(value).map_err(|error| {
        let remedy = "see the reference of the project files".to_owned();
        toml.mistake(&[], (format!("this cannot be read: {error}"), remedy))
    })
}

#[cfg(test)]
mod tests;
