//! The key of pseudonyms of a store, in a file of its own beside the call log, readable by its owner only.
//! It is made once and never changed: with another one the same people would get other names.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{ErrorKind, StoreError};

const FILE: &str = "pseudonym.key";
/// Far above any sensible key.
const LONGEST: u64 = 4096;

fn path_in(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Never mended by a new key: the old pseudonyms would join with nothing any more.
fn damaged(path: &Path, what: &str) -> StoreError {
    let told = format!(
        "{}: the key of pseudonyms {what}; put the right file back, or remove it to begin with new \
         pseudonyms",
        path.display()
    );
    StoreError::new(ErrorKind::Corrupt, told)
}

/// The key of the store in `dir`, if it has one.
///
/// # Errors
/// When the file cannot be read, or is empty.
pub fn read(dir: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let path = path_in(dir);
    match fs::metadata(&path) {
        Ok(found) if found.len() > LONGEST => Err(damaged(&path, "is too long for a key")),
        Ok(_) => {
            let text = fs::read(&path).map_err(|error| StoreError::io(&path, error))?;
            let key = text.trim_ascii().to_vec();
            if key.is_empty() {
                return Err(damaged(&path, "is empty"));
            }
            Ok(Some(key))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io(&path, error)),
    }
}

/// The key of the store in `dir`; if there is none yet, it is made of `random`.
///
/// # Errors
/// When it cannot be read or written.
pub fn read_or_make(dir: &Path, random: &[u8; 32]) -> Result<Vec<u8>, StoreError> {
    if let Some(key) = read(dir)? {
        return Ok(key);
    }
    crate::sqlite::make_dir(dir)?;
    let path = path_in(dir);
    let wrong = |error| StoreError::io(&path, error);
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    // Whole before it has its name, so that nobody ever reads half a key; and linked, so that of two
    // who make one at once both use the first one's.
    let new = dir.join(format!("{FILE}.{}", std::process::id()));
    drop(fs::remove_file(&new));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(wrong)?;
    file.write_all(hex.as_bytes()).and_then(|()| file.sync_all()).map_err(wrong)?;
    let linked = fs::hard_link(&new, &path);
    fs::remove_file(&new).map_err(wrong)?;
    match linked {
        Ok(()) => Ok(hex.into_bytes()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read(dir)?.ok_or_else(|| wrong(error))
        }
        Err(error) => Err(wrong(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        assert_eq!(read(&store).unwrap(), None);
        let key = read_or_make(&store, &[0xab; 32]).unwrap();
        assert_eq!(key, "ab".repeat(32).into_bytes());
        assert_eq!(read_or_make(&store, &[1; 32]).unwrap(), key);
        assert_eq!(read(&store).unwrap(), Some(key));
        let mode = fs::metadata(path_in(&store)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&store).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn of_many_who_make_one_at_once_all_get_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let first = read_or_make(dir.path(), &[7; 32]).unwrap();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let make = |n| read_or_make(dir.path(), &[n; 32]).unwrap();
            (0..4).map(|n| scope.spawn(move || make(n))).map(|t| t.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == first));
    }

    #[test]
    fn a_damaged_key_is_an_error_and_not_a_new_key() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(path_in(dir.path()), " \n").unwrap();
        assert!(read_or_make(dir.path(), &[7; 32]).unwrap_err().to_string().contains("empty"));
        fs::write(path_in(dir.path()), "x".repeat(5000)).unwrap();
        assert!(read(dir.path()).is_err());
    }
}
