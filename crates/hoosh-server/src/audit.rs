//! The audit log of a server: opened from its configuration.

use std::path::Path;

use hoosh_audit::{KeyError, KeyRing};
use secrecy::ExposeSecret;

use crate::config::Audit;

/// Which program writes, as the log says.
pub(crate) fn program() -> String {
    concat!("hoosh ", env!("CARGO_PKG_VERSION")).to_owned()
}

/// The keys that a configuration names, which must be there.
///
/// # Errors
///
/// If they are not, or cannot be read.
pub(crate) fn known_keys(settings: &Audit) -> Result<KeyRing, KeyError> {
    match &settings.keys {
        // In a variable a line break is hard to write.
        Some(text) => KeyRing::parse(&text.expose_secret().replace([',', ' '], "\n"), "HOOSH_AUDIT_KEY"),
        None => KeyRing::load(Path::new(&settings.key_file)),
    }
}
