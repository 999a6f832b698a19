//! TLS for `https://` gateways: rustls with ring, given to the HTTP client ready-made.
//!
//! Ready-made, because the HTTP client would otherwise take the process-wide provider and panic where none is
//! installed.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// The configuration for a gateway at a URL of this scheme.
///
/// For `http` it trusts nobody and is never used: reading the system's roots takes some milliseconds.
///
/// # Errors
///
/// If rustls has no protocol version in common with ring, which it has.
pub(crate) fn config(scheme: &str) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    if scheme == "https" {
        // A root that cannot be read is passed over, as browsers do: one bad file in the store must not be the end.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // reqwest leaves a ready-made configuration alone, and it is built for HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
