//! A project on disk: reads it into a checked [`Project`], and writes a first one.
//!
//! The only place that reads project files. What is in them is judged by
//! [`backstay_core::config`]; nothing here knows a key.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use backstay_core::config::{
    self, CallSources, Mistake, Project, SecretRef, SourceFile, Sources, files_of_call, schema,
};
use backstay_providers::sim::Fault;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1_000_000;
/// The most calls of a project.
const MAX_CALLS: usize = 10_000;
/// The most files that a fingerprint looks at, and how deep below `calls/`.
const MAX_ENTRIES: usize = 200_000;
const MAX_DEPTH: usize = 8;

/// Reads and checks the project in `dir`.
///
/// # Errors
/// Every mistake of every file; one for a directory or file that cannot be read.
pub fn load(dir: &Path) -> Result<Project, Vec<Mistake>> {
    config::check(&read(dir)?)
}

/// Where the project in `dir` keeps its store, whatever else is wrong with the project.
///
/// # Errors
/// The mistakes of `backstay.toml`, if they leave that open; one for a file that cannot be read.
pub fn store_path(dir: &Path) -> Result<PathBuf, Vec<Mistake>> {
    let mut reader = Reader::of(dir)?;
    let text = reader.file("backstay.toml").unwrap_or_default();
    if !reader.mistakes.is_empty() {
        return Err(reader.mistakes);
    }
    let store = config::store_of(&SourceFile { path: "backstay.toml".to_owned(), text })?;
    Ok(dir.join(store.path))
}

/// A mistake for each secret of a project that `resolve` cannot find.
///
/// # Errors
/// As [`load`].
pub fn check_secrets(
    dir: &Path,
    resolve: &dyn Fn(&SecretRef) -> Result<String, String>,
) -> Result<Vec<Mistake>, Vec<Mistake>> {
    let sources = read(dir)?;
    let project = config::check(&sources)?;
    let root = sources.backstay_toml.as_ref();
    Ok(root.map_or_else(Vec::new, |root| config::secret_mistakes(&project, root, resolve)))
}

/// Reads the files of the project in `dir`, without a look at what is in them.
///
/// # Errors
/// A mistake for each file that cannot be read, is too large or is not UTF-8.
pub fn read(dir: &Path) -> Result<Sources, Vec<Mistake>> {
    let mut reader = Reader::of(dir)?;
    let root = reader.file("backstay.toml");
    let names = reader.names("calls", true);
    if names.len() > MAX_CALLS {
        let reason = format!("there are {} calls, more than {MAX_CALLS}", names.len());
        return Err(vec![whole_file("calls", reason, "split the project")]);
    }
    let calls = names.into_iter().map(|name| reader.call(name, root.as_deref())).collect();
    if !reader.mistakes.is_empty() {
        reader.mistakes.sort();
        return Err(reader.mistakes);
    }
    let backstay_toml = root.map(|text| SourceFile { path: "backstay.toml".to_owned(), text });
    Ok(Sources {
        backstay_toml,
        calls,
        faults: Fault::ALL.iter().map(|fault| fault.name().to_owned()).collect(),
    })
}

struct Reader<'a> {
    dir: &'a Path,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    fn of(dir: &'a Path) -> Result<Self, Vec<Mistake>> {
        if dir.is_dir() {
            return Ok(Self { dir, mistakes: Vec::new() });
        }
        let remedy = "name the directory of a project, or make one with `backstay init DIR`";
        let reason = "there is no such directory";
        Err(vec![whole_file(&dir.display().to_string(), reason.to_owned(), remedy)])
    }

    fn call(&mut self, name: String, root: Option<&str>) -> CallSources {
        let main = self.file(&format!("calls/{name}/call.toml"));
        let wanted = files_of_call(root, main.as_deref().unwrap_or_default());
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        files.extend(main.map(|text| ("call.toml".to_owned(), text)));
        for path in wanted.iter().filter(|path| *path != "call.toml") {
            if let Some(text) = self.file(&format!("calls/{name}/{path}")) {
                files.insert(path.clone(), text);
            }
        }
        let mut others = self.names(&format!("calls/{name}"), false);
        others.retain(|other| !wanted.contains(other));
        CallSources { name, files, others }
    }

    /// Names of the directories or files in a directory, sorted, without hidden ones. A directory
    /// that does not exist has none.
    fn names(&mut self, path: &str, directories: bool) -> Vec<String> {
        let entries = match fs::read_dir(self.dir.join(path)) {
            Ok(entries) => entries,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    self.unreadable(path, &error);
                }
                return Vec::new();
            }
        };
        let names = entries.take(MAX_ENTRIES).filter_map(|entry| {
            let entry = entry.ok()?;
            // Follows links: a Kubernetes volume is made of them.
            let kind = fs::metadata(entry.path()).ok()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            (kind.is_dir() == directories && !name.starts_with('.')).then_some(name)
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The text of a file; `None` if there is none, or if it cannot be read, which is a mistake.
    fn file(&mut self, path: &str) -> Option<String> {
        match read_bounded(&self.dir.join(path)) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Some(text.trim_start_matches('\u{feff}').to_owned()),
                Err(error) => {
                    let valid = error.utf8_error().valid_up_to();
                    let before = error.as_bytes().get(..valid).unwrap_or_default();
                    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
                    let reason = "this line is not UTF-8".to_owned();
                    let mut mistake = whole_file(path, reason, "save the file as UTF-8");
                    mistake.line = line;
                    self.mistakes.push(mistake);
                    None
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.unreadable(path, &error);
                None
            }
        }
    }

    fn unreadable(&mut self, path: &str, error: &io::Error) {
        let reason = format!("this cannot be read: {error}");
        let remedy =
            "make it a plain file or directory that this user may read, at most 1 MB large";
        self.mistakes.push(whole_file(path, reason, remedy));
    }
}

