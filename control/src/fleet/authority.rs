//! What makes relays and control trust each other: control's own certificate authority and the
//! join secret, both made once and kept sealed in the store, so that they survive restarts and
//! several controls share them. A relay knows the authority from its join token; the leaf that
//! the link shows is made at each start and lives in memory only. A relay that is in gets a certificate
//! of its own from the authority, with which it comes back without the secret.

use std::sync::Arc;
use std::time::Duration;

use base64_simd::{STANDARD, URL_SAFE_NO_PAD};
use link::id::{NodeId, WallTime};
use link::join::JoinToken;
use link::message::{ALPN, SERVER_NAME};
use link::secret::Secret;
use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SignatureAlgorithm,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::store::{Store, StoreError};

/// Why the authority could not be had or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The store did not give it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A certificate or key could not be made.
    #[error("a certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library does not take what was made.
    #[error("the link's TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// What the store holds is no authority.
    #[error("the stored authority of the link is malformed")]
    Malformed,
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    NoRandomness,
    /// A relay wants a certificate for something that is no key.
    #[error("what a relay wants a certificate for is no public key")]
    BadKey,
}

/// A certificate that was made for a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// What it is known by.
    pub fingerprint: String,
    /// When it ends.
    pub good_until: WallTime,
}

/// What a certificate is known by: its SHA-256, in hexadecimal digits.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The authority and the join secret.
pub struct Authority {
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    secret: Secret,
}

/// The authority as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    key: Secret,
    certificate: String,
}

impl Authority {
    /// Takes the authority from the store, and makes it on first start.
    ///
    /// # Errors
    /// When the store fails, or what it holds is of no use.
    pub async fn load(store: &Store) -> Result<Self, AuthorityError> {
        let stored = store.secret_or_make("link-ca", make_ca).await?;
        let stored: Stored =
            serde_json::from_slice(&stored).map_err(|_| AuthorityError::Malformed)?;
        let ca = STANDARD.decode_to_vec(stored.certificate.as_bytes());
        let ca = CertificateDer::from(ca.map_err(|_| AuthorityError::Malformed)?);
        // The issuer is rebuilt from fixed parameters and the stored key: the certificate itself is
        // only what relays pin.
        let issuer = Issuer::new(ca_params(), KeyPair::from_pem(stored.key.reveal())?);
        let secret = store.secret_or_make("link-join", make_secret).await?;
        let secret = std::str::from_utf8(&secret).map_err(|_| AuthorityError::Malformed)?;
        Ok(Self { ca, issuer, secret: Secret::new(secret) })
    }

    /// The join token of a link that relays find at `address`.
    #[must_use]
    pub fn join_token(&self, address: &str) -> JoinToken {
        JoinToken::new(address, &self.ca, self.secret.clone())
    }

    /// Whether this is the join secret. Takes the same time for every wrong one of its length.
    #[must_use]
    pub fn opens(&self, secret: &Secret) -> bool {
        bool::from(self.secret.reveal().as_bytes().ct_eq(secret.reveal().as_bytes()))
    }

    /// Makes a certificate of this node for its public key, a point of P-256 in base64url.
    ///
    /// # Errors
    /// When it is no key, or no certificate can be made.
    pub fn certify(
        &self,
        node: &NodeId,
        key: &str,
        now: WallTime,
    ) -> Result<Issued, AuthorityError> {
        let key = URL_SAFE_NO_PAD.decode_to_vec(key.as_bytes());
        let key = NodeKey::new(key.map_err(|_| AuthorityError::BadKey)?)?;
        let good_until = now.plus_us(i64::try_from(NODE_AFTER.as_micros()).unwrap_or(i64::MAX));
        let certificate = node_params(node, now).signed_by(&key, &self.issuer)?.der().clone();
        let fingerprint = fingerprint(&certificate);
        Ok(Issued { certificate, fingerprint, good_until })
    }

