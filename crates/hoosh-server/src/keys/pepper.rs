//! Where the pepper is: in the environment, or in a file beside the keys that only its owner can read.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use hoosh_budget::keys::{KeyError, Pepper};
use hoosh_core::limits::PEPPER_BYTES_MAX;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::KeysError;
use crate::config::KeysFile;

/// The pepper of those keys, and the file that it was put into if there was none.
///
/// # Errors
///
/// The file cannot be read or made, others can read it, or what it holds is too short.
pub(super) fn of(keys: &KeysFile) -> Result<(Pepper, Option<PathBuf>), KeysError> {
    if let Some(text) = &keys.pepper {
        return Ok((Pepper::new(text.expose_secret().as_bytes())?, None));
    }
    let path = keys.path.with_extension("pepper");
    if path == keys.path {
        return Err(KeysError::pepper(path, "would be the file of the keys itself; call that `keys.db`"));
    }
    match read(&path) {
        Ok(Some(pepper)) => Ok((pepper, None)),
        Ok(None) => make(&path),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> Result<Option<Pepper>, KeysError> {
    let failed = |error: &std::io::Error| KeysError::io(path.to_owned(), "read", error);
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata().map_err(|error| failed(&error))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let problem = format!("has mode {mode:03o}, so that others can read it; `chmod 600` it");
            return Err(KeysError::pepper(path.to_owned(), problem));
        }
    }
    let mut text = Zeroizing::new(String::new());
    file.take(PEPPER_BYTES_MAX).read_to_string(&mut text).map_err(|error| failed(&error))?;
    let pepper = Pepper::new(text.trim().as_bytes());
    Ok(Some(pepper.map_err(|error| KeysError::pepper(path.to_owned(), error.to_string()))?))
}

/// Makes one. Another process may do so at the same time; then the first one counts for both.
fn make(path: &Path) -> Result<(Pepper, Option<PathBuf>), KeysError> {
    let failed = |error: &std::io::Error| KeysError::io(path.to_owned(), "made", error);
    let text = Pepper::draw().map_err(KeyError::from)?;
    // Whole before it has its name.
    let draft = path.with_extension(format!("pepper.{}", std::process::id()));
    let written = write_private(&draft, text.expose_secret().as_bytes());
    let linked = written.and_then(|()| fs::hard_link(&draft, path));
    let _gone = fs::remove_file(&draft);
    match linked {
        Ok(()) => Ok((Pepper::new(text.expose_secret().as_bytes())?, Some(path.to_owned()))),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => match read(path)? {
            Some(pepper) => Ok((pepper, None)),
            None => Err(failed(&error)),
        },
        Err(error) => Err(failed(&error)),
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    // Without it the keys are nobody's.
    file.sync_all()
}
