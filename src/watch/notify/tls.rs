//! Which certificate authorities are trusted: the system's, or Mozilla's where it has none, as in a
//! bare container.

use std::sync::Arc;

use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::client::{CertificateStore, TlsParameters};
use rustls::{ClientConfig, RootCertStore};

/// How a connection for HTTP is protected.
pub(super) fn for_http() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// How a connection for SMTP is protected, to a host of this name.
pub(super) fn for_smtp(host: &str) -> Result<TlsParameters, SmtpError> {
    let store = if rustls_native_certs::load_native_certs().certs.is_empty() {
        CertificateStore::WebpkiRoots
    } else {
        CertificateStore::Default
    };
    TlsParameters::builder(host.to_owned())
        .certificate_store(store)
        .build_rustls()
}