    /// Looks at the certificates that relays show. One that shows none may come in by the secret.
    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, AuthorityError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier.allow_unauthenticated().build();
        Ok(verifier.map_err(|_| rustls::Error::General("no verifier of relays".into()))?)
    }

    /// A new leaf and what the link's QUIC server needs of it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn quic_config(&self, now: WallTime) -> Result<Arc<QuicServerConfig>, AuthorityError> {
        // A leaf's key never leaves the process, so it needs no place in the store.
        let key = KeyPair::generate()?;
        let leaf = leaf_params(now)?.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            // QUIC knows no older one.
            .with_protocol_versions(&[&rustls::version::TLS13])?
            // Relays prove themselves by a certificate of ours, or by the join secret in their hello,
            // inside of the encrypted stream.
            .with_client_cert_verifier(self.verifier()?)
            .with_single_cert(vec![leaf.der().clone()], key)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let quic = QuicServerConfig::try_from(tls);
        Ok(Arc::new(quic.map_err(|_| rustls::Error::General("no initial suite".into()))?))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(***)")
    }
}

fn make_ca() -> Result<Zeroizing<Vec<u8>>, AuthorityError> {
    let key = KeyPair::generate()?;
    let certificate = ca_params().self_signed(&key)?;
    let stored = Stored {
        key: Secret::new(key.serialize_pem()),
        certificate: STANDARD.encode_to_string(certificate.der()),
    };
    let text = serde_json::to_vec(&stored).map_err(|_| AuthorityError::Malformed)?;
    Ok(Zeroizing::new(text))
}

/// 256 random bits, as text.
fn make_secret() -> Result<Zeroizing<Vec<u8>>, AuthorityError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|_| AuthorityError::NoRandomness)?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode_to_string(bytes.as_slice()).into_bytes()))
}

/// The authority's fixed part. The same at each start, so that leaves name the issuer that relays
/// hold.
fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Linecard control authority");
    // Leaves only: nothing below it can make another authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2076, 1, 1);
    params
}

/// The leaf's part: the name that relays ask for, whatever address they dial, and a short life.
fn leaf_params(now: WallTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
    params.distinguished_name = named("Linecard control");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    live(&mut params, now, LEAF_AFTER);
    Ok(params)
}

/// The part of a relay's certificate: its name, for people, and a short life. Who it is control knows
/// by the fingerprint.
fn node_params(node: &NodeId, now: WallTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(node.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    live(&mut params, now, NODE_AFTER);
    params
}

/// From a day ago for so long.
fn live(params: &mut CertificateParams, now: WallTime, after: Duration) {
    params.use_authority_key_identifier_extension = true;
    // rcgen counts from a date; a clock before 1970 is not one that certificates are made by.
    let now = Duration::from_secs(now.seconds().unsigned_abs());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(LEAF_BEFORE);
    params.not_after = epoch + now + after;
}

/// A relay's public key.
struct NodeKey(Vec<u8>);

impl NodeKey {
    /// Takes bytes as a point of P-256. Whether they are on the curve the first handshake finds out.
    fn new(bytes: Vec<u8>) -> Result<Self, AuthorityError> {
        let is_point = bytes.len() == POINT_BYTES && bytes.first() == Some(&UNCOMPRESSED);
        if is_point { Ok(Self(bytes)) } else { Err(AuthorityError::BadKey) }
    }
}

impl PublicKeyData for NodeKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// A byte and two coordinates.
const POINT_BYTES: usize = 65;

/// The byte in front of a point that is written in full.
const UNCOMPRESSED: u8 = 4;

/// How long a relay's certificate holds. Relays ask for the next one at half of it; one that has been
/// away for longer comes back with the join token.
const NODE_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// How far a relay's clock may be behind.
const LEAF_BEFORE: Duration = Duration::from_secs(24 * 3_600);

/// A leaf is made at each start and once a day ([`super::link`]); this is how long a relay's clock
/// may be ahead of one that was just made.
const LEAF_AFTER: Duration = Duration::from_secs(30 * 24 * 3_600);
