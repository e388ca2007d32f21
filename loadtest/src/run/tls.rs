//! TLS on both legs of the process under test: one certificate of the load test's own, which
//! relay and far end show, and which relay and callers trust.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::pipe::Pipe;

/// What is needed to speak TLS with the process under test.
#[derive(Clone)]
pub(crate) struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    certificate_pem: String,
    key_pem: String,
}

impl Tls {
    /// Makes a certificate for this machine.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names)?;
        Self::read(made.cert.pem(), made.signing_key.serialize_pem())
    }

    /// Takes a certificate and its key, both PEM.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(crate) fn read(certificate_pem: String, key_pem: String) -> anyhow::Result<Self> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (server, client) = (Arc::new(server), Arc::new(client));
        Ok(Self { server, client, certificate_pem, key_pem })
    }

    /// Certificate and key, both PEM: for another process of the load test.
    pub(crate) fn pem(&self) -> (String, String) {
        (self.certificate_pem.clone(), self.key_pem.clone())
    }

    /// Writes certificate and key into a folder; gives the relay's settings that name them.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn settings(&self, folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        std::fs::write(&certificate, &self.certificate_pem)?;
        std::fs::write(&key, &self.key_pem)?;
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        Ok(vec![
            ("RELAY_TLS_CERT_FILE".into(), certificate.clone()),
            ("RELAY_TLS_KEY_FILE".into(), key),
            ("RELAY_AGENT_CA_FILE".into(), certificate),
        ])
    }

    /// Serves a connection's handshake.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) async fn accept(&self, tcp: TcpStream) -> anyhow::Result<Pipe> {
        let stream = TlsAcceptor::from(Arc::clone(&self.server)).accept(tcp).await?;
        Ok(Pipe::Tls(Box::new(stream.into())))
    }

    /// Makes a dialled connection secure.
    ///
    /// # Errors
    /// When the handshake fails.
    pub(crate) async fn connect(&self, tcp: TcpStream) -> anyhow::Result<Pipe> {
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::clone(&self.client)).connect(name, tcp).await?;
        Ok(Pipe::Tls(Box::new(stream.into())))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn both_ends_trust_the_certificate_and_bytes_pass_at_once() {
        let tls = Tls::generate().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accept = async {
            let (tcp, _) = listener.accept().await.unwrap();
            tls.accept(tcp).await.unwrap()
        };
        let dial = async {
            let tcp = TcpStream::connect(address).await.unwrap();
            tls.connect(tcp).await.unwrap()
        };
        let (mut server, mut client) = tokio::join!(accept, dial);
        assert_eq!(client.write_now(b"twenty ms").unwrap(), 9);
        let mut room = [0; 64];
        let count = poll_fn(|cx| server.poll_read(cx, &mut room)).await.unwrap();
        assert_eq!(&room[..count], b"twenty ms");
    }

    #[test]
    fn the_relays_settings_name_files_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Tls::generate().unwrap().settings(folder.path()).unwrap();
        assert_eq!(settings.len(), 3);
        for (name, path) in settings {
            assert!(std::fs::read_to_string(&path).unwrap().contains("BEGIN"), "{name}");
        }
    }
}
