//! `https`: with no provider installed in the process, for roots that the system trusts and for others.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::{env, fs, thread};

use hoosh_client::{ClientError, HooshClient, TransportKind};
use rustls::pki_types::PrivatePkcs8KeyDer;

use crate::script::answer;

/// A gateway with a certificate that nobody trusts, which answers one call; and that certificate as PEM.
fn gateway() -> (String, String) {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key.into())
        .unwrap();
    // Both are offered; the client must not agree to what it does not speak.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    thread::spawn(move || {
        let (connection, _) = listener.accept().unwrap();
        let session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut tls = rustls::StreamOwned::new(session, connection);
        let mut request = Vec::new();
        let mut buffer = [0; 1024];
        // A client that does not trust the certificate ends this with an error.
        while let Ok(length @ 1..) = tls.read(&mut buffer) {
            request.extend_from_slice(&buffer[..length]);
            if request.ends_with(b"\r\n\r\n") {
                tls.write_all(&answer("200 OK", &[], r#"{"status":"ok"}"#)).unwrap();
                tls.conn.send_close_notify();
                let _ = tls.flush();
                return;
            }
        }
    });
    (url, issued.cert.pem())
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_refused_and_no_more_tried() {
    let (url, _) = gateway();
    let error = HooshClient::new(&url).health().await.unwrap_err();
    assert!(matches!(error, ClientError::Transport { kind: TransportKind::Tls, .. }), "{error:?}");
    assert!(error.to_string().starts_with(&format!("{url}: no TLS: invalid peer certificate")), "{error}");
    assert!(!error.is_retryable());
}

#[test]
fn roots_that_the_system_trusts_are_trusted() {
    // Which roots the system has is read from the environment, so it takes a process of its own.
    let (url, pem) = gateway();
    let roots = format!("{}/roots.pem", env!("CARGO_TARGET_TMPDIR"));
    fs::write(&roots, pem).unwrap();
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "tls::in_a_process_that_trusts_it", "--ignored"])
        .env("SSL_CERT_FILE", roots)
        .env("HOOSH_CLIENT_TEST_URL", url)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && told.contains("1 passed"), "{told}");
}

#[tokio::test]
#[ignore = "is run by the test above"]
async fn in_a_process_that_trusts_it() {
    let Ok(url) = env::var("HOOSH_CLIENT_TEST_URL") else { return };
    assert!(HooshClient::new(url).health().await.unwrap().is_ok());
}
