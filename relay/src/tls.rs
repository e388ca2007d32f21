//! TLS: the relay's own certificate for callers, and whom it trusts when it dials agents.
//!
//! Both speak HTTP/1.1 only, since a WebSocket begins with it. The relay's own certificate changes
//! while it serves: `tls/own.rs`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub use self::own::{Own, Renewal};
use crate::stream::{Stream, Tcp};

mod own;

/// What is wrong with the files that the operator named.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read, or is not PEM.
    #[error("{path} is not a readable PEM file of the expected kind", path = .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: pem::Error,
    },
    /// A file without a certificate.
    #[error("{path} holds no certificate", path = .path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not fit, or TLS cannot use them.
    #[error("TLS cannot use these certificates")]
    Unusable(#[from] rustls::Error),
}

/// How callers are served: the certificate chain, leaf first, and its key, both PEM.
///
/// # Errors
/// When a file cannot be used.
pub fn server_config(cert_pem: &Path, key_pem: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    Own::read(cert_pem, key_pem).map(|own| own.config())
}

/// How agents are dialled: the system's roots, and one more for a private service. Shared by all
/// calls, so that sessions are resumed.
///
/// # Errors
/// When the file cannot be used, or the system has no roots and no file is given.
pub fn client_config(extra_ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match extra_ca {
        Some(path) => certificates(path)?,
        None => Vec::new(),
    };
    let verifier = Verifier::new_with_extra_roots(roots, provider())?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

/// Serves one accepted connection's handshake.
///
/// # Errors
/// When the peer fails it or takes longer than [`HANDSHAKE_MAX`].
pub async fn accept(tcp: TcpStream, config: &Arc<ServerConfig>) -> io::Result<Stream> {
    let handshake = TlsAcceptor::from(Arc::clone(config)).accept(Tcp::from(tcp));
    let stream = timeout(HANDSHAKE_MAX, handshake).await.map_err(io::Error::from)??;
    Ok(Stream::Tls(Box::new(stream.into())))
}

/// Makes a dialled connection secure. The caller of this owns the deadline.
pub(crate) async fn connect(
    tcp: TcpStream,
    name: ServerName<'static>,
    config: &Arc<ClientConfig>,
) -> io::Result<Stream> {
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, Tcp::from(tcp)).await?;
    Ok(Stream::Tls(Box::new(stream.into())))
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |cause| TlsError::Pem { path: path.into(), cause };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(wrong)?
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    match found.is_empty() {
        true => Err(TlsError::NoCertificate { path: path.into() }),
        false => Ok(found),
    }
}

/// The one provider of the process, named instead of found, so that no second one can slip in.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// How long a caller's handshake may take; one round trip is 200 ms at worst, and a peer that
/// dawdles holds one of the shard's places for handshakes.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
const HTTP_1_1: &[u8] = b"http/1.1";