fn whole_file(path: &str, reason: String, remedy: &str) -> Mistake {
    let (file, remedy) = (path.to_owned(), remedy.to_owned());
    Mistake { file, line: 1, column: 1, key: String::new(), reason, remedy }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // Before opening: to open a named pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("it is too large"));
    }
    Ok(bytes)
}

/// What tells whether the files of a project have changed: their paths, times and lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// The fingerprint of the project in `dir`. Reads no file, and never fails: what cannot be seen is
/// not there.
#[must_use]
pub fn fingerprint(dir: &Path) -> Fingerprint {
    let mut digest = Sha256::new();
    let mut left = MAX_ENTRIES;
    add(&dir.join("backstay.toml"), MAX_DEPTH, &mut left, &mut digest);
    add(&dir.join("calls"), MAX_DEPTH, &mut left, &mut digest);
    Fingerprint(digest.finalize().into())
}

fn add(path: &Path, depth: usize, left: &mut usize, digest: &mut Sha256) {
    let Ok(metadata) = fs::metadata(path) else { return };
    if depth == 0 || *left == 0 {
        return;
    }
    *left -= 1;
    if metadata.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().take(MAX_ENTRIES);
        let mut paths: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        paths.iter().for_each(|path| add(path, depth - 1, left, digest));
        return;
    }
    let modified = metadata.modified().ok();
    let age = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    digest.update(path.as_os_str().as_encoded_bytes());
    digest.update([0]);
    digest.update(age.unwrap_or_default().as_nanos().to_le_bytes());
    digest.update(metadata.len().to_le_bytes());
}

/// Why no project was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file is there already; nothing was written.
    #[error("{} is there already; nothing was written. Name an empty directory", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be written; those before it were.
    #[error("{} cannot be written: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The files of a new project. Changes are tried by the test that loads it.
const NEW: [(&str, &str); 11] = [
    ("backstay.toml", include_str!("../init/backstay.toml")),
    ("calls/hello/call.toml", include_str!("../init/calls/hello/call.toml")),
    ("calls/hello/system.j2", include_str!("../init/calls/hello/system.j2")),
    ("calls/hello/user.j2", include_str!("../init/calls/hello/user.j2")),
    ("calls/review-sentiment/call.toml", include_str!("../init/calls/review-sentiment/call.toml")),
    ("calls/review-sentiment/system.j2", include_str!("../init/calls/review-sentiment/system.j2")),
    ("calls/review-sentiment/user.j2", include_str!("../init/calls/review-sentiment/user.j2")),
    (
        "calls/review-sentiment/input.schema.json",
        include_str!("../init/calls/review-sentiment/input.schema.json"),
    ),
    (
        "calls/review-sentiment/output.schema.json",
        include_str!("../init/calls/review-sentiment/output.schema.json"),
    ),
    (
        "calls/review-sentiment/static.json",
        include_str!("../init/calls/review-sentiment/static.json"),
    ),
    (
        "calls/review-sentiment/evals/happy.yaml",
        include_str!("../init/calls/review-sentiment/evals/happy.yaml"),
    ),
];

