//! Credentials: secrets that a service manager hands to a process as files in a folder of its own,
//! one a secret, each with the name of the setting that it is for.
//!
//! systemd does so (`LoadCredential=`, `LoadCredentialEncrypted=`; the folder is in
//! `CREDENTIALS_DIRECTORY`), and any other host that mounts secrets can. What stands in the
//! environment itself counts first. Pure: whoever asks reads the files.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The variable with the folder.
pub const DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// A credential that is there and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The setting that it is for.
    pub name: &'static str,
    /// What is wrong; never the secret.
    pub problem: String,
}

/// Fills in the secrets that are not set and lie in the folder. Gives those that cannot be read.
pub fn fill_in(
    environment: &mut BTreeMap<String, String>,
    secrets: impl IntoIterator<Item = &'static str>,
    read: impl Fn(PathBuf) -> io::Result<String>,
) -> Vec<Unreadable> {
    let folder = environment.get(DIRECTORY).filter(|folder| !folder.is_empty());
    let Some(folder) = folder.cloned() else { return Vec::new() };
    let is_set = |environment: &BTreeMap<String, String>, name: &str| {
        environment.get(name).is_some_and(|value| !value.trim().is_empty())
    };
    let mut unreadable = Vec::new();
    for name in secrets {
        if is_set(environment, name) {
            continue;
        }
        let path = Path::new(&folder).join(name);
        let shown = path.display().to_string();
        match read(path) {
            Ok(secret) => drop(environment.insert(name.to_owned(), secret)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                let problem = format!("the credential {shown} cannot be read: {error}");
                unreadable.push(Unreadable { name, problem });
            }
        }
    }
    unreadable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> BTreeMap<String, String> {
        let pairs = [(DIRECTORY, "/run/credentials"), ("GIVEN", "given"), ("EMPTY", " ")];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// A folder in which everything lies but `NOWHERE`.
    fn file(path: PathBuf) -> io::Result<String> {
        match path.to_str() {
            Some("/run/credentials/NOWHERE") => Err(ErrorKind::NotFound.into()),
            Some("/run/credentials/LOCKED") => Err(ErrorKind::PermissionDenied.into()),
            _ => Ok(format!("from {}\n", path.display())),
        }
    }

    #[test]
    fn a_file_fills_in_what_is_not_set_and_nothing_else() {
        let mut environment = environment();
        assert_eq!(fill_in(&mut environment, ["GIVEN", "EMPTY", "FILED", "NOWHERE"], file), []);
        assert_eq!(environment["GIVEN"], "given");
        assert_eq!(environment["EMPTY"], "from /run/credentials/EMPTY\n");
        assert_eq!(environment["FILED"], "from /run/credentials/FILED\n");
        assert!(!environment.contains_key("NOWHERE"));
        assert_eq!(environment.len(), 4);
    }

    #[test]
    fn a_credential_that_cannot_be_read_is_named() {
        let unreadable = fill_in(&mut environment(), ["LOCKED", "FILED"], file);
        assert_eq!(unreadable.len(), 1);
        assert_eq!(unreadable[0].name, "LOCKED");
        let problem = &unreadable[0].problem;
        assert!(problem.starts_with("the credential /run/credentials/LOCKED cannot"), "{problem}");
    }

    #[test]
    fn without_a_folder_nothing_changes() {
        let mut environment = BTreeMap::new();
        assert_eq!(fill_in(&mut environment, ["FILED"], file), []);
        assert!(environment.is_empty());
    }
}
