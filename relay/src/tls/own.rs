//! The relay's own certificate, which is renewed beneath a process that carries calls for hours.
//!
//! Handshakes take what is served at that moment; connections that are open keep what they began
//! with. New files that cannot be used change nothing.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{HTTP_1_1, TlsError, certificates, provider};

/// The certificate and the files that it comes from.
#[derive(Debug)]
pub struct Own {
    files: Files,
    /// How the files were when they were read.
    read: Stamp,
    served: Arc<Served>,
    config: Arc<ServerConfig>,
}

/// Both PEM.
#[derive(Debug)]
struct Files {
    /// The chain, leaf first.
    chain: PathBuf,
    key: PathBuf,
}

/// What handshakes take.
#[derive(Debug)]
struct Served(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Own {
    /// Reads the files: the certificate chain, leaf first, and its key, both PEM.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn read(chain_pem: &Path, key_pem: &Path) -> Result<Self, TlsError> {
        let files = Files { chain: chain_pem.into(), key: key_pem.into() };
        let read = files.stamp();
        let served = Arc::new(Served(ArcSwap::from_pointee(files.load()?)));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(served.clone());
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Ok(Self { files, read, served, config: Arc::new(config) })
    }

    /// How callers are served, now and after every renewal.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}

impl Files {
    fn load(&self) -> Result<CertifiedKey, TlsError> {
        let chain = certificates(&self.chain)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|cause| TlsError::Pem { path: self.key.clone(), cause })?;
        Ok(CertifiedKey::from_der(chain, key, &provider())?)
    }

    fn stamp(&self) -> Stamp {
        Stamp([&self.chain, &self.key].map(|path| fs::metadata(path).ok().as_ref().map(Mark::of)))
    }
}

/// How both files are; `None` of one that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([Option<Mark>; 2]);

/// What changes with a file: renamed over, written again, behind another symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    file: (u64, u64),
    written: (i64, i64),
    bytes: u64,
}

impl Mark {
    fn of(file: &fs::Metadata) -> Self {
        Self {
            file: (file.dev(), file.ino()),
            written: (file.mtime(), file.mtime_nsec()),
            bytes: file.size(),
        }
    }
}

/// Follows the files of a certificate.
#[derive(Debug)]
pub struct Renewal {
    own: Arc<Own>,
    /// How the files were when they were last tried.
    tried: Stamp,
    /// How they were at the last look.
    before: Stamp,
}

impl Renewal {
    /// Follows from what is served.
    #[must_use]
    pub fn of(own: Arc<Own>) -> Self {
        Self { tried: own.read, before: own.read, own }
    }

    /// Looks at the files, and serves what they hold once they have changed and rested from one look
    /// to the next: a certificate and its key are two files, written one after the other. `None`
    /// when there is nothing to do.
    ///
    /// # Errors
    /// When the new files cannot be used; what was served is served on, and they are tried again
    /// when they change again.
    pub fn look(&mut self) -> Option<Result<(), TlsError>> {
        let stamp = self.own.files.stamp();
        let rested = std::mem::replace(&mut self.before, stamp) == stamp;
        if !rested || stamp == self.tried {
            return None;
        }
        self.tried = stamp;
        Some(self.own.files.load().map(|fresh| self.own.served.0.store(Arc::new(fresh))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the two files of a certificate.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            folder.renew();
            folder
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// Puts another certificate there; gives it.
        fn renew(&self) -> Vec<u8> {
            let made = rcgen::generate_simple_self_signed(vec!["relay.test".into()]).unwrap();
            self.put("key.pem", made.signing_key.serialize_pem().as_bytes());
            self.put("cert.pem", made.cert.pem().as_bytes());
            made.cert.der().to_vec()
        }

        /// Renames over what is there, as whoever renews certificates does.
        fn put(&self, name: &str, bytes: &[u8]) {
            fs::write(self.path("new"), bytes).unwrap();
            fs::rename(self.path("new"), self.path(name)).unwrap();
        }

        fn own(&self) -> Arc<Own> {
            Arc::new(Own::read(&self.path("cert.pem"), &self.path("key.pem")).unwrap())
        }
    }

    fn served(own: &Own) -> Vec<u8> {
        own.served.0.load().cert[0].to_vec()
    }

    #[test]
    fn files_that_do_not_change_are_not_read_again() {
        let folder = Folder::new();
        let mut renewal = Renewal::of(folder.own());
        for _ in 0..3 {
            assert!(renewal.look().is_none());
        }
    }

    #[test]
    fn a_renewed_certificate_is_served_once_its_files_rest() {
        let folder = Folder::new();
        let own = folder.own();
        let mut renewal = Renewal::of(own.clone());
        let fresh = folder.renew();
        assert!(renewal.look().is_none());
        assert_ne!(served(&own), fresh);
        assert!(matches!(renewal.look(), Some(Ok(()))));
        assert_eq!(served(&own), fresh);
        assert!(renewal.look().is_none());
    }

    #[test]
    fn files_that_are_of_no_use_leave_the_old_certificate_and_are_told_once() {
        let folder = Folder::new();
        let own = folder.own();
        let (mut renewal, before) = (Renewal::of(own.clone()), served(&own));
        let key = fs::read(folder.path("key.pem")).unwrap();
        folder.renew();
        // The key of another certificate, and then none at all.
        folder.put("key.pem", &key);
        assert!(renewal.look().is_none());
        assert!(matches!(renewal.look(), Some(Err(TlsError::Unusable(_)))));
        assert!(renewal.look().is_none());
        fs::remove_file(folder.path("key.pem")).unwrap();
        assert!(renewal.look().is_none());
        assert!(matches!(renewal.look(), Some(Err(TlsError::Pem { .. }))));
        assert_eq!(served(&own), before);
        let fresh = folder.renew();
        assert!(renewal.look().is_none());
        assert!(matches!(renewal.look(), Some(Ok(()))));
        assert_eq!(served(&own), fresh);
    }
}