/// Writes a project that runs at once, against the simulated provider, and gives the paths of its
/// files. Overwrites nothing.
///
/// # Errors
/// [`InitError::Exists`] before anything was written, or [`InitError::Io`].
pub fn init(dir: &Path) -> Result<Vec<PathBuf>, InitError> {
    let json = |schema: &Value| format!("{schema:#}\n");
    let mut files: Vec<(&str, String)> =
        NEW.iter().map(|(path, text)| (*path, (*text).to_owned())).collect();
    // `.backstay` holds what is not to be committed. It says so itself, so that the `.gitignore` of
    // a repository that is already there needs no change.
    files.push((".backstay/.gitignore", "*\n".to_owned()));
    files.push((".backstay/schemas/backstay.schema.json", json(&schema::project_schema())));
    files.push((".backstay/schemas/call.schema.json", json(&schema::call_schema())));
    let files: Vec<(PathBuf, String)> =
        files.into_iter().map(|(path, text)| (dir.join(path), text)).collect();
    // A broken link is there too.
    if let Some((path, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
        return Err(InitError::Exists { path: path.clone() });
    }
    for (path, text) in &files {
        let io = |source| InitError::Io { path: path.clone(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        let mut file = fs::File::create_new(path).map_err(io)?;
        file.write_all(text.as_bytes()).map_err(io)?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path()).unwrap();
        dir
    }

    fn mistakes(dir: &Path) -> Vec<(String, usize, String)> {
        let found = load(dir).unwrap_err();
        found.into_iter().map(|m| (m.file, m.line, m.reason)).collect()
    }

    #[test]
    fn a_new_project_loads_without_a_mistake() {
        let dir = new_project();
        let project = load(dir.path()).unwrap_or_else(|found| panic!("{found:#?}"));
        let calls: Vec<&str> = project.calls.keys().map(String::as_str).collect();
        assert_eq!(calls, ["hello", "review-sentiment"]);
        let spec = project.calls.get("review-sentiment").unwrap();
        assert!(spec.degrade.static_answer.is_some() && spec.output_schema.is_some());
        assert!(check_secrets(dir.path(), &|_| Err("no".to_owned())).unwrap().is_empty());
    }

    #[test]
    fn a_secret_that_is_not_there_is_found_on_demand() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("backstay.toml"), "[providers.openai]\n").unwrap();
        assert!(load(dir.path()).is_ok());
        let found = check_secrets(dir.path(), &|_| Err("it is not set".to_owned())).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].remedy.contains("OPENAI_API_KEY"), "{}", found[0]);
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("calls/hello")).unwrap();
        fs::write(dir.path().join("calls/hello/user.j2"), "mine").unwrap();
        let error = init(dir.path()).unwrap_err();
        assert!(error.to_string().contains("user.j2 is there already"), "{error}");
        assert!(!dir.path().join("backstay.toml").exists());
        assert_eq!(fs::read_to_string(dir.path().join("calls/hello/user.j2")).unwrap(), "mine");
    }

    #[test]
    fn an_empty_directory_is_a_project_and_a_missing_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap().calls.is_empty());
        let found = mistakes(&dir.path().join("nowhere"));
        assert_eq!(found[0].2, "there is no such directory");
    }

    #[test]
    fn files_that_cannot_be_read_are_mistakes() {
        let dir = new_project();
        let at = |path: &str| dir.path().join(path);
        fs::write(at("calls/hello/system.j2"), b"one\ntwo \xff\n").unwrap();
        fs::write(at("calls/hello/static.json"), vec![b' '; 1_000_001]).unwrap();
        fs::remove_file(at("calls/hello/user.j2")).unwrap();
        fs::create_dir(at("calls/hello/user.j2")).unwrap();
        let found = mistakes(dir.path());
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.contains(&(
            "calls/hello/system.j2".to_owned(),
            2,
            "this line is not UTF-8".to_owned()
        )));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_loops_end() {
        let dir = new_project();
        let calls = dir.path().join("calls");
        std::os::unix::fs::symlink(&calls, calls.join("hello/evals")).unwrap();
        std::os::unix::fs::symlink(calls.join("hello"), calls.join("linked")).unwrap();
        let project = load(dir.path()).unwrap();
        assert!(project.calls.contains_key("linked"));
        assert_eq!(fingerprint(dir.path()), fingerprint(dir.path()));
    }

    #[test]
    fn the_fingerprint_follows_the_project_and_nothing_else() {
        let dir = new_project();
        let first = fingerprint(dir.path());
        fs::write(dir.path().join(".backstay/data"), "x").unwrap();
        assert_eq!(fingerprint(dir.path()), first);
        fs::write(dir.path().join("calls/hello/notes.md"), "x").unwrap();
        let second = fingerprint(dir.path());
        assert_ne!(second, first);
        fs::remove_file(dir.path().join("calls/hello/notes.md")).unwrap();
        assert_eq!(fingerprint(dir.path()), first);
    }
}
