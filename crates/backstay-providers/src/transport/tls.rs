//! Whom to trust: the certificate authorities, loaded when the first `https` connection needs them.
//!
//! There is no way to turn verification off, and none must be added: `ca_file` covers private
//! authorities.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// The public authorities and the machine's own. Reading them takes tens of milliseconds, and a
/// gateway with local providers never needs them.
static ROOTS: OnceLock<RootCertStore> = OnceLock::new();

/// A configuration that trusts the public authorities, the machine's, and those in `ca_file`, and that
/// offers the protocols `alpn`, best first. Reads files: to be called where blocking is allowed.
///
/// # Errors
/// A sentence that says what is wrong with `ca_file` and how to mend it.
pub(super) fn client_config(
    ca_file: Option<&Path>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, String> {
    let mut roots = ROOTS.get_or_init(public_roots).clone();
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| "this build supports no TLS version".to_owned())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

fn public_roots() -> RootCertStore {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // A machine without authorities of its own, or with a broken one, still has the public ones.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let shown = path.display();
    let broken = |why: String| {
        format!("ca_file `{shown}` {why}: name a readable PEM file of authority certificates")
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| broken(format!("cannot be read ({error})")))?;
    if certificates.is_empty() {
        return Err(broken("holds no certificate".into()));
    }
    for certificate in certificates {
        let reason = |error| format!("holds a certificate that cannot be used ({error})");
        roots.add(certificate).map_err(|error| broken(reason(error)))?;
    }
    Ok(())
}
