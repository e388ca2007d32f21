//! Tickets of calls that no control announced: for a relay that runs alone.

use std::path::Path;

use anyhow::Context as _;
use link::id::{AgentName, CallId, Gen, NodeId, TenantId};
use link::ticket::{Bearer, Claims, LIFETIME_SECONDS, SigningKey};
use serde::{Deserialize, Serialize};

use crate::clock::wall_us;

/// What opens the relay's door.
#[derive(Debug)]
pub(crate) struct Tickets {
    kid: String,
    key: SigningKey,
    node: NodeId,
}

/// A signing key as a file holds it.
#[derive(Debug, Serialize, Deserialize)]
struct KeyFile {
    /// The key's name.
    kid: String,
    /// Secret and public half, 64 bytes as standard base64.
    key: String,
}

impl Tickets {
    /// Tickets of a fresh key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn generate(node: NodeId) -> anyhow::Result<Self> {
        let kid = "load".to_owned();
        Ok(Self { key: SigningKey::generate(kid.as_str())?, kid, node })
    }

    /// Tickets of a key in a file: `{"kid": "...", "key": "<64 bytes, base64>"}`.
    ///
    /// # Errors
    /// When the file cannot be read as a key.
    pub(crate) fn read(path: &Path, node: NodeId) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let file = serde_json::from_slice(&text).context("the signing key's file")?;
        Self::of_key_file(file, node)
    }

    /// Tickets of a key as a file holds it.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn of_key_file(file: serde_json::Value, node: NodeId) -> anyhow::Result<Self> {
        let file: KeyFile = serde_json::from_value(file).context("the signing key's file")?;
        let bytes = base64_simd::STANDARD.decode_to_vec(file.key.as_bytes());
        let bytes = bytes.map_err(|_| anyhow::anyhow!("the signing key is not base64"))?;
        Ok(Self { key: SigningKey::from_bytes(file.kid.as_str(), &bytes)?, kid: file.kid, node })
    }

    /// The key as a file holds it: for another process of the load test.
    ///
    /// # Errors
    /// When it has no form in JSON.
    pub(crate) fn key_file(&self) -> anyhow::Result<serde_json::Value> {
        let key = base64_simd::STANDARD.encode_to_string(self.key.to_bytes());
        Ok(serde_json::to_value(KeyFile { kid: self.kid.clone(), key })?)
    }

    /// The node that takes them.
    pub(crate) fn node(&self) -> &str {
        self.node.as_str()
    }

    /// What the relay's key file must hold.
    pub(crate) fn verifying(&self) -> serde_json::Value {
        serde_json::json!([self.key.verifying()])
    }

    /// A ticket for one call with this agent.
    ///
    /// # Errors
    /// When an id does not fit.
    pub(crate) fn issue_for(&self, call_sid: &str, agent: &str) -> anyhow::Result<String> {
        let now = i64::try_from(wall_us() / 1_000_000)?;
        Ok(self.key.issue(&Claims {
            bearer: Bearer::Carrier { call_sid: call_sid.to_owned() },
            call: CallId::new(format!("c_{}", uuid::Uuid::now_v7().simple()))?,
            tenant: TenantId::new("default")?,
            node: self.node.clone(),
            generation: Gen(0),
            agent: AgentName::new(agent)?,
            agent_version: 1,
            jti: uuid::Uuid::new_v4().simple().to_string(),
            issued_at: now,
            expires_at: now + LIFETIME_SECONDS,
        })?)
    }
}

/// The name of the agent in the relay's agent file.
pub(crate) const AGENT: &str = "load";

#[cfg(test)]
mod tests {
    use link::id::WallTime;
    use link::ticket::KeySet;

    use super::*;

    #[test]
    fn a_key_in_a_file_signs_what_the_relay_takes() {
        let node = NodeId::new("load-1").unwrap();
        let made = SigningKey::generate("k").unwrap();
        let file = KeyFile {
            kid: "k".into(),
            key: base64_simd::STANDARD.encode_to_string(made.to_bytes()),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        std::fs::write(&path, serde_json::to_vec(&file).unwrap()).unwrap();
        let tickets = Tickets::read(&path, node).unwrap();
        let set = KeySet::new(&[made.verifying()]).unwrap();
        let ticket = tickets.issue_for("CA1", AGENT).unwrap();
        let now = WallTime(i64::try_from(wall_us()).unwrap());
        let carrier = Bearer::Carrier { call_sid: "CA1".into() };
        assert_eq!(set.verify(&ticket, now).unwrap().bearer, carrier);
    }
}
